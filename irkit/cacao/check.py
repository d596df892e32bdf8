"""What CACAO 2.0 asks of a playbook and its JSON schemas let through: references, reachability, ends, times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

IDENTIFIER = re.compile(
    r"([a-z][a-z0-9-]+[a-z0-9])--[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)
VARIABLE = re.compile(r"__[a-zA-Z_][a-zA-Z0-9_-]{0,199}?__(?=:value)")
ONE = ("on_completion", "on_success", "on_failure", "on_true", "on_false")
LIMIT = 5000


def check(document: Mapping[str, Any]) -> Iterator[str]:
    """Every mistake, in words.  ``document``: any JSON object."""
    workflow = document.get("workflow")
    if document.get("type") != "playbook" or document.get("spec_version") != "cacao-2.0":
        yield "it is no CACAO 2.0 playbook: type and spec_version"
    if not isinstance(workflow, Mapping) or not workflow or len(workflow) > LIMIT:
        yield f"workflow must be an object of 1 to {LIMIT} steps"
        return
    yield from _identifiers(document, workflow)
    yield from _roads(document, workflow)
    yield from _times(document)
    yield from _variables(document)


def _identifiers(document: Mapping[str, Any], workflow: Mapping[str, Any]) -> Iterator[str]:
    defined = {"agent_definitions": "agent", "target_definitions": "target"}
    known: dict[str, Mapping[str, Any]] = {}
    for key, kind in defined.items():
        there = document.get(key)
        known[kind] = there if isinstance(there, Mapping) else {}
    for name, step in workflow.items():
        match = IDENTIFIER.fullmatch(name)
        if not isinstance(step, Mapping):
            yield f"{name}: it is no object"
        elif match is None or match.group(1) != step.get("type"):
            yield f"{name}: its identifier does not say its type, {step.get('type')!r}"
        else:
            agent, targets = step.get("agent"), step.get("targets", [])
            if step.get("type") == "action" and agent not in known["agent"]:
                yield f"{name}: its agent {agent!r} is not defined"
            for one in targets if isinstance(targets, list) else []:
                if one not in known["target"]:
                    yield f"{name}: its target {one!r} is not defined"


def following(step: Mapping[str, Any]) -> list[str]:
    """The identifiers that a step leads to."""
    found = [step[key] for key in ONE if isinstance(step.get(key), str)]
    more = step.get("next_steps")
    cases = step.get("cases")
    found += [one for one in more if isinstance(one, str)] if isinstance(more, list) else []
    return found + ([one for one in cases.values() if isinstance(one, str)] if isinstance(cases, Mapping) else [])


def _roads(document: Mapping[str, Any], workflow: Mapping[str, Any]) -> Iterator[str]:
    steps = {name: step for name, step in workflow.items() if isinstance(step, Mapping)}
    starts = [name for name, step in steps.items() if step.get("type") == "start"]
    if starts != [document.get("workflow_start")]:
        yield f"there must be one start step, and workflow_start must name it: {len(starts)} found"
    for name, step in steps.items():
        for one in following(step):
            if one not in steps:
                yield f"{name}: it leads to {one!r}, which there is not"
        if step.get("type") not in ("end", None) and not following(step):
            yield f"{name}: it leads nowhere, and is no end"
    exception = document.get("workflow_exception")
    if exception is not None and exception not in steps:
        yield "workflow_exception names no step"
    reached = _reached([*starts, *([exception] if isinstance(exception, str) else [])], steps)
    yield from (f"{name}: nothing leads to it" for name in steps if name not in reached)
    yield from (f"{name}: it leads back to itself" for name in _circles(steps))


def _reached(begin: list[str], steps: Mapping[str, Mapping[str, Any]]) -> set[str]:
    seen: set[str] = set()
    todo = [one for one in begin if one in steps]
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += [other for other in following(steps[one]) if other in steps]
    return seen


def _circles(steps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Steps of a circle without a while-condition: it would never end.  Those without a way on are taken away, until none is left."""
    left = {
        name: {one for one in following(step) if one in steps}
        for name, step in steps.items()
        if step.get("type") != "while-condition"
    }
    left = {name: {one for one in ways if one in left} for name, ways in left.items()}
    backward: dict[str, list[str]] = {name: [] for name in left}
    for name, ways in left.items():
        for one in ways:
            backward[one].append(name)
    done = [name for name, ways in left.items() if not ways]
    while done:
        one = done.pop()
        for before in backward[one]:
            left[before].discard(one)
            if not left[before]:
                done.append(before)
        left[one] = set()
    return [name for name, ways in left.items() if ways]


def _times(document: Mapping[str, Any]) -> Iterator[str]:
    for first, second in (("created", "modified"), ("valid_from", "valid_until")):
        one, other = document.get(first), document.get(second)
        if isinstance(one, str) and isinstance(other, str) and other < one:
            yield f"{second} is before {first}"
    for name in ("created", "modified"):
        value = document.get(name)
        if isinstance(value, str) and not re.fullmatch(r"[0-9T:-]{19}\.[0-9]{3}Z", value):
            yield f"{name} must have exactly three digits of a second"


def _variables(document: Mapping[str, Any]) -> Iterator[str]:
    """Variables that texts name and nobody declares."""
    declared = (
        set(document.get("playbook_variables") or {})
        if isinstance(document.get("playbook_variables"), Mapping)
        else set()
    )
    workflow = document["workflow"]
    for name, step in workflow.items():
        if not isinstance(step, Mapping):
            continue
        own = step.get("step_variables")
        here = declared | (set(own) if isinstance(own, Mapping) else set())
        for one in sorted({found for text in _texts(step) for found in VARIABLE.findall(text)} - here):
            yield f"{name}: the variable {one} is not declared"


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            todo += [inner for name, inner in one.items() if name not in ("step_extensions", "step_variables")]
        elif isinstance(one, list):
            todo += one
