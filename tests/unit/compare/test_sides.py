"""One side against another, attributes, configuration, processes, SARIF: the parts of a comparison that need no bundle."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irkit.compare.against import Reference, between, changed_tree, differ, tree_changes
from irkit.compare.attributes import (
    CAPABILITY,
    SECOND,
    aspects,
    capability_names,
    file_capabilities,
    is_backdated,
    is_future,
    older_than_image,
)
from irkit.compare.describe import (
    About,
    Moment,
    beneath,
    change_values,
    config_values,
    exposed_ports,
    hidden,
    loopback,
    process_values,
    socket_values,
)
from irkit.compare.running import Running
from irkit.compare.sarif import sarif
from irkit.compare.state import ConfigChange, config_changes
from irkit.models import Change, FileFacts, Finding, Gap
from tests.unit.compare.sides import FOLDER, Made, facts, process, socket

A, B = facts(b"a"), facts(b"b")
LINK = FileFacts("symlink", 0o777, 0, 0, 1, target="x")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (A, A, False), (A, B, True), (A, replace(A, mode=0o4644), True), (A, replace(A, uid=1), True), (A, replace(A, gid=1), True),
        (A, replace(A, xattrs={"user.x": "00"}), True), (A, replace(A, mtime_ns=SECOND), True), (A, replace(A, mtime_ns=SECOND - 1), False),
        (A, replace(A, ctime_ns=5 * SECOND, nlink=2), False), (A, replace(A, sha256=""), False), (A, replace(A, sha256="", size=2), True),
        (A, FOLDER, True), (LINK, replace(LINK, target="y"), True), (FOLDER, replace(FOLDER, mtime_ns=SECOND, size=9, nlink=7), False),
        (FOLDER, replace(FOLDER, mode=0o777), True), (replace(LINK, kind="char", rdev="1:3"), replace(LINK, kind="char", rdev="1:5"), True),
    ],
)  # fmt: skip
def test_what_differs(before: FileFacts, after: FileFacts, expected: bool) -> None:
    """Bookkeeping does not count, and a digest that one side does not know tells nothing."""
    assert differ(before, after) is expected and differ(after, before) is expected


def test_against_a_reference() -> None:
    """Each path of both once: as it is here, seen from the other side."""
    other = [
        Change("/same", "added", None, A), Change("/changed", "changed", A, B), Change("/gone", "deleted", A, None),
        Change("/theirs", "changed", A, B, moved_from="/x", opaque=True), Change("/both-gone", "deleted", A, None), Change("/t", "added", None, A, "tmpfs"),
    ]  # fmt: skip
    reference = Reference(iter(other))
    mine = [
        Change("/same", "added", None, A), Change("/changed", "deleted", A, None), Change("/gone", "changed", A, B),
        Change("/both-gone", "deleted", A, None), Change("/t", "added", None, A), Change("/mine", "added", None, B),
    ]  # fmt: skip
    seen = {one.path: reference.against(one) for one in mine}
    assert {path: (one.change, one.before, one.after) if one else None for path, one in seen.items()} == {
        "/same": None, "/changed": ("deleted", B, None), "/gone": ("added", None, B), "/both-gone": None, "/t": ("added", None, A), "/mine": ("added", None, B),
    }  # fmt: skip
    rest = list(reference.rest())
    assert rest == [Change("/theirs", "changed", B, A), Change("/t", "deleted", A, None, "tmpfs")]
    assert list(reference.rest()) == []
    assert between("/x", None, None, mine[0]) is None


def test_two_trees_by_path_parents_first() -> None:
    before = {"/a": FOLDER, "/a/x": A, "/a-b": A, "/same": A}
    found = list(tree_changes(before, {"/a": FOLDER, "/a-b": B, "/a/y": A, "/same": A}))
    assert [(one.path, one.change) for one in found] == [("/a/x", "deleted"), ("/a/y", "added"), ("/a-b", "changed")]


def test_a_tree_with_its_changes() -> None:
    """A folder that was deleted, or is a file now, takes along what lay in it, but not what is there since."""
    tree = {
        "/d": FOLDER,
        "/d/old": A,
        "/d/sub": FOLDER,
        "/d/sub/deep": A,
        "/e": FOLDER,
        "/e/old": A,
        "/dd": A,
        "/keep": A,
    }
    changes = [
        Change("/d", "deleted", FOLDER, None), Change("/d/new", "added", None, B), Change("/e", "changed", FOLDER, B),
        Change("/t", "added", None, B, "tmpfs"), Change("/keep", "changed", A, B),
    ]  # fmt: skip
    assert changed_tree(tree, iter(changes)) == {"/d/new": B, "/e": B, "/dd": A, "/keep": B}


def capabilities(permitted: int, inheritable: int = 0) -> str:
    low, high = 0xFFFFFFFF, 32
    return struct.pack(
        "<5I", 0x02000001, permitted & low, inheritable & low, permitted >> high, inheritable >> high
    ).hex()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (capabilities(1 << 21), ("cap_sys_admin",)), (capabilities(0, 1 << 7), ("cap_setuid",)), (capabilities(1 << 39), ("cap_bpf",)),
        (capabilities(1 << 60), ("cap_60",)), (capabilities(1 | 1 << 40), ("cap_chown", "cap_checkpoint_restore")),
        (capabilities(1) + "00000000", ("cap_chown",)), ("00", ("unreadable",)), ("no hex", ("unreadable",)), ("", ()),
    ],
)  # fmt: skip
def test_file_capabilities(value: str, expected: tuple[str, ...]) -> None:
    assert file_capabilities(replace(A, xattrs={CAPABILITY: value})) == expected


def test_capabilities_of_processes() -> None:
    assert capability_names("0000000000200001") == ("cap_chown", "cap_sys_admin")
    assert capability_names("no hex") == ()


def test_aspects_and_times() -> None:
    acl = "system.posix_acl_access"
    after = replace(B, mode=0o600, uid=5, xattrs={CAPABILITY: "00", acl: "01", "user.x": "02"}, mtime_ns=1)
    assert aspects(A, after) == ("content", "mode", "owner", "capabilities", "acl", "xattrs", "times")
    assert aspects(A, LINK) == ("kind", "target", "mode") and aspects(FOLDER, replace(FOLDER, mtime_ns=9)) == ()
    day = 24 * 3600 * SECOND
    born = replace(A, ctime_ns=10 * day)
    assert is_backdated(replace(born, mtime_ns=8 * day)) and not is_backdated(replace(born, mtime_ns=9 * day))
    assert not is_backdated(replace(born, btime_ns=2 * day, mtime_ns=2 * day)) and not is_backdated(born)
    late = replace(A, mtime_ns=100 * SECOND)
    assert is_future(late, 39 * SECOND) and not is_future(late, 40 * SECOND) and not is_future(late, 0)
    assert older_than_image(Change("/x", "added", None, late), 101 * SECOND)
    assert not older_than_image(Change("/x", "changed", A, late), 101 * SECOND)
    assert not older_than_image(Change("/x", "added", None, A), 101 * SECOND)


def values(change: Change, **more: Any) -> dict[str, Any]:
    about = {"moment": Moment(), "about": About(), "running": None, "mounts": frozenset(), **more}
    return dict(change_values(change, **about))


def test_rights_count_where_they_are_new() -> None:
    """The same bytes with the same bits as in the image are no news; other bytes under a setuid bit are."""
    setuid = replace(A, mode=0o4755)
    assert (
        values(Change("/x", "changed", A, setuid))["setuid"] and values(Change("/x", "added", None, setuid))["setuid"]
    )
    assert values(Change("/x", "changed", setuid, replace(B, mode=0o4755)))["setuid"]
    assert not values(Change("/x", "changed", setuid, replace(setuid, mtime_ns=1)))["setuid"]
    assert not values(Change("/x", "added", None, replace(FOLDER, mode=0o2755)))["setuid"]
    assert values(Change("/x", "added", None, replace(FOLDER, mode=0o777)))["world_writable"]
    assert not values(Change("/x", "added", None, replace(FOLDER, mode=0o1777)))["world_writable"]
    assert "mode" not in values(Change("/x", "deleted", A, None))


def test_a_change_s_values() -> None:
    found = values(
        Change("/srv/a.jpg.php", "changed", A, replace(B, nlink=2, mtime_ns=5)), mounts=frozenset({"/srv/a.jpg.php"})
    )
    assert {name: found[name] for name in ("name", "folder", "mount", "double_extension", "same_size", "same_mtime", "hardlinks", "content_changed", "only")} == {
        "name": "a.jpg.php", "folder": "/srv", "mount": True, "double_extension": True, "same_size": True, "same_mtime": True, "hardlinks": True,
        "content_changed": True, "only": ("content", "times"),
    }  # fmt: skip
    assert values(Change("/x", "added", None, LINK))["target"] == "x" and "target" not in values(
        Change("/x", "added", None, A)
    )
    assert (values(Change("/x", "added", None, A))["folder"], values(Change("/x", "added", None, A))["mount"]) == (
        "/",
        False,
    )
    assert values(Change("/x", "changed", A, A, moved_from="/y", opaque=True))["moved_from"] == "/y"


@pytest.mark.parametrize(
    ("path", "expected"), [("/a/b", False), ("/.a/b", True), ("/a/ /b", True), ("/a/b\x07", True), ("/a/b.c", False)]
)
def test_hidden(path: str, expected: bool) -> None:
    assert hidden(path) is expected


def config(
    now: dict[str, Any], was: dict[str, Any] | None = None, host: dict[str, Any] | None = None, **more: Any
) -> list[tuple[str, str, str]]:
    found = config_changes({"Config": now, "HostConfig": host or {}, **more}, {"Config": was or {}})
    return [(one.name, one.change, one.value or one.before) for one in found]


def test_configuration() -> None:
    now = {
        "User": "0",
        "Entrypoint": ["/x", "-y"],
        "Env": ["A=1", "B=2"],
        "Labels": {"l": "1"},
        "Healthcheck": {"Test": ["CMD", "t"]},
    }
    was = {"User": "app", "Cmd": ["c"], "Env": ["A=1", "C=3"]}
    assert config(now, was) == [
        ("user", "changed", "0"), ("entrypoint", "added", "/x -y"), ("cmd", "removed", "c"), ("env", "added", "B=2"), ("env", "removed", "C=3"),
        ("label", "added", "l=1"), ("healthcheck", "added", "CMD t"),
    ]  # fmt: skip
    assert config_changes({}, {"Config": was}) == config_changes({"Config": now}, {}) == []


def test_what_the_host_gives() -> None:
    host = {
        "Privileged": True, "PublishAllPorts": False, "PidMode": "host", "NetworkMode": "container:abc", "IpcMode": "private", "CapAdd": ["SYS_ADMIN", "CAP_BPF"],
        "SecurityOpt": ["seccomp=unconfined"], "Devices": [{"PathOnHost": "/dev/kmsg"}, 3], "Sysctls": {"a": "1"}, "MaskedPaths": [], "ReadonlyPaths": None,
        "PortBindings": {"80/tcp": [], "81/tcp": []},
    }  # fmt: skip
    mounts = [
        {"Type": "bind", "Source": "/", "Destination": "/host", "RW": True}, {"Type": "volume", "Name": "v", "Destination": "/data", "RW": True},
        {"Type": "volume", "Name": "w", "Destination": "/more", "RW": False}, "nothing",
    ]  # fmt: skip
    assert config({}, {"ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}}, host, Mounts=mounts) == [
        ("privileged", "added", "true"), ("pid_mode", "added", "host"), ("network_mode", "added", "container:abc"), ("capability", "added", "cap_sys_admin"),
        ("capability", "added", "cap_bpf"), ("security_opt", "added", "seccomp=unconfined"), ("device", "added", "/dev/kmsg"), ("sysctl", "added", "a=1"),
        ("unmasked", "removed", "MaskedPaths"), ("mount", "added", "/:/host:rw"), ("mount", "added", "w:/more:ro"), ("port", "added", "81/tcp"),
    ]  # fmt: skip
    assert config_values(ConfigChange("mount", "added", "/:/host:rw"))["writable"] is True
    assert "writable" not in config_values(ConfigChange("env", "added", "X=:rw"))


def test_secrets_stay_out_of_what_is_printed() -> None:
    shown = ConfigChange("env", "changed", "TOKEN=s3cret", "TOKEN=old").to_json()
    assert shown["value"] == "TOKEN=***" and shown["before"] == "TOKEN=***"
    assert ConfigChange("env", "added", "LD_PRELOAD=/x").to_json()["value"] == "LD_PRELOAD=/x"
    assert ConfigChange("label", "added", "a=b").to_json()["value"] == "a=b"


def test_processes_and_sockets(tmp_path: Path) -> None:
    rows = [
        process(100, 1, "/sbin/init"), process(101, 100, "/bin/a", mapped=[{"path": "/lib/x.so", "flags": "r-x"}, {"path": "/data", "flags": "r--"}]),
        process(200, 1, "/bin/sh"), process(201, 200, "/memfd:x", uid=[0, 7], cap_effective="200001", argv=("x", "-y"), exe={"memory": True}),
        process(300, 301, "/b"), process(301, 300, "/b"),
    ]  # fmt: skip
    sockets = [
        socket([100], "0.0.0.0", 80), socket([201], "10.0.0.2", 5, "established", remote="1.2.3.4", remote_port=443), socket([101], "127.0.0.11", 53),
        socket([101], "::", 9, "unconnected", protocol="udp6"), {"pids": [], "state": "x", "protocol": "unix"},
    ]  # fmt: skip
    image = {"Config": {"User": "1000:5", "ExposedPorts": {"80/tcp": {}}}}
    side = Made({"State": {"Pid": 100}}, image, rows, sockets).at(tmp_path / "b")
    running = Running(side)
    assert [running.execed(pid) for pid in (100, 101, 200, 201, 300)] == [False, False, True, True, False]
    assert (running.listening, running.connected) == ({100, 101}, {201})
    assert running.by_path["/lib/x.so"] == {101} and "/data" not in running.by_path
    assert [running.other_user(uid) for uid in (1000, 0, -1)] == [False, True, False]
    found = process_values(201, running, lambda path: {"exe_change": path}, {"type": "elf"})
    assert {name: found[name] for name in ("uid", "root", "memory", "memfd", "cmdline", "extra_capabilities", "connected", "exe_change", "type")} == {
        "uid": 7, "root": False, "memory": True, "memfd": True, "cmdline": "x -y", "extra_capabilities": ("cap_sys_admin",), "connected": True,
        "exe_change": "/memfd:x", "type": "elf",
    }  # fmt: skip
    exposed = exposed_ports(side.container, image)
    told = [socket_values(row, running, exposed) for row in running.sockets]
    assert [(one["listening"], one["exposed"], one["process_memory"]) for one, _ in told] == [
        (True, True, False),
        (False, False, True),
        (True, False, False),
    ]
    assert told[1][1] == "tcp 10.0.0.2:5 held by pid 201 (memfd:x)" and told[2][0]["protocol"] == "udp"


@pytest.mark.parametrize("user", ["app", "", "²", "-1"])
def test_a_user_s_name_tells_nothing(user: str, tmp_path: Path) -> None:
    side = Made(image={"Config": {"User": user}}).at(tmp_path / "b")
    assert not Running(side).other_user(0)


@pytest.mark.parametrize(
    ("address", "expected"), [("127.0.0.1", True), ("::1", True), ("127.0.0.11", False), ("0.0.0.0", False), ("", False)]
)  # fmt: skip
def test_loopback(address: str, expected: bool) -> None:
    assert loopback(address) is expected


def test_sarif() -> None:
    """Rules once each, results by their numbers, places quoted, nothing printed raw."""
    first = Finding("b", "critical", "T", "R", ("T1059",), "/tmp/a b\x1b%", "N", "change")
    other = Finding("a", "low", "U", "S", (), "pid 3: /x", "M", "process")
    again = replace(first, subject="/bad\udcff")
    (run,) = sarif([first, other, again], [Gap("c", "w\x1b", "y")], "web\x1b", 2)["runs"]
    assert [one["id"] for one in run["tool"]["driver"]["rules"]] == ["a", "b"]
    assert [(one["ruleId"], one["ruleIndex"], one["level"]) for one in run["results"]] == [
        ("b", 1, "error"),
        ("a", 0, "note"),
        ("b", 1, "error"),
    ]
    places = [one["locations"][0] for one in run["results"]]
    assert places[0]["physicalLocation"]["artifactLocation"] == {"uri": "tmp/a%20b%1B%25", "uriBaseId": "CONTAINER"}
    assert places[2]["physicalLocation"]["artifactLocation"]["uri"] == "bad%FF"
    assert places[1] == {"logicalLocations": [{"fullyQualifiedName": "pid 3: /x", "kind": "process"}]}
    prints = [one["partialFingerprints"]["irkit/v1"] for one in run["results"]]
    assert len(set(prints)) == 3 and prints == [
        one["partialFingerprints"]["irkit/v1"] for one in sarif([first, other, again], [], "x", 2)["runs"][0]["results"]
    ]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "not compared: w\\x1b: y"
    assert "\x1b" not in str(run) and run["tool"]["driver"]["rules"][1]["properties"] == {
        "security-severity": "9.5",
        "tags": ["security", "T1059"],
    }


FILE = facts(b"x")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (Change("/data/a/b", "added", None, FILE), "/data"), (Change("/data/a", "deleted", FILE, None), "/data"),
        (Change("/data/sub/x", "added", None, FILE), "/data/sub"), (Change("/data", "changed", FOLDER, FOLDER, opaque=True), "/data"),
        (Change("/etc/f", "changed", FILE, facts(b"y")), "/etc/f"), (Change("/etc/f", "added", None, FILE), "/etc/f"),
        (Change("/data", "added", None, FOLDER), ""), (Change("/etc/f", "added", None, facts(b"")), ""),
        (Change("/etc/f", "changed", FILE, facts(b"x", 0o600)), ""), (Change("/data/a", "added", None, FILE, "volume"), ""),
        (Change("/database", "added", None, FILE), ""), (Change("relative", "added", None, FILE), ""), (Change("//x", "added", None, FILE), ""),
    ],
)  # fmt: skip
def test_what_a_mount_hides(change: Change, where: str) -> None:
    """The root is a mount as well, and hides nothing; what the engine makes as a mount point is no secret."""
    assert beneath(change, {"/", "/data", "/data/sub", "/etc/f"}) == where
