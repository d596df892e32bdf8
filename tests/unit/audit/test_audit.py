"""Every check with a document that passes and one that does not; the policy; and what a missing document means."""

from __future__ import annotations

import copy
import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit import documents, schemas
from irkit.audit.host import Attributes, LiveHost, options
from irkit.audit.model import Subject, ask
from irkit.audit.policy import LONGEST, Policy, read_policy
from irkit.audit.run import BY_ID, CHECKS, audit, gate
from irkit.errors import PlaybookInvalid
from tests.fits import fits

TODAY = datetime.date(2026, 11, 1)
ROOT = Path(__file__).parents[3]


@dataclass
class Files:
    """A host in memory."""

    argv: tuple[str, ...] = ("dockerd",)
    found: dict[str, Attributes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def attributes(self, path: str) -> Attributes | None:
        return self.found.get(path)

    def names(self, path: str) -> list[str]:
        both = [*self.found, *self.texts]
        return sorted({one[len(path) + 1 :].split("/")[0] for one in both if one.startswith(path + "/")})

    def text(self, path: str) -> str | None:
        return self.texts.get(path)


HOST_CONFIG: dict[str, Any] = {
    "Privileged": False, "SecurityOpt": ["no-new-privileges"], "CapAdd": None, "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
    "PublishAllPorts": False, "Devices": [], "Memory": 1 << 26, "CpuShares": 512, "ReadonlyRootfs": True, "Ulimits": None, "CgroupParent": "",
    "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5}, "PidsLimit": 50, "NetworkMode": "app", "PidMode": "", "IpcMode": "private",
    "UTSMode": "", "UsernsMode": "",
}  # fmt: skip
CONTAINER: dict[str, Any] = {
    "HostConfig": HOST_CONFIG, "Mounts": [], "AppArmorProfile": "docker-default", "State": {"Running": True},
    "Config": {"User": "1000", "Image": "app:1", "Healthcheck": {"Test": ["CMD", "true"]}},
}  # fmt: skip
IMAGE: dict[str, Any] = {
    "Config": {"Env": ["PATH=/bin"], "Healthcheck": {"Test": ["CMD", "true"]}},
    "Created": "2026-10-01T00:00:00Z",
}
HISTORY: list[dict[str, Any]] = [
    {"CreatedBy": "RUN apt-get update && apt-get install -y x"},
    {"CreatedBy": "/bin/sh -c #(nop) ADD file:1 in / "},
]
INFO: dict[str, Any] = {
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default", "name=userns", "name=rootless", "name=selinux", "name=no-new-privileges"],
    "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"], "IndexConfigs": {}}, "Driver": "overlay2", "Plugins": {"Authorization": ["x"]},
    "LoggingDriver": "syslog", "LiveRestoreEnabled": True, "ExperimentalBuild": False, "Swarm": {"LocalNodeState": "inactive"},
}  # fmt: skip
SWARM: dict[str, Any] = {
    "LocalNodeState": "active", "ControlAvailable": True, "Managers": 3, "Cluster": {"Spec": {"EncryptionConfig": {"AutoLockManagers": True}}},
}  # fmt: skip
BRIDGE = {"Options": {"com.docker.network.bridge.enable_icc": "false"}}


def subject(**changes: Any) -> Subject:
    base: dict[str, Any] = {
        "container": CONTAINER, "image": IMAGE, "history": HISTORY, "info": INFO, "bridge": BRIDGE, "networks": [],
        "processes": ["nginx: master"], "host": Files(texts={"/etc/docker/daemon.json": '{"userland-proxy": false}'}),
    }  # fmt: skip
    return Subject("s", **{**base, **changes})


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return {**copy.deepcopy(dict(base)), **change}


def host_config(**change: Any) -> Subject:
    return subject(container=merged(CONTAINER, {"HostConfig": merged(HOST_CONFIG, change)}))


def container(**change: Any) -> Subject:
    return subject(container=merged(CONTAINER, change))


def info(**change: Any) -> Subject:
    return subject(info=merged(INFO, change))


def bind(source: str, propagation: str = "rprivate") -> Subject:
    return container(Mounts=[{"Type": "bind", "Source": source, "Destination": "/x", "Propagation": propagation}])


def settings(text: str, *argv: str) -> Subject:
    return subject(host=Files(("dockerd", *argv), texts={"/etc/docker/daemon.json": text}))


