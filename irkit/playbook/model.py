"""A playbook as types.  :mod:`irkit.playbook.reader` reads it from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from irkit.actions.registry import Action
from irkit.errors import UsageProblem

if TYPE_CHECKING:
    from irkit.playbook.conditions import Condition

VAR_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "boolean": (bool,), "number": (float, int), "list": (list,),
    "secrets": (list,),
}  # fmt: skip
"""``secrets``: a list of references, ``NAME=@FILE`` or ``NAME=fd:N``: the journal keeps variables, so none holds clear text."""
ON_FAILURE = ("abort", "continue", "rollback", "goto")
ON_UNKNOWN = ("skip", "run", "abort")


class Var(NamedTuple):
    """A typed variable; ``required`` ones have no default."""

    name: str
    type: str
    default: Any
    required: bool
    description: str
    choices: tuple[Any, ...] = ()

    def check(self, value: Any) -> None:
        """Raises ``UsageProblem`` for a value of another type, or none of the choices."""
        if type(value) not in VAR_TYPES[self.type]:
            shown = "something else" if self.type == "secrets" else repr(value)
            raise UsageProblem(f"{self.name!r} must be of type {self.type}, not {shown}")
        if self.type == "secrets":
            from irkit.secret_sources import parse_all  # no playbook that contains has any

            parse_all(value)
        if self.choices and value not in self.choices:
            raise UsageProblem(f"{self.name!r} must be one of {', '.join(map(str, self.choices))}, not {value!r}")

    def typed(self, value: Any) -> Any:
        """A text from the command line as this variable's type, where it is one; lists are separated by commas."""
        if not isinstance(value, str) or self.type == "string":
            return value
        try:
            if self.type == "integer":
                return int(value)
            if self.type == "number":
                return float(value)
        except ValueError:
            return value
        if self.type in ("list", "secrets"):
            return [part.strip() for part in value.split(",") if part.strip()]
        return {"true": True, "false": False}.get(value, value)


@dataclass(frozen=True, slots=True)
class Reference:
    """``${{ vars.image }}`` or ``${{ registered.field }}``: a whole value (or an item of a list), never a part of a text."""

    name: str
    fields: tuple[str, ...]


class Retry(NamedTuple):
    """How often a step is tried, and how long is waited in between: ``delay`` seconds, times ``backoff`` each time.

    Only transient errors are tried again (:func:`irkit.errors.transient`).
    """

    attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0


ONCE = Retry()


class Undo(NamedTuple):
    """What takes a step back."""

    action: Action
    arguments: Mapping[str, Any]


class Approve(NamedTuple):
    """Who must agree before a step: ``minimum`` different keys, of ``by`` (names; empty: any trusted one).

    Without an answer after ``timeout`` seconds it is denied.
    """

    message: str
    by: tuple[str, ...] = ()
    minimum: int = 1
    timeout: float = 3600.0


class Guard(NamedTuple):
    """What an ``include`` says of all its steps: ``when`` and ``needs`` in the scope around it, decided once."""

    id: str
    scope: str
    when: Condition | None
    when_unknown: str
    needs: tuple[str, ...]


class Binding(NamedTuple):
    """An included playbook: its scope's name, the scope around it, its variables' values there, and its digest."""

    scope: str
    outer: str
    vars: Mapping[str, Any]
    playbook: str
    digest: str
    path: Path


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Step:
    """One step: an action with its parameters.

    ``when``: run only if it holds; ``when_unknown``: what if that can't be said.  ``needs``: ids of earlier steps that
    must have succeeded.  ``timeout``: seconds.  ``goto``: where ``on_failure: goto`` leads, always forward.
    ``critical``: a failure makes the whole run failed, whether or not it goes on.
    ``scope``: which included playbook it is of.  ``foreach``: once for each of these.  ``group``: neighbours of the same
    group run at the same time.
    """

    id: str
    name: str
    action: Action
    arguments: Mapping[str, Any]
    register: str
    on_failure: str
    goto: str = ""
    when: Condition | None = None
    when_unknown: str = "skip"
    needs: tuple[str, ...] = ()
    timeout: float | None = None
    retry: Retry = ONCE
    critical: bool = False
    rollback: Undo | None = None
    approve: Approve | None = None
    refs: tuple[str, ...] = ()
    scope: str = ""
    guards: tuple[Guard, ...] = ()
    foreach: Any = None
    group: str = ""
    item: Any = None

    @property
    def conditions(self) -> tuple[tuple[Condition, str], ...]:
        """All that must hold, each with its scope: those of the includes around it, and its own."""
        every = (*((one.when, one.scope) for one in self.guards), (self.when, self.scope))
        return tuple((condition, scope) for condition, scope in every if condition is not None)


class Check(NamedTuple):
    """What must hold before the first step."""

    condition: Condition
    message: str
    scope: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Playbook:
    """A playbook.  ``final``: its ``finally``.  ``timeout``: seconds for all of it.

    ``digest``: sha256 of its file; where it includes others, of the JSON list of its own and all of theirs.
    ``file_digest``: always that of its file.
    """

    id: str
    name: str
    description: str
    vars: Mapping[str, Var]
    steps: tuple[Step, ...]
    digest: str
    path: Path
    preflight: tuple[Check, ...] = ()
    on_exception: tuple[Step, ...] = ()
    final: tuple[Step, ...] = ()
    timeout: float | None = None
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    file_digest: str = ""

    @property
    def every_step(self) -> tuple[Step, ...]:
        """Those of ``on_exception`` and ``finally`` too."""
        return (*self.steps, *self.on_exception, *self.final)

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
            value = var.typed(given.get(var.name, var.default))
            var.check(value)
            bound[var.name] = value
        return bound


def resolve(value: Any, registered: Mapping[str, Any]) -> Any:
    """The value behind a reference, in lists and mappings too; anything else as it is.

    Raises ``UsageProblem`` for what is not there: a step that did not run registers nothing.
    """
    if isinstance(value, list | tuple):
        return [resolve(one, registered) for one in value]
    if isinstance(value, Mapping):
        return {name: resolve(one, registered) for name, one in value.items()}
    if not isinstance(value, Reference):
        return value
    where = f"${{{{ {'.'.join((value.name, *value.fields))} }}}}"
    if value.name not in registered:
        raise UsageProblem(f"{where}: no step has registered {value.name!r}", hint="did that step run?")
    found: Any = registered[value.name]
    for field_ in value.fields:
        if not isinstance(found, Mapping) or field_ not in found:
            raise UsageProblem(f"{where}: there is no {field_!r}")
        found = found[field_]
    return found


def visible(bindings: Mapping[str, Binding], registered: Mapping[str, Any], scope: str) -> dict[str, Any]:
    """What can be named within a scope: its variables, and what its steps registered (``SCOPE/NAME`` outside)."""
    if not scope:
        return {name: value for name, value in registered.items() if "/" not in name}
    binding = bindings[scope]
    around = visible(bindings, registered, binding.outer)
    variables = {}
    for name, value in binding.vars.items():
        try:
            variables[name] = resolve(value, around)
        except UsageProblem:  # not there yet, or never: unknown to conditions, an error to whom it is given
            continue
    own = {name[len(scope) + 1 :]: value for name, value in registered.items() if name.startswith(f"{scope}/")}
    return {**{name: registered[name] for name in AROUND if name in registered}, **own, "vars": variables}


AROUND = ("target", "run")
"""Names that mean the same in every scope."""
