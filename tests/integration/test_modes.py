"""Every network mode: contained, proven or frozen-only and said so, and released to exactly what it was."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.fits import fits

from .conftest import Lab
from .leaks import _free

BUSYBOX = "irkit-dev/busybox:1"
SLEEP = ("sleep", "600")


def inspect(lab: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.docker("inspect", name))[0]
    return found


def place(lab: Lab, name: str) -> dict[str, Any]:
    """What a release has to give back."""
    raw = inspect(lab, name)
    networks = {
        key: {item: value[item] for item in ("IPAddress", "GlobalIPv6Address", "MacAddress", "Links")}
        | {"Aliases": sorted(one for one in value["Aliases"] or () if one != raw["Id"][:12])}
        for key, value in raw["NetworkSettings"]["Networks"].items()
    }
    return {
        "networks": networks, "ports": raw["NetworkSettings"]["Ports"], "restart": raw["HostConfig"]["RestartPolicy"],
        "state": raw["State"]["Status"],
    }  # fmt: skip


def fixed(lab: Lab, name: str, number: int, *options: str) -> str:
    return lab.network(name, "--subnet", f"10.231.{number}.0/24", *options)


def _bridge(lab: Lab) -> str:
    return lab.run("t", "--network", fixed(lab, "app", 94), "--ip", "10.231.94.7", image=BUSYBOX, command=SLEEP)


def _several(lab: Lab) -> str:
    """Two networks with fixed addresses and aliases, TCP and UDP published, always restarted, with an init."""
    one, two = fixed(lab, "app", 94), fixed(lab, "db", 95)
    name = lab.run(
        "t", "--network", one, "--ip", "10.231.94.9", "--network-alias", "www", "-p", f"127.0.0.1:{_free()}:80/tcp", "-p", f"127.0.0.1:{_free()}:53/udp",
        "--restart", "always", "--init", image=BUSYBOX, command=SLEEP,
    )  # fmt: skip
    lab.docker("network", "connect", "--ip", "10.231.95.9", "--alias", "store", two, name)
    return name


def _linked(lab: Lab) -> str:
    """The default bridge, with a link."""
    other = lab.run("db", image=BUSYBOX, command=SLEEP)
    return lab.run("t", "--link", f"{other}:store", image=BUSYBOX, command=SLEEP)


def _ipv6(lab: Lab) -> str:
    net = fixed(lab, "six", 94, "--ipv6", "--subnet", "fd94::/64")
    return lab.run("t", "--network", net, "--ip6", "fd94::77", image=BUSYBOX, command=SLEEP)


def _internal(lab: Lab) -> str:
    return lab.run(
        "t", "--network", fixed(lab, "in", 94, "--internal"), "--ip", "10.231.94.8", image=BUSYBOX, command=SLEEP
    )


def _macvlan(lab: Lab) -> str:
    parent = f"d{lab.token[:6]}"
    if subprocess.run(["ip", "link", "add", parent, "type", "dummy"], check=False, capture_output=True).returncode:
        subprocess.run(["ip", "link", "add", parent, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", parent, "up"], check=True)
    net = fixed(lab, "mac", 94, "--driver", "macvlan", "--opt", f"parent={parent}")
    return lab.run("t", "--network", net, "--ip", "10.231.94.6", image=BUSYBOX, command=SLEEP)


def _ipvlan(lab: Lab, mode: str) -> str:
    """Where the kernel has it (``CONFIG_IPVLAN``)."""
    parent = f"p{lab.token[:6]}"
    subprocess.run(["ip", "link", "add", parent, "type", "veth", "peer", "name", f"q{lab.token[:6]}"], check=True)
    subprocess.run(["ip", "link", "set", parent, "up"], check=True)
    if subprocess.run(
        ["ip", "link", "add", "irkit-try", "link", parent, "type", "ipvlan"], check=False, capture_output=True
    ).returncode:
        subprocess.run(["ip", "link", "del", parent], check=True)
        pytest.skip("this kernel has no ipvlan")
    subprocess.run(["ip", "link", "del", "irkit-try"], check=True)
    net = fixed(lab, "ipv", 94, "--driver", "ipvlan", "--opt", f"parent={parent}", "--opt", f"ipvlan_mode={mode}")
    return lab.run("t", "--network", net, "--ip", "10.231.94.6", image=BUSYBOX, command=SLEEP)


def _ipvlan_l2(lab: Lab) -> str:
    return _ipvlan(lab, "l2")


def _ipvlan_l3(lab: Lab) -> str:
    return _ipvlan(lab, "l3")


def _none(lab: Lab) -> str:
    return lab.run("t", "--network", "none", image=BUSYBOX, command=SLEEP)


def _paused(lab: Lab) -> str:
    name = _bridge(lab)
    lab.docker("pause", name)
    return name


def _checked(lab: Lab) -> str:
    return lab.run(
        "t",
        "--network",
        fixed(lab, "app", 94),
        "--ip",
        "10.231.94.5",
        "--health-cmd",
        "true",
        "--health-interval",
        "1s",
        image=BUSYBOX,
        command=SLEEP,
    )


@pytest.mark.parametrize(
    "make", [_bridge, _several, _linked, _ipv6, _internal, _macvlan, _ipvlan_l2, _ipvlan_l3, _none, _paused, _checked], ids=lambda make: make.__name__[1:]
)  # fmt: skip
def test_proven_and_given_back(lab: Lab, make: Any) -> None:
    name = make(lab)
    before = place(lab, name)
    run = lab.irkit("contain", name, "--json").json
    assert run["quarantine"]["state"] == "proven", run["quarantine"]
    now = inspect(lab, name)
    assert now["State"]["Paused"] and now["HostConfig"]["RestartPolicy"]["Name"] in ("no", "")
    stays = (
        set(before["networks"]) if make is _none else {run["quarantine"]["network"]}
    )  # Podman names no network for none
    assert set(now["NetworkSettings"]["Networks"]) == stays
    planned = lab.irkit("release", name, "--dry-run", "--json").json["planned"]
    assert any(step.startswith("join the network") for step in planned) or make is _none
    assert place(lab, name)["state"] == "paused"  # a dry run changes nothing
    assert "exactly as it was" in lab.irkit("release", name).out
    assert place(lab, name) == before
    assert "nothing is left over" in lab.irkit("release", "--leftovers").err


def test_a_hardware_address_that_was_chosen_is_told(lab: Lab) -> None:
    """No engine takes one when a running container is connected: what is not given back is named."""
    net = fixed(lab, "app", 94)
    if lab.docker("version", "-f", "{{.Server.APIVersion}}") < "1.44":
        pytest.skip("the client gives this engine none for a network")
    name = lab.run("t", "--network", net, "--mac-address", "02:42:de:ad:be:ef", image=BUSYBOX, command=SLEEP)
    lab.irkit("contain", name)
    released = lab.irkit("release", name, code=None)
    mac = inspect(lab, name)["NetworkSettings"]["Networks"][net]["MacAddress"]
    told = "MAC address was 02:42:de:ad:be:ef" in released.out + released.err
    assert (released.code, told) == ((0, False) if mac == "02:42:de:ad:be:ef" else (4, True))


@pytest.fixture
def swarm(lab: Lab) -> Iterator[str]:
    """The engine as a swarm of one, with an overlay network; left again afterwards."""
    with lab.swarm():
        yield lab.network("overlay", "--driver", "overlay", "--attachable", "--subnet", "10.231.96.0/24")


def test_a_swarm_task_on_overlay_networks(lab: Lab, swarm: str) -> None:
    """It leaves the ingress network as well; frozen it stays the task, so that Swarm starts none in its place."""
    service = f"{lab.token}-service"
    lab.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name", service, "--network", swarm, "--publish", f"{_free()}:8080",
        "--container-label", f"dev.irkit.test={lab.token}", "irkit-dev/web:1",
    )  # fmt: skip
    task = ""
    for _ in range(100):
        task = lab.docker("ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={service}")
        if task:
            break
        time.sleep(0.2)
    time.sleep(1)
    before = place(lab, task)
    assert len(before["networks"]) == 2
    run = lab.irkit("contain", task, "--json").json
    assert run["quarantine"]["state"] == "proven"
    assert list(inspect(lab, task)["NetworkSettings"]["Networks"]) == [run["quarantine"]["network"]]
    time.sleep(2)
    assert lab.docker("ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={service}") == task
    lab.irkit("release", task)
    assert place(lab, task) == before


def test_a_container_on_an_overlay_network(lab: Lab, swarm: str) -> None:
    name = lab.run("t", "--network", swarm, "--ip", "10.231.96.9", image=BUSYBOX, command=SLEEP)
    before = place(lab, name)
    assert lab.irkit("contain", name, "--json").json["quarantine"]["state"] == "proven"
    lab.irkit("release", name)
    assert place(lab, name) == before


@pytest.mark.parametrize("target", ["sharer", "holder"])
def test_a_shared_namespace_has_one_fate(lab: Lab, target: str) -> None:
    """Whichever of the two is named, both lose the network, and release gives it back to both."""
    net = fixed(lab, "app", 94)
    holder = lab.run("holder", "--network", net, "--ip", "10.231.94.11", image=BUSYBOX, command=SLEEP)
    sharer = lab.run("sharer", "--network", f"container:{holder}", image=BUSYBOX, command=SLEEP)
    before = place(lab, holder)
    name = sharer if target == "sharer" else holder
    run = lab.irkit("contain", name, "--json").json
    assert run["quarantine"]["state"] == "proven"
    assert list(inspect(lab, holder)["NetworkSettings"]["Networks"]) == [run["quarantine"]["network"]]
    assert "exactly as it was" in lab.irkit("release", name).out
    assert place(lab, holder) == before


def test_both_of_a_shared_namespace_by_one_command(lab: Lab) -> None:
    net = fixed(lab, "app", 94)
    holder = lab.run("holder", "--network", net, "--ip", "10.231.94.11", image=BUSYBOX, command=SLEEP)
    sharer = lab.run("sharer", "--network", f"container:{holder}", image=BUSYBOX, command=SLEEP)
    before = place(lab, holder)
    found = lab.irkit("contain", sharer, holder, "--json").json
    assert {one["quarantine"]["state"] for one in found["runs"]} == {"proven"} and found["errors"] == []
    assert inspect(lab, holder)["State"]["Paused"] and inspect(lab, sharer)["State"]["Paused"]
    lab.irkit("release", sharer)
    lab.irkit("release", holder)
    assert place(lab, holder) == before


def test_a_process_in_another_network_namespace_is_told(lab: Lab) -> None:
    """What it can reach was not probed: not proven, although everything else is blocked."""
    command = ("sh", "-c", "unshare -n sh -c 'echo ready; exec sleep 600' & exec sleep 600")
    name = lab.run("t", "--network", lab.network("app"), "--cap-add", "SYS_ADMIN", image=BUSYBOX, command=command)
    lab.says(name, "ready")
    run = lab.irkit("contain", name, "--json", code=3).json
    bad = [probe for probe in run["quarantine"]["probes"] if probe["result"] != "blocked"]
    assert run["quarantine"]["state"] == "unproven" and len(bad) == 1 and "another network namespace" in bad[0]["path"]


def test_many_at_once(lab: Lab) -> None:
    """By label, in parallel: none forgotten; one that can't be contained hides nothing of the others."""
    net, label = lab.network("app"), f"dev.irkit.test={lab.token}"
    names = [lab.run(f"n{number}", "--network", net, image=BUSYBOX, command=SLEEP) for number in range(8)]
    lab.irkit("contain", names[0])
    done = lab.irkit("contain", "--label", label, "--json", code=5)
    fits(done.json, "runs")
    assert {run["target"]["name"] for run in done.json["runs"]} == set(names[1:])
    assert [error["target"] for error in done.json["errors"]] == [names[0]]
    assert all(run["quarantine"]["state"] == "proven" and run["bundle"] for run in done.json["runs"])
    assert all(inspect(lab, name)["State"]["Paused"] for name in names)
    assert "no container has the label" in lab.irkit("contain", "--label", "no.such=label", code=5).err


