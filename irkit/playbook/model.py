"""A playbook as types.  :mod:`irkit.playbook.reader` reads it from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.actions.registry import Action
from irkit.errors import UsageProblem
from irkit.playbook.conditions import Condition

VAR_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "boolean": (bool,), "number": (float, int), "list": (list,),
}  # fmt: skip
ON_FAILURE = ("abort", "continue", "rollback", "goto")
ON_UNKNOWN = ("skip", "run", "abort")


@dataclass(frozen=True, slots=True)
class Var:
    """A typed variable; ``required`` ones have no default."""

    name: str
    type: str
    default: Any
    required: bool
    description: str
    choices: tuple[Any, ...] = ()

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
        if self.type == "list":
            return [part.strip() for part in value.split(",") if part.strip()]
        return {"true": True, "false": False}.get(value, value)


@dataclass(frozen=True, slots=True)
class Reference:
    """``${{ vars.image }}`` or ``${{ registered.field }}``: a whole value, never a part of a text."""

    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and how long is waited in between: ``delay`` seconds, times ``backoff`` each time.

    Only transient errors are tried again (:func:`irkit.errors.transient`).
    """

    attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0


@dataclass(frozen=True, slots=True)
class Undo:
    """What takes a step back."""

    action: Action
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Approve:
    """Who must agree before a step: ``minimum`` different keys, of ``by`` (names; empty: any trusted one).

    Without an answer after ``timeout`` seconds it is denied.
    """

    message: str
    by: tuple[str, ...] = ()
    minimum: int = 1
    timeout: float = 3600.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step: an action with its parameters.

    ``when``: run only if it holds; ``when_unknown``: what if that can't be said.  ``needs``: ids of earlier steps that
    must have succeeded.  ``timeout``: seconds.  ``goto``: where ``on_failure: goto`` leads, always forward.
    ``critical``: a failure makes the whole run failed, whether or not it goes on.
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
    retry: Retry = Retry()
    critical: bool = False
    rollback: Undo | None = None
    approve: Approve | None = None
    refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold before the first step."""

    condition: Condition
    message: str


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook.  ``digest``: sha256 of its file.  ``final``: its ``finally``.  ``timeout``: seconds for all of it."""

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
            if type(value) not in VAR_TYPES[var.type]:
                raise UsageProblem(f"{var.name!r} must be of type {var.type}, not {value!r}")
            if var.choices and value not in var.choices:
                raise UsageProblem(f"{var.name!r} must be one of {', '.join(map(str, var.choices))}, not {value!r}")
            bound[var.name] = value
        return bound


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
