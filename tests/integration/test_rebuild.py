"""A rebuild gives back every setting but what it says, carries no secret over silently, and steps back when it fails."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from irkit.engine.docker import DockerEngine
from tests.fits import fits

from .conftest import LABEL, WEB, Lab

SECRET = "hunter2-hunter2-hunter2"
FRESH = "quite-another-9f2c7a"
PARTS = ("Config", "HostConfig", "Mounts")


@dataclass(frozen=True)
class Case:
    """A container to be rebuilt: what ``docker run`` is told, what is done then, what the rebuild is told.

    ``differs``: the only fields that may differ, as patterns, beside those that always do.
    """

    run: tuple[str, ...] = ()
    mac: str = ""
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    joins: tuple[tuple[str, ...], ...] = ()
    leaves: tuple[str, ...] = ()
    rebuild: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    asks: str = "{ip}:8080"


ALWAYS = (
    r"Config\.Image", r"Config\.Hostname", r"Networks\[[^]]+\]\.(EndpointID|IPAddress|Gateway|IPPrefixLen|MacAddress|Aliases|DNSNames)",
)  # fmt: skip
BIND = "/tmp"
CASES = {
    "environment": Case(
        ("-e", "MODE=prod", "-e", f"DB_PASSWORD={SECRET}", "-e", f"URL=postgres://app:{SECRET}@db/x", "-e", "KEEP_TOKEN=stays-4711", "-e", "OLD_SECRET=drop-me-0815"),
        rebuild=("--secret", "DB_PASSWORD=@{secret}", "--secret", "URL=fd:0", "--keep-secret", "KEEP_TOKEN", "--drop-secret", "OLD_SECRET"),
        differs=(r"Config\.Env\[(DB_PASSWORD|URL|OLD_SECRET)\]",),
    ),
    "mounts": Case(
        ("-v", "/anonymous", "-v", "{token}-data:/data", "-v", f"{BIND}:/host:ro", "--mount", "type=volume,src={token}-m,dst=/m,readonly",
         "--mount", "type=bind,src=/usr,dst=/u,readonly,bind-propagation=rprivate", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770", "--tmpfs", "/tt:size=2m,noexec"),
        differs=(r"Mounts\[/anonymous\]\.(Name|Source)",),
    ),
    "networks": Case(
        ("--network", "{token}-front", "--ip", "10.231.95.9", "--network-alias", "shop", "--network-alias", "www", "-p", "127.0.0.1:18431:8080", "-p", "127.0.0.1::8081/udp"),
        networks={"front": ("--subnet", "10.231.95.0/24"), "back": ("--subnet", "10.231.96.0/24")},
        joins=(("--alias", "back-shop", "--ip", "10.231.96.7", "{token}-back"), ("bridge",)),
        differs=(r"Ports\[8081/udp\]",),
        asks="127.0.0.1:18431",
    ),
    "mac": Case(("--network", "{token}-front"), mac="02:11:22:33:44:55", networks={"front": ()}),
    "mac-on-bridge": Case(mac="02:11:22:33:44:66"),
    "left-its-network": Case(("--network", "{token}-front"), networks={"front": (), "back": ()}, joins=(("{token}-back",),), leaves=("{token}-front",)),
    "labels-and-limits": Case(
        ("--label", "com.docker.compose.project=shop", "--label", "empty=", "--memory", "96m", "--memory-reservation", "48m", "--cpu-shares", "512",
         "--cpuset-cpus", "0", "--pids-limit", "60", "--ulimit", "nofile=512:1024", "--ulimit", "core=0", "--shm-size", "8m", "--oom-score-adj", "100", "--blkio-weight", "300"),
    ),
    "process": Case(
        ("--health-cmd", "true", "--health-interval", "1s", "--health-retries", "5", "--restart", "on-failure:3", "--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2",
         "--init", "--hostname", "shop-1", "--domainname", "example.test", "--stop-signal", "SIGINT", "--stop-timeout", "3", "-w", "/tmp", "-u", "1000:1000", "--group-add", "44", "-t", "-i"),
    ),
    "security": Case(
        ("--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", "--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp", "--device", "/dev/null:/dev/xnull:r",
         "--sysctl", "net.ipv4.ip_unprivileged_port_start=0", "--device-cgroup-rule", "c 1:3 r"),
    ),
    "names": Case(
        ("--link", "{token}-peer:db", "--dns", "10.231.0.1", "--dns-search", "example.test", "--dns-opt", "ndots:2", "--add-host", "db:10.0.0.9", "--volumes-from", "{token}-peer:ro"),
    ),
    "shared-namespaces": Case(("--pid", "container:{token}-peer", "--ipc", "container:{token}-peer")),
    "shared-network": Case(("--network", "container:{token}-peer"), command=("sleep", "600"), asks=""),
    "host": Case(("--network", "host", "--uts", "host"), command=("sleep", "600"), asks=""),
    "entrypoint": Case(("--entrypoint", "/bin/busybox", "--no-healthcheck"), command=("sh", "-c", "mkdir -p /tmp/w; echo ok > /tmp/w/index.html; exec busybox httpd -f -p 8080 -h /tmp/w")),
}  # fmt: skip


@pytest.fixture
def trusted(lab: Lab) -> Iterator[Lab]:
    lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    lab.irkit("image", "sign", WEB, "--key", "rel")
    yield lab
    for container in lab.docker("ps", "-aq", "--filter", f"label={LABEL}={lab.token}").split():
        lab.docker("rm", "-fv", container, check=False)
    for volume in lab.docker("volume", "ls", "-q", "--filter", f"name={lab.token}").split():
        lab.docker("volume", "rm", volume, check=False)


def inspect(lab: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.docker("inspect", name))[0]
    return found


def flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Written apart from irkit's own comparison: every leaf of inspect, null and empty the same."""
    if isinstance(value, dict):
        for key, inner in value.items():
            named = path in (
                "Networks",
                "Mounts",
                "Ports",
                "Config.Env",
                "Config.Labels",
                "Config.Volumes",
                "Config.ExposedPorts",
            )
            yield from flat(f"{path}[{key}]" if named else f"{path}.{key}", inner)
    elif value not in (None, [], ""):
        yield path, json.dumps(value, sort_keys=True)