def test_scope_takes_the_relatives_too(lab: Lab) -> None:
    net = lab.network("app")
    names = [lab.run(f"n{number}", "--network", net, image=BUSYBOX, command=SLEEP) for number in range(3)]
    lab.run("apart", image=BUSYBOX, command=SLEEP)
    found = lab.irkit("contain", names[0], "--scope", "same-network", "--json").json
    assert {run["target"]["name"] for run in found["runs"]} == set(names)


def test_observed_in_its_quarantine(lab: Lab) -> None:
    """Run on inside the quarantine, recorded and answered; frozen again before its files are taken."""
    beacon = "while :; do wget -q -O- http://beacon.example.net:8443/x; sleep 0.2; done"
    name = lab.run("t", "--network", lab.network("app"), image=BUSYBOX, command=("sh", "-c", beacon))
    run = lab.irkit("contain", name, "--observe", "9", "--sinkhole", "--json").json
    assert inspect(lab, name)["State"]["Paused"] and run["quarantine"]["state"] == "proven"
    assert (
        "beacon.example.net" in run["observed"]["names"] and "tcp 198.51.100.7 port 8443" in run["observed"]["places"]
    )
    stored = {path.name for path in (Path(run["bundle"]["path"]) / "data" / "observe").iterdir()}
    assert stored == {"traffic.pcap.zst", "sinkhole.jsonl.zst"}
    lab.irkit("bundle", "verify", run["bundle"]["path"])


