"""A playbook from YAML (``irkit/schemas/playbook.schema.json`` says the same for editors)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from irkit import documents, resources
from irkit.actions.registry import ACTIONS
from irkit.documents import Doc, Place
from irkit.errors import UsageProblem
from irkit.playbook.arguments import BUILT_IN, ITEM, Known, arguments, condition_of, reference
from irkit.playbook.included import Included
from irkit.playbook.model import (
    ON_FAILURE,
    ON_UNKNOWN,
    VAR_TYPES,
    Approve,
    Binding,
    Check,
    Guard,
    Playbook,
    Reference,
    Retry,
    Step,
    Undo,
    Var,
)

API_VERSION = "irkit/v1"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,62}")
"""What conditions can name; and exports put it into command lines."""
REF = re.compile(r"(attack:T[0-9]{4}(\.[0-9]{3})?|d3fend:D3-[A-Z]+|csf:[A-Z]{2}\.[A-Z]{2}-[0-9]{2}|react:RA[0-9]{4})")
"""ATT&CK, D3FEND, NIST CSF 2.0, RE&CT."""
EACH = ("results", "count", "failed")
"""What a step with ``foreach`` registers: each one's data, how many there were, and how many failed."""
INCLUDE_LIMIT = 8
ATTEMPTS_LIMIT, SECONDS_LIMIT = 20, 7 * 24 * 3600


def load_playbook(path: Path) -> Playbook:
    """A playbook from a file.  Raises ``PlaybookInvalid`` naming file, line and column."""
    return _load(path, ())


def _load(path: Path, around: tuple[Path, ...]) -> Playbook:
    doc, digest = documents.load(path)
    return read_playbook(doc, digest, path, around)


def read_playbook(doc: Doc, digest: str, path: Path, around: tuple[Path, ...] = ()) -> Playbook:
    """A playbook from a document.  ``around``: the files that include it."""
    doc.choice("apiVersion", (API_VERSION,))
    doc.choice("kind", ("Playbook",))
    known = Known(_vars(doc.mapping("vars", None)), around=(*around, path.absolute()))
    checks = tuple(_check(item, known) for item in doc.items("preflight", ()).docs())
    parts = {}
    included = Included()
    for part in ("steps", "on_exception", "finally"):
        items = doc.items(part) if part == "steps" else doc.items(part, ())
        parts[part] = _steps(items.docs(), known, included, last=part != "steps")
    if not parts["steps"]:
        raise doc.place.error("a playbook needs at least one step")
    playbook = Playbook(
        _name(doc, "id"), doc.text("name"), doc.text("description", ""), known.variables, parts["steps"],
        included.digest(digest), path, (*checks, *included.checks), (*parts["on_exception"], *included.on_exception),
        (*parts["finally"], *included.final), _seconds(doc, "timeout"), included.bindings, digest,
    )  # fmt: skip
    doc.done()
    return playbook


def _steps(items: list[Doc], known: Known, included: Included, *, last: bool = False) -> tuple[Step, ...]:
    """The steps of a list.  ``last``: nothing comes after them, so nothing can be left out or taken back."""
    steps: list[Step] = []
    own: list[tuple[Doc, Step]] = []
    for item in items:
        found = _entry(item, known, included)
        for step in found:
            if last and step.on_failure in ("goto", "rollback"):
                place = item.places.get("on_failure", item.place)
                raise place.error(f"{step.on_failure!r} has no meaning here: the run is ending")
            if step.id in known.ids:
                raise item.place.error(f"two steps have the id {step.id!r}")
            known.ids.add(step.id)
            if step.register and not step.scope:
                known.registered.add(step.register)
                known.gives[step.register] = EACH if step.foreach is not None else step.action.gives
        own += [(item, step) for step in found if not step.scope]
        steps += found
    _forward(own, steps)
    return tuple(steps)


def _entry(item: Doc, known: Known, included: Included) -> tuple[Step, ...]:
    """An item of a list of steps: a step, some at the same time, or another playbook's."""
    if "include" in item.values:
        return _include(item, known, included)
    if "parallel" in item.values:
        return _parallel(item, known)
    return (_step(item, known),)


def _parallel(item: Doc, known: Known) -> tuple[Step, ...]:
    """Steps that run at the same time: any number of those that may run beside others, and one that may not.

    Beside acquisitions only such as leave the evidence alone: nothing seals a bundle that is being written.
    """
    identity = _name(item, "id")
    item.text("name", "")
    steps: list[Step] = []
    for inner in item.items("parallel").docs():
        step = replace(_step(inner, known), group=identity)
        if step.goto or step.on_failure == "rollback" or step.foreach is not None:
            raise inner.place.error("a step of `parallel` can't jump, roll back or be repeated")
        if step.id in {one.id for one in steps}:
            raise inner.places["id"].error(f"two steps have the id {step.id!r}")
        steps.append(step)
    if len(steps) < 2:
        raise item.places["parallel"].error("`parallel` needs at least two steps")
    alone = [step.action.name for step in steps if not step.action.beside]
    if len(alone) > 1:
        raise item.places["parallel"].error(
            f"only one of these can run at a time: {', '.join(alone)}",
            f"beside it may run: {', '.join(name for name, one in ACTIONS.items() if one.beside)}",
        )
    if alone and (taking := [step.action.name for step in steps if step.action.collects]):
        raise item.places["parallel"].error(
            f"{alone[0]} can't run beside {taking[0]}: the bundle is being written", "put it before or after `parallel`"
        )
    item.done()
    return tuple(steps)


