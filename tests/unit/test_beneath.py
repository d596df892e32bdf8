"""Reading what an attacker arranged: never through a link, never a FIFO, no name lost."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from irkit.acquire.beneath import Entry, facts_of, lookup, open_folder, sha256_of, walk
from irkit.acquire.layers import Layers
from irkit.acquire.overlay import scan
from irkit.acquire.taker import DigestTaker, TarTaker
from irkit.evidence.writer import BundleWriter, Origin, Sink
from irkit.models import Change

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and trusted.* need root")
Notes = list[tuple[str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to read, with a secret beside it that nothing may reach."""
    (tmp_path / "secret").write_text("SECRET")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("SECRET")
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def entries(root: Path) -> Iterator[Entry]:
    with open_folder(str(root)) as folder:
        yield from walk(folder, "", lambda path, error: pytest.fail(f"{path}: {error}"))


def packed(root: Path, budget: int = 10**6) -> tuple[tarfile.TarFile, bytes, Notes]:
    data, notes = io.BytesIO(), cast(Notes, [])
    taker = TarTaker(cast(Sink, data), lambda path, why: notes.append((path, why)), budget)
    for entry in entries(root):
        taker.take(entry)
    taker.close()
    return tarfile.open(fileobj=io.BytesIO(data.getvalue())), data.getvalue(), notes


