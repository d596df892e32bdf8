"""Progress of a long comparison: on a terminal, or where it was asked for, and never on what is quick."""

from __future__ import annotations

import io

import pytest

from irkit.cli import diff_progress
from irkit.cli.diff_progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(diff_progress.time, "monotonic", lambda: now[0])
    return now


def passed(progress: Progress, clock: list[float], seconds: float) -> list[int]:
    found = []
    for item in progress.count("judging, changes", range(4), 4):
        clock[0] += seconds
        found.append(item)
    return found


def test_a_line_that_is_taken_away(clock: list[float]) -> None:
    out = Terminal()
    assert passed(Progress(None, out), clock, 0.7) == [0, 1, 2, 3]
    assert "judging, changes: 2 of 4\r" in out.getvalue() and out.getvalue().endswith(diff_progress.ERASE)


def test_nothing_on_what_is_quick_and_nothing_into_a_pipe(clock: list[float]) -> None:
    for out, wanted, seconds in ((Terminal(), None, 0.1), (io.StringIO(), None, 9), (Terminal(), False, 9)):
        passed(Progress(wanted, out), clock, seconds)
        assert out.getvalue() == ""


def test_lines_where_they_are_asked_for(clock: list[float]) -> None:
    out = io.StringIO()
    passed(Progress(True, out), clock, 6)
    assert out.getvalue().splitlines()[0] == "  … judging, changes: 1 of 4" and "\x1b" not in out.getvalue()
