"""Running a playbook: one journal record before and one after each step; a failure is what its step says it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from irkit.actions.context import Context
from irkit.cases import whoami
from irkit.errors import ExitCode, Interrupted, IrkitError, Refused, Waiting
from irkit.playbook.journal import Journal
from irkit.playbook.model import Playbook, Step
from irkit.playbook.performer import UNDECIDED, Performer

if TYPE_CHECKING:
    from irkit.playbook.resume import Past

CONTAINMENT = ("container.freeze", "quarantine.seal")
"""Never taken back by a rollback, unless the operator asks for it."""


class Outcome(NamedTuple):
    """How a run ended.  ``status``: succeeded, degraded, failed, aborted, interrupted or waiting."""

    status: str
    exit_code: int
    error: IrkitError | None = None
    steps: Sequence[dict[str, Any]] = ()


class Runner:
    """One run of a playbook in a context.  ``release``: a rollback may undo containment too."""

    def __init__(
        self,
        playbook: Playbook,
        context: Context,
        journal: Journal,
        variables: Mapping[str, Any],
        shield: Callable[[], None],
        *,
        release: bool = False,
        past: Past | None = None,
        dry: bool = False,
        again: frozenset[str] = frozenset(),
        wait: bool = True,
        signed_by: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.playbook = playbook
        self.context = context
        self.journal = journal
        self.steps = Performer(playbook, context, journal, variables, dry=dry)
        self.steps.again, self.steps.wait = again, wait
        self.signed_by = dict(signed_by or {})
        self.release = release
        self._shield = shield
        self.past = past
        self.dry = dry
        context.vars = dict(variables)
        context.planned = frozenset(step.action.name for step in playbook.every_step)

    def run(self) -> Outcome:
        """All steps.  Never raises for what a step does; raises ``StorageError`` when the journal can't be written."""
        try:
            return self._run()
        finally:
            for end in self.context.endings:
                end()

    def _run(self) -> Outcome:
        if self.past is not None:
            self._go_on(self.past)
        else:
            self._begin()
        with self.steps.watch.limit(self.playbook.timeout, "the run", shared=True):
            error = (self._preflight() if not self.steps.started else None) or self._steps()
        if isinstance(error, Waiting):
            return self._wait(error)
        if error is not None:
            self._shield()
            if not isinstance(error, Interrupted):
                self._aftermath(self.playbook.on_exception)
        error = self._aftermath(self.playbook.final) or error
        if isinstance(error, Waiting):
            return self._wait(error)
        outcome = self._conclude(error or self.steps.critical)
        self.context.mark("finished")
        self.journal.write(
            "run-finished",
            status=outcome.status,
            exit_code=outcome.exit_code,
            quarantine=self.context.facts.quarantine_state,
        )
        return outcome

    def _begin(self) -> None:
        self.context.mark("started")
        self.journal.write(
            "run-started", run=self.context.run, case=self.context.case.id, by=self.context.case.opened_by,
            target=self.context.target.to_json(), playbook={
                "id": self.playbook.id, "digest": self.playbook.digest, "path": str(self.playbook.path.absolute()),
                "profile": self.context.profile.digest if self.context.profile else "",
            },
            vars=self.steps.registered["vars"], encrypted=bool(self.context.writer.identities), dry_run=self.dry, signed_by=self.signed_by,
        )  # fmt: skip

    def _go_on(self, past: Past) -> None:
        """Take over what a killed or interrupted run had done: its steps are not run again."""
        self.journal.write("run-resumed", by=whoami(), running=past.running, signed_by=self.signed_by)
        self.steps.registered.update(past.registered)
        self.steps.known.news(self.context.facts)  # the journal has them already
        self.steps.cut_off, self.steps.decided = set(past.running), dict(past.decided)
        ending = {step.id for step in (*self.playbook.on_exception, *self.playbook.final)} if past.status else set()
        self.steps.done = {name: done for name, done in past.done.items() if name not in ending}
        self.steps.started = [step for step in self.playbook.steps if step.id in past.begun]
        for name in past.running:
            self.context.warn(
                f"{name!r} was under way when the run was cut off: it is looked at, and done again if it must be"
            )

    def _preflight(self) -> IrkitError | None:
        """What must hold before anything is touched; what can't be said does not hold."""
        for check in self.playbook.preflight:
            truth = check.condition.decide(self.steps.scope(check.scope))
            if truth is not True:
                known = "does not hold" if truth is False else "can't be decided"
                self.steps.skip(self.playbook.steps, "the preflight refused it")
                return Refused(check.message, hint=f"the preflight check `{check.condition.text}` {known}")
        return None

    def _steps(self) -> IrkitError | None:
        """The steps in their order, with the jumps that failures ask for."""
        steps, position = self.playbook.steps, 0
        while position < len(steps):
            together = self._group(steps, position)
            error = self.steps.together(together) if len(together) > 1 else self.steps.step(together[0])
            step = next((one for one in together if self.steps.failed(one)), together[-1])
            position += len(together)
            if error is None:
                continue
            if step.on_failure == "goto" and not isinstance(error, Interrupted):
                target = next(number for number, one in enumerate(steps) if one.id == step.goto)
                self.steps.skip(steps[position:target], f"{step.id!r} failed: it jumps to {step.goto!r}")
                position = target
                continue
            interrupted = isinstance(error, Interrupted)
            self.steps.skip(steps[position:], "the run was interrupted" if interrupted else "an earlier step failed")
            if step.on_failure == "rollback" and not interrupted:
                self._shield()
                self._roll_back()
            return error
        return None

    @staticmethod
    def _group(steps: Sequence[Step], position: int) -> Sequence[Step]:
        """The step at a position, with its neighbours of the same ``parallel``."""
        group, end = steps[position].group, position + 1
        while group and end < len(steps) and steps[end].group == group:
            end += 1
        return steps[position:end]

    def _aftermath(self, steps: Sequence[Step]) -> IrkitError | None:
        """``on_exception`` or ``finally``: every step of it, whatever fails; a signal that came meanwhile."""
        caught: IrkitError | None = None
        position = 0
        while position < len(steps):
            together = self._group(steps, position)
            error = self.steps.together(together) if len(together) > 1 else self.steps.step(together[0])
            position += len(together)
            if isinstance(error, Interrupted):
                caught = error
                self._shield()
        return caught

    def _roll_back(self) -> None:
        """Take back what was begun, the last first.  Containment stays, unless the operator asked for it."""
        for step in reversed(self.steps.started):
            if step.rollback is None:
                continue
            if step.action.name in CONTAINMENT and not self.release:
                self.context.note(f"{step.name}: stays as it is, a rollback undoes no containment")
                continue
            undo = replace(step,
                id=f"rollback-{step.id}"[:63], name=f"Take back: {step.name}", action=step.rollback.action,
                arguments=step.rollback.arguments, register="", when=None, needs=(), approve=None, rollback=None, on_failure="continue",
            )  # fmt: skip
            self.steps.step(undo)

    def _conclude(self, error: IrkitError | None) -> Outcome:
        if error is not None:
            self._shield()
            self._salvage()
        steps = self.context.steps
        if isinstance(error, Interrupted):
            self.journal.write("run-interrupted", message=error.message)
            return Outcome("interrupted", ExitCode.INTERRUPTED, error, steps)
        if error is not None:
            status = "aborted" if error.exit_code == ExitCode.REFUSED else "failed"
            return Outcome(status, error.exit_code, error, steps)
        return self._judge(steps)

    def _wait(self, error: Waiting) -> Outcome:
        """Until somebody approves nothing ends: neither ``finally`` runs nor is the evidence sealed; resume goes on."""
        self.journal.write("run-waiting", message=error.message)
        return Outcome("waiting", ExitCode.WAITING, error, self.context.steps)

    def _judge(self, steps: list[dict[str, Any]]) -> Outcome:
        """All steps have run: was it all that a responder would hope for?"""
        facts, running = self.context.facts, self.context.before.running
        ran = {str(step["uses"]) for step in steps}
        if self.dry:
            return Outcome("succeeded", ExitCode.DONE, None, steps)
        if "quarantine.prove" in ran or "quarantine.seal" in ran:
            if facts.quarantine_state == "open":
                return Outcome("failed", ExitCode.CHECK_FAILED, None, steps)
            if facts.quarantine_state not in ("proven", "frozen-only") and running:
                return Outcome("degraded", ExitCode.CHECK_FAILED, None, steps)
            if facts.quarantine_state == "frozen-only" and any(
                step["uses"].startswith("quarantine.") and step["outcome"] == "failed" for step in steps
            ):
                return Outcome("degraded", ExitCode.CHECK_FAILED, None, steps)
        if any(step["outcome"] in ("failed", "degraded", UNDECIDED) for step in steps) or self.context.writer.gaps:
            return Outcome("degraded", ExitCode.GAPS, None, steps)
        return Outcome("succeeded", ExitCode.DONE, None, steps)

    def _salvage(self) -> None:
        """What was taken so far is sealed as partial: nothing is lost because a later step failed or a signal came."""
        if self.context.facts.sealed is not None or not self.context.writer.artifacts:
            return
        from irkit.actions import closing

        self.journal.write("salvage-started")
        try:
            sealed = closing.seal_now(self.context, partial=True)
        except (IrkitError, OSError) as error:
            message = getattr(error, "message", str(error))
            self.context.warn(f"what was acquired could not be sealed: {message}")
            self.journal.write("salvage-failed", message=message)
            return
        self.journal.write("salvage-finished", bundle=str(sealed.path), digest=sealed.digest)