def test_walk_does_not_follow(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/file").write_text("x")
    (root / "b").symlink_to("../outside")
    (root / "c").symlink_to("/")
    (root / "loop").symlink_to(".")
    assert [(one.path, one.kind) for one in entries(root)] == [
        ("/a", "directory"), ("/a/file", "file"), ("/b", "symlink"), ("/c", "symlink"), ("/loop", "symlink"),
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["b", "/b", "a/../../outside", "..", "a/up", "c/etc", "b/."])
def test_open_folder_never_leaves(root: Path, path: str) -> None:
    (root / "a").mkdir()
    (root / "a/up").symlink_to("../../outside")
    (root / "b").symlink_to("../outside")
    (root / "c").symlink_to("/")
    with pytest.raises(OSError), open_folder(str(root), path):
        pass


def test_open_folder_opens_what_is_there(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/x").touch()
    for path in ("a/b", "/a//b/", "./a/./b"):
        with open_folder(str(root), path) as folder:
            assert os.listdir(folder) == ["x"]


def test_open_folder_leaks_no_descriptor(root: Path) -> None:
    (root / "a").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a", "a/none", "..", "a/b/c"):
        try:
            with open_folder(str(root), path):
                pass
        except OSError:
            pass
    list(entries(root))
    with open_folder(str(root)) as folder:
        list(lookup(folder, "/a/none/x"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_lookup_stops_at_a_link(root: Path) -> None:
    (root / "b").symlink_to("../outside")
    with open_folder(str(root)) as folder:
        found = list(lookup(folder, "/b/file"))
        assert [one and one.kind for one in found] == ["symlink", None]


def test_a_link_to_shadow_stays_a_link(root: Path) -> None:
    (root / "shadow").symlink_to("/etc/shadow")
    (root / "near").symlink_to("../secret")
    tar, data, notes = packed(root)
    assert [(one.name, one.issym(), one.linkname) for one in tar] == [
        ("near", True, "../secret"),
        ("shadow", True, "/etc/shadow"),
    ]
    assert b"SECRET" not in data
    assert notes == []
    for entry in entries(root):
        assert facts_of(entry).kind == "symlink"
        with pytest.raises(OSError):
            entry.open()


def test_an_exchanged_file_is_not_read(root: Path) -> None:
    (root / "x").write_text("good")
    (root / "other").write_text("else")
    with open_folder(str(root)) as folder:
        entry = next(one for one in walk(folder, "", lambda *_: None) if one.name == "x")
        (root / "other").replace(root / "x")
        with pytest.raises(FileNotFoundError):
            sha256_of(entry)
        (root / "x").unlink()
        (root / "x").symlink_to("../secret")
        with pytest.raises(OSError):
            sha256_of(entry)
        (root / "x").unlink()
        os.mkfifo(root / "x")
        with pytest.raises(FileNotFoundError):
            sha256_of(entry)


def test_an_exchanged_folder_is_not_entered(root: Path) -> None:
    (root / "a").mkdir()
    failed: list[str] = []
    with open_folder(str(root)) as folder:
        walking = walk(folder, "", lambda path, _: failed.append(path))
        assert next(walking).path == "/a"
        (root / "a").rmdir()
        (root / "a").symlink_to("../outside")
        assert list(walking) == []
    assert failed == ["/a"]


def test_strange_names_survive(root: Path) -> None:
    names = [
        b"new\nline",
        b"\xff\xfe",
        b"esc\x1b[31m",
        "bidi\u202e".encode(),
        b"..x",
        b"-rf",
        b" ",
        b"back\\slash",
        b"%s",
    ]
    for name in names:
        Path(os.fsdecode(bytes(root) + b"/" + name)).write_bytes(name)
    tar, _, notes = packed(root)
    found = {os.fsencode(one.name): cast(io.BufferedReader, tar.extractfile(one)).read() for one in tar}
    assert found == {name: name for name in names}
    assert notes == []
    for entry in entries(root):
        change = Change(entry.path, "added", None, facts_of(entry))
        assert Change.from_json(change.to_json()).path == entry.path


def test_fifos_and_sockets_are_listed_but_never_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    here = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/sock")
    os.close(here)
    tar, _, notes = packed(root)
    assert [(one.name, one.isfifo()) for one in tar] == [("fifo", True)]
    assert notes == []  # a socket has no contents: it stands in the list of changes
    digests = DigestTaker(lambda path, why: pytest.fail(f"{path}: {why}"))
    assert [digests.take(entry) for entry in entries(root)] == ["", ""]


@as_root
def test_devices_are_never_opened(root: Path) -> None:
    os.mknod(root / "zero", 0o20666, os.makedev(1, 5))
    tar, _, _ = packed(root)
    (member,) = tar.getmembers()
    assert (member.ischr(), member.devmajor, member.devminor) == (True, 1, 5)


def test_budget_and_hard_links(root: Path) -> None:
    (root / "a").write_bytes(b"x" * 100)
    os.link(root / "a", root / "b")
    (root / "big").write_bytes(b"y" * 1000)
    tar, _, notes = packed(root, budget=500)
    assert [(one.name, one.islnk(), one.linkname) for one in tar] == [("a", False, ""), ("b", True, "a")]
    assert [path for path, _ in notes] == ["/big"]


def test_on_a_full_disk_the_list_goes_on_without_the_contents(root: Path, tmp_path: Path) -> None:
    (root / "one").write_bytes(b"1" * 3_000_000)
    (root / "two").write_bytes(b"2")
    writer = BundleWriter(tmp_path / "bundle")
    notes: Notes = []
    origin = Origin("test", "nowhere", "made up")
    with writer.sink("layer.tar", origin, compress=False) as sink:
        sink._file.close()
        sink._file = open("/dev/full", "wb", buffering=0)  # type: ignore[assignment]  # noqa: SIM115
        taker = TarTaker(sink, lambda path, why: notes.append((path, why)), 10**9)
        found = {entry.path: taker.take(entry) for entry in entries(root) if entry.kind == "file"}
        taker.whiteout("/gone")
        taker.close()
    assert found["/two"] == hashlib.sha256(b"2").hexdigest() and found["/one"]
    assert [why.partition(":")[0] for _, why in notes] == ["the disk is full"]
    assert (writer.lost, writer.artifacts) == (["data/layer.tar"], [])
    assert [gap.what for gap in writer.gaps] == ["data/layer.tar"]


def test_modes_owners_and_times(root: Path) -> None:
    (root / "a").write_bytes(b"x")
    (root / "a").chmod(0o4755)
    os.utime(root / "a", ns=(0, 1_500_000_000_123_456_789))
    tar, _, _ = packed(root)
    (member,) = tar.getmembers()
    assert (member.mode, member.uid, member.pax_headers["mtime"]) == (0o4755, os.getuid(), "1500000000.123456789")


def test_another_device_is_not_entered(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/x").touch()
    with open_folder(str(root)) as folder:
        device = os.fstat(folder).st_dev
        assert [one.path for one in walk(folder, "", lambda *_: None, device)] == ["/a", "/a/x"]
        assert list(walk(folder, "", lambda *_: None, device + 1)) == []


class Layered:
    """An upper folder over two lower ones."""

    def __init__(self, base: Path) -> None:
        self.upper, self.high, self.low = base / "upper", base / "high", base / "low"
        for folder in (self.upper, self.high, self.low):
            folder.mkdir()
        self.notes: Notes = []

    def scan(self) -> tuple[dict[str, Change], list[str]]:
        data = io.BytesIO()
        layers = Layers(str(self.upper), (str(self.high), str(self.low)), "test")
        taker = TarTaker(cast(Sink, data), self._note, 10**6)
        changes = list(scan(layers, taker, self._note))
        taker.close()
        assert len({one.path for one in changes}) == len(changes)
        return {one.path: one for one in changes}, tarfile.open(fileobj=io.BytesIO(data.getvalue())).getnames()

    def _note(self, path: str, why: str) -> None:
        self.notes.append((path, why))


@pytest.fixture
def layered(tmp_path: Path) -> Layered:
    return Layered(tmp_path)


def put(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(0, 10**18))


def whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, 0o20000, os.makedev(0, 0))


def opaque(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    os.setxattr(path, "trusted.overlay.opaque", b"y")


def words(changes: dict[str, Change]) -> dict[str, str]:
    return {path: change.change for path, change in changes.items()}


def test_added_changed_untouched(layered: Layered) -> None:
    put(layered.low / "same")
    put(layered.upper / "same")
    put(layered.low / "other", "old")
    put(layered.upper / "other", "new")
    put(layered.upper / "new")
    changes, names = layered.scan()
    assert words(changes) == {"/new": "added", "/other": "changed"}
    assert names == ["new", "other", "same"]
    assert layered.notes == []


def test_the_higher_layer_counts(layered: Layered) -> None:
    put(layered.low / "f", "low")
    put(layered.high / "f", "high")
    put(layered.upper / "f", "high")
    assert layered.scan()[0] == {}


def test_links_in_lower_layers_are_not_followed(layered: Layered, tmp_path: Path) -> None:
    put(tmp_path / "outside/file", "x")
    (layered.low / "d").symlink_to("../outside")
    put(layered.upper / "d/file", "x")
    changes, _ = layered.scan()
    assert words(changes) == {"/d": "changed", "/d/file": "added"}


def test_a_missing_layer_is_noted(layered: Layered) -> None:
    layered.low.rmdir()
    put(layered.upper / "f")
    assert words(layered.scan()[0]) == {"/f": "added"}
    assert "can't be read" in layered.notes[0][1]


@as_root
def test_whiteout(layered: Layered) -> None:
    put(layered.low / "gone")
    whiteout(layered.upper / "gone")
    whiteout(layered.upper / "never-was")
    changes, names = layered.scan()
    assert words(changes) == {"/gone": "deleted"}
    assert changes["/gone"].after is None
    assert (changes["/gone"].before or pytest.fail("no facts")).sha256
    assert names == [".wh.gone", ".wh.never-was"]


@as_root
def test_a_whiteout_between_the_lower_layers(layered: Layered) -> None:
    put(layered.low / "f")
    put(layered.low / "d/x")
    whiteout(layered.high / "f")
    whiteout(layered.high / "d")
    put(layered.upper / "f")
    whiteout(layered.upper / "d")
    assert words(layered.scan()[0]) == {"/f": "added"}


@as_root
def test_a_device_that_is_no_whiteout(layered: Layered) -> None:
    os.mknod(layered.upper / "null", 0o20666, os.makedev(1, 3))
    changes, _ = layered.scan()
    assert (changes["/null"].kind, (changes["/null"].after or pytest.fail("no facts")).rdev) == ("char", "1:3")


@as_root
def test_opaque(layered: Layered) -> None:
    put(layered.low / "d/hidden")
    put(layered.high / "d/too")
    put(layered.low / "d/again", "old")
    opaque(layered.upper / "d")
    put(layered.upper / "d/again", "new")
    put(layered.upper / "d/fresh")
    changes, names = layered.scan()
    found = words(changes)
    found.pop("/d", None)
    assert found == {"/d/hidden": "deleted", "/d/too": "deleted", "/d/again": "changed", "/d/fresh": "added"}
    assert "d/.wh..wh..opq" in names


@as_root
def test_opaque_between_the_lower_layers(layered: Layered) -> None:
    put(layered.low / "d/x")
    opaque(layered.high / "d")
    put(layered.upper / "d/x")
    assert words(layered.scan()[0])["/d/x"] == "added"


@as_root
def test_only_y_is_opaque(layered: Layered) -> None:
    put(layered.low / "d/x")
    (layered.upper / "d").mkdir()
    os.setxattr(layered.upper / "d", "trusted.overlay.opaque", b"x")
    assert "/d/x" not in layered.scan()[0]


@as_root
def test_a_redirect_of_no_known_form_is_noted(layered: Layered) -> None:
    (layered.upper / "d").mkdir()
    os.setxattr(layered.upper / "d", "trusted.overlay.redirect", b"/../../outside")
    layered.scan()
    assert [path for path, _ in layered.notes] == ["/d"]


def test_what_a_container_may_write_misleads_nobody(layered: Layered) -> None:
    """The overlay's marks are trusted.*; user.* ones are the attacker's, unless it was mounted with userxattr."""
    put(layered.low / "d/x", "old")
    put(layered.low / "f", "old")
    put(layered.upper / "d/y")
    put(layered.upper / "f", "new")
    os.setxattr(layered.upper / "d", "user.overlay.opaque", b"y")
    os.setxattr(layered.upper / "f", "user.overlay.metacopy", b"")
    changes, names = layered.scan()
    assert "/d/x" not in changes and "d/.wh..wh..opq" not in names
    assert (changes["/f"].after or pytest.fail("no facts")).sha256 == hashlib.sha256(b"new").hexdigest()
