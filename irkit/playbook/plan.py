"""What a playbook would do: each step with its effect and what its conditions come to, as rows and as a graph."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby, pairwise
from typing import Any

from irkit.errors import UsageProblem
from irkit.playbook.conditions import Unknown
from irkit.playbook.model import Playbook, Reference, Step, resolve, visible
from irkit.text import printable

PARTS = ("steps", "on_exception", "finally")
NOT_YET = "decided when it runs"


def rows(playbook: Playbook, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a step: ``part`` (``steps``, ``on_exception``, ``finally``), what it does, and when.

    ``runs``: ``yes``, ``no``, or that it is decided when the playbook runs.
    """
    parts = zip(PARTS, (playbook.steps, playbook.on_exception, playbook.final), strict=True)
    return [_row(part, step, playbook, {"vars": variables}) for part, steps in parts for step in steps]


def _row(part: str, step: Step, playbook: Playbook, bound: Mapping[str, Any]) -> dict[str, Any]:
    names = visible(playbook.bindings, bound, step.scope)
    truth = _truth(step, playbook, bound)
    return {
        "part": part, "id": step.id, "name": step.name, "uses": step.action.name, "effect": step.action.effect,
        "with": {name: _shown(value, names) for name, value in step.arguments.items()},
        "runs": ("yes" if truth else "no") if isinstance(truth, bool) else NOT_YET,
        "when": " and ".join(one.text for one, _ in step.conditions), "needs": [*(one for guard in step.guards for one in guard.needs), *step.needs],
        "foreach": _shown(step.foreach, names), "parallel": step.group, "playbook": playbook.bindings[step.scope].playbook if step.scope else playbook.id, "on_failure": step.goto or step.on_failure,
        "approve": step.approve.message if step.approve else "", "rollback": step.rollback.action.name if step.rollback else "",
        "refs": list(step.refs),
    }  # fmt: skip


def _truth(step: Step, playbook: Playbook, bound: Mapping[str, Any]) -> bool | Unknown:
    """What its own condition and those of its includes come to, as far as the variables decide them."""
    found = [one.decide(visible(playbook.bindings, bound, scope)) for one, scope in step.conditions]
    if any(truth is False for truth in found):
        return False
    return next((truth for truth in found if truth is not True), True)


def _shown(value: Any, names: Mapping[str, Any]) -> Any:
    """A variable's value; what an earlier step will register stays a name."""
    if isinstance(value, list | tuple):
        return [_shown(one, names) for one in value]
    if not isinstance(value, Reference):
        return value
    try:
        return resolve(value, names)
    except UsageProblem:
        return f"${{{{ {'.'.join((value.name, *value.fields))} }}}}"


COLOURS = {"read": "#e8f0e8", "change": "#fff0cc", "destroy": "#f6d0d0"}


def dot(playbook: Playbook, variables: Mapping[str, Any]) -> str:
    """The same as a graph in Graphviz' language: the way, jumps on failure, and what needs what."""
    lines = ["digraph playbook {", ' rankdir=TB; node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    found = rows(playbook, variables)
    for row in found:
        label = f"{row['name']}\\n{row['uses']}" + (f"\\nwhen {row['when']}" if row["when"] else "")
        label += "\\napproval needed" if row["approve"] else ""
        style = ', style="rounded,filled,dashed"' if row["runs"] == "no" else ""
        lines.append(f' {_quoted(row["id"])} [label={_quoted(label)}, fillcolor="{COLOURS[row["effect"]]}"{style}];')
    groups = [_together([row for row in found if row["part"] == part]) for part in PARTS]
    for part in groups:
        for before, after in pairwise(part):
            lines += [f" {_quoted(one)} -> {_quoted(other)};" for one in before for other in after]
    for step in playbook.steps:
        if step.goto:
            lines.append(f' {_quoted(step.id)} -> {_quoted(step.goto)} [style=dashed, label="on failure"];')
        lines += [f' {_quoted(one)} -> {_quoted(step.id)} [style=dotted, label="needed"];' for one in step.needs]
    for name, part in (("on_exception", groups[1]), ("finally", groups[2])):
        for first in part[0] if part else ():
            lines.append(f" {_quoted(groups[0][-1][-1])} -> {_quoted(first)} [style=dashed, label={_quoted(name)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _together(found: list[dict[str, Any]]) -> list[list[str]]:
    """The ids of a part's steps in their order; those that run at the same time together."""
    return [
        [row["id"] for row in rows] for _, rows in groupby(found, key=lambda row: row["parallel"] or f"/{row['id']}")
    ]  # fmt: skip


def _quoted(text: str) -> str:
    return '"' + printable(text).replace("\\\\n", "\\n").replace('"', '\\"') + '"'
