"""A unified diff of two texts that an attacker may have written: bounded in time, in size, and harmless to show: control
characters escaped, password hashes left out.

``difflib`` alone takes quadratic time and more on chosen input.  Here equal beginnings and ends go first (at the speed
of memory), then lines that occur once on either side are matched (the patience diff: n log n), and ``difflib`` gets the
small pieces that are left, until a budget is spent.  What is then still unmatched counts as replaced: never wrong, only longer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from irkit.compare.content.secrets import line_without_hashes
from irkit.text import printable

SIDE_LIMIT = 2 * 1024 * 1024
"""Bytes of either side that are compared, counted after the beginning that both share."""
LINES_LIMIT = 50_000
LINE_SHOWN = 500
SHOWN_LIMIT = 2000
_BLOCK = 64 * 1024
_PIECE, _BUDGET = 10_000, 300_000
"""Products of line counts: of one piece that ``difflib`` gets, and of all of them."""

Block = tuple[int, int, int]
"""As ``difflib``'s matching blocks: where in before, where in after, how many lines are equal."""


@dataclass(frozen=True, slots=True)
class TextDiff:
    """``lines``: a unified diff, every line escaped (:func:`irkit.text.printable`) and cut at 500 characters.

    ``added``, ``removed``: lines, all of them that were compared, shown or not.  ``truncated``: more was there than could
    be compared or shown.
    """

    lines: tuple[str, ...]
    truncated: bool
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Hunks:
    """Two sides as lines (with their ends), the blocks that are equal, and the lines before them that both share."""

    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    equal: tuple[Block, ...]
    skipped: int
    truncated: bool

    def changes(self) -> Iterator[tuple[int, int, int, int]]:
        """``before[i:j]`` was replaced by ``after[k:l]``; in order."""
        old = new = 0
        for at, to, size in (*self.equal, (len(self.before), len(self.after), 0)):
            if at > old or to > new:
                yield old, at, new, to
            old, new = at + size, to + size


def text_diff(
    path: str, before: bytes | None, after: bytes | None, *, context: int = 3, limit: int = SHOWN_LIMIT
) -> TextDiff:
    """What changed from ``before`` to ``after`` (``None``: the file is not there).  ``limit``: lines shown.  Never raises."""
    hunks = compare_lines(before or b"", after or b"", context)
    changes = list(hunks.changes())
    added, removed = sum(one[3] - one[2] for one in changes), sum(one[1] - one[0] for one in changes)
    name = printable(path, LINE_SHOWN)
    lines = [
        f"--- {'/dev/null' if before is None else 'a' + name}",
        f"+++ {'/dev/null' if after is None else 'b' + name}",
    ]
    if not changes and (before is None) == (after is None) and not hunks.truncated:
        return TextDiff((), False, 0, 0)
    truncated = hunks.truncated
    for line in _unified(hunks, changes, context):
        if len(lines) >= limit:
            truncated = True
            break
        lines.append(line)
    return TextDiff(tuple(lines), truncated, added, removed)


def changed_lines(before: bytes | None, after: bytes | None) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """``(added, removed, truncated)``: the lines themselves, in ``surrogateescape`` form without their ends, for rules to search."""
    if not before:
        lines, cut = _lines(after or b"", 0)
        return tuple(_text(b"".join(lines)).split("\n")) if lines else (), (), cut
    hunks = compare_lines(before, after or b"")
    changes = list(hunks.changes())
    added = tuple(_text(line) for one in changes for line in hunks.after[one[2] : one[3]])
    removed = tuple(_text(line) for one in changes for line in hunks.before[one[0] : one[1]])
    return added, removed, hunks.truncated


def _text(line: bytes) -> str:
    return line.removesuffix(b"\n").decode("utf-8", "surrogateescape")


def compare_lines(before: bytes, after: bytes, context: int = 3) -> Hunks:
    """Which lines are equal.  Linear in size, but for a bounded share."""
    start = _line_start(before, _shared(before, after), context)
    skipped = before.count(b"\n", 0, start)
    old, cut_old = _lines(before, start)
    new, cut_new = _lines(after, start)
    return Hunks(old, new, tuple(_equal(old, new)), skipped, cut_old or cut_new)


def _shared(before: bytes, after: bytes) -> int:
    """The length of what both begin with."""
    size = min(len(before), len(after))
    low = 0
    while low < size and before[low : low + _BLOCK] == after[low : low + _BLOCK]:
        low += _BLOCK
    low, high = min(low, size), min(low + _BLOCK, size)
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _line_start(data: bytes, place: int, context: int) -> int:
    """The start of the line at ``place``, and ``context`` lines before it."""
    for _ in range(context + 1):
        place = data.rfind(b"\n", 0, place)
        if place < 0:
            return 0
    return place + 1


