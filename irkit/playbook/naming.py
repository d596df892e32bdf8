"""A playbook's conditions, parsed, and what they name: checked against what is known at that place."""

from __future__ import annotations

from irkit.documents import Place
from irkit.playbook.arguments import BUILT_IN, ITEM, Known, given
from irkit.playbook.conditions import Condition, ConditionError, Literal, Name, Node, Test, each, parse
from irkit.playbook.model import VAR_TYPES


def checked(text: str, key: str, place: Place, known: Known) -> Condition:
    """The condition in the text at ``place``.  Raises ``PlaybookInvalid``."""
    try:
        condition = parse(text)
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
        given(first, rest[0], known, place)


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
