"""The log driver's own files: rotated, corrupt, exchanged for something else, and held against the API."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.acquire import log_files, log_formats
from irkit.acquire.log_files import LogFolder, acquire_files, find_folder
from irkit.acquire.log_formats import JsonLines, LocalEntries, Rebuilt, protobuf_fields
from irkit.engine.interface import Container
from irkit.evidence.writer import BundleWriter

ID = "cd" * 32
TIME = "2026-11-24T07:43:09.5Z"
SHOWN = b"2026-11-24T07:43:09.500000000Z "


def line(text: str, stream: str = "stdout", time: str = TIME) -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": time}).encode() + b"\n"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def entry(text: bytes, partial: bool = False) -> bytes:
    data = b"\x0a\x06stdout\x10" + varint(1795506189_500000000) + b"\x1a" + varint(len(text)) + text
    data += b"\x20\x01" if partial else b""
    return struct.pack(">L", len(data)) + data + struct.pack(">L", len(data))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / ID
    made.mkdir()
    return made


@pytest.fixture
def writer(tmp_path: Path) -> BundleWriter:
    return BundleWriter(tmp_path / "b")


def take(folder: Path, writer: BundleWriter, wanted: int = 10**6, **given: Any) -> log_files.Comparison:
    return acquire_files(
        LogFolder(str(folder), "x.log", given.pop("form", "json")), writer, {"stdout": wanted}, **given
    )


def whys(writer: BundleWriter) -> str:
    return " ".join(f"{one.what}: {one.why}" for one in writer.gaps)


def box(driver: str, path: str = "", hostname: str = f"/r/containers/{ID}/hostname") -> Container:
    return Container(
        {"Id": ID, "LogPath": path, "HostnamePath": hostname, "HostConfig": {"LogConfig": {"Type": driver}}}
    )


def test_where_the_files_are() -> None:
    own = f"/r/containers/{ID}"
    assert find_folder(box("json-file", f"{own}/{ID}-json.log")) == LogFolder(own, f"{ID}-json.log", "json")
    assert find_folder(box("local")) == LogFolder(f"{own}/local-logs", "container.log", "local")
    assert find_folder(box("syslog")) == LogFolder(own, "container-cached.log", "local")
    wrong = (box("json-file", "/etc/shadow"), box("json-file", f"{ID}/x"), box("local", "", "/etc/hostname"))
    for one in (box("none"), *wrong, box("local", "", f"{ID}/hostname"), box("syslog", "", "")):
        assert isinstance(find_folder(one), str)


def test_rotated_files_the_oldest_first(folder: Path, writer: BundleWriter) -> None:
    (folder / "x.log").write_bytes(line("c\n"))
    (folder / "x.log.1").write_bytes(line("b\n"))
    (folder / "x.log.10.gz").write_bytes(gzip.compress(line("a\n")) + gzip.compress(line("a2\n")))
    for other in ("x.log.tmp", "y.log", "x.log.1.bak", "x.log.0"):
        (folder / other).write_bytes(b"not ours")
    found = take(folder, writer)
    paths = ["data/logs/raw/010.json.gz", "data/logs/raw/001.json.zst", "data/logs/raw/000.json.zst"]
    assert [one.path for one in writer.artifacts] == paths == [one["artifact"] for one in found.files]
    expected = b"".join(SHOWN + text for text in (b"a\n", b"a2\n", b"b\n", b"c\n"))
    rebuilt, api = found.rebuilt["stdout"], Rebuilt(10**6)
    api.add(SHOWN[:-1], b"a\n")
    assert (rebuilt.entries, rebuilt.lines, rebuilt.size) == (4, 4, len(expected))
    import hashlib

    assert rebuilt.sha256 == hashlib.sha256(expected).hexdigest() != api.sha256
    assert not writer.gaps and all(one["facts"]["sha256"] and one["facts"]["mtime_ns"] for one in found.files)


def test_only_as_much_as_the_engine_gave_is_held_against_it(folder: Path, writer: BundleWriter) -> None:
    import hashlib

    (folder / "x.log").write_bytes(line("a\n") + line("b\n"))
    size = len(SHOWN + b"a\n")
    assert take(folder, writer, size).rebuilt["stdout"].sha256 == hashlib.sha256(SHOWN + b"a\n").hexdigest()


@pytest.mark.parametrize(
    "bad", [b"{\n", b"\0\0\0\0\n", b"[]\n", b'{"log": 1, "stream": "stdout", "time": "x"}\n', b"[" * 5000 + b"\n", b"1\n"]
)  # fmt: skip
def test_a_corrupt_line_is_counted_and_named(folder: Path, writer: BundleWriter, bad: bytes) -> None:
    (folder / "x.log").write_bytes(line("a\n") + bad + line("b\n"))
    (one,) = take(folder, writer).files
    assert (one["entries"], one["corrupt"], one["corrupt_first"]) == (2, 1, ["line 2 is not one of the driver's"])
    assert "raw/000: 1 entries are truncated or corrupt, the first: line 2" in whys(writer)


def test_a_truncated_end(folder: Path, writer: BundleWriter) -> None:
    (folder / "x.log").write_bytes(line("a\n") + line("b\n")[:-5])
    assert take(folder, writer).files[0]["corrupt_first"] == ["line 2, the last one, has no end"]


def test_a_line_without_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_formats, "ENTRY_LIMIT", 1000)
    reader = JsonLines({})
    for _ in range(100):
        reader.feed(b"x" * 900)
        assert len(reader._rest) <= 1900
    reader.feed(b"\n" + line("a\n"))
    reader.finish()
    assert (reader.count, reader.bad_count) == (1, 1)


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "socket"])
def test_only_regular_files_are_opened(folder: Path, writer: BundleWriter, tmp_path: Path, kind: str) -> None:
    target, secret = folder / "x.log", tmp_path / "secret"
    secret.write_text("root:hash")
    if kind == "symlink":
        target.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        os.mknod(target, 0o140600)
    assert not take(folder, writer).readable
    assert "not a regular file" in whys(writer) and not writer.artifacts


def test_a_folder_behind_a_link_is_not_followed(folder: Path, writer: BundleWriter, tmp_path: Path) -> None:
    (folder / "x.log").write_bytes(line("a\n"))
    (tmp_path / "link").symlink_to(folder)
    assert not take(tmp_path / "link", writer).readable and "can't be opened" in whys(writer)
    assert not take(folder / ".." / ID, writer).readable and not writer.artifacts


def test_nothing_there(folder: Path, writer: BundleWriter) -> None:
    assert not take(folder, writer).readable and "removed, or never written" in whys(writer)


@pytest.mark.parametrize(
    "break_it", [lambda data: data[:-6], lambda data: b"no gzip", lambda data: data[:20] + b"\xff" * 30]
)
def test_a_broken_gzip_is_taken_as_it_is(folder: Path, writer: BundleWriter, break_it: Any) -> None:
    data = break_it(gzip.compress(line("a\n") * 50))
    (folder / "x.log.1.gz").write_bytes(data)
    (one,) = take(folder, writer).files
    assert (writer.folder / "data/logs/raw/001.json.gz").read_bytes() == data and "broken" in one["problem"]
    assert "raw/001: compressed data is broken" in whys(writer)


@pytest.mark.thorough
def test_what_swells_without_end(folder: Path, writer: BundleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "INFLATED_LIMIT", 3 * 1024 * 1024)
    data = gzip.compress(b"\0" * 20_000_000)
    (folder / "x.log.1.gz").write_bytes(data)
    assert "come out of it" in take(folder, writer).files[0]["problem"]
    assert writer.artifacts[0].raw_size == len(data)


def test_the_limit(folder: Path, writer: BundleWriter) -> None:
    (folder / "x.log.1").write_bytes(line("a\n"))
    (folder / "x.log").write_bytes(line("b\n") * 9)
    found = take(folder, writer, limit=2 * len(line("a\n")))
    assert not found.readable and [one["rotation"] for one in found.files] == [1] and "limit" in whys(writer)


def test_the_local_driver(folder: Path, writer: BundleWriter) -> None:
    raw = b"\xff\xfe" + b"x" * 200
    (folder / "x.log").write_bytes(entry(raw, partial=True) + entry(b"end"))
    found = take(folder, writer, form="local")
    import hashlib

    expected = SHOWN + raw + SHOWN + b"end\n"
    assert found.rebuilt["stdout"].sha256 == hashlib.sha256(expected).hexdigest() and not writer.gaps
    assert found.files[0]["first_time"] == SHOWN.decode().strip()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry(b"b")[:-3], "no end"), (b"\xff" * 12, "size is impossible"), (entry(b"b")[:-1] + b"\0" + entry(b"c"), "two sizes differ"),
        (struct.pack(">L", 3) + b"abc" + struct.pack(">L", 3), "not one of the driver's"),
    ],
)  # fmt: skip
def test_a_corrupt_local_file(folder: Path, writer: BundleWriter, bad: bytes, why: str) -> None:
    (folder / "x.log").write_bytes(entry(b"a") + bad)
    (one,) = take(folder, writer, form="local").files
    assert one["entries"] == 1 and one["corrupt"] == 1 and why in one["corrupt_first"][0] and why in whys(writer)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_readers_survive_any_bytes(data: bytes, step: int) -> None:
    for reader in (JsonLines({"stdout": Rebuilt(9)}), LocalEntries({"stdout": Rebuilt(9)})):
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        reader.finish()
        assert reader.count + reader.bad_count or not data.strip(b"\n")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_protobuf_of_any_bytes(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        protobuf_fields(data)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=10), st.integers(1, 30))
def test_local_entries_in_any_pieces(entries: list[tuple[bytes, bool]], step: int) -> None:
    data, kept = b"".join(entry(*one) for one in entries), Rebuilt(10**6)
    reader = LocalEntries({"stdout": kept})
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    reader.finish()
    assert reader.count == len(entries) and not reader.bad
    assert kept.size == sum(len(SHOWN) + len(text) + (not partial) for text, partial in entries)