def ports(address: str, port: str) -> Subject:
    return host_config(PortBindings={"80/tcp": [{"HostIp": address, "HostPort": port}]})


PUBLISHED: list[tuple[str, Subject]] = [
    ("2.7", settings("{}", "-H", "tcp://0.0.0.0:2375")),
    ("2.7", settings('{"hosts": ["tcp://[::]:1"]}')),
]
BAD: list[tuple[str, Subject]] = [
    *PUBLISHED,
    ("2.1", info(SecurityOptions=[])), ("2.2", subject(bridge={"Options": {}})), ("2.3", settings('{"log-level": "debug"}')),
    ("2.3", settings("{}", "-D")), ("2.4", settings("{}", "--iptables=false")), ("2.4", settings('{"iptables": false}')),
    ("2.5", info(RegistryConfig={"InsecureRegistryCIDRs": ["10.0.0.0/8"]})),
    ("2.5", info(RegistryConfig={"IndexConfigs": {"reg:5000": {"Secure": False}}})), ("2.6", info(Driver="aufs")),
    ("2.9", info(SecurityOptions=[])), ("2.10", settings("{}", "--cgroup-parent", "/x")), ("2.12", info(Plugins={"Authorization": None})),
    ("2.13", info(LoggingDriver="json-file")), ("2.14", info(SecurityOptions=[])), ("2.15", info(LiveRestoreEnabled=False)),
    ("2.16", settings("{}")), ("2.17", info(SecurityOptions=["name=seccomp,profile=unconfined"])), ("2.18", info(ExperimentalBuild=True)),
    ("4.1", container(Config={"User": "0:0"})), ("4.1", container(Config={"User": "00"})), ("4.1", container(Config={"User": "+0:1"})), ("4.6", subject(image={"Config": {}})),
    ("4.7", subject(history=[{"CreatedBy": "/bin/sh -c apt-get -y update"}])),
    ("4.9", subject(history=[{"CreatedBy": "ADD http://x /y # buildkit"}, *HISTORY])), ("4.10", subject(image={"Config": {"Env": ["DB_PASSWORD=hunter2"]}})),
    ("4.10", subject(image={"Config": {"Env": ["ADDRESS=postgres://u:hunter2@db/x"]}})), ("4.10", subject(image={"Config": {"Env": ["X=AKIAABCDEFGHIJKLMNOP"]}})),
    ("4.10", subject(history=[{"CreatedBy": "RUN token=abcdef curl"}])), ("5.1", info(Swarm=SWARM)), ("5.2", container(AppArmorProfile="unconfined")),
    ("5.3", host_config(SecurityOpt=["label=disable"])), ("5.4", host_config(CapAdd=["CAP_SYS_ADMIN"])), ("5.5", host_config(Privileged=True)),
    ("5.6", bind("/")), ("5.6", bind("/etc/ssh")), ("5.7", subject(processes=["/usr/sbin/sshd -D"])), ("5.7", subject(processes=["sshd: x [priv]"])),
    ("5.8", ports("127.0.0.1", "22")), ("5.10", host_config(NetworkMode="host")), ("5.11", host_config(Memory=0)),
    ("5.12", host_config(CpuShares=1024)), ("5.13", host_config(ReadonlyRootfs=False)), ("5.14", ports("0.0.0.0", "8080")), ("5.14", ports("::", "8080")),
    ("5.14", host_config(PublishAllPorts=True)), ("5.15", host_config(RestartPolicy={"Name": "always"})), ("5.16", host_config(PidMode="host")),
    ("5.17", host_config(IpcMode="host")), ("5.18", host_config(Devices=[{"PathOnHost": "/dev/sda"}])), ("5.20", bind("/srv", "rshared")),
    ("5.21", host_config(UTSMode="host")), ("5.22", host_config(SecurityOpt=["seccomp:unconfined"])), ("5.25", host_config(CgroupParent="/x")),
    ("5.26", subject(container=merged(CONTAINER, {"HostConfig": merged(HOST_CONFIG, {"SecurityOpt": None})}), info=merged(INFO, {"SecurityOptions": []}))),
    ("5.27", container(Config={"Healthcheck": {"Test": ["NONE"]}})), ("5.28", container(Config={"Image": "reg:5000/app"})), ("5.28", container(Config={"Image": "sha256:latest"})),
    ("5.29", host_config(PidsLimit=-1)), ("5.30", host_config(NetworkMode="default")), ("5.31", host_config(UsernsMode="host")),
    ("5.32", bind("/run/docker.sock")), ("7.1", info(Swarm=merged(SWARM, {"Managers": 2}))), ("7.5", info(Swarm=merged(SWARM, {"Cluster": {"Spec": {}}}))),
    ("7.3", subject(info=merged(INFO, {"Swarm": SWARM}), networks=[{"Driver": "overlay", "Name": "o", "Options": {}}])),
    ("1.1.2", subject(host=Files(texts={"/etc/group": "docker:x:9:eve\n"}))), ("1.1.3", subject(host=Files())),
]  # fmt: skip