def leaves(raw: Mapping[str, Any]) -> dict[str, str]:
    config = {**raw["Config"], "Env": dict(one.partition("=")[::2] for one in raw["Config"]["Env"] or ())}
    parts = {
        "Config": config, "HostConfig": raw["HostConfig"], "Networks": raw["NetworkSettings"]["Networks"],
        "Ports": raw["NetworkSettings"]["Ports"], "Mounts": {one["Destination"]: one for one in raw["Mounts"]},
    }  # fmt: skip
    return dict(pair for name, value in parts.items() for pair in flat(name, value))


def filled(lab: Lab, words: tuple[str, ...], **more: str) -> list[str]:
    return [word.format(token=lab.token, **more) if "{" in word else word for word in words]


def staged(lab: Lab, case: Case, engine: DockerEngine) -> str:
    lab.run("peer", "-v", "/shared", "--ipc", "shareable", image="irkit-dev/busybox:1", command=("sleep", "600"))
    for name, words in case.networks.items():
        lab.network(name, *words)
    full = f"{lab.token}-web"
    cpus = ("--cpus", "0.5") if engine.info().raw.get("CpuCfsQuota") and "--cpu-shares" in case.run else ()
    made = subprocess.run(
        ["docker", "create", "--name", full, "--label", f"{LABEL}={lab.token}", *cpus, *filled(lab, case.run), WEB, *case.command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    if case.mac:  # the command line of today refuses to ask an engine of yesterday for it
        raw = engine.container(full).raw
        engine.remove(full)
        mode = raw["HostConfig"]["NetworkMode"]
        body = {**raw["Config"], "Hostname": "", "MacAddress": case.mac, "HostConfig": raw["HostConfig"]}
        engine.create({**body, "NetworkingConfig": {"EndpointsConfig": {mode: {}} if mode != "default" else {}}}, full)
    for words in case.joins:
        *options, network = filled(lab, words)
        lab.docker("network", "connect", *options, network, full)
    for network in filled(lab, case.leaves):
        lab.docker("network", "disconnect", network, full)
    lab.docker("start", full)
    return full


def answers(address: str) -> bool:
    for _ in range(50):
        with contextlib.suppress(OSError, http.client.HTTPException):
            link = http.client.HTTPConnection(address, timeout=1)
            link.request("GET", "/")
            if b"ok" in link.getresponse().read():
                return True
        time.sleep(0.1)
    return False


def address(case: Case, raw: Mapping[str, Any]) -> str:
    ips = [one["IPAddress"] for one in raw["NetworkSettings"]["Networks"].values() if one["IPAddress"]]
    return case.asks.format(ip=ips[0] if ips else "127.0.0.1")


@pytest.mark.parametrize("kind", CASES)
def test_as_it_was_but_for_what_is_announced(kind: str, trusted: Lab, engine: DockerEngine, tmp_path: Path) -> None:
    lab, case = trusted, CASES[kind]
    name = staged(lab, case, engine)
    before = inspect(lab, name)
    assert before["State"]["Running"]
    assert not case.asks or answers(address(case, before))
    lab.irkit("contain", name, code=None)
    (tmp_path / "new").write_text(FRESH + "\n")
    done = rebuilt(lab, name, filled(lab, case.rebuild, secret=str(tmp_path / "new")))
    after = inspect(lab, name)
    assert after["Id"] == done["id"] != before["Id"] and after["State"]["Running"] and not after["State"]["Paused"]
    assert not case.asks or answers(address(case, after))

    old, new = leaves(before), leaves(after)
    differing = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    announced = {one["field"]: one["why"] for one in done["differs"]}
    assert "unexpected" not in announced.values(), announced
    assert {one for one in differing if one not in announced} == set(), "it differs, and irkit does not say so"
    allowed = (*ALWAYS, *case.differs)
    assert {one for one in announced if not any(re.fullmatch(each, one) for each in allowed)} == set()
    if case.mac:
        assert {one["MacAddress"] for one in after["NetworkSettings"]["Networks"].values()} == {case.mac}
    if kind == "environment":
        no_secret_anywhere(lab, after, done)


def rebuilt(lab: Lab, name: str, words: list[str]) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", "irkit", "rebuild", name, "--image", WEB, "--json", *words], env=lab.environment, check=False,
        capture_output=True, text=True, input=f"postgres://app:{FRESH}@db/x\n", timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert FRESH not in ran.stdout + ran.stderr and SECRET not in ran.stdout + ran.stderr
    fits(json.loads(ran.stdout), "run")
    done: dict[str, Any] = json.loads(ran.stdout)["rebuilt"]
    return done


def no_secret_anywhere(lab: Lab, after: Mapping[str, Any], done: Mapping[str, Any]) -> None:
    env = dict(one.partition("=")[::2] for one in after["Config"]["Env"])
    assert env["DB_PASSWORD"] == FRESH and env["URL"] == f"postgres://app:{FRESH}@db/x"
    assert env["KEEP_TOKEN"] == "stays-4711" and "OLD_SECRET" not in env and env["MODE"] == "prod"
    assert {one["name"]: one["answer"] for one in done["secrets"]} == {
        "DB_PASSWORD": "new", "URL": "new", "KEEP_TOKEN": "kept", "OLD_SECRET": "dropped",
    }  # fmt: skip
    for path in (one for one in lab.home.rglob("*") if one.is_file()):
        assert FRESH.encode() not in path.read_bytes(), path


def test_no_secret_is_carried_over_silently(trusted: Lab, tmp_path: Path) -> None:
    lab = trusted
    name = lab.run("web", "-e", f"DB_PASSWORD={SECRET}", "-e", "API_TOKEN=t0k3n-t0k3n")
    lab.irkit("contain", name, code=None)
    old = inspect(lab, name)["Id"]
    command = ("rebuild", name, "--image", WEB)
    refused = lab.irkit(*command, code=5)
    assert "DB_PASSWORD" in refused.err and "API_TOKEN" in refused.err and "--keep-secret" in refused.err
    assert SECRET not in refused.err
    plan = lab.irkit(*command, "--plan", "--json").json
    assert [one["answer"] for one in plan["secrets"]] == ["missing", "missing"] and SECRET not in json.dumps(plan)
    clear = lab.irkit(*command, "--secret", f"DB_PASSWORD={FRESH}", code=2)
    assert FRESH not in clear.err
    lab.irkit("run", "rebuild", name, "--var", f"image={WEB}", "--var", f"secrets=DB_PASSWORD={FRESH}", code=2)
    (tmp_path / "same").write_text(SECRET)
    given = ("--keep-secret", "API_TOKEN", "--secret")
    same = lab.irkit(*command, *given, f"DB_PASSWORD=@{tmp_path / 'same'}", code=5)
    assert "is the old one" in same.err and SECRET not in same.err
    lab.irkit(*command, *given, "DB_PASSWORD=fd:77", code=2)
    lab.irkit(*command, "--keep-secret", "NO_SUCH", code=2)
    assert inspect(lab, name)["Id"] == old and inspect(lab, name)["State"]["Paused"]
    for path in (one for one in lab.home.rglob("*") if one.is_file()):
        assert FRESH.encode() not in path.read_bytes(), path


def test_a_secret_that_the_image_sets_is_emptied(trusted: Lab, tmp_path: Path) -> None:
    lab, image = trusted, f"irkit-test/{trusted.token}:1"
    (tmp_path / "Dockerfile").write_text(f"FROM {WEB}\nENV API_TOKEN={SECRET}\n")
    lab.docker("build", "-q", "-t", image, str(tmp_path))
    try:
        lab.irkit("image", "sign", image, "--key", "rel")
        name = lab.run("web", image=image)
        lab.irkit("contain", name, code=None)
        command = ("rebuild", name, "--image", image)
        plan = lab.irkit(*command, "--plan")
        assert "API_TOKEN" in plan.out and "the new image sets it" in plan.out and SECRET not in plan.out
        lab.irkit(*command, code=5)
        told = lab.irkit(*command, "--drop-secret", "API_TOKEN", "--plan").out
        assert "set to nothing in the new container, because the new image sets it" in told
        done = lab.irkit(*command, "--drop-secret", "API_TOKEN", "--json", code=None)
        assert done.code in (0, 4), done.err
        assert "set to nothing" in done.err and SECRET not in done.err
        row = next(one for one in done.json["rebuilt"]["differs"] if one["field"] == "Config.Env[API_TOKEN]")
        assert row["why"] == "secret"
        inside = lab.docker("exec", name, "cat", "/proc/1/environ")
        assert "API_TOKEN=\0" in inside and SECRET not in inside
    finally:
        for one in lab.docker("ps", "-aq", "--filter", f"label={LABEL}={lab.token}").split():
            lab.docker("rm", "-fv", one, check=False)
        lab.docker("rmi", "-f", image, check=False)


# -- hardening ----------------------------------------------------------------------------------------------------


def test_hardened_as_it_was_told_before(trusted: Lab, engine: DockerEngine) -> None:
    lab = trusted
    # the socket's file is a plain one here: what is mounted under such a name is what counts
    (lab.home.parent / "docker.sock").write_text("")
    name = lab.run(
        "web", "--cap-add", "SYS_PTRACE", "--pid", "host", "--ipc", "host", "--security-opt", "seccomp=unconfined", "-u", "root",
        "-v", f"{lab.home.parent / 'docker.sock'}:/var/run/docker.sock",
    )  # fmt: skip
    lab.irkit("contain", name, code=None)
    old = inspect(lab, name)["Id"]
    command = ("rebuild", name, "--image", WEB, "--harden", "--keep", "apparmor", "--json")
    plan = lab.irkit(*command, "--plan").json
    fits(plan, "rebuild-plan")
    assert plan["audit"] is None, "the policy asks for none"
    told = [one["name"] for one in plan["hardened"]]
    assert told == ["capabilities", "docker-socket", "host-pid", "host-ipc", "read-only", "memory", "pids", "no-new-privileges", "seccomp"]  # fmt: skip
    assert [one["name"] for one in plan["not_hardened"]] == ["root-user"]
    refused = lab.irkit(*command, code=5)
    assert "not agreed" in refused.err and inspect(lab, name)["Id"] == old
    assert all(one["what"] in refused.err for one in plan["hardened"]), "told before it is asked"
    assert lab.irkit("rebuild", name, "--image", WEB, "--harden=nonsense", code=2).err
    done = lab.irkit(*command, "--yes", code=4).json["rebuilt"]
    ignored = [
        name for name, key in (("memory", "MemoryLimit"), ("pids", "PidsLimit")) if not engine.info().raw.get(key)
    ]
    assert done["hardened"] == [one for one in plan["hardened"] if one["name"] not in ignored]
    assert [one["name"] for one in done["not_hardened"]] == ["root-user", *ignored], (
        "an engine without limits sets none"
    )
    raw = inspect(lab, name)
    host = raw["HostConfig"]
    assert raw["Id"] != old and not raw["Mounts"] and host["ReadonlyRootfs"] and not host["CapAdd"]
    assert host["PidMode"] == "" and host["IpcMode"] != "host" and host["SecurityOpt"] == ["no-new-privileges"]
    assert "memory" in ignored or host["Memory"] == 1024**3
    assert "pids" in ignored or host["PidsLimit"] == 512
    assert set(host["Tmpfs"]) == {"/tmp", "/run", "/var/tmp"}
    assert "unexpected" not in {one["why"] for one in done["differs"]}
    assert answers(f"{next(iter(raw['NetworkSettings']['Networks'].values()))['IPAddress']}:8080")


def test_off_the_host_s_network(trusted: Lab) -> None:
    lab = trusted
    name = lab.run("web", "--network", "host", "--uts", "host", command=("sleep", "600"))
    lab.irkit("contain", name, code=None)
    done = lab.irkit("rebuild", name, "--image", WEB, "--harden=host-network,host-uts", "--yes", "--json").json[
        "rebuilt"
    ]
    raw = inspect(lab, name)
    assert [one["name"] for one in done["hardened"]] == ["host-network", "host-uts"]
    assert raw["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert set(raw["NetworkSettings"]["Networks"]) == {"bridge"} and raw["HostConfig"]["UTSMode"] == ""


# -- the gate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["unhealthy", "never-healthy", "ends-at-once", "ends-again-and-again", "port-is-taken", "says-its-secret"]
)
def test_what_does_not_work_is_taken_back(fault: str, trusted: Lab, tmp_path: Path) -> None:
    lab = trusted
    # it fails in the new container alone: the old one has the file that the command waits for
    ends = ("sh", "-c", "test -e /tmp/old || { echo $NEW_TOKEN >&2; exit 7; }; sleep 600")
    argv: tuple[str, ...] = ("-v", "/tmp/v", "-p", "127.0.0.1:18477:8080", "-e", "NEW_TOKEN=old-value-1")
    wait, words, command = "20", "", ()  # type: str, str, tuple[str, ...]
    if fault == "unhealthy":
        argv += ("--health-cmd", "test -e /tmp/old", "--health-interval", "1s", "--health-retries", "2")
        words = "health check fails"
    elif fault == "never-healthy":
        argv += ("--health-cmd", "test -e /tmp/old", "--health-interval", "1s", "--health-retries", "100")
        wait, words = "4", "not healthy after 4 s"
    elif fault == "port-is-taken":
        words = "18477"
    else:
        argv += ("--restart", "always") if fault == "ends-again-and-again" else ()
        command, words = ends, "exit code 7"
    lab.docker("create", "--name", f"{lab.token}-web", "--label", f"{LABEL}={lab.token}", *argv, WEB, *command)
    name = f"{lab.token}-web"
    (tmp_path / "old").write_text("")
    lab.docker("cp", str(tmp_path / "old"), f"{name}:/tmp/old")
    lab.docker("start", name)
    lab.irkit("contain", name, code=None)
    if fault == "port-is-taken":
        lab.run("squatter", "-p", "127.0.0.1:18477:8080")
    before, volumes = inspect(lab, name), set(lab.docker("volume", "ls", "-q").split())
    assert before["State"]["Paused"]
    (tmp_path / "new").write_text(FRESH)
    failed = lab.irkit(
        "rebuild", name, "--image", WEB, "--health-timeout", wait, "--secret", f"NEW_TOKEN=@{tmp_path / 'new'}", code=1
    )
    told = words in failed.err or (fault == "ends-again-and-again" and "ended and was restarted" in failed.err)
    assert told and f"{name} is as it was before" in failed.err, failed.err
    assert FRESH not in failed.err
    after = inspect(lab, name)
    for part in ("Id", "Name", "State", "HostConfig", "Config", "NetworkSettings", "Mounts"):
        assert after[part] == before[part], part
    left = lab.docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"label={LABEL}={lab.token}").split()
    assert sorted(left) == sorted({name, *([f"{lab.token}-squatter"] if fault == "port-is-taken" else [])})
    assert set(lab.docker("volume", "ls", "-q").split()) == volumes, "the old one's anonymous volume, and no other"
    for path in (one for one in lab.home.rglob("*") if one.is_file()):
        assert FRESH.encode() not in path.read_bytes(), path
