"""What a backup may put into a fresh volume, how it is read, and what differs."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irkit import config, documents
from irkit.actions import backup
from irkit.errors import CheckFailed, PlaybookInvalid, Refused
from irkit.models import FileFacts
from irkit.recover.config import Recipe
from irkit.recover.difference import difference
from irkit.recover.placing import Limits, Placer
from irkit.recover.swap import with_volume


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A volume's folder, in one that nothing may be put into."""
    inner = tmp_path / "outside" / "volume"
    inner.mkdir(parents=True)
    yield inner
    assert [one.name for one in inner.parent.iterdir()] == ["volume"]


def tree(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*"))


def placed(place: Path, source: Path, **limits: Any) -> Placer:
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        placer = Placer(folder, Limits(**limits))
        backup.fill(placer, str(source), lambda: None)
    finally:
        os.close(folder)
    return placer


def archive(path: Path, *members: tuple[str, bytes, str | bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, kind, what in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid = kind, os.getuid(), os.getgid()
            data = what if isinstance(what, bytes) else b""
            entry.linkname, entry.size = ("", len(data)) if isinstance(what, bytes) else (what, 0)
            tar.addfile(entry, io.BytesIO(data))
    return path


FILE, LINK, HARD, FOLDER, DISK, FIFO = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.DIRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


@pytest.mark.parametrize(
    ("members", "left", "problems"),
    [
        ([("../x", FILE, b"x"), ("a/../../x", FILE, b"x"), ("ok", FILE, b"")], ["ok"], 2),
        ([("/etc/passwd", FILE, b"x")], ["etc", "etc/passwd"], 0),
        ([("out", LINK, ".."), ("out/x", FILE, b"x")], ["out"], 1),
        ([("out", LINK, "/"), ("out/tmp", FOLDER, "")], ["out"], 1),
        ([("a", FILE, b"1"), ("a", LINK, "b"), ("a", FILE, b"2")], ["a"], 0),
        ([("a", LINK, "../x"), ("a", FILE, b"2")], ["a"], 0),  # the link is replaced, not written through
        ([("d", FOLDER, ""), ("d", LINK, "..")], ["d"], 1),
        ([("h", HARD, "../../x"), ("l", LINK, "../.."), ("h", HARD, "l/x"), ("h", HARD, "l")], ["l"], 3),
        ([("f", FILE, b"1"), ("h", HARD, "f")], ["f", "h"], 0),
        ([("disk", DISK, "")], [], 1),
        ([("p", FIFO, ""), ("h", HARD, "p")], ["p"], 1),
        ([("x" * 256, FILE, b"1")], [], 1),
        ([("/".join("d" * 201), FILE, b"1")], [], 1),
        ([(".", FILE, b"1"), ("", LINK, "/")], [], 2),
    ],
)  # fmt: skip
def test_beneath_and_through_no_link(place: Path, tmp_path: Path, members: Any, left: list[str], problems: int) -> None:
    done = placed(place, archive(tmp_path / "a.tar", *members))
    assert tree(place) == left and len(done.told) == problems, done.told


NAMES = st.lists(st.sampled_from(["..", ".", "a", "b", "l", ""]), max_size=4).map("/".join)
MEMBERS = st.lists(st.tuples(NAMES, st.sampled_from([FILE, LINK, HARD, FOLDER, FIFO]), NAMES), max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(MEMBERS)
def test_whatever_it_holds_it_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str]]
) -> None:
    base = tmp_path_factory.mktemp("p")
    place = base / "outside" / "volume"
    place.mkdir(parents=True)
    (place.parent / "secret").write_text("untouched")
    (base / "secret").write_text("untouched")
    placed(
        place, archive(base / "a.tar", *((name, kind, b"x" if kind == FILE else link) for name, kind, link in members))
    )
    assert sorted(one.name for one in base.iterdir()) == ["a.tar", "outside", "secret"]
    assert sorted(one.name for one in place.parent.iterdir()) == ["secret", "volume"]
    assert (place.parent / "secret").stat().st_nlink == 1 and (place.parent / "secret").read_text() == "untouched"


def test_owner_mode_times_and_a_folder_without_rights(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "locked").mkdir(parents=True)
    (source / "locked/file").write_bytes(b"1")
    (source / "locked/file").chmod(0o4711)
    os.utime(source / "locked/file", ns=(1, 1_000_000_007))
    (source / "locked").chmod(0o500)
    (source / "two").hardlink_to(source / "locked/file")
    assert placed(place, source).told == []
    info = (place / "locked/file").stat()
    assert (info.st_mode & 0o7777, info.st_mtime_ns, info.st_nlink) == (0o4711, 1_000_000_007, 2)
    assert (place / "locked").stat().st_mode & 0o777 == 0o500


PLAIN = b"".join((bytes(512), b"x" * 100_000, os.urandom(3_000_000)))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "pack",
    [
        bytes, lambda data: gzip.compress(data, 1), lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]), lambda data: lzma.compress(data, preset=0),
        zstandard.compress, lambda data: lzma.compress(data[:9]) + lzma.compress(data[9:], preset=0), lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:]),
    ],
)  # fmt: skip
def test_compressed(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(PLAIN)
    assert b"".join(backup.decoded(io.BytesIO(packed))) == PLAIN
    if packed != PLAIN and packed[:2] != b"\x28\xb5":
        with pytest.raises(CheckFailed):
            list(backup.decoded(io.BytesIO(packed[:-9])))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "pack", [lambda data: gzip.compress(data, 1), lambda data: lzma.compress(data, preset=0), zstandard.compress]
)
def test_a_bomb_comes_out_piece_by_piece(pack: Any) -> None:
    bomb = pack(bytes(64 * 1024 * 1024))
    assert max(len(one) for one in backup.decoded(io.BytesIO(bomb))) <= backup.BLOCK