def state(check: str, about: Subject) -> str:
    return ask(BY_ID[check], about).state


@pytest.mark.parametrize(("check", "about"), BAD, ids=[f"{check}-{number}" for number, (check, _) in enumerate(BAD)])
def test_a_fault_is_found(check: str, about: Subject) -> None:
    assert state(check, about) in ("fail", "warn")


def test_a_good_configuration_has_no_findings() -> None:
    found = {one.id: ask(one, subject()) for one in CHECKS if one.scope != "host"}
    assert {name: row.evidence for name, row in found.items() if row.bad or row.state == "unknown"} == {}


def test_every_check_that_can_fail_has_a_fault_here() -> None:
    only_notes = {"2.8", "5.9", "5.19", "image-age", "base-age", "vulnerabilities", "sbom"}  # test_images_by_policy.py
    tested = {check for check, _ in BAD} | only_notes
    assert {one.id for one in CHECKS if one.scope not in ("files", "host")} == {
        one for one in tested if not one.startswith("1.")
    }


@pytest.mark.parametrize("check", [one for one in CHECKS if one.scope == "files"], ids=lambda one: one.id)
def test_owner_and_permissions(check: Any) -> None:
    argv = (
        "dockerd",
        "--tlscacert=/tls/ca",
        "--tlscert=/tls/cert",
        "--tlskey=/tls/key",
        "-H",
        "unix:///var/run/docker.sock",
    )
    paths = (
        "/lib/systemd/system/docker.service", "/lib/systemd/system/docker.socket", "/etc/docker", "/etc/docker/certs.d/r:1/ca.crt", "/tls/ca", "/tls/cert",
        "/tls/key", "/run/docker.sock", "/etc/docker/daemon.json", "/etc/default/docker", "/etc/sysconfig/docker", "/run/containerd/containerd.sock",
    )  # fmt: skip
    good = Files(argv, dict.fromkeys(paths, Attributes(0o400, 0, 0)))
    bad = Files(argv, dict.fromkeys(paths, Attributes(0o777, 1000, 1000)))
    assert ask(check, subject(host=good)).state == "pass"
    assert ask(check, subject(host=bad)).state == "fail"
    assert ask(check, subject(host=None)).state == "unknown"


def test_audit_rules_are_read_from_rule_files_and_comments_are_not_rules() -> None:
    rules = {"/etc/audit/rules.d/d.rules": "# -w /usr/bin/dockerd\n"}
    assert state("1.1.3", subject(host=Files(texts=rules))) == "fail"
    rules["/etc/audit/rules.d/d.rules"] += "-w /usr/bin/dockerd -k docker\n"
    assert state("1.1.3", subject(host=Files(texts=rules))) == "pass"


@pytest.mark.thorough
@pytest.mark.parametrize("check", CHECKS, ids=lambda one: one.id)
@pytest.mark.parametrize("document", [None, {}, [], "x", {"HostConfig": {}, "Config": {}}])
def test_a_document_that_tells_nothing_never_passes(check: Any, document: Any) -> None:
    nothing = Subject("s", container=document, image=document, history=None, info=document, bridge=None)
    assert ask(check, nothing).state != "pass"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.sampled_from([*CONTAINER, *HOST_CONFIG, *INFO]), one), max_leaves=20))  # fmt: skip
def test_no_document_breaks_a_check(document: Any) -> None:
    about = Subject("s", container=document, image=document, history=document, info=document, bridge=document, networks=document, processes=document)  # fmt: skip
    for check in CHECKS:
        ask(check, about)


def test_a_secret_s_value_is_never_repeated() -> None:
    found = ask(BY_ID["4.10"], subject(image={"Config": {"Env": ["DB_PASSWORD=hunter2"]}}))
    assert "hunter2" not in found.evidence
    assert "DB_PASSWORD" in found.evidence


