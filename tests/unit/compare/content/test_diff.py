"""Text diffs: exact for what is compared, as diff(1) prints them, harmless to show, bounded in time."""

from __future__ import annotations

import difflib
import os
import random
import subprocess
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.content import changed_lines, text_diff
from irkit.compare.content.diff import LINES_LIMIT, compare_lines

LINES = st.lists(st.sampled_from([b"a", b"b", b"c", b"", b"x y", b"\xff", b"\0", b"a\r"]), max_size=40)
TEXTS = st.builds(lambda lines, end: b"\n".join(lines) + end, LINES, st.sampled_from([b"", b"\n"]))


def applied(before: bytes, after: bytes) -> bytes:
    """What comes of ``before`` when the changes are applied to it."""
    hunks = compare_lines(before, after)
    head = b"".join(line + b"\n" for line in before.split(b"\n")[: hunks.skipped])
    out, place = [head], 0
    for old, old_end, new, new_end in hunks.changes():
        out += hunks.before[place:old]
        out += hunks.after[new:new_end]
        place = old_end
    return b"".join([*out, *hunks.before[place:]])


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_applies(before: bytes, after: bytes) -> None:
    assert applied(before, after) == after


@settings(deadline=None)
@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_bytes(before: bytes, after: bytes) -> None:
    assert applied(before, after) == after
    for line in text_diff("/x", before, after).lines:  # blanks of all kinds are let through
        assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") for char in line)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_patch_agrees(before: bytes, after: bytes) -> None:
    """The counts are those of the lines shown, and the blocks don't overlap."""
    found = text_diff("/x", before, after, limit=10_000)
    signs = [line[0] for line in found.lines[2:]]
    assert (signs.count("+"), signs.count("-")) == (found.added, found.removed)
    assert bool(found.lines) == (before != after)
    old = new = 0
    for at, to, size in compare_lines(before, after).equal:
        assert at >= old and to >= new and size > 0
        old, new = at + size, to + size


def test_patch_program(tmp_path: Path) -> None:
    """patch(1), or difflib where there is none, understands the form."""
    before = b"".join(b"line %d\n" % number for number in range(100))
    after = (
        before.replace(b"line 10\n", b"line ten\n").replace(b"line 50\n", b"").replace(b"line 99\n", b"line 99\nlast")
    )
    shown = text_diff("/x", before, after)
    assert shown.added == 2 and shown.removed == 2 and not shown.truncated
    plain = list(difflib.unified_diff(before.decode().splitlines(), after.decode().splitlines(), lineterm=""))
    assert [line for line in shown.lines[2:] if line[0] != "\\"] == plain[2:]
    try:
        (tmp_path / "f").write_bytes(before)
        subprocess.run(
            ["patch", str(tmp_path / "f")],
            input="\n".join(shown.lines) + "\n",
            text=True,
            check=True,
            capture_output=True,
        )
        assert (tmp_path / "f").read_bytes() == after
    except FileNotFoundError:
        pytest.skip("no patch(1)")


def test_added_and_removed_files() -> None:
    assert text_diff("/x", None, b"a\n").lines == ("--- /dev/null", "+++ b/x", "@@ -0,0 +1 @@", "+a")
    assert text_diff("/x", b"a", None).lines == (
        "--- a/x",
        "+++ /dev/null",
        "@@ -1 +0,0 @@",
        "-a",
        "\\ No newline at end of file",
    )
    assert text_diff("/x", None, b"").lines == ("--- /dev/null", "+++ b/x")
    assert text_diff("/x", b"a", b"a").lines == ()


def test_escapes_what_it_shows() -> None:
    found = text_diff("/e\x1bvil\n", b"", b"\x1b[31m\xe2\x80\xae\xe2\x80\x8b\x07\r\n\xff\n")
    assert found.lines[1] == "+++ b/e\\x1bvil\\n"
    assert found.lines[3:] == ("+\\x1b[31m\\u202e\\u200b\\x07\\r", "+\\xff")


def test_hides_password_hashes() -> None:
    secret = "$6$saltsalt$" + "a" * 86
    for row in (f"root:{secret}:1:0:99999:7:::", f"x {secret}", "old:abJnggxhB/yWI:1::::::"):
        shown = "\n".join(text_diff("/etc/shadow", b"root:*:1:0:99999:7:::\n", row.encode()).lines)
        assert "aaaaaaaa" not in shown and "Jnggxh" not in shown
    assert "+root:$6$...:1" in "\n".join(text_diff("/etc/shadow", b"", f"root:{secret}:1:\n".encode()).lines)


def test_a_changed_hash_shows_as_changed() -> None:
    old, new = (f"root:$6$salt${letter * 86}:1\n".encode() for letter in "ab")
    assert (text_diff("/etc/shadow", old, new).added, text_diff("/etc/shadow", old, new).removed) == (1, 1)


def test_limits() -> None:
    many = text_diff("/x", None, b"a\n" * 5000, limit=100)
    assert len(many.lines) == 100 and many.truncated and many.added == 5000
    over = text_diff("/x", None, b"a\n" * (LINES_LIMIT + 5))
    assert over.truncated and over.added == LINES_LIMIT
    long = text_diff("/x", b"", b"a" * 10_000)
    assert len(long.lines[3]) <= 501


def test_a_growing_log_is_exact() -> None:
    before = b"".join(b"%d\n" % number for number in range(500_000))
    found = text_diff("/var/log/x", before, before + b"new\n")
    assert not found.truncated and found.added == 1 and found.removed == 0
    assert found.lines[2] == "@@ -499998,3 +499998,4 @@"


@pytest.mark.parametrize("letters", [2, 3, 30])
@pytest.mark.parametrize("size", [100, 1000, 20_000])
def test_time_is_bounded(letters: int, size: int) -> None:
    """Few lines that repeat are where difflib takes cubic time."""
    chance = random.Random(letters)
    before, after = (b"".join(b"%d\n" % chance.randrange(letters) for _ in range(size)) for _ in range(2))
    started = time.process_time()
    text_diff("/x", before, after)
    assert time.process_time() - started < 3


@pytest.mark.thorough
def test_time_of_large_sides() -> None:
    started = time.process_time()
    text_diff("/x", os.urandom(2_000_000), b"\n" * 2_000_000)
    assert time.process_time() - started < 4


def test_changed_lines() -> None:
    assert changed_lines(b"a\nb\n", b"a\nc\xff\r\nd") == (("c\udcff\r", "d"), ("b",), False)
    assert changed_lines(None, b"x") == (("x",), (), False)


@pytest.mark.parametrize("place", [0, 1, 65_535, 65_536, 65_537, 131_072, 199_999])
def test_a_common_beginning_of_any_length(place: int) -> None:
    before = b"0123456\n" * 25_000
    after = before[:place] + b"X" + before[place + 1 :]
    assert applied(before, after) == after
    assert text_diff("/x", before, after).added == 1
    assert applied(before[:place], before) == before
