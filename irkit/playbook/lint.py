"""What is wrong with a playbook that can be read: dangers and dead ends that no schema sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from irkit.actions.registry import SEALED
from irkit.playbook.conditions import Condition
from irkit.playbook.model import Playbook, Reference, Step

SEAL = "evidence.seal"
VERIFY = "evidence.verify"
VOUCH = "image.sign"
SAFE = 2


@dataclass(frozen=True, slots=True)
class Remark:
    """``level``: ``error`` (it must not run so) or ``warning``.  ``step``: empty for the playbook as a whole."""

    level: str
    rule: str
    step: str
    message: str

    def to_json(self) -> dict[str, str]:
        """A row of ``irkit playbook lint --json``."""
        return {"level": self.level, "rule": self.rule, "step": self.step, "message": self.message}


def lint(playbook: Playbook) -> list[Remark]:
    """Every remark, in the playbook's order, errors and warnings."""
    return [
        *_unused(playbook), *_never(playbook), *_destroys_too_early(playbook), *_changes(playbook), *_approvals(playbook),
        *_evidence(playbook),
    ]  # fmt: skip


def _unused(playbook: Playbook) -> Iterator[Remark]:
    used = {name for step in playbook.every_step if not step.scope for name in _variables(step)}
    used |= {
        one
        for binding in playbook.bindings.values()
        if not binding.outer
        for one in _named(list(binding.vars.values()))
    }
    used |= {
        name.parts[1]
        for step in playbook.every_step
        for guard in step.guards
        if not guard.scope and guard.when is not None
        for name in guard.when.names()
        if name.parts[0] == "vars"
    }
    used |= {
        name.parts[1]
        for check in playbook.preflight
        if not check.scope
        for name in check.condition.names()
        if name.parts[0] == "vars"
    }
    for name in playbook.vars:
        if name not in used:
            yield Remark("warning", "unused-variable", "", f"the variable {name!r} is used nowhere")


def _variables(step: Step) -> Iterator[str]:
    undo = list(step.rollback.arguments.values()) if step.rollback else []
    yield from _named([*step.arguments.values(), *undo, step.foreach])
    if step.when is not None:
        yield from (name.parts[1] for name in step.when.names() if name.parts[0] == "vars")


def _named(value: Any) -> Iterator[str]:
    """The variables that a value names, in lists and mappings too."""
    if isinstance(value, Reference) and value.name == "vars":
        yield value.fields[0]
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _named(one)


def _never(playbook: Playbook) -> Iterator[Remark]:
    """Conditions that are false whatever happens, and what needs such a step."""
    dead: set[str] = set()
    for step in playbook.every_step:
        never = next((one.when for one in step.guards if one.when is not None and _constant(one.when) is False), None)
        if never is not None:
            dead.add(step.id)
            yield Remark("error", "unreachable", step.id, f"the condition of its include never holds: {never.text}")
        elif step.when is not None and _constant(step.when) is False:
            dead.add(step.id)
            yield Remark("error", "unreachable", step.id, f"its condition never holds: {step.when.text}")
        elif step.when is not None and _constant(step.when) is True:
            yield Remark("warning", "always", step.id, f"its condition always holds: {step.when.text}")
        elif needed := next((one for one in step.needs if one in dead), None):
            dead.add(step.id)
            yield Remark("error", "unreachable", step.id, f"it needs {needed!r}, which never runs")


def _constant(condition: Condition) -> bool | None:
    """What it is worth when nothing is known, if that is enough to decide it, and it does not ask what is known."""
    if any(True for _ in condition.names()) and "known" in condition.text:
        return None
    value = condition.decide({})
    return value if isinstance(value, bool) else None


def _destroys_too_early(playbook: Playbook) -> Iterator[Remark]:
    """Evidence is sacred: nothing destroys before the bundle is sealed and verified, whatever failed before."""
    states = _evidence_before(playbook)
    sealing = {step.id for step in playbook.steps if step.action.name in (SEAL, VERIFY)}
    for step in playbook.steps:
        needed = sealing and sealing <= set(step.needs)
        if step.action.effect == "destroy" and states[step.id] < SAFE and not needed:
            yield Remark(
                "error", "destroys-before-evidence", step.id,
                "it destroys, and evidence need not be sealed and verified when it runs: put evidence.seal and evidence.verify "
                "before it with on_failure: abort, or let it need them",
            )  # fmt: skip
    for step in (*playbook.on_exception, *playbook.final):
        if step.action.effect == "destroy":
            yield Remark(
                "error",
                "destroys-before-evidence",
                step.id,
                "it destroys although the run may have failed before any evidence was sealed",
            )


def _evidence_before(playbook: Playbook) -> dict[str, int]:
    """For each step what is certain when it begins, on every way that leads to it: 0 nothing, 1 sealed, 2 verified."""
    certain = 0
    jumps: dict[str, int] = {}
    states = {}
    for step in playbook.steps:
        certain = states[step.id] = min(certain, jumps.get(step.id, certain))
        if step.goto:
            jumps[step.goto] = min(certain, jumps.get(step.goto, certain))
        if (
            step.on_failure in ("abort", "rollback", "goto")
            and step.when is None
            and not step.needs
            and not _guarded(step)
        ):
            if step.action.name == SEAL:
                certain = max(certain, 1)
            elif step.action.name == VERIFY and certain == 1:
                certain = SAFE
    return states


def _guarded(step: Step) -> bool:
    return any(guard.when is not None or guard.needs for guard in step.guards)


def _changes(playbook: Playbook) -> Iterator[Remark]:
    """Where somebody wants a rollback, every change before it must say how it is taken back."""
    rolls_back = [number for number, step in enumerate(playbook.steps) if step.on_failure == "rollback"]
    for number, step in enumerate(playbook.steps):
        later = any(number <= one for one in rolls_back)
        if step.action.effect == "change" and step.rollback is None and later:
            yield Remark(
                "warning",
                "no-rollback",
                step.id,
                "it changes something, and a rollback can't take it back: give it `rollback`",
            )
        if step.rollback is not None and not later:
            yield Remark(
                "warning",
                "rollback-never",
                step.id,
                "no step from here on has on_failure: rollback, so this is never taken back",
            )


def _approvals(playbook: Playbook) -> Iterator[Remark]:
    for step in playbook.every_step:
        vouches = step.action.name == VOUCH
        if (step.action.effect == "destroy" or vouches) and step.approve is None:
            what = "it vouches for an image" if vouches else "it destroys"
            yield Remark("warning", "no-approval", step.id, f"{what}, and nobody is asked: give it `approve`")


def _evidence(playbook: Playbook) -> Iterator[Remark]:
    names = [step.action.name for step in playbook.every_step]
    if any(name.startswith("acquire.") for name in names) and SEAL not in names:
        yield Remark("error", "never-sealed", "", "it acquires evidence and never seals it: add evidence.seal")
    sealed = names.index(SEAL) if SEAL in names else len(names)
    for step in playbook.every_step[:sealed]:
        if step.action.needs.startswith(SEALED) and step.action.effect != "destroy":
            yield Remark(
                "error", "not-sealed", step.id, "it needs a sealed bundle of this run: put evidence.seal before it"
            )
    if SEAL in names and VERIFY not in names[names.index(SEAL) :]:
        yield Remark(
            "warning",
            "never-verified",
            "",
            "the sealed bundle is not read back: add evidence.verify after evidence.seal",
        )