@pytest.mark.parametrize(("limits", "why"), [({"count": 2}, "entries"), ({"size": 3}, "bytes")])
def test_limits(place: Path, tmp_path: Path, limits: dict[str, int], why: str) -> None:
    source = archive(tmp_path / "a.tar", *((name, FILE, b"12") for name in "abc"))
    with pytest.raises(CheckFailed, match=why):
        placed(place, source, **limits)


@pytest.mark.parametrize("cut", [1, 600, 1500])
def test_half_a_tar(place: Path, tmp_path: Path, cut: int) -> None:
    source = archive(tmp_path / "a.tar", ("a", FILE, b"x" * 600))
    source.write_bytes(source.read_bytes()[:cut])
    with pytest.raises(CheckFailed, match="not a whole tar"):
        placed(place, source)


def test_no_hook_unless_configured(place: Path) -> None:
    with pytest.raises(Refused, match="no hook"):
        placed(place, Path("hook:x"))


@pytest.mark.parametrize("argv", ["[tar]", "[]", "tar -c"])
def test_a_hook_is_an_argument_list(argv: str) -> None:
    text = f"apiVersion: irkit/v1\nkind: Config\nrestore: {{hooks: {{x: {argv}}}}}\n"
    with pytest.raises(PlaybookInvalid):
        config.read_config(documents.parse(text.encode(), "config.yaml"))


def test_what_differs() -> None:
    one = ("file", "aa", 0o644, 0, 0)
    before = {"/same": one, "/gone": one, "/content": one, "/kind": one, "/mode": one}
    after = {
        "/same": one,
        "/new": one,
        "/content": ("file", "bb", 0o644, 0, 0),
        "/kind": ("symlink", "aa", 0o644, 0, 0),
        "/mode": ("file", "aa", 0o4755, 0, 0),
    }
    found = difference(before, after)
    assert {kind: [row["path"] for row in found[kind]] for kind in ("added", "removed", "changed", "attributes")} == {
        "added": ["/new"], "removed": ["/gone"], "changed": ["/content", "/kind"], "attributes": ["/mode"],
    }  # fmt: skip
    assert found["attributes"][0]["restored"]["mode"] == "4755"


