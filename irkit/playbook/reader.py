"""A playbook from YAML (``irkit/schemas/playbook.schema.json`` says the same for editors)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit import documents
from irkit.actions.registry import ACTIONS, Action, Param
from irkit.documents import Doc, Place, Value
from irkit.playbook.conditions import Condition, ConditionError, Literal, Name, Node, Test, each
from irkit.playbook.conditions import parse as parse_condition
from irkit.playbook.model import (
    ON_FAILURE,
    ON_UNKNOWN,
    VAR_TYPES,
    Approve,
    Check,
    Playbook,
    Reference,
    Retry,
    Step,
    Undo,
    Var,
)

API_VERSION = "irkit/v1"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
REFERENCE = re.compile(r"\$\{\{ *([a-z][a-z0-9_-]*)((?:\.[a-z][a-z0-9_-]*)*) *\}\}")
REF = re.compile(r"(attack:T[0-9]{4}(\.[0-9]{3})?|d3fend:D3-[A-Z]+|csf:[A-Z]{2}\.[A-Z]{2}-[0-9]{2}|react:RA[0-9]{4})")
"""ATT&CK, D3FEND, NIST CSF 2.0, RE&CT."""
BUILT_IN = ("vars", "steps", "target", "run")
"""Names that every condition knows: ``target.name|image|running``, ``run.quarantine|findings|gaps``, ``steps.ID.outcome``."""
ATTEMPTS_LIMIT, SECONDS_LIMIT = 20, 7 * 24 * 3600


@dataclass(slots=True)
class _Known:
    """What may be named at a place in the playbook."""

    variables: Mapping[str, Var]
    registered: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)


def load_playbook(path: Path) -> Playbook:
    """A playbook from a file.  Raises ``PlaybookInvalid`` naming file, line and column."""
    doc, digest = documents.load(path)
    return read_playbook(doc, digest, path)


def read_playbook(doc: Doc, digest: str, path: Path) -> Playbook:
    """A playbook from a document."""
    doc.choice("apiVersion", (API_VERSION,))
    doc.choice("kind", ("Playbook",))
    known = _Known(_vars(doc.mapping("vars", None)))
    checks = tuple(_check(item, known) for item in doc.items("preflight", ()).docs())
    items = doc.items("steps").docs()
    steps = _steps(items, known)
    if not steps:
        raise doc.place.error("a playbook needs at least one step")
    _forward(items, steps)
    on_exception = _steps(doc.items("on_exception", ()).docs(), known, last=True)
    final = _steps(doc.items("finally", ()).docs(), known, last=True)
    playbook = Playbook(
        _name(doc, "id"), doc.text("name"), doc.text("description", ""), known.variables, steps, digest, path,
        checks, on_exception, final, _seconds(doc, "timeout"),
    )  # fmt: skip
    doc.done()
    return playbook


def _steps(items: Iterable[Doc], known: _Known, *, last: bool = False) -> tuple[Step, ...]:
    """The steps of a list.  ``last``: nothing comes after them, so nothing can be left out or taken back."""
    steps = []
    for item in items:
        step = _step(item, known)
        if last and step.on_failure in ("goto", "rollback"):
            raise item.places["on_failure"].error(f"{step.on_failure!r} has no meaning here: the run is ending")
        steps.append(step)
        known.ids.add(step.id)
        if step.register:
            known.registered.add(step.register)
    return tuple(steps)


def _forward(items: Iterable[Doc], steps: tuple[Step, ...]) -> None:
    """A jump leads forward only, so that a run always ends."""
    places = {step.id: number for number, step in enumerate(steps)}
    for number, (item, step) in enumerate(zip(items, steps, strict=True)):
        if step.goto and places.get(step.goto, -1) <= number:
            later = ", ".join(one.id for one in steps[number + 1 :]) or "none"
            raise item.places["on_failure"].error(f"no later step has the id {step.goto!r}", f"later steps: {later}")


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
        default = _default(item, kind)
        choices = tuple(value for value, _ in item.items("choices", ()))
        if choices and default is not None and default not in choices:
            raise item.places["default"].error(f"the default is none of the choices {', '.join(map(str, choices))}")
        found[name] = Var(name, kind, default, default is None, item.text("description", ""), choices)
        item.done()
    return found


def _default(doc: Doc, kind: str) -> Any:
    if kind == "list":
        return None if "default" not in doc.values else [documents.plain(value) for value, _ in doc.items("default")]
    return doc.get("default", VAR_TYPES[kind], f"of type {kind}", None)


def _step(doc: Doc, known: _Known) -> Step:
    identity = _name(doc, "id")
    if identity in known.ids:
        raise doc.places["id"].error(f"two steps have the id {identity!r}")
    action = ACTIONS[doc.choice("uses", tuple(ACTIONS))]
    register = _name(doc, "register") if "register" in doc.values else doc.text("register", "")
    if register in known.registered or register in BUILT_IN:
        raise doc.places["register"].error(f"the name {register!r} is taken")
    on_failure, goto = _on_failure(doc)
    step = Step(
        identity, doc.text("name", identity), action, _arguments(doc.mapping("with", None), action, known), register,
        on_failure, goto, _condition(doc, "when", known), doc.choice("when_unknown", ON_UNKNOWN, "skip"), _needs(doc, known),
        _seconds(doc, "timeout"), _retry(doc.mapping("retry", None)), doc.boolean("critical", False),
        _undo(doc, known), _approve(doc), _refs(doc),
    )  # fmt: skip
    doc.done()
    return step


def _on_failure(doc: Doc) -> tuple[str, str]:
    """A word, or ``{goto: ID}``."""
    if not isinstance(doc.values.get("on_failure"), Doc):
        word = doc.choice("on_failure", ON_FAILURE, "abort")
        if word == "goto":
            raise doc.places["on_failure"].error("goto needs a step: on_failure: {goto: ID}")
        return word, ""
    inner = doc.mapping("on_failure")
    goto = inner.text("goto")
    inner.done()
    return "goto", goto


def _condition(doc: Doc, key: str, known: _Known) -> Condition | None:
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


def _known_name(name: Name, known: _Known, place: Place) -> None:
    first, rest = name.parts[0], name.parts[1:]
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


def _comparable(node: Node, known: _Known, place: Place) -> None:
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


def _needs(doc: Doc, known: _Known) -> tuple[str, ...]:
    needs = doc.texts("needs", ())
    for one in needs:
        if one not in known.ids:
            raise doc.places["needs"].error(
                f"no earlier step has the id {one!r}", f"there are: {', '.join(sorted(known.ids)) or 'none'}"
            )
    return needs


def _seconds(doc: Doc, key: str, default: float | None = None) -> float | None:
    value = doc.get(key, (int, float), "a number of seconds", None)
    if value is None:
        return default
    if not 0 < value <= SECONDS_LIMIT:
        raise doc.places[key].error(f"{key!r} must be more than 0 and at most {SECONDS_LIMIT} seconds")
    return float(value)


def _retry(doc: Doc) -> Retry:
    attempts = doc.integer("attempts", 1)
    if not 1 <= attempts <= ATTEMPTS_LIMIT:
        raise doc.places["attempts"].error(f"'attempts' must be 1 to {ATTEMPTS_LIMIT}")
    backoff = doc.get("backoff", (int, float), "a number", 2.0)
    if backoff < 1:
        raise doc.places["backoff"].error("'backoff' must be 1 or more")
    retry = Retry(attempts, _seconds(doc, "delay", 1.0) or 1.0, float(backoff))
    doc.done()
    return retry


def _undo(doc: Doc, known: _Known) -> Undo | None:
    if "rollback" not in doc.values:
        doc.allow("rollback")
        return None
    inner = doc.mapping("rollback")
    action = ACTIONS[inner.choice("uses", tuple(ACTIONS))]
    undo = Undo(action, _arguments(inner.mapping("with", None), action, known))
    inner.done()
    return undo


def _approve(doc: Doc) -> Approve | None:
    if "approve" not in doc.values:
        doc.allow("approve")
        return None
    inner = doc.mapping("approve")
    minimum = inner.integer("min", 1)
    by = inner.texts("by", ())
    if minimum < 1 or (by and minimum > len(set(by))):
        raise inner.place.error("'min' must be at least 1, and not more than the keys in 'by'")
    approve = Approve(inner.text("message"), by, minimum, _seconds(inner, "timeout", 3600.0) or 3600.0)
    inner.done()
    return approve


def _refs(doc: Doc) -> tuple[str, ...]:
    refs = doc.texts("refs", ())
    for one in refs:
        if not REF.fullmatch(one):
            raise doc.places["refs"].error(
                f"{one!r} is no reference", "like attack:T1611, d3fend:D3-NI, csf:RS.MI-01 or react:RA3101"
            )
    return refs


def _check(doc: Doc, known: _Known) -> Check:
    condition = _condition(doc, "check", known)
    assert condition is not None  # noqa: S101 - only `when` may be left out
    check = Check(condition, doc.text("message"))
    doc.done()
    return check


def _arguments(doc: Doc, action: Action, known: _Known) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for param in action.params:
        if param.name not in doc.values:
            if param.required:
                raise doc.place.error(f"{action.name} needs {param.name!r}")
            found[param.name] = param.default
            continue
        value = _reference(doc.values[param.name], doc.places[param.name], known)
        _check_type(value, param, known.variables, doc.places[param.name])
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


def _reference(value: Value, place: Place, known: _Known) -> Any:
    if not isinstance(value, str) or "${{" not in value:
        return documents.plain(value)
    match = REFERENCE.fullmatch(value)
    if match is None:
        raise place.error("a reference must be the whole value: ${{ vars.name }} or ${{ registered.field }}")
    name, fields = match.group(1), tuple(filter(None, match.group(2).split(".")))
    if name != "vars" and name not in known.registered:
        raise place.error(f"nothing is registered as {name!r} before this step")
    if name == "vars" and (len(fields) != 1 or fields[0] not in known.variables):
        raise place.error("no such variable", f"there are: {', '.join(known.variables) or 'none'}")
    return Reference(name, fields)
