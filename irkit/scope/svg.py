"""The blast radius as one SVG picture: no script, no link, nothing from outside, text escaped twice.

The target is in the middle, the groups to its left and right, their rows in columns beside them: nothing overlaps,
whatever the names are, and the same scope gives the same picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from irkit.scope.graph import LOOKS, TIP_LIMIT, WORDS, Group, groups, title, worst
from irkit.scope.model import CLOSED, KINDS, Row, Scope
from irkit.text import printable

WIDTH, CENTRE = 1640, 820
STEP, GAP, TOP = 20, 16, 90
GROUP_AT, ROW_AT = 190, 320  # from the centre, on either side
SHOWN = 16  # rows a group; how many more there are is said
LEAF_LIMIT = 72
DASHES = {"solid": "", "dashed": "6 4", "dotted": "2 3"}


@dataclass(frozen=True, slots=True)
class Placed:
    """A group with its first row's height; ``side``: -1 left, 1 right."""

    group: Group
    side: int
    top: int

    @property
    def middle(self) -> int:
        """The height of the group's own box."""
        return self.top + (height(self.group) - GAP) // 2


def height(group: Group) -> int:
    """What a group takes of its column."""
    return (min(len(group.rows), SHOWN) + (len(group.rows) > SHOWN)) * STEP + GAP


def place(every: tuple[Group, ...]) -> tuple[list[Placed], int]:
    """Each group on the side that is shorter so far, and the height of the picture."""
    filled = {1: TOP, -1: TOP}
    found = []
    for group in every:
        side = 1 if filled[1] <= filled[-1] else -1
        found.append(Placed(group, side, filled[side]))
        filled[side] += height(group)
    return found, max(*filled.values(), TOP + 120) + 20


def to_svg(scope: Scope) -> str:
    """The picture, as XML text."""
    placed, bottom = place(groups(scope))
    middle = (TOP + bottom) // 2
    name = title(scope)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom}" viewBox="0 0 {WIDTH} {bottom}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(f'irkit scope: {name}')}</title>",
        f'<rect width="{WIDTH}" height="{bottom}" fill="#ffffff"/>',
        _text(20, 30, f"What {name} can reach", size=18),
        *_legend(),
        *(part for one in placed for part in _group(one, middle)),
        f'<circle cx="{CENTRE}" cy="{middle}" r="46" fill="#1b1f24"/>',
        _text(CENTRE, middle + 4, printable(scope.target.name, 14), anchor="middle", fill="#ffffff"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend() -> Iterator[str]:
    for number, state in enumerate(LOOKS):
        at = 20 + number * 480
        yield _line(at, 56, at + 40, 56, state)
        yield _text(at + 48, 60, f"{WORDS[state]}: {CLOSED[state]}", fill=LOOKS[state][0])


def _group(one: Placed, middle: int) -> Iterator[str]:
    x, anchor = CENTRE + one.side * GROUP_AT, "start" if one.side > 0 else "end"
    yield _line(CENTRE, middle, x - one.side * 65, one.middle, worst(one.group.rows))
    leaf = CENTRE + one.side * ROW_AT
    for number, row in enumerate(one.group.rows[:SHOWN]):
        y = one.top + number * STEP
        yield _line(x + one.side * 65, one.middle, leaf - one.side * 6, y, row.closed)
        yield _leaf(row, leaf, y + 4, anchor)
    more = len(one.group.rows) - SHOWN
    if more > 0:
        yield _text(leaf, one.top + SHOWN * STEP + 4, f"and {more} more in the table", anchor=anchor, fill="#59636e")
    yield f'<rect x="{x - 65}" y="{one.middle - 13}" width="130" height="26" rx="8" fill="#f6f8fa" stroke="#59636e"/>'
    yield _text(x, one.middle + 4, f"{_short(one.group.kind)} ({len(one.group.rows)})", anchor="middle", size=11)


def _short(kind: str) -> str:
    return {"secret": "secrets", "environment": "environment", "label": "same project"}.get(kind, KINDS[kind])


def _leaf(row: Row, x: int, y: int, anchor: str) -> str:
    words = printable(f"{WORDS[row.closed]} · {row.subject}: {row.detail}", LEAF_LIMIT)
    tip = "\n".join(printable(line, TIP_LIMIT) for line in (row.severity, row.subject, row.detail, row.contained))
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{LOOKS[row.closed][0]}" font-size="11">'
        f"<title>{escape(tip)}</title>{escape(words)}</text>"
    )


def _line(x1: int, y1: int, x2: int, y2: int, state: str) -> str:
    colour, style = LOOKS[state]
    dash = f' stroke-dasharray="{DASHES[style]}"' if DASHES[style] else ""
    bend = (x1 + x2) // 2
    return f'<path d="M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}" fill="none" stroke="{colour}"{dash}/>'


def _text(x: int, y: int, words: str, *, anchor: str = "start", fill: str = "#1b1f24", size: int = 12) -> str:
    """``words`` must be printable already."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{fill}" font-size="{size}">{escape(words)}</text>'
