"""What a step gives its action: checked against what is known at that place.  Of its conditions: :mod:`irkit.playbook.naming`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irkit.actions.registry import Action, Param
from irkit.documents import Doc, Items, Place, Value
from irkit.playbook.model import AROUND, VAR_TYPES, Reference, Var

if TYPE_CHECKING:
    from irkit.playbook.conditions import Condition

REFERENCE = re.compile(r"\$\{\{ *([a-z][a-z0-9_-]*)((?:\.[a-z][a-z0-9_-]*)*) *\}\}")
BUILT_IN = ("vars", "steps", "target", "run")
"""Names that every condition knows: ``target.name|image|running``, ``run.quarantine|findings|gaps``, ``steps.ID.outcome``."""
ITEM = "item"


@dataclass(slots=True, eq=False, repr=False)
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
        given(name, fields[0], known, place)
    return Reference(name, fields)


def condition_of(doc: Doc, key: str, known: Known) -> Condition | None:
    """A condition; ``when`` may be left out.  Raises ``PlaybookInvalid``."""
    if key not in doc.values and key == "when":
        doc.allow(key)
        return None
    text = doc.text(key)
    from irkit.playbook.naming import checked  # many playbooks have no condition, and imports count before "frozen"

    return checked(text, key, doc.places[key], known)


def given(name: str, field_: str, known: Known, place: Place) -> None:
    """What an action registers is known from its declaration."""
    fields = known.gives.get(name, ())
    if fields and field_ not in fields:
        raise place.error(f"{name!r} has no {field_!r}", f"it has: {', '.join(fields)}")
