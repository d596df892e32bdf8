"""Roads that a target has made for itself before it was contained: past the walls, or past what the proof looks at."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from irkit.acquire.host import HostView

from .conftest import Lab

PYTHON = "irkit-dev/helper:1"
MAKER = """
import socket, struct, sys, time
def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
def make(name, kind, info, lower=b""):
    # IFLA_LINK_NETNSID 0: the lower half in the namespace where the other end of this container's cable is, the host's
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 1, 1) + attribute(3, name) + lower + attribute(37, struct.pack("=i", 0))
    body += attribute(18, attribute(1, kind) + attribute(2, info))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        return struct.unpack_from("=IHHIIi", link.recv(65536))[5]
VXLAN = attribute(1, struct.pack("=I", time.time_ns() >> 12 & 0xFFFFFF)) + attribute(2, socket.inet_aton("198.51.100.9")) + attribute(15, struct.pack(">H", 4789))
if "vxlan" in sys.argv[1]:
    print("vxlan", make(b"vx0", b"vxlan", VXLAN), flush=True)
if "macvlan" in sys.argv[1]:
    print("macvlan", make(b"mv0", b"macvlan", attribute(1, struct.pack("=I", 4)), attribute(5, struct.pack("=I", int(sys.argv[2])))), flush=True)
print("ready", flush=True)
time.sleep(600)
"""


def pid_of(lab: Lab, name: str) -> str:
    return lab.docker("inspect", "-f", "{{.State.Pid}}", name)


def links(pid: str) -> dict[str, Any]:
    found = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-j", "link"], check=True, capture_output=True
    )
    return {row["ifname"]: row for row in json.loads(found.stdout)}


def odd(run: Any) -> list[tuple[str, str]]:
    return [(one["path"], one["result"]) for one in run["quarantine"]["probes"] if one["result"] != "blocked"]


def interfaces(run: Any) -> list[Any]:
    return [one for one in run["quarantine"]["probes"] if one["path"].startswith("interface ")]


def test_a_tunnel_whose_lower_half_is_in_the_host_s_namespace(lab: Lab, request: pytest.FixtureRequest) -> None:
    """``NET_ADMIN`` is all that it takes.  Leaving the networks does not take such an interface away: irkit sets it down."""
    net, lower = lab.network("app"), f"l{lab.token}"
    subprocess.run(["ip", "link", "add", lower, "type", "bridge"], check=True)
    request.addfinalizer(lambda: subprocess.run(["ip", "link", "del", lower], check=False))  # type: ignore[arg-type, return-value]
    index = socket.if_nametoindex(lower)
    name = lab.run(
        "t", "--network", net, "--cap-add", "NET_ADMIN", image=PYTHON, command=("python3", "-c", MAKER, "vxlan,macvlan", str(index))
    )  # fmt: skip
    made = lab.says(name, "ready")
    if "vxlan 0" not in made:
        pytest.skip(f"this engine's containers can't make one: {made}")  # a user namespace of their own
    assert "macvlan 0" in made
    pid = pid_of(lab, name)
    assert {"vx0", "mv0"} <= {one for one, row in links(pid).items() if "UP" in row["flags"]}
    done = lab.irkit("contain", name, "--json", code=None)
    run = done.json
    assert run["quarantine"]["state"] == "proven", odd(run)
    told = {one["path"].split()[1]: one["result"] for one in interfaces(run)}  # Podman's own cable stays, and is cut
    assert (told.pop("eth0", "blocked"), told) == ("blocked", {"vx0": "blocked", "mv0": "blocked"})
    assert "only while it is frozen" in done.err and "vx0" in done.err
    down = {one for one, row in links(pid).items() if "UP" not in row["flags"]}
    assert {"vx0", "mv0"} <= down
    proof = json.loads((Path(run["bundle"]["path"]) / "data/quarantine/proof.json").read_bytes())
    assert "vx0" in json.dumps(proof)
    assert "set the interface vx0 of its namespace up again" in lab.irkit("release", name, "--dry-run").out
    released = lab.irkit("release", name, code=4)
    assert "interface vx0 was set down and is up again" in released.out + released.err
    assert {"vx0", "mv0"} <= {one for one, row in links(pid).items() if "UP" in row["flags"]}


def test_a_cable_that_was_plugged_in_by_hand(lab: Lab) -> None:
    """As pipework does it: no network of the engine's, so that leaving all of them leaves this one."""
    name = lab.run("t", "--network", lab.network("app"), image="irkit-dev/busybox:1", command=("sleep", "600"))
    pid, bridge, cable = pid_of(lab, name), f"b{lab.token}", f"c{lab.token}"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        for words in (
            f"ip link set {bridge} up", f"ip link add {cable} type veth peer name hand0 netns {pid}", f"ip link set {cable} up master {bridge}",
            f"nsenter --net=/proc/{pid}/ns/net ip link set hand0 up",
        ):  # fmt: skip
            subprocess.run(words.split(), check=True)
        done = lab.irkit("contain", name, "--json", code=None)
        run = done.json
        assert run["quarantine"]["state"] == "proven", odd(run)
        assert "its cables were cut by a firewall" in done.err
        told = interfaces(run)  # Podman's own cable stays plugged in, too
        assert any("hand0" in one["path"] for one in told) and all("cut by a firewall" in one["detail"] for one in told)
        earlier = json.loads((Path(run["bundle"]["path"]) / "data/quarantine/proof.json").read_bytes())["earlier"]
        assert earlier[0]["state"] == "open"
        assert "exactly as it was" in lab.irkit("release", name).out
        assert "UP" in links(pid)["hand0"]["flags"]
    finally:
        subprocess.run(["ip", "link", "del", cable], check=False)
        subprocess.run(["ip", "link", "del", bridge], check=False)


