"""What the targets of one command share: used again only while it is what each would read for itself."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.acquire import image_files
from irkit.acquire.attributes import Marks
from irkit.acquire.beneath import Entry
from irkit.acquire.host import parse_mountinfo
from irkit.acquire.image_files import ImageFiles
from irkit.acquire.taker import TarTaker
from irkit.compare import originals
from irkit.compare.originals import Originals
from irkit.home import json_rows
from irkit.profiles import load_profile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.thorough
@given(JSON, st.booleans())
def test_rows_are_the_same_document(value: Any, sort_keys: bool) -> None:
    text = json_rows(value, sort_keys=sort_keys)
    assert json.loads(text) == value
    assert text.isascii() and text.endswith(b"\n")
    assert json.dumps(json.loads(text)) == json.dumps(json.loads(json.dumps(value, sort_keys=sort_keys)))


def test_a_row_a_line() -> None:
    value = {"b": [{"y": 1, "x": [2]}, 3], "a": {"d": {}, "c": [1, 2]}, "e": []}
    assert json_rows(value).decode() == (
        '{\n "a": {\n  "c": [1, 2],\n  "d": {}\n },\n "b": [\n  {"x": [2], "y": 1},\n  3\n ],\n "e": []\n}\n'
    )
    assert json_rows({1: {2: (3,)}}) == b'{"1": {"2": [3]}}\n'  # other keys than texts, as json has them


def entry(path: Path, folder: int) -> Entry:
    return Entry(f"/{path.name}", path.name, folder, path.lstat(), Marks())


def taken(path: Path, known: ImageFiles) -> bytes:
    """The tar that a target of its own makes of one file."""
    tar = io.BytesIO()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        taker = TarTaker(tar, lambda what, why: pytest.fail(f"{what}: {why}"), 10**6, known=known)
        taker.keep_always(entry(path, folder))
        taker.close()
    finally:
        os.close(folder)
    return tar.getvalue()


def content(tar: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        (member,) = opened.getmembers()
        file = opened.extractfile(member)
        assert file is not None
        return file.read()


def test_a_file_of_the_image_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, known = tmp_path / "status", ImageFiles()
    path.write_bytes(b"x" * 600)
    first = taken(path, known)
    monkeypatch.setattr(Entry, "open", lambda self: pytest.fail("read again"))
    assert taken(path, known) == first and content(first) == b"x" * 600


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"y" * 600),
        lambda path: path.chmod(0o600),
        lambda path: (path.rename(f"{path}.old"), path.write_bytes(b"y" * 600)),
    ],
    ids=["bytes", "mode", "another file"],
)
def test_one_that_changed_is_read_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Times that were set back hide nothing: nobody can set ctime."""
    path, known = tmp_path / "status", ImageFiles()
    path.write_bytes(b"x" * 600)
    taken(path, known)
    before = path.stat()
    time.sleep(0.02)  # the kernel's clock of files moves every few milliseconds
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_ctime_ns != before.st_ctime_ns
    assert taken(path, known) == taken(path, ImageFiles())
    assert content(taken(path, known)) == path.read_bytes()


def test_what_has_other_names_or_no_room_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, path, linked = ImageFiles(), tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"x" * 600)
    linked.write_bytes(b"x" * 600)
    os.link(linked, tmp_path / "c")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        taken(linked, known)
        assert known.find(entry(linked, folder)) is None
        monkeypatch.setattr(image_files, "LIMIT", 100)
        small = ImageFiles()
        taken(path, small)
        assert small.find(entry(path, folder)) is None
    finally:
        os.close(folder)


def test_an_archive_is_known_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(name: str, whole: bool = True) -> Callable[[], tuple[dict[str, bytes], bool]]:
        def made() -> tuple[dict[str, bytes], bool]:
            asked.append(name)
            return {f"/{name}": b"12"}, whole

        return made

    held = Originals()
    assert held.of("aa", read("a")).files == held.of("aa", read("other")).files == {"/a": b"12"}
    assert held.of("bb", read("b", whole=False)).files == {"/b": b"12"}
    assert held.of("bb", read("b")).files == {"/b": b"12"}, "what was cut short is read again"
    monkeypatch.setattr(originals, "LIMIT", 1)
    held.of("cc", read("c"))
    held.of("cc", read("c"))
    assert asked == ["a", "b", "b", "c", "c"]


def test_a_profile_is_read_anew_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (
        "apiVersion: irkit/v1\nkind: Profile\nid: x\ncollectors:\n  isolated:\n    - {collect: logs, limit_bytes: %d}\n"
    )
    path.write_text(text % 1000)
    first = load_profile(str(path))
    assert load_profile(str(path)) is first
    path.write_text(text % 20000)
    assert load_profile(str(path)).limit("logs") == 20 * (first.limit("logs") or 0)


def test_only_the_mounts_that_hold_a_text() -> None:
    lines = "30 1 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n31 1 0:27 / /m rw - overlay overlay rw,upperdir=/u\n"
    assert parse_mountinfo(lines, " - cgroup") == parse_mountinfo(lines)[:1]
    assert parse_mountinfo(lines, "/m ") == parse_mountinfo(lines)[1:]