@pytest.mark.parametrize(
    ("host", "binds", "sources"),
    [
        ({"Binds": ["old:/data:ro", "old:/too", "other:/o"]}, ["new:/data:ro", "new:/too", "other:/o"], []),
        (
            {"Mounts": [{"Type": "volume", "Source": "old", "Target": "/data", "VolumeOptions": {"Labels": {}}}]},
            None,
            ["new"],
        ),
        ({"Mounts": [{"Type": "bind", "Source": "old", "Target": "/x"}]}, ["new:/data"], ["old"]),
        ({}, ["new:/data"], []),
    ],
)
def test_the_fresh_volume_takes_the_place(host: Any, binds: Any, sources: list[str]) -> None:
    plan = Recipe({"Image": "i", "HostConfig": host}, (), ("/data: shared with the old container", "/x: else"))
    made = with_volume(plan, "/data", "old", "new")
    assert made.body["HostConfig"]["Binds"] == binds
    assert [one["Source"] for one in made.body["HostConfig"]["Mounts"] or ()] == sources
    assert made.notes == ("/x: else",) and plan.body["HostConfig"] == host


def test_facts_out_of_range(place: Path) -> None:
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        placer = Placer(folder, Limits())
        for number, more in enumerate(({"uid": 1 << 40}, {"uid": -5}, {"mtime_ns": 1 << 80}, {"mode": 0o7777})):
            placer.begin(
                f"/f{number}",
                FileFacts(**{"kind": "file", "mode": 0o600, "uid": os.getuid(), "gid": os.getgid(), "size": 0, **more}),
            )
            placer.end()
        placer.begin("/d", FileFacts("directory", 0o700, 1 << 40, 0, 0))
        placer.begin("/c", FileFacts("char", 0o700, 0, 0, 0, rdev="x"))
        placer.finish()
    finally:
        os.close(folder)
    assert len(placer.told) >= 4


def pax(path: Path, kind: bytes, **headers: str) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a", "b"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.uid, entry.gid = kind, "x", os.getuid(), os.getgid()
            entry.pax_headers = {key.replace("__", "."): value for key, value in headers.items()}
            tar.addfile(entry)
    return path


@pytest.mark.parametrize(
    ("kind", "headers", "lost"),
    [
        (FILE, {"SCHILY__xattr__security__capability": "x", "SCHILY__xattr__user__ok": "y"}, {"security": 2}),
        (FOLDER, {"SCHILY__xattr__trusted__x": "x"}, {"trusted": 2}),
        (LINK, {"SCHILY__xattr__security__selinux": "x"}, {"security": 2}),
        (FIFO, {"SCHILY__xattr__user__x": "x"}, {"user": 2}),
        (FILE, {"SCHILY__acl__access": "user::rw-", "RHT__security__selinux": "x"}, {"system": 2, "security": 2}),
        (FILE, {"LIBARCHIVE__xattr__user__ok": "eA==", "SCHILY__xattr__user__ok": "x"}, {}),
        (FILE, {"LIBARCHIVE__xattr__security__x": "eA=="}, {"security": 2}),
        (FILE, {"SCHILY__xattr__user__big": "x" * 70_000, "SCHILY__xattr__nonsense": "x"}, {"user": 2, "other": 2}),
        (FILE, {f"SCHILY__xattr__user__{'n' * 300}": "x", "SCHILY__xattr__a__\x1b[31m": "x"}, {"user": 2, "other": 2}),
    ],
)  # fmt: skip
def test_attributes_that_are_not_set_are_counted(
    place: Path, tmp_path: Path, kind: bytes, headers: dict[str, str], lost: dict[str, int]
) -> None:
    done = placed(place, pax(tmp_path / "a.tar", kind, **headers))
    assert {row["namespace"]: row["count"] for row in done.lost} == lost
    assert all(row["paths"] == ["/a", "/b"] for row in done.lost) and tree(place) == ["a", "b"]
    assert len(done.told) == len(lost) and done.placed == 2
    if "SCHILY__xattr__user__ok" in headers:
        assert os.listxattr(place / "a") == ["user.ok"]


def test_only_the_first_paths_are_told(place: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(20):
            entry = tarfile.TarInfo(f"f{number}")
            entry.uid, entry.gid = os.getuid(), os.getgid()
            entry.pax_headers = {"SCHILY.xattr.trusted.x": "y"}
            tar.addfile(entry)
    (row,) = placed(place, tmp_path / "a.tar").lost
    assert row["count"] == 20 and len(row["paths"]) == 5  # type: ignore[arg-type]
