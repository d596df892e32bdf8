"""Where paths of a host lead: links followed by hand beneath another root, and mounts by the kernel's tables."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from irkit import host_paths
from irkit.engine.interface import Container
from irkit.host_paths import HostPaths, of_engine
from irkit.mountinfo import parse_mountinfo
from irkit.mounts import LINK, NOT_SEEN, UNFOLLOWED, Seen, followed, record, recorded, seen_at

ID = "a" * 64


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPaths:
    """A host whose ``/proc/7`` is a folder."""
    monkeypatch.setattr(host_paths, "PROC", str(tmp_path))
    (tmp_path / "7" / "root").mkdir(parents=True)
    return HostPaths(7)


@pytest.fixture
def root(host: HostPaths, tmp_path: Path) -> Path:
    found = tmp_path / "7" / "root"
    for one in ("etc", "srv/data", "tmp", "run"):
        (found / one).mkdir(parents=True)
    for name, target in {
        "tmp/x": "/", "tmp/relative": "../etc", "tmp/chain": "/tmp/x/tmp/relative", "tmp/up": "../../../../etc", "tmp/a": "b",
        "tmp/b": "a", "tmp/dangling": "/nowhere/at/all", "tmp/odd": "\udcff", "var": "/srv",
    }.items():  # fmt: skip
        (found / name).symlink_to(target)
    return found


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/srv/data", "/srv/data"),
        ("/tmp/x", "/"),
        ("/tmp/x/etc", "/etc"),
        ("//tmp//x/./etc/", "/etc"),
        ("/tmp/relative", "/etc"),
        ("/tmp/chain", "/etc"),
        ("/tmp/up", "/etc"),
        ("/tmp/dangling", "/nowhere/at/all"),
        ("/tmp/odd", "/tmp/\udcff"),
        ("/var/data", "/srv/data"),
        ("/srv/data/../../tmp/x", "/"),
        ("/", "/"),
        ("", "/"),
    ],
)
def test_links_are_followed_beneath_the_root(host: HostPaths, path: str, real: str) -> None:
    assert host.follow(path) == real


@pytest.mark.usefixtures("root")
def test_a_ring_of_links(host: HostPaths) -> None:
    with pytest.raises(OSError, match="too many links"):
        host.follow("/tmp/a")
    assert seen_at(host, None, {"Source": "/tmp/a"}) == Seen((), "it can't be read: too many links")


def test_nobody_is_asked_who_may_be_frozen(host: HostPaths, root: Path, tmp_path: Path) -> None:
    """A FUSE file system is answered for by a process, which may be the target's own."""
    (tmp_path / "7" / "mountinfo").write_text("1 0 8:1 / / rw - ext4 x rw\n2 1 0:77 / /srv/data rw - fuse.sshfs x rw\n")
    (root / "tmp/there").symlink_to("/srv/data/x")
    for path in ("/srv/data", "/srv/data/x", "/tmp/there"):
        with pytest.raises(OSError, match="a process answers"):
            host.follow(path)
    assert host.follow("/srv") == "/srv" and host.follow("/srv/database") == "/srv/database"


TABLE = """1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /data rw - ext4 /dev/sda2 rw
3 1 8:1 /srv/app /alias rw - ext4 /dev/sda1 rw
"""


def staged(tmp_path: Path, line: str, group: str = ID) -> Container:
    (tmp_path / "7" / "mountinfo").write_text(TABLE)
    (tmp_path / "9").mkdir(exist_ok=True)
    (tmp_path / "9" / "mountinfo").write_text(f"9 8 0:50 / / rw - overlay overlay rw\n{line}\n")
    (tmp_path / "9" / "cgroup").write_text(f"0::/docker/{group}\n")
    return Container({"Id": ID, "State": {"Running": True, "Pid": 9}})


