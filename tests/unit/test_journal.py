"""The journal: a chain that shows every change to a line that another follows."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.errors import EvidenceAltered, StorageError
from irkit.playbook.journal import FIRST, Journal, read_journal

COUNT = 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(COUNT):
        journal.write("step", id=f"s{number}", message="a\nb \u202e \udcff")
    journal.close()
    return tmp_path / "journal.jsonl"


def test_chain(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    prev = FIRST
    for number, line in enumerate(lines):
        row = json.loads(line)
        assert (row["seq"], row["prev"], row["type"]) == (number, prev, "step")
        prev = hashlib.sha256(line).hexdigest()
    assert [row["id"] for row in read_journal(path)] == [f"s{number}" for number in range(COUNT)]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", range(COUNT - 1))
def test_a_changed_line_is_caught(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(b'"step"', b'"stop"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(EvidenceAltered, match=f"line {number + 2} "):
        list(read_journal(path))


@pytest.mark.parametrize("field", [b'"seq"', b'"prev"'])
@pytest.mark.parametrize("number", range(COUNT))
def test_a_broken_link_is_caught(path: Path, number: int, field: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(field, b'"other"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(EvidenceAltered, match=f"line {number + 1} "):
        list(read_journal(path))


@pytest.mark.parametrize("number", range(COUNT - 1))
def test_a_removed_doubled_or_moved_line_is_caught(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    swapped = [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]
    for other in (lines[:number] + lines[number + 1 :], [*lines[: number + 1], *lines[number:]], swapped):
        path.write_bytes(b"".join(other))
        with pytest.raises(EvidenceAltered):
            list(read_journal(path))


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"null\n", b'"x"\n', b"{\n", b"\xff\n", b"{}\n"])
def test_a_line_that_is_no_record_is_caught(path: Path, line: bytes) -> None:
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(EvidenceAltered, match=f"line {COUNT + 1} "):
        list(read_journal(path))


def test_a_torn_last_line_is_passed_over(path: Path) -> None:
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in (1, last // 2, last - 1):
        path.write_bytes(whole[:-cut])
        assert len(list(read_journal(path))) == COUNT - 1


def test_an_existing_journal_is_never_continued(path: Path) -> None:
    with pytest.raises(StorageError):
        Journal(path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room: list[bool] = []
    journal = Journal(tmp_path / "j.jsonl", on_full=lambda: bool(room.append(True)) or True)
    real, failed = os.write, []

    def short(descriptor: int, data: bytes) -> int:
        if not failed:
            failed.append(True)
            return real(descriptor, data[:10])
        if len(failed) == 1:
            failed.append(True)
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", short)
    journal.write("step")
    journal.close()
    assert room == [True]
    assert [row["type"] for row in read_journal(tmp_path / "j.jsonl")] == ["step"]


def test_a_full_disk_without_reserve_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j.jsonl")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="no space left"):
        journal.write("step")


@given(st.binary(max_size=100))
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(data)
    try:
        rows = list(read_journal(path))
    except EvidenceAltered:
        return
    assert rows == []