def policy(text: str) -> Policy:
    return read_policy(documents.parse(text.encode(), "audit.yaml"), BY_ID)


EXCEPTION = "apiVersion: irkit/v1\nkind: AuditPolicy\nexceptions:\n  - check: '5.5'\n    subject: 's*'\n    reason: needs it\n    until: 2026-11-01\n"  # fmt: skip


def test_an_exception_holds_up_to_its_day_and_never_hides_another_check() -> None:
    about = host_config(Privileged=True)
    found = audit([about], policy(EXCEPTION), TODAY, ["5.5", "5.22"])
    assert {one.check.id: one.state for one in found.findings} == {"5.5": "excepted", "5.22": "fail"}
    fits(found.to_json(), "audit")
    later = audit([about], policy(EXCEPTION), TODAY + datetime.timedelta(days=1), ["5.5"])
    assert later.findings[0].state == "fail"


@pytest.mark.parametrize("fault", ["check: '9.9'", "until: soon", "reason: ' '", "extra: 1"])
def test_a_faulty_policy_is_refused_with_its_place(fault: str) -> None:
    key = fault.partition(":")[0]
    lines = [line for line in EXCEPTION.splitlines() if not line.strip(" -").startswith(key + ":")]
    lines.append(f"    {fault}")
    text = "\n".join(lines).replace("exceptions:\n    subject", "exceptions:\n  - subject")
    with pytest.raises(PlaybookInvalid, match=r"audit\.yaml:\d+:\d+: "):
        policy(text)


def test_an_exception_ends_while_somebody_remembers_it() -> None:
    last = datetime.datetime.now(datetime.UTC).date() + LONGEST
    assert policy(EXCEPTION.replace("2026-11-01", str(last))).exceptions[0].until == last
    for day in (last + datetime.timedelta(days=2), "9999-12-31"):
        with pytest.raises(PlaybookInvalid, match=r"audit\.yaml:7:\d+: 'until' is more than 730 days away"):
            policy(EXCEPTION.replace("2026-11-01", str(day)))


def test_the_policy_s_schema_agrees() -> None:
    fits(documents.parse(EXCEPTION.encode(), "x").plain(), "audit-policy")


def test_the_gate_closes_on_failures_and_on_what_could_not_be_answered() -> None:
    assert gate(audit([subject()], Policy(), TODAY), "low").passed
    closed = gate(audit([host_config(Privileged=True)], Policy(), TODAY), "critical")
    assert [one.check.id for one in closed.findings] == ["5.5"]
    assert not gate(audit([subject(container={})], Policy(), TODAY), "critical").passed


def test_the_age_of_an_image() -> None:
    limit = Policy(max_image_age_days=30)
    made = {
        day: subject(image=merged(IMAGE, {"Created": f"{day}T00:00:00Z"}))
        for day in ("2026-10-02", "2026-10-01", "1970-01-01", "2999-01-01")
    }
    found = [audit([one], limit, TODAY, ["image-age"]).findings[0].state for one in made.values()]
    assert found == ["pass", "fail", "unknown", "unknown"], "who claims a time to come would never be too old"


def test_command_line_and_file_are_one() -> None:
    host = Files(
        ("dockerd", "-H", "unix:///a", "--host=tcp://b", "--config-file", "/x.json"),
        texts={"/x.json": '{"icc": false}'},
    )
    found = options(host)
    assert found["hosts"] == ["unix:///a", "tcp://b"]
    assert found["icc"] is False


def test_a_live_host_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    host = LiveHost(str(tmp_path))
    with pytest.raises(OSError, match="symbolic link"):
        host.attributes("/link")
    with pytest.raises(OSError, match=r"."):
        host.text("/link")
    assert host.text("/none") is None


def test_the_docs_table_is_made_from_the_code() -> None:
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    for one in CHECKS:
        assert f"| {one.id} | {one.scope} | {one.severity} | {one.title} | {one.fix} |" in text


@pytest.mark.parametrize("name", ["audit", "audit-policy"])
def test_schemas_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load(name))


def test_a_hostile_history_costs_no_time() -> None:
    lines = [{"CreatedBy": "apt " + "-apt " * 20_000}, {"CreatedBy": "-----BEGIN " * 9_000}]
    started = time.monotonic()
    for check in ("4.7", "4.9", "4.10"):
        ask(BY_ID[check], subject(history=lines))
    assert time.monotonic() - started < 2
