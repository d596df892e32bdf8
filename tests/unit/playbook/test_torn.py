"""Power loss: whatever is left of the journal's last record, the run goes on, and the chain holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irkit.errors import Refused
from irkit.playbook.journal import Journal, read_journal
from irkit.playbook.resume import read_past
from tests.unit.playbook.test_structure import ONCE, actions, book, play
from tests.unit.test_playbook import Stub

__all__ = ("actions",)  # the fixture
TAILS = (b"", b"\0", b"\0" * 512, b'{"seq":', b"\xff\xfe", b'{"seq":1,"prev":"')
"""What may stand after the last whole record: nothing, blocks that were never written, half of the next one."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "j.jsonl")
    for number in range(3):
        journal.write("step", id=f"s{number}", message="ünd \u202e")
    journal.close()
    return tmp_path / "j.jsonl"


@pytest.mark.thorough
def test_every_cut_of_the_last_record(path: Path) -> None:
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(1, last + 1):
        tail = TAILS[cut % len(TAILS)]
        path.write_bytes(whole[:-cut] + tail)
        assert [row["seq"] for row in read_journal(path)] == [0, 1], (cut, tail)
        journal = Journal.reopen(path)
        journal.write("again", number=cut)
        journal.close()
        rows = list(read_journal(path))
        assert [(row["seq"], row["type"]) for row in rows] == [(0, "step"), (1, "step"), (2, "again")]
        assert path.read_bytes().count(b"\n") == 3 and b"\0" not in path.read_bytes()


@pytest.mark.thorough
def test_a_run_that_is_cut_within_any_record(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(tmp_path, ONCE)
    play(stub, outer)
    whole = stub.path.read_bytes()
    first = whole.index(b"\n") + 1
    ends = [number + 1 for number, byte in enumerate(whole) if byte == 10]
    rows = list(read_journal(stub.path))
    starts = [end for end in ends if first <= end < len(whole)]
    for length in sorted({cut for one in starts for cut in (one, one + 1, one + 90, whole.index(b"\n", one))}):
        stub.path.write_bytes(whole[:length])
        stub.checkpoint = lambda: None  # type: ignore[method-assign]  # not the one of the run before, in a chain of them all
        actions.clear()
        stub.steps.clear()
        past = read_past(stub.path)
        durable = [(row["type"], row.get("id")) for row, end in zip(rows, ends, strict=True) if end <= length]
        outcome = play(stub, outer, past=past)
        begun, ended = ("step-started", "b") in durable, ("step-finished", "b") in durable
        wanted = "undecided" if begun and not ended else "succeeded"
        found = {row["id"]: row["outcome"] for row in outcome.steps}
        assert found == {"a": "succeeded", "b": wanted, "c": "succeeded"}, length
        assert [step for step, _ in actions] == [
            one for one in ("a", "b", "c") if ("step-finished", one) not in durable and not (one == "b" and begun)
        ], length
        assert list(read_journal(stub.path))[-1]["type"] == "run-finished"


@pytest.mark.parametrize("left", [b"", b'{"seq":0,"prev"', b"\0\0\0\0"])
def test_where_not_even_the_first_record_is_left(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "j.jsonl").write_bytes(left)
    with pytest.raises(Refused, match="nothing was begun"):
        read_past(tmp_path / "j.jsonl")
    with pytest.raises(Refused, match="nothing was begun"):
        read_past(tmp_path / "none.jsonl")
