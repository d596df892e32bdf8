"""What a step gives its action, and what its conditions name: checked against what is known at that place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.actions.registry import Action, Param
from irkit.documents import Doc, Items, Place, Value
from irkit.playbook.conditions import Condition, ConditionError, Literal, Name, Node, Test, each
from irkit.playbook.conditions import parse as parse_condition
from irkit.playbook.model import AROUND, VAR_TYPES, Reference, Var

REFERENCE = re.compile(r"\$\{\{ *([a-z][a-z0-9_-]*)((?:\.[a-z][a-z0-9_-]*)*) *\}\}")
BUILT_IN = ("vars", "steps", "target", "run")
"""Names that every condition knows: ``target.name|image|running``, ``run.quarantine|findings|gaps``, ``steps.ID.outcome``."""
ITEM = "item"


@dataclass(slots=True)
class Known:
    """What may be named at a place in the playbook."""

    variables: Mapping[str, Var]
    registered: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    gives: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The fields of what a step registers, where its action says so."""
    item: bool = False
    around: tuple[Path, ...] = ()
    """The files that include this one, outermost first, and it."""


def arguments(doc: Doc, action: Action, known: Known) -> dict[str, Any]:
    """An action's parameters.  Raises ``PlaybookInvalid``."""
    found: dict[str, Any] = {}
    for param in action.params:
        if param.name not in doc.values:
            if param.required:
                raise doc.place.error(f"{action.name} needs {param.name!r}")
            found[param.name] = param.default
            continue
        place = doc.places[param.name]
        value = reference(doc.values[param.name], place, known)
        _check_type(value, param, known.variables, place)
        kind: type = Items if param.type is list else Doc if param.type is dict else param.type
        doc.get(param.name, (str,) if isinstance(value, Reference) else (kind,), f"of type {param.type.__name__}")
        if param.choices and not isinstance(value, Reference) and value not in param.choices:
            raise place.error(f"{param.name!r} must be one of {', '.join(map(str, param.choices))}")
        found[param.name] = value
    doc.allow(*(param.name for param in action.params))
    doc.done()
    return found


def _check_type(value: Any, param: Param, variables: Mapping[str, Var], place: Place) -> None:
    """A variable's type is known before anything runs; what a step registers is not."""
    if isinstance(value, Reference) and value.name == "vars":
        kind = variables[value.fields[0]].type
        if param.type not in (object, *VAR_TYPES[kind]):
            raise place.error(
                f"{param.name!r} must be of type {param.type.__name__}, and the variable is of type {kind}"
            )


def reference(value: Value, place: Place, known: Known) -> Any:
    """Plain data, with references in it where a text of it (or of a list or mapping) is one."""
    if isinstance(value, Items):
        return [reference(one, where, known) for one, where in value]
    if isinstance(value, Doc):
        return {key: reference(one, value.places[key], known) for key, one in value.values.items()}
    if not isinstance(value, str) or "${{" not in value:
        return value
    match = REFERENCE.fullmatch(value)
    if match is None:
        raise place.error("a reference must be the whole value: ${{ vars.name }} or ${{ registered.field }}")
    name, fields = match.group(1), tuple(filter(None, match.group(2).split(".")))
    if name in AROUND or (name == ITEM and known.item):
        return Reference(name, fields)
    if name != "vars" and name not in known.registered:
        raise place.error(f"nothing is registered as {name!r} before this step")
    if name == "vars" and (len(fields) != 1 or fields[0] not in known.variables):
        raise place.error("no such variable", f"there are: {', '.join(known.variables) or 'none'}")
    if name != "vars" and fields:
        _given(name, fields[0], known, place)
    return Reference(name, fields)


def condition_of(doc: Doc, key: str, known: Known) -> Condition | None:
    """A condition; ``when`` may be left out.  Raises ``PlaybookInvalid``."""
    if key not in doc.values and key == "when":
        doc.allow(key)
        return None
    text = doc.text(key)
    place = doc.places[key]
    try:
        condition = parse_condition(text)
    except ConditionError as error:
        raise Place(place.file, place.line, place.column + error.column).error(f"{key}: {error}") from error
    for name in condition.names():
        _known_name(name, known, place)
    for node in each(condition.node):
        _comparable(node, known, place)
    return condition


def _known_name(name: Name, known: Known, place: Place) -> None:
    first, rest = name.parts[0], name.parts[1:]
    if first == ITEM and known.item:
        return
    if first not in (*BUILT_IN, *known.registered):
        raise place.error(
            f"nothing is called {first!r} here", f"there are: {', '.join((*BUILT_IN, *known.registered))}"
        )
    within = {"vars": set(known.variables), "steps": known.ids}.get(first)
    if within is not None and (not rest or rest[0] not in within):
        raise place.error(
            f"{'.'.join(name.parts)!r}: no such {first[:-1]} before this",
            f"there are: {', '.join(sorted(within)) or 'none'}",
        )
    if first in known.registered and rest:
        _given(first, rest[0], known, place)


def _given(name: str, field_: str, known: Known, place: Place) -> None:
    """What an action registers is known from its declaration."""
    fields = known.gives.get(name, ())
    if fields and field_ not in fields:
        raise place.error(f"{name!r} has no {field_!r}", f"it has: {', '.join(fields)}")


def _comparable(node: Node, known: Known, place: Place) -> None:
    """A comparison of a variable with something that it can never be is a mistake that can be seen now."""
    if not isinstance(node, Test) or node.operator in ("in", "contains"):
        return
    for one, other in ((node.left, node.right), (node.right, node.left)):
        if isinstance(one, Name) and one.parts[0] == "vars" and isinstance(other, Literal):
            kind = known.variables[one.parts[1]].type
            value = list(other.value) if isinstance(other.value, tuple) else other.value
            numbers = kind in ("integer", "number") and type(value) in (int, float)
            if not numbers and type(value) not in VAR_TYPES[kind]:
                raise place.error(f"{'.'.join(one.parts)} is of type {kind}: it can't be compared with {other.value!r}")