def test_siblings_keep_answering(lab: Lab) -> None:
    """Not one failed request to a sibling, from the host and from another sibling, during a containment."""
    net, port = lab.network("app"), _free()
    sibling = lab.run("sibling", "--network", net, "-p", f"127.0.0.1:{port}:8080")
    client = lab.run("client", "--network", net, image=BUSYBOX, command=SLEEP)
    victim = lab.run("victim", "--network", net, "-p", f"127.0.0.1:{_free()}:8080")
    failed: list[str] = []
    counts = {"host": 0, "sibling": 0}
    over = threading.Event()

    def by_host() -> None:
        while not over.is_set():
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()
                counts["host"] += 1
            except OSError as error:
                failed.append(f"host: {error}")

    def by_sibling(lines: IO[str]) -> None:
        for line in lines:
            if line == "ok\n":
                counts["sibling"] += 1
            else:
                failed.append(f"sibling: {line}")

    def until(true: Callable[[], bool]) -> None:
        for _ in range(600):
            if true():
                return
            time.sleep(0.1)
        raise AssertionError(counts)

    address = inspect(lab, sibling)["NetworkSettings"]["Networks"][net]["IPAddress"]
    loop = f"while :; do wget -q -O /dev/null http://{address}:8080/ && echo ok || echo failed; done"
    with subprocess.Popen(["docker", "exec", client, "sh", "-c", loop], stdout=subprocess.PIPE, text=True) as process:
        threading.Thread(target=by_host, daemon=True).start()
        reading = threading.Thread(target=by_sibling, args=(process.stdout,))
        reading.start()
        until(lambda: min(counts.values()) > 10)
        before = dict(counts)
        lab.irkit("contain", victim)
        during = {who: counts[who] - before[who] for who in counts}
        until(lambda: min(counts.values()) > 50)
        over.set()
        lab.docker("kill", client)
        reading.join()
    assert failed == []
    assert min(during.values()) > 0, during


