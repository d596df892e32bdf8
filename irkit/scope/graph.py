"""The blast radius as a graph: the target, its groups of rows around it, in Graphviz's DOT.

Identifiers are irkit's own (``n12``); what a container controls is in quoted labels only, escaped.
"""

from __future__ import annotations

from dataclasses import dataclass

from irkit.scope.model import CLOSED, KINDS, Row, Scope
from irkit.text import printable

LABEL_LIMIT, TIP_LIMIT = 80, 300
# Told by colour, by the line's style and by a word: not everybody sees the colours, and printers don't.
LOOKS = {"no": ("#a40e26", "solid"), "frozen": ("#9a6700", "dashed"), "yes": ("#116329", "dotted")}
WORDS = {"no": "open", "frozen": "frozen only", "yes": "closed"}


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one kind, in the scope's order."""

    kind: str
    rows: tuple[Row, ...]


def groups(scope: Scope) -> tuple[Group, ...]:
    """The kinds that have rows, those with the worst rows first."""
    found: dict[str, list[Row]] = {}
    for row in scope.rows:
        found.setdefault(row.kind, []).append(row)
    return tuple(Group(kind, tuple(rows)) for kind, rows in found.items())


def worst(rows: tuple[Row, ...]) -> str:
    """The least closed of the rows: ``no``, ``frozen`` or ``yes``."""
    return next(state for state in LOOKS if any(row.closed == state for row in rows))


def title(scope: Scope) -> str:
    """The target's name and image, for a person."""
    return f"{printable(scope.target.name, LABEL_LIMIT)} ({printable(scope.target.image, LABEL_LIMIT)})"


def quoted(*lines: str, limit: int = LABEL_LIMIT) -> str:
    """A quoted DOT string that shows these lines.

    Graphviz reads backslashes in labels as commands (``\\N``, ``\\l``) and ``&name;`` as characters, both escaped here.
    """
    shown = (printable(line, limit).replace("&", "&amp;").replace("\\", "\\\\") for line in lines)
    return '"' + "\\n".join(line.replace('"', '\\"') for line in shown) + '"'


def to_dot(scope: Scope) -> str:
    """The whole graph, the same text for the same scope."""
    lines = [
        "digraph scope {",
        "  graph [rankdir=LR, fontname=sans, label="
        + quoted(f"irkit scope {scope.target.name}", *(f"{WORDS[key]}: {CLOSED[key]}" for key in LOOKS))
        + "];",
        "  node [shape=box, style=rounded, fontname=sans, fontsize=10];",
        "  edge [fontname=sans, fontsize=8];",
        f"  target [shape=doubleoctagon, label={quoted(scope.target.name, scope.target.image)}];",
    ]
    number = 0
    for at, group in enumerate(groups(scope)):
        colour, style = LOOKS[worst(group.rows)]
        lines.append(f"  g{at} [shape=ellipse, label={quoted(KINDS[group.kind])}];")
        lines.append(f'  target -> g{at} [color="{colour}", style={style}];')
        for row in group.rows:
            colour, style = LOOKS[row.closed]
            label, tip = quoted(row.subject, row.detail), quoted(f"{row.severity}: {row.contained}", limit=TIP_LIMIT)
            lines.append(f'  n{number} [color="{colour}", label={label}, tooltip={tip}];')
            lines.append(f'  g{at} -> n{number} [color="{colour}", style={style}, label={quoted(WORDS[row.closed])}];')
            number += 1
    return "\n".join([*lines, "}", ""])
