"""Failover on a real engine: a clean container takes the place of one that runs, and the compromised one is sealed off."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dateutil.parser import isoparse

from irkit.playbook.journal import read_journal
from irkit.quarantine import firewall
from tests.fits import fits
from tests.load import Asked, get, steady

from .conftest import WEB, Lab
from .test_contain import answers, answers_once, free_port, inspect

DEBIAN = "irkit-dev/debian:1"
MARK = "/mark"
"""A page that the compromised container alone has."""
SUBNET, ADDRESS = "10.231.91.0/24", "10.231.91.10"


@pytest.fixture
def trusted(lab: Lab) -> Lab:
    lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    lab.irkit("image", "sign", WEB, "--key", "rel")
    return lab


@pytest.fixture
def service(trusted: Lab) -> tuple[Lab, str, int]:
    """A web server with a fixed address, an alias, a published port and a mark of its own, and a peer beside it."""
    lab = trusted
    network = lab.network("app", "--subnet", SUBNET)
    lab.run("peer", "--network", network)
    port = free_port()
    name = lab.run(
        "web", "--network", network, "--ip", ADDRESS, "--network-alias", "shop", "-p", f"127.0.0.1:{port}:8080",
        "--restart", "always", "-e", "MODE=prod",
    )  # fmt: skip
    assert answers(port)
    return lab, name, port


def asked(lab: Lab, name: str, path: str = "/") -> str:
    """The status line that the peer gets from a name on their network, asked by glibc's resolver; again until there is one."""
    script = f"exec 3<>/dev/tcp/{name}/8080; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    for _ in range(50):
        if found := lab.docker("exec", f"{lab.token}-peer", "bash", "-c", script, check=False):
            return found
        time.sleep(0.1)
    return ""


def load(port: int) -> AbstractContextManager[list[Asked]]:
    return steady(None, partial(get, "127.0.0.1", port))


def compromised(lab: Lab) -> str:
    names = lab.docker("ps", "-a", "--format", "{{.Names}}").split()
    (found,) = [one for one in names if one.startswith(f"{lab.token}-") and "-compromised-" in one]
    return found


def test_a_running_target(service: tuple[Lab, str, int]) -> None:
    lab, name, port = service
    before = inspect(lab, name)
    lab.docker("exec", name, "cp", "/etc/hostname", f"/srv/www{MARK}")
    assert all("200" in asked(lab, one, MARK) for one in ("shop", name, ADDRESS))
    with load(port) as rows:
        time.sleep(0.3)
        run = lab.irkit("failover", name, "--image", WEB, "--json").json
        time.sleep(0.3)
    assert rows[0].ok and rows[-1].ok
    fits(run, "run")
    done = run["failover"]
    assert done["start"] == "warm" and done["downtime"]["until"] == "relayed" and done["missing_ports"] == []
    assert done["downtime"]["seconds"] == 0 < done["downtime"]["networks"] < 10
    after = inspect(lab, name)
    assert (
        after["Id"] == done["id"] != before["Id"]
        and after["HostConfig"]["PortBindings"] == before["HostConfig"]["PortBindings"]
    )
    (mine,), (theirs,) = (list(one["NetworkSettings"]["Networks"].items()) for one in (after, before))
    assert mine[0] == theirs[0] and mine[1]["IPAddress"] == ADDRESS and "shop" in mine[1]["Aliases"]
    assert after["HostConfig"]["NetworkMode"] == before["HostConfig"]["NetworkMode"]
    assert answers(port) and all("404" in asked(lab, one, MARK) for one in ("shop", name, ADDRESS))
    lab.docker("exec", name, "getent", "hosts", f"{lab.token}-peer")
    assert lab.docker("exec", name, "ls", "/sys/class/net").split() == ["eth1", "lo"] and "eth1" in done["notes"][-1]
    assert ADDRESS in lab.docker("exec", name, "cat", "/etc/hosts")

    old = inspect(lab, compromised(lab))
    assert old["Id"] == before["Id"] and old["State"]["Paused"] and old["Name"] == f"/{done['old_name']}"
    assert run["quarantine"]["state"] == "proven" and {one["result"] for one in run["quarantine"]["probes"]} == {
        "blocked"
    }
    told = {one["path"]: one["detail"] for one in run["quarantine"]["probes"]}
    assert "answered, and none of them arrived" in told[f"published port {port}/tcp, now of {name}"]
    assert "gone from the namespace" in told[f"former address {ADDRESS}, now of {name}"]
    assert run["status"] == "succeeded" and run["bundle"]["status"] == "complete"
    assert lab.irkit("bundle", "verify", run["bundle"]["path"], "--json").json["ok"]
    routes = json.loads((Path(run["bundle"]["path"]) / "data/network/ip-before.json").read_bytes())
    assert ADDRESS in json.dumps(routes["addresses"])
    leftover = [one for one in lab.docker("network", "ls", "--format", "{{.Name}}").split() if "warm-up" in one]
    assert not leftover
    again = lab.irkit("failover", done["old_name"], "--image", WEB, code=5)
    assert "was replaced already" in again.err