def test_rules_of_its_own_make_the_proof_unknown(lab: Lab) -> None:
    """A target that drops irkit's probes by itself can't have a quarantine proven to it by their silence."""
    name = lab.run("rules", "--network", lab.network("own"), "--cap-add", "NET_ADMIN")
    pid = lab.docker("inspect", "-f", "{{.State.Pid}}", name)
    rule = "table inet own { chain out { type filter hook output priority 0; policy accept; meta mark != 7 drop; }; }"
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "-f", "-"], input=rule, text=True, check=True)
    run = lab.irkit("contain", name, "--json", code=3).json
    assert run["quarantine"]["state"] == "unproven"
    tried = [probe for probe in run["quarantine"]["probes"] if not probe["path"].startswith("interface ")]
    assert {probe["result"] for probe in tried} == {"unknown"}
    assert "inet own out" in run["quarantine"]["probes"][0]["detail"]
    kept = json.loads((Path(run["bundle"]["path"]) / "data/network/netfilter.json").read_bytes())
    assert kept["foreign"] == ["inet own out: drop"] and "mark" in json.dumps(kept["ruleset"])


def test_the_engine_s_own_rules_do_not(lab: Lab) -> None:
    name = lab.run("norules", "--network", lab.network("own"), "--cap-add", "NET_ADMIN")
    run = lab.irkit("contain", name, "--json", code=None).json
    assert run["quarantine"]["state"] == "proven"
