"""Two trees as one side: contents by their digest, whatever layer or name they lie under; what is not there is a gap."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from irkit.acquire import tree_comparison
from irkit.acquire.image_tree import read_files, read_tree
from irkit.acquire.tree_comparison import Contents, databases_of, wanted, write_trees
from irkit.compare.against import tree_changes
from irkit.compare.evidence import Evidence
from irkit.evidence import names
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter
from irkit.models import FileFacts

STATUS = "/var/lib/dpkg/status"


def layer(files: dict[str, bytes | str]) -> bytes:
    """Bytes: a file; text: a hard link to that name."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def image(*layers: dict[str, bytes | str]) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        named = {f"{number}/layer.tar": layer(files) for number, files in enumerate(layers)}
        for name, data in {**named, "manifest.json": json.dumps([{"Layers": list(named)}]).encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    made.seek(0)
    return made


def compared(before: io.BytesIO, after: io.BytesIO, tmp_path: Path) -> Evidence:
    was, now = read_tree(before, "before"), read_tree(after, "after")
    changes, databases = list(tree_changes(was, now)), databases_of(was)
    contents = Contents(io.BytesIO(), wanted(changes, databases))
    for archive in (before, after):
        archive.seek(0)
        for stream in read_files(archive, "it", contents.sizes):
            contents.see(stream)
    writer = BundleWriter(tmp_path / "bundle")
    write_trees(changes, databases, contents, writer)
    writer.put(names.INDEX, json.dumps(writer.index({"target": {}})).encode())
    return Evidence(BundleReader(writer.folder))


BEFORE: tuple[dict[str, bytes | str], ...] = (
    {"etc/a": b"first", "b": b"same", "z": b"gone", STATUS[1:]: b"Package: x\n"},
    {"etc/a": b"old"},
)


def test_contents_of_both_sides(tmp_path: Path) -> None:
    side = compared(
        image(*BEFORE), image({"b": b"same", "etc/a": b"new!", "c": "etc/a", STATUS[1:]: b"Package: x\n"}), tmp_path
    )
    told = {one.change.path: (one.change.change, one.stream.read() if one.stream else None) for one in side.taken()}
    assert told == {"/c": ("added", b"new!"), "/etc/a": ("changed", b"new!"), "/z": ("deleted", None)}
    assert {path: side.before.read(path, 99) for path in ("/etc/a", "/z", STATUS, "/b")} == {
        "/etc/a": b"old", "/z": b"gone", STATUS: b"Package: x\n", "/b": None,
    }  # fmt: skip
    assert side.gaps == []


def test_what_is_over_the_limits_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_comparison, "FILE_LIMIT", 10)
    side = compared(image({"a": b"x"}), image({"a": b"x" * 11, "b\n": b"y" * 11}), tmp_path)
    assert [(one.change.path, one.stream) for one in side.taken()] == [("/a", None), ("/b\n", None)]
    (gap,) = side.gaps
    assert gap.what == "2 files" and gap.why.endswith("'/a'")


def test_a_file_that_is_not_what_was_listed_is_not_taken() -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    contents = Contents(io.BytesIO(), {digest: 4})
    contents.see(io.BytesIO(b"evil"))
    assert contents.places == {} and contents.end == 0
    contents.see(io.BytesIO(b"good"))
    contents.see(io.BytesIO(b"good"))
    assert contents.places == {digest: 0} and contents.end == 4
    assert wanted([], {"/x": FileFacts("file", 0, 0, 0, 4, sha256=digest)}) == {digest: 4}