def test_a_service_without_ports_is_joined_by_its_replacement_before_it_is_frozen(trusted: Lab) -> None:
    """Both answer for a moment; afterwards the clean one alone, under every name."""
    lab = trusted
    network = lab.network("app")
    lab.run("peer", "--network", network)
    name = lab.run("web", "--network", network, "--network-alias", "shop")
    lab.docker("exec", name, "cp", "/etc/hostname", f"/srv/www{MARK}")
    run = lab.irkit("failover", name, "--image", WEB, "--json").json
    assert all("404" in asked(lab, one, MARK) for one in ("shop", name) for _ in range(4))
    assert run["quarantine"]["state"] == "proven" and run["status"] == "succeeded"
    (calls,) = lab.home.glob("cases/*/runs/*/calls.jsonl")
    paths = [json.loads(line)["path"] for line in calls.read_text().splitlines()]
    joined = [at for at, path in enumerate(paths) if path.endswith("/connect")]
    frozen = next(at for at, path in enumerate(paths) if path.endswith("/pause"))
    assert len([at for at in joined if at < frozen]) == 2, "the network of the warm-up, and the service's own"


def test_a_contained_target_and_a_restart_afterwards(service: tuple[Lab, str, int]) -> None:
    lab, name, port = service
    lab.irkit("contain", name)
    assert not answers_once(port)
    run = lab.irkit("failover", name, "--image", WEB, "--json").json
    assert run["quarantine"]["state"] == "proven" and answers(port)
    assert run["failover"]["downtime"]["seconds"] > 1
    lab.docker("restart", "-t", "0", name)
    assert answers(port) and "200" in asked(lab, "shop")
    assert [one["IPAddress"] for one in inspect(lab, name)["NetworkSettings"]["Networks"].values()] == [ADDRESS]


def test_shared_files_mean_a_cold_start(trusted: Lab, tmp_path: Path) -> None:
    lab, port = trusted, free_port()
    network = lab.network("app")
    lab.run("peer", "--network", network)
    name = lab.run(
        "web",
        "--network",
        network,
        "--network-alias",
        "shop",
        "-p",
        f"127.0.0.1:{port}:8080",
        "-v",
        f"{tmp_path}:/shared",
    )
    assert answers(port)
    run = lab.irkit("failover", name, "--image", WEB, "--json", code=None).json  # a tmpfs of the host is a gap
    assert not [one for one in run["failover"]["differs"] if one["why"] == "unexpected"]
    assert all("200" in asked(lab, one) for one in ("shop", name))
    done = run["failover"]
    assert done["start"] == "cold" and "/shared" in done["why"] and done["downtime"]["until"] == "started"
    assert answers(port) and run["quarantine"]["state"] == "proven"


UDP = 'use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 5353, Proto => "udp"); while ($s->recv($d, 100)) { $s->send($ENV{HOSTNAME}) }'
"""It answers each datagram with its container's id."""


def test_a_client_of_a_udp_port_that_keeps_its_socket_comes_to_the_replacement(trusted: Lab) -> None:
    """The kernel knows its flow (conntrack), and must not send it to the frozen one for as long as it goes on."""
    lab, port = trusted, free_port()
    lab.irkit("image", "sign", DEBIAN, "--key", "rel")
    name = lab.run("dns", "-p", f"127.0.0.1:{port}:5353/udp", image=DEBIAN, command=("perl", "-e", UDP))
    before = inspect(lab, name)["Id"][:12]

    def say(link: socket.socket) -> str:
        with contextlib.suppress(OSError):
            link.send(b"x")
            return link.recv(100).decode()
        return ""

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(0.05)
        link.connect(("127.0.0.1", port))
        with steady(None, lambda: say(link)) as rows:
            deadline = time.monotonic() + 20
            while not any(one.answer for one in rows) and time.monotonic() < deadline:
                time.sleep(0.05)
            run = lab.irkit("failover", name, "--image", DEBIAN, "--json").json
            time.sleep(1)
    spent, after = run["failover"]["downtime"], run["failover"]["id"][:12]
    assert run["failover"]["start"] == "warm" and spent["until"] == "connected" and spent["seconds"] > 0
    frozen, there = (isoparse(spent[one]).timestamp() for one in ("from", "to"))
    assert {one.answer for one in rows if one.ended < frozen} >= {before} and after != before
    assert {one.answer for one in rows if one.begun > there + 1} - {""} == {after}