def _include(item: Doc, known: Known, included: Included) -> tuple[Step, ...]:
    """Another playbook's steps in this place, in a scope of their own."""
    identity = _name(item, "id")
    item.text("name", "")
    name = item.text("include")
    inner = _load(_included_file(name, item.places["include"], known), known.around)
    given, args = {}, item.mapping("with", None)
    for var in list(args.values):
        if var not in inner.vars:
            raise args.places[var].error(
                f"the playbook {inner.id} has no variable {var!r}", f"it has: {', '.join(inner.vars) or 'none'}"
            )
        given[var] = reference(args.values[var], args.places[var], known)
        _bindable(given[var], inner.vars[var], known, args.places[var])
    args.allow(*inner.vars)
    for var_ in inner.vars.values():
        if var_.required and var_.name not in given:
            raise item.place.error(f"the playbook {inner.id} needs a value for {var_.name!r}: put it under `with`")
    guard = Guard(
        identity,
        "",
        condition_of(item, "when", known),
        item.choice("when_unknown", ON_UNKNOWN, "skip"),
        _needs(item, known),
    )
    item.done()
    binding = Binding(
        identity,
        "",
        {**{v.name: v.default for v in inner.vars.values()}, **given},
        inner.id,
        inner.file_digest,
        inner.path,
    )
    return included.take(inner, binding, guard)


def _bindable(value: Any, var: Var, known: Known, place: Place) -> None:
    if isinstance(value, Reference):
        if value.name == "vars" and known.variables[value.fields[0]].type != var.type:
            raise place.error(f"{var.name!r} must be of type {var.type}")
        return
    try:
        var.check(value)
    except UsageProblem as error:
        raise place.error(error.message) from error


def _included_file(name: str, place: Place, known: Known) -> Path:
    """By name, or a path beside the file that includes it."""
    try:
        beside = known.around[-1].parent / name
        path = beside if "/" in name or name.endswith((".yaml", ".yml")) else resources.find("playbooks", name)
    except UsageProblem as error:
        raise place.error(error.message, error.hint) from error
    if path.absolute() in known.around:
        raise place.error(f"{name!r} includes itself")
    if len(known.around) >= INCLUDE_LIMIT:
        raise place.error(f"included more than {INCLUDE_LIMIT} deep")
    return path


def _forward(own: Iterable[tuple[Doc, Step]], steps: list[Step]) -> None:
    """A jump leads forward only, so that a run always ends; and never into the middle of `parallel`."""
    places = {step.id: number for number, step in enumerate(steps) if not step.group and not step.scope}
    numbers = {step.id: number for number, step in enumerate(steps)}
    for item, step in own:
        if step.goto and places.get(step.goto, -1) <= numbers[step.id]:
            later = ", ".join(one for one, number in places.items() if number > numbers[step.id]) or "none"
            raise item.places["on_failure"].error(f"no later step has the id {step.goto!r}", f"later steps: {later}")


def _name(doc: Doc, key: str) -> str:
    value = doc.text(key)
    if not NAME.fullmatch(value):
        raise doc.places[key].error(f"{key!r} must be lower-case letters, digits, - and _")
    return value


def _vars(doc: Doc) -> dict[str, Var]:
    found = {}
    for name in list(doc.values):
        if not VARIABLE.fullmatch(name):
            raise doc.places[name].error(
                "a variable's name must be letters, digits, - and _, and begin with a letter or _"
            )
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
    if kind in ("list", "secrets"):
        return None if "default" not in doc.values else [documents.plain(value) for value, _ in doc.items("default")]
    return doc.get("default", VAR_TYPES[kind], f"of type {kind}", None)


def _step(doc: Doc, known: Known) -> Step:
    identity = _name(doc, "id")
    if identity in known.ids:
        raise doc.places["id"].error(f"two steps have the id {identity!r}")
    action = ACTIONS[doc.choice("uses", tuple(ACTIONS))]
    register = _name(doc, "register") if "register" in doc.values else doc.text("register", "")
    if register in known.registered or register in (*BUILT_IN, ITEM):
        raise doc.places["register"].error(f"the name {register!r} is taken")
    on_failure, goto = _on_failure(doc)
    foreach = _foreach(doc, known)
    known = known if foreach is None else replace(known, item=True)
    step = Step(
        identity, doc.text("name", identity), action, arguments(doc.mapping("with", None), action, known), register,
        on_failure, goto, condition_of(doc, "when", known), doc.choice("when_unknown", ON_UNKNOWN, "skip"), _needs(doc, known),
        _seconds(doc, "timeout"), _retry(doc.mapping("retry", None)), doc.boolean("critical", False),
        _undo(doc, known), _approve(doc), _refs(doc), foreach=foreach,
    )  # fmt: skip
    doc.done()
    return step


def _foreach(doc: Doc, known: Known) -> Any:
    """A list, or a reference to one."""
    if "foreach" not in doc.values:
        doc.allow("foreach")
        return None
    place = doc.places["foreach"]
    value = reference(doc.values["foreach"], place, known)
    doc.allow("foreach")
    named = isinstance(value, Reference)
    if not named and not isinstance(value, list):
        raise place.error("'foreach' must be a list, or a reference to one")
    if named and value.name == "vars" and known.variables[value.fields[0]].type != "list":
        raise place.error(f"the variable {value.fields[0]!r} is no list")
    return value


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


def _needs(doc: Doc, known: Known) -> tuple[str, ...]:
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


def _undo(doc: Doc, known: Known) -> Undo | None:
    if "rollback" not in doc.values:
        doc.allow("rollback")
        return None
    inner = doc.mapping("rollback")
    action = ACTIONS[inner.choice("uses", tuple(ACTIONS))]
    undo = Undo(action, arguments(inner.mapping("with", None), action, known))
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


def _check(doc: Doc, known: Known) -> Check:
    condition = condition_of(doc, "check", known)
    assert condition is not None  # noqa: S101 - only `when` may be left out
    check = Check(condition, doc.text("message"))
    doc.done()
    return check