def test_a_sharer_that_runs_on_and_could_make_one(lab: Lab) -> None:
    """The holder of the namespace is quarantined with the target, but not frozen: with ``NET_ADMIN`` nothing is proven."""
    net = lab.network("app")
    holder = lab.run(
        "holder", "--network", net, "--cap-add", "NET_ADMIN", image="irkit-dev/busybox:1", command=("sleep", "600")
    )
    sharer = lab.run(
        "sharer", "--network", f"container:{holder}", image="irkit-dev/busybox:1", command=("sleep", "600")
    )
    run = lab.irkit("contain", sharer, "--json", code=None).json
    if "userns" in lab.docker("info", "-f", "{{.SecurityOptions}}"):
        assert run["quarantine"]["state"] == "proven"  # its NET_ADMIN is none over the host's namespace
        return
    assert run["quarantine"]["state"] == "unproven"
    assert [path for path, _ in odd(run)] == [
        f"process {pid_of(lab, holder)} (sleep) in the target's network namespace"
    ]


def test_observation_is_refused_to_one_that_could_make_one(lab: Lab) -> None:
    name = lab.run(
        "t",
        "--network",
        lab.network("app"),
        "--cap-add",
        "NET_ADMIN",
        image="irkit-dev/busybox:1",
        command=("sleep", "600"),
    )
    if "userns" in lab.docker("info", "-f", "{{.SecurityOptions}}"):
        pytest.skip("in a user namespace of its own it could not")
    run = lab.irkit("contain", name, "--observe", "2", "--json", code=4).json
    assert run["quarantine"]["state"] == "proven" and "observed" not in run
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "true"
    assert any(
        "NET_ADMIN" in json.dumps(gap)
        for gap in json.loads((Path(run["bundle"]["path"]) / "data/index.json").read_bytes())["gaps"]
    )


def test_rules_that_refuse_irkit_s_probes_alone(lab: Lab) -> None:
    """ "No route" shows nothing where a rule of the target's own says so, and lets marked packets pass."""
    name = lab.run(
        "t",
        "--network",
        lab.network("app"),
        "--cap-add",
        "NET_ADMIN",
        image="irkit-dev/busybox:1",
        command=("sleep", "600"),
    )
    subprocess.run(
        ["nsenter", f"--net=/proc/{pid_of(lab, name)}/ns/net", "ip", "rule", "add", "not", "fwmark", "7", "prohibit"],
        check=True,
    )
    run = lab.irkit("contain", name, "--json", code=3).json
    assert run["quarantine"]["state"] == "unproven" and "routing rule" in run["quarantine"]["probes"][0]["detail"]


GIVER = """
import os, socket, time
server = socket.socket(socket.AF_UNIX); server.bind("/share/s"); server.listen()
passed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer, _ = server.accept()
socket.send_fds(peer, [b"x"], [passed.fileno()])
time.sleep(600)
"""
TAKER = """
import os, socket, time
while not os.path.exists("/share/s"): time.sleep(0.1)
client = socket.socket(socket.AF_UNIX)
for _ in range(50):
    try: client.connect("/share/s"); break
    except OSError: time.sleep(0.1)
_, (number,), _, _ = socket.recv_fds(client, 1, 1)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_socket_that_a_sibling_passed(lab: Lab, tmp_path: Path) -> None:
    """No privilege is needed: a volume that two containers share.  The socket stays in the sibling's namespace."""
    share = tmp_path / "share"
    share.mkdir()
    share.chmod(0o777)
    volume = ("-v", f"{share}:/share")
    lab.run("sibling", "--network", lab.network("other"), *volume, image=PYTHON, command=("python3", "-c", GIVER))
    name = lab.run("t", "--network", lab.network("app"), *volume, image=PYTHON, command=("python3", "-c", TAKER))
    lab.says(name, "ready")
    run = lab.irkit("contain", name, "--json", code=3).json
    assert run["quarantine"]["state"] == "unproven"
    assert [path.partition(",")[0] for path, _ in odd(run)] == ["a socket of another network namespace"], odd(run)