def test_a_port_that_the_engine_chose_stays(trusted: Lab) -> None:
    lab = trusted
    name = lab.run("web", "-p", "127.0.0.1::8080")
    port = int(inspect(lab, name)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"])
    assert answers(port)
    done = lab.irkit("failover", name, "--image", WEB, "--json").json["failover"]
    assert answers(port) and any(str(port) in note for note in done["notes"])


def test_an_image_that_is_not_trusted_or_does_not_become_healthy(service: tuple[Lab, str, int]) -> None:
    """Nothing happens to the target, which serves on."""
    lab, name, port = service
    before = inspect(lab, name)
    with load(port) as rows:
        lab.irkit("failover", name, "--image", "irkit-dev/busybox:1", code=3)
        lab.irkit("image", "sign", "irkit-dev/busybox:1", "--key", "rel")
        failed = lab.irkit("failover", name, "--image", "irkit-dev/busybox:1", code=1)
        time.sleep(0.1)
    assert "was not touched" in failed.err and "--start cold" in failed.err
    assert rows and all(one.ok for one in rows)
    after = inspect(lab, name)
    assert (
        after["Id"] == before["Id"] and not after["State"]["Paused"] and after["State"]["Pid"] == before["State"]["Pid"]
    )
    assert not [one for one in lab.docker("ps", "-a", "--format", "{{.Names}}").split() if "replacement" in one]
    assert not [one for one in lab.docker("network", "ls", "--format", "{{.Name}}").split() if "warm-up" in one]
    nothing_left(lab)


def nothing_left(lab: Lab) -> None:
    """Of cases that contained nothing: no network, no firewall table, no replacement."""
    made = {path.name for path in (lab.home / "cases").iterdir()}
    assert not firewall.cases_of(firewall.tables()) & made
    assert not [
        one
        for one in lab.docker("network", "ls", "--format", "{{.Name}}").split()
        if one.removeprefix("irkit-") in made
    ]
    assert not [
        one for one in lab.docker("ps", "-a", "--format", "{{.Names}}").split() if f"{lab.token}-web-replacement" in one
    ]


def test_what_a_killed_preparation_leaves_is_a_leftover(trusted: Lab) -> None:
    """It is found while it is not gone on with: its run's lock is free, and nothing is contained."""
    lab = trusted
    name = lab.run(
        "web", "--network", lab.network("app"), "-v", "/cache", "--health-cmd", "true", "--health-interval", "30s"
    )
    volumes = lab.docker("volume", "ls", "-q").split()
    argv = [sys.executable, "-m", "irkit", "failover", name, "--image", WEB]
    with subprocess.Popen(argv, env=lab.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while f"{name}-replacement" not in lab.docker("ps", "--format", "{{.Names}}"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        alive = lab.irkit("release", "--leftovers", "--json").json
        assert alive["replacements"] == alive["cases"] == [], "its run goes on"
        process.send_signal(signal.SIGKILL)
    (case,) = [path.name for path in (lab.home / "cases").iterdir()]
    said = lab.irkit("release", "--leftovers", "--dry-run", "--json").json
    found = lab.irkit("release", "--leftovers", "--json").json
    replacement = f"{name}-replacement-{case.rpartition('-')[2]}"
    assert said["replacements"] == found["replacements"] == [replacement] and found["cases"] == [case]
    nothing_left(lab)
    assert lab.docker("volume", "ls", "-q").split() == volumes
    assert "warm-up" not in lab.docker("network", "ls", "--format", "{{.Name}}") and not found["problems"]
    lab.docker("rm", "-f", name)
    assert lab.irkit("release", "--leftovers", "--json").json["replacements"] == []


def test_no_secret_is_carried_over_silently(trusted: Lab, tmp_path: Path) -> None:
    """Refused before anything is touched; the values are in the created container alone."""
    lab, port = trusted, free_port()
    name = lab.run("web", "-p", f"127.0.0.1:{port}:8080", "-e", "DB_PASSWORD=burnt-old-one", "-e", "MODE=prod")
    before = inspect(lab, name)
    refused = lab.irkit("failover", name, "--image", WEB, code=5)
    assert "DB_PASSWORD" in refused.err and "--keep-secret" in refused.err
    (case,) = (lab.home / "cases").iterdir()
    squatter = f"{name}-compromised-{case.name.rpartition('-')[2]}"
    lab.docker("create", "--name", squatter, "--label", f"dev.irkit.test={lab.token}", WEB)
    taken = lab.irkit("failover", name, "--image", WEB, "--keep-secret", "DB_PASSWORD", code=5)
    assert (
        f"another container is called {squatter} already" in taken.err
        and inspect(lab, name)["State"] == before["State"]
    )
    lab.docker("rm", squatter)
    plan = lab.irkit("failover", name, "--image", WEB, "--harden=no-new-privileges", "--plan", "--json").json
    fits(plan, "failover-plan")
    assert plan["secrets"][0]["answer"] == "missing" and plan["start"] == "warm" and "burnt-old" not in json.dumps(plan)
    assert plan["hardened"] and inspect(lab, name)["State"] == before["State"]
    (tmp_path / "new").write_text("a-fresh-one\n")
    run = lab.irkit(
        "failover", name, "--image", WEB, "--secret", f"DB_PASSWORD=@{tmp_path / 'new'}", "--harden=no-new-privileges",
        "--yes", "--json",
    ).json  # fmt: skip
    fits(run, "run")
    assert [one["answer"] for one in run["failover"]["secrets"]] == ["new"] and run["failover"]["hardened"]
    after = inspect(lab, name)
    assert "DB_PASSWORD=a-fresh-one" in after["Config"]["Env"] and "MODE=prod" in after["Config"]["Env"]
    assert after["HostConfig"]["SecurityOpt"] and answers(port)
    held = [path for path in lab.home.rglob("*") if path.is_file() and b"a-fresh-one" in path.read_bytes()]
    assert not held, "no record has the new value"


def test_a_switch_that_fails_leaves_it_contained(service: tuple[Lab, str, int]) -> None:
    """The target published nothing on this port since its creation: somebody else holds it when the switch comes."""
    lab, name, port = service
    lab.irkit("contain", name)
    thief = lab.run("thief", "-p", f"127.0.0.1:{port}:8080")
    before = inspect(lab, name)
    failed = lab.irkit("failover", name, "--image", WEB, code=1)
    assert (
        "port is already allocated" in failed.err
        and "has its name back" in failed.err
        and "stays contained" in failed.err
    )
    after = inspect(lab, name)
    assert after["Id"] == before["Id"] and after["State"]["Paused"]
    assert not [one for one in lab.docker("ps", "-a", "--format", "{{.Names}}").split() if "replacement" in one]
    lab.docker("rm", "-f", thief)
    lab.irkit("failover", name, "--image", WEB)
    assert answers(port)


def test_host_network_is_refused_before_anything(trusted: Lab) -> None:
    lab = trusted
    name = lab.run("web", "--network", "host")
    refused = lab.irkit("failover", name, "--image", WEB, code=5)
    assert "the host's network namespace" in refused.err and not inspect(lab, name)["State"]["Paused"]


@pytest.mark.parametrize("step", ["prepare", "switch"])
def test_killed_and_gone_on_with(service: tuple[Lab, str, int], step: str) -> None:
    lab, name, port = service
    argv = [sys.executable, "-m", "irkit", "failover", name, "--image", WEB]
    with subprocess.Popen(argv, env=lab.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        journal = _wait_for(lab, step)
        time.sleep(0.7 if step == "prepare" else 0.08)
        process.send_signal(signal.SIGKILL)
    case = journal.parents[2].name
    run = lab.irkit("resume", case, "--json").json
    assert answers(port) and "200" in asked(lab, "shop") and run["quarantine"]["state"] == "proven"
    assert inspect(lab, name)["Id"] == run["failover"]["id"] and inspect(lab, compromised(lab))["State"]["Paused"]
    assert len([one for one in lab.docker("ps", "-a", "--format", "{{.Names}}").split() if one.startswith(name)]) == 2


def _wait_for(lab: Lab, step: str) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for journal in lab.home.glob("cases/*/runs/*/journal.jsonl"):
            rows: list[Any] = []
            try:
                rows = list(read_journal(journal))
            except Exception:
                continue
            if any(row["type"] == "step-started" and row.get("id") == step for row in rows):
                return journal
        time.sleep(0.01)
    raise AssertionError(f"{step} was never begun")


@pytest.fixture
def swarm(lab: Lab) -> Iterator[str]:
    """The name of a service to be made, on an engine that is a swarm of one."""
    with lab.swarm():
        yield f"{lab.token}-service"


def _task(lab: Lab, service: str, but: str = "") -> str:
    """The container of the service's task, one that is not ``but``."""
    for _ in range(150):
        found = lab.docker("ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={service}")
        if others := [one for one in found.split() if one != but]:
            return others[0]
        time.sleep(0.2)
    raise AssertionError("no task runs")


def _spec(lab: Lab, service: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.docker("service", "inspect", service))[0]["Spec"]
    return found


def test_a_swarm_service_is_updated_by_digest_and_rolled_back(trusted: Lab, swarm: str) -> None:
    """Its secret, its labels and its way of updating stay; an image that does not stay up is taken back by Swarm."""
    lab = trusted
    subprocess.run(
        ["docker", "secret", "create", f"{lab.token}-secret", "-"], input=b"s", check=True, capture_output=True
    )
    lab.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name", swarm, "--secret", f"{lab.token}-secret",
        "--update-failure-action", "pause", "--update-monitor", "3s", "--container-label", f"dev.irkit.test={lab.token}", WEB,
    )  # fmt: skip
    task = _task(lab, swarm)
    refused = lab.irkit("failover", task, "--image", WEB, code=5)
    assert "update-service" in refused.err
    before = _spec(lab, swarm)
    early = lab.irkit("run", "update-service", task, "--var", f"image={WEB}", code=None)
    assert early.code != 0 and _spec(lab, swarm) == before
    lab.irkit("contain", task, code=4)  # a secret is a tmpfs on a file: a gap
    alone = lab.irkit("rebuild", task, "--image", WEB, code=5)
    assert "update-service" in alone.err
    lab.irkit("image", "sign", "irkit-dev/busybox:1", "--key", "rel")
    failed = lab.irkit("run", "update-service", task, "--var", "image=irkit-dev/busybox:1", code=1)
    assert "its former spec is back" in failed.err
    assert _image(_spec(lab, swarm)) == _image(before) and _spec(lab, swarm)["UpdateConfig"] == before["UpdateConfig"]


def test_a_swarm_service_runs_the_verified_image(trusted: Lab, swarm: str) -> None:
    lab = trusted
    subprocess.run(
        ["docker", "secret", "create", f"{lab.token}-secret", "-"], input=b"s", check=True, capture_output=True
    )
    lab.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name", swarm, "--secret", f"{lab.token}-secret",
        "--update-monitor", "2s", "--container-label", f"dev.irkit.test={lab.token}", WEB,
    )  # fmt: skip
    task = _task(lab, swarm)
    before = _spec(lab, swarm)
    lab.irkit("contain", task, code=4)  # a secret is a tmpfs on a file: a gap
    run = lab.irkit("run", "update-service", task, "--var", f"image={WEB}", "--json").json
    fits(run, "run")
    after = _spec(lab, swarm)
    assert _image(after) == run["service"]["image"] == run["image"]["image_id"]
    assert after["TaskTemplate"]["ContainerSpec"]["Secrets"] == before["TaskTemplate"]["ContainerSpec"]["Secrets"]
    assert after.get("UpdateConfig") == before.get("UpdateConfig")
    running = lab.docker("ps", "-q", "--no-trunc", "--filter", f"name={swarm}", "--filter", "status=running").split()
    assert len(running) == 1, "irkit says so only when the task runs"
    new = _task(lab, swarm, but=task)
    assert inspect(lab, new)["Image"] == run["image"]["image_id"]


def test_a_killed_update_of_a_service_is_rolled_out_once(trusted: Lab, swarm: str) -> None:
    lab = trusted
    lab.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name", swarm, "--update-monitor", "5s",
        "--container-label", f"dev.irkit.test={lab.token}", WEB,
    )  # fmt: skip
    task = _task(lab, swarm)
    before = _spec(lab, swarm)
    lab.irkit("contain", task)
    argv = [sys.executable, "-m", "irkit", "run", "update-service", task, "--var", f"image={WEB}"]
    with subprocess.Popen(argv, env=lab.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        journal = _wait_for(lab, "update")
        deadline = time.monotonic() + 30
        while _force(_spec(lab, swarm)) == _force(before) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    run = lab.irkit("resume", journal.parents[2].name, "--json").json
    after = _spec(lab, swarm)
    assert _force(after) == _force(before) + 1 and _image(after) == run["service"]["image"]
    assert run["service"]["old_image"] == _image(before) and after.get("UpdateConfig") == before.get("UpdateConfig")


def _force(spec: dict[str, Any]) -> int:
    return int(spec["TaskTemplate"].get("ForceUpdate") or 0)


def _image(spec: dict[str, Any]) -> str:
    return str(spec["TaskTemplate"]["ContainerSpec"]["Image"])