def _lines(data: bytes, start: int) -> tuple[tuple[bytes, ...], bool]:
    piece = data[start : start + SIDE_LIMIT]
    lines = piece.split(b"\n", LINES_LIMIT)
    found = [line + b"\n" for line in lines[:-1]]
    rest = lines[-1]
    if len(lines) > LINES_LIMIT:
        return tuple(found), bool(rest) or len(data) > start + SIDE_LIMIT
    if rest:
        found.append(rest)
    return tuple(found), len(data) > start + SIDE_LIMIT


def _equal(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[Block]:
    """Blocks in order, without overlap."""
    budget = _BUDGET
    head = 0
    low, high = len(old), len(new)
    while head < min(low, high) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(low, high) - head and old[low - 1 - tail] == new[high - 1 - tail]:
        tail += 1
    if head:
        yield 0, 0, head
    last_old, last_new = head, head
    for at, to in (*_anchors(old, new, head, low - tail, high - tail), (low - tail, high - tail)):
        cost = (at - last_old) * (to - last_new)
        if 0 < cost <= min(_PIECE, budget):
            budget -= cost
            matcher = SequenceMatcher(None, old[last_old:at], new[last_new:to], autojunk=False)
            for block in matcher.get_matching_blocks():
                if block.size:
                    yield last_old + block.a, last_new + block.b, block.size
        if at < low - tail and to < high - tail:
            yield at, to, 1
            last_old, last_new = at + 1, to + 1
    if tail:
        yield low - tail, high - tail, tail


def _anchors(old: Sequence[bytes], new: Sequence[bytes], start: int, low: int, high: int) -> list[tuple[int, int]]:
    """Lines that are unique on both sides, the longest run of them that is in order on both (Szymanski: n log n)."""
    places = _unique(new, start, high)
    pairs = [(at, places[line]) for line, at in _unique(old, start, low).items() if line in places]
    ends: list[int] = []
    tops: list[int] = []
    back: list[int] = []
    for index, (_, to) in enumerate(pairs):
        pile = bisect_left(tops, to)
        back.append(ends[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(to)
            ends.append(index)
        else:
            tops[pile], ends[pile] = to, index
    found: list[tuple[int, int]] = []
    place = ends[-1] if ends else -1
    while place >= 0:
        found.append(pairs[place])
        place = back[place]
    return found[::-1]


def _unique(lines: Sequence[bytes], start: int, end: int) -> dict[bytes, int]:
    """``line → its place``, in order, of the lines that occur once."""
    found: dict[bytes, int] = {}
    twice: set[bytes] = set()
    for place in range(start, end):
        line = lines[place]
        if line in found:
            twice.add(line)
        found[line] = place
    return {line: place for line, place in found.items() if line not in twice}


def _unified(hunks: Hunks, changes: Sequence[tuple[int, int, int, int]], context: int) -> Iterator[str]:
    group: list[tuple[int, int, int, int]] = []
    for change in changes:
        if group and change[0] - group[-1][1] > 2 * context:
            yield from _hunk(hunks, group, context)
            group = []
        group.append(change)
    if group:
        yield from _hunk(hunks, group, context)


def _hunk(hunks: Hunks, group: Sequence[tuple[int, int, int, int]], context: int) -> Iterator[str]:
    first, last = group[0], group[-1]
    lead = min(context, first[0], first[2])
    trail = min(context, len(hunks.before) - last[1], len(hunks.after) - last[3])
    old, new = first[0] - lead, first[2] - lead
    skipped = hunks.skipped
    yield f"@@ -{_span(old + skipped, last[1] + trail + skipped)} +{_span(new + skipped, last[3] + trail + skipped)} @@"
    at = old
    for i, j, k, m in group:
        for line in hunks.before[at:i]:
            yield from _shown(" ", line)
        for line in hunks.before[i:j]:
            yield from _shown("-", line)
        for line in hunks.after[k:m]:
            yield from _shown("+", line)
        at = j
    for line in hunks.before[at : at + trail]:
        yield from _shown(" ", line)


def _span(start: int, end: int) -> str:
    """As in POSIX diff -u: an empty range names the line before it, a single line has no count."""
    size = end - start
    if size == 1:
        return str(start + 1)
    return f"{start if size == 0 else start + 1},{size}"


def _shown(sign: str, line: bytes) -> Iterator[str]:
    whole = line.endswith(b"\n")
    # A line of megabytes is cut before it is escaped: no character takes more than 4 bytes.
    text = (line[:-1] if whole else line)[: 4 * LINE_SHOWN + 4]
    yield sign + printable(line_without_hashes(text), LINE_SHOWN)
    if not whole:
        yield "\\ No newline at end of file"
