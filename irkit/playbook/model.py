"""A playbook as types, read from YAML (``irkit/schemas/playbook.schema.json`` says the same for editors)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit import documents
from irkit.actions.registry import ACTIONS, Action, Param
from irkit.documents import Doc, Place, Value
from irkit.errors import UsageProblem

API_VERSION = "irkit/v1"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
REFERENCE = re.compile(r"\$\{\{ *([a-z][a-z0-9_-]*)((?:\.[a-z][a-z0-9_-]*)*) *\}\}")
VAR_TYPES: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "boolean": (bool,)}
ON_FAILURE = ("abort", "continue")


@dataclass(frozen=True, slots=True)
class Var:
    """A typed variable; ``required`` ones have no default."""

    name: str
    type: str
    default: Any
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Reference:
    """``${{ vars.image }}`` or ``${{ registered.field }}``: a whole value, never a part of a text."""

    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: an action with its parameters."""

    id: str
    name: str
    action: Action
    arguments: Mapping[str, Any]
    register: str
    on_failure: str


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook.  ``digest``: sha256 of its file."""

    id: str
    name: str
    description: str
    vars: Mapping[str, Var]
    steps: tuple[Step, ...]
    digest: str
    path: Path

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values for all variables.  Raises ``UsageProblem`` for an unknown, missing or mistyped one."""
        for name in given:
            if name not in self.vars:
                raise UsageProblem(
                    f"the playbook {self.id} has no variable {name!r}",
                    hint=f"it has: {', '.join(self.vars) or 'none'}",
                )
        bound = {}
        for var in self.vars.values():
            if var.name not in given and var.required:
                raise UsageProblem(f"the playbook {self.id} needs a value for {var.name!r}", hint=f"--var {var.name}=…")
            value = given.get(var.name, var.default)
            if type(value) not in VAR_TYPES[var.type]:
                raise UsageProblem(f"{var.name!r} must be of type {var.type}, not {value!r}")
            bound[var.name] = value
        return bound


def load_playbook(path: Path) -> Playbook:
    """A playbook from a file.  Raises ``PlaybookInvalid`` naming file, line and column."""
    doc, digest = documents.load(path)
    return read_playbook(doc, digest, path)


def read_playbook(doc: Doc, digest: str, path: Path) -> Playbook:
    """A playbook from a document."""
    doc.choice("apiVersion", (API_VERSION,))
    doc.choice("kind", ("Playbook",))
    variables = _vars(doc.mapping("vars", None))
    steps: list[Step] = []
    known = {"vars"}
    for item in doc.items("steps").docs():
        step = _step(item, known, {one.id for one in steps}, variables)
        steps.append(step)
        if step.register:
            known.add(step.register)
    if not steps:
        raise doc.place.error("a playbook needs at least one step")
    playbook = Playbook(
        _name(doc, "id"), doc.text("name"), doc.text("description", ""), variables, tuple(steps), digest, path
    )
    doc.done()
    return playbook


def _name(doc: Doc, key: str) -> str:
    value = doc.text(key)
    if not NAME.fullmatch(value):
        raise doc.places[key].error(f"{key!r} must be lower-case letters, digits, - and _")
    return value


def _vars(doc: Doc) -> dict[str, Var]:
    found = {}
    for name in list(doc.values):
        item = doc.mapping(name)
        kind = item.choice("type", tuple(VAR_TYPES))
        default = item.get("default", VAR_TYPES[kind], f"of type {kind}", None)
        found[name] = Var(name, kind, default, default is None, item.text("description", ""))
        item.done()
    return found


def _step(doc: Doc, known: set[str], ids: set[str], variables: Mapping[str, Var]) -> Step:
    identity = _name(doc, "id")
    if identity in ids:
        raise doc.places["id"].error(f"two steps have the id {identity!r}")
    uses = doc.choice("uses", tuple(ACTIONS))
    register = _name(doc, "register") if "register" in doc.values else doc.text("register", "")
    if register in known:
        raise doc.places["register"].error(f"the name {register!r} is taken")
    step = Step(
        identity, doc.text("name", identity), ACTIONS[uses], _arguments(doc.mapping("with", None), ACTIONS[uses], known, variables),
        register, doc.choice("on_failure", ON_FAILURE, "abort"),
    )  # fmt: skip
    doc.done()
    return step


def _arguments(doc: Doc, action: Action, known: set[str], variables: Mapping[str, Var]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for param in action.params:
        if param.name not in doc.values:
            if param.required:
                raise doc.place.error(f"{action.name} needs {param.name!r}")
            found[param.name] = param.default
            continue
        value = _reference(doc.values[param.name], doc.places[param.name], known, variables)
        _check_type(value, param, variables, doc.places[param.name])
        doc.get(
            param.name,
            (str,) if isinstance(value, Reference) else (param.type,),
            f"of type {param.type.__name__}",
        )
        found[param.name] = value
    doc.allow(*(param.name for param in action.params))
    doc.done()
    return found


def _check_type(value: Any, param: Param, variables: Mapping[str, Var], place: Place) -> None:
    """A variable's type is known before anything runs; what a step registers is not."""
    if isinstance(value, Reference) and value.name == "vars":
        kind = variables[value.fields[0]].type
        if param.type not in VAR_TYPES[kind]:
            raise place.error(
                f"{param.name!r} must be of type {param.type.__name__}, and the variable is of type {kind}"
            )


def _reference(value: Value, place: Place, known: set[str], variables: Mapping[str, Var]) -> Any:
    if not isinstance(value, str) or "${{" not in value:
        return documents.plain(value)
    match = REFERENCE.fullmatch(value)
    if match is None:
        raise place.error("a reference must be the whole value: ${{ vars.name }} or ${{ registered.field }}")
    name, fields = match.group(1), tuple(filter(None, match.group(2).split(".")))
    if name not in known:
        raise place.error(f"nothing is registered as {name!r} before this step")
    if name == "vars" and (len(fields) != 1 or fields[0] not in variables):
        raise place.error("no such variable", f"there are: {', '.join(variables) or 'none'}")
    return Reference(name, fields)


def resolve(value: Any, registered: Mapping[str, Any]) -> Any:
    """The value behind a reference; anything else as it is.  Raises ``UsageProblem`` for a field that is not there."""
    if not isinstance(value, Reference):
        return value
    found: Any = registered[value.name]
    for field in value.fields:
        if not isinstance(found, Mapping) or field not in found:
            raise UsageProblem(f"${{{{ {value.name}.{'.'.join(value.fields)} }}}}: there is no {field!r}")
        found = found[field]
    return found