@pytest.mark.parametrize(
    ("line", "source", "found"),
    [
        ("10 9 8:1 /srv/app /mnt rw - ext4 /dev/sda1 rw", "/srv/app", ""),
        ("10 9 8:1 /srv/app /mnt rw - ext4 /dev/sda1 rw", "/alias", ""),
        ("10 9 8:1 /srv/app//deleted /mnt rw - ext4 /dev/sda1 rw", "/srv/app", ""),
        ("10 9 8:2 /x /mnt rw - ext4 /dev/sda2 rw", "/data/x", ""),
        ("10 9 8:1 / /mnt rw - ext4 /dev/sda1 rw", "/srv/app", "/"),
        ("10 9 8:2 /x/y /mnt rw - ext4 /dev/sda2 rw", "/srv/app", "/data/x/y"),
        ("10 9 8:1 /srv/app/z /mnt rw - ext4 /dev/sda1 rw", "/srv", "/alias/z"),
        ("10 9 0:99 / /mnt rw - tmpfs tmpfs rw", "/srv/app", None),
        ("10 9 8:1 / /elsewhere rw - ext4 /dev/sda1 rw", "/srv/app", ""),
    ],
)
def test_what_is_mounted_now(host: HostPaths, tmp_path: Path, line: str, source: str, found: str | None) -> None:
    assert host.mounted(staged(tmp_path, line), "/mnt/", source) == found


def test_another_process_of_that_number_is_not_asked(host: HostPaths, tmp_path: Path) -> None:
    container = staged(tmp_path, "10 9 8:1 / /mnt rw - ext4 /dev/sda1 rw", "b" * 64)
    assert host.mounted(container, "/mnt", "/srv/app") == ""


def rows(source: str, *paths: str, why: str = "") -> list[tuple[object, ...]]:
    row = {"Type": "bind", "Source": source, "Destination": "/mnt"}
    found = followed([row, {"Type": "volume", "Name": "v"}], lambda row: Seen(paths, why))
    assert found.pop() == {"Type": "volume", "Name": "v"}
    return [(one["Source"], one.get(LINK), one.get(UNFOLLOWED)) for one in found]


def test_rows_of_what_was_followed() -> None:
    assert rows("/srv/a", "/srv/a") == [("/srv/a", None, None)]
    assert rows("/var/run/docker.sock", "/run/docker.sock") == [("/var/run/docker.sock", None, None)]
    assert rows("/tmp/x", "/") == [("/", "/tmp/x", None)]
    assert rows("/tmp/x", "/", "/etc") == [("/", "/tmp/x", None), ("/etc", "/tmp/x", None)]
    assert rows("/srv/a", "/srv/a", "/etc") == [("/srv/a", None, None), ("/etc", "/srv/a", None)]
    assert rows("/srv/a", why="far") == [("/srv/a", None, "far")]
    assert rows("/tmp/x", "/", why="moved") == [("/", "/tmp/x", "moved")]


def test_a_bundle_keeps_it() -> None:
    row = {"Type": "bind", "Source": "/tmp/x", "Destination": "/mnt"}
    for seen in (Seen(("/", "/odd\udcff")), Seen((), "far")):
        assert recorded([record(row, seen)])(row) == seen
    assert recorded([])(row).why
    odd: list[object] = [
        None,
        {},
        [1],
        {"leads_to": 1},
        {"leads_to": [1], "destination": "/mnt", "source": "/tmp/x", "why_not": ""},
    ]
    for rows in (None, {}, odd, {"a": odd}):
        assert recorded(rows)(row) == Seen((), NOT_SEEN), "a bundle may be made by anybody"


def test_whose_socket_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that leads through a tunnel is made by another program; its host's files are not these."""
    assert of_engine("tcp://10.0.0.1:2376") == "the engine is on another host"
    assert "can't be read" in str(of_engine(f"unix://{tmp_path}/nobody"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        server.listen(8)
        assert "not made by an engine" in str(of_engine(f"unix://{tmp_path}/sock"))
        argv: Callable[[int], tuple[str, ...]] = lambda pid: ("/usr/bin/dockerd",)  # noqa: E731
        monkeypatch.setattr(host_paths, "_argv", argv)
        found = of_engine(f"unix://{tmp_path}/sock")
        assert isinstance(found, HostPaths) and found.pid == os.getpid()


def test_the_table_of_this_host_is_read() -> None:
    assert parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