def test_a_namespace_that_no_process_lives_in(lab: Lab) -> None:
    """A mount keeps it, and with it whatever was moved there."""
    hide = "touch /run/kept; unshare -n mount --bind /proc/self/ns/net /run/kept && echo ready; exec sleep 600"
    options = (
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
    )
    name = lab.run(
        "t", "--network", lab.network("app"), *options, image="irkit-dev/debian:1", command=("sh", "-c", hide)
    )
    lab.says(name, "ready")
    run = lab.irkit("contain", name, "--json", code=3).json
    assert [path.partition(",")[0] for path, _ in odd(run)] == ["another network namespace"], odd(run)


def test_an_interface_that_was_renamed(lab: Lab) -> None:
    """The engine looks for its own interface by name: one that it does not find stays plugged in."""
    net = lab.network("app")
    name = lab.run(
        "t", "--network", net, "--cap-add", "NET_ADMIN", image="irkit-dev/busybox:1", command=("sleep", "600")
    )
    for words in ("ip link set eth0 down", "ip link set eth0 name hidden0", "ip link set hidden0 up"):
        subprocess.run(["nsenter", f"--net=/proc/{pid_of(lab, name)}/ns/net", *words.split()], check=True)
    run = lab.irkit("contain", name, "--json", code=None).json
    left = links(pid_of(lab, name))
    assert run["quarantine"]["state"] in ("proven", "open", "unproven", "frozen-only"), run["quarantine"]
    if "hidden0" in left:
        assert [one["result"] for one in interfaces(run)] == ["blocked"] and "cut by a firewall" in interfaces(run)[0][
            "detail"
        ]


@pytest.mark.parametrize("network", ["app", "host"])
def test_a_process_that_left_the_cgroup(lab: Lab, network: str) -> None:
    """A privileged container can do that.  In a pid namespace of its own it is in none of the target's; it is found all the same.

    On the host's network the freeze is all that there is.
    """
    if network == "host" and "userns" in lab.docker("info", "-f", "{{.SecurityOptions}}"):
        pytest.skip("this engine refuses the host's network")
    command = "unshare -p -f sh -c 'echo ready; exec sleep 601' & exec sleep 600"
    name = lab.run(
        "t", "--network", network if network == "host" else lab.network(network), "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", image="irkit-dev/debian:1",
        command=("sh", "-c", command),
    )  # fmt: skip
    lab.says(name, "ready")
    inner = pid_of(lab, name)
    for _ in range(2):  # unshare, and what it has started
        (inner,) = Path(f"/proc/{inner}/task/{inner}/children").read_text().split()
    identity = lab.docker("inspect", "-f", "{{.Id}}", name)
    elsewhere = Path(next(HostView(identity, int(pid_of(lab, name))).cgroups())).parent / f"away-{lab.token}"
    elsewhere.mkdir()
    try:
        (elsewhere / "cgroup.procs").write_text(inner)
        run = lab.irkit("contain", name, "--json", code=3).json
        assert any(path.startswith(f"processes {inner} in ") for path, _ in odd(run)), odd(run)
        subprocess.run(["kill", "-9", inner], check=True)
        for _ in range(100):
            if not (elsewhere / "cgroup.procs").read_text():
                break
            time.sleep(0.1)
    finally:
        elsewhere.rmdir()


def test_a_container_in_the_target_s_pid_namespace(lab: Lab) -> None:
    """It is another network namespace's, and not frozen: both are told."""
    name = lab.run("t", "--network", lab.network("app"), image="irkit-dev/busybox:1", command=("sleep", "600"))
    lab.run(
        "beside",
        "--network",
        lab.network("other"),
        "--pid",
        f"container:{name}",
        image="irkit-dev/busybox:1",
        command=("sleep", "600"),
    )
    run = lab.irkit("contain", name, "--json", code=3).json
    assert sorted(path.partition(" ")[0] for path, _ in odd(run)) == ["another", "processes"], odd(run)


def test_a_crowd_of_interfaces_is_no_hindrance(lab: Lab) -> None:
    """A proof must end, however many there are; those that were not tried by themselves are told."""
    name = lab.run(
        "t",
        "--network",
        lab.network("app"),
        "--cap-add",
        "NET_ADMIN",
        image="irkit-dev/busybox:1",
        command=("sleep", "600"),
    )
    crowd = "".join(f"link add crowd{number} type bridge\n" for number in range(300))
    subprocess.run(
        ["nsenter", f"--net=/proc/{pid_of(lab, name)}/ns/net", "ip", "-batch", "-"], input=crowd, text=True, check=True
    )
    run = lab.irkit("contain", name, "--json", code=3).json
    assert odd(run) == [("interfaces of the target", "unknown")] and len(run["quarantine"]["probes"]) < 2000
