"""Running a playbook: one journal record before and one after each step; a failure is what its step says it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from irkit.actions import closing
from irkit.actions.context import Context, Result
from irkit.cases import whoami
from irkit.clock import now
from irkit.errors import ExitCode, Interrupted, IrkitError, Refused, transient
from irkit.events import Event
from irkit.playbook.journal import Journal
from irkit.playbook.model import Approve, Playbook, Step, resolve
from irkit.playbook.resume import Done, Past, facts_to_json, state_of
from irkit.playbook.stopwatch import Stopwatch

TOLERATED = "tolerated"
PLANNED = "planned"
"""The outcome of a step that a dry run did not run."""
UNDECIDED = "undecided"
"""The outcome of a step whose condition can't be decided: it did not run, and the run is not all that it should be."""
SEALING = "quarantine.seal"
CONTAINMENT = ("container.freeze", "quarantine.seal")
"""Never taken back by a rollback, unless the operator asks for it."""


@dataclass(slots=True)
class Outcome:
    """How a run ended.  ``status``: succeeded, degraded, failed, aborted, interrupted or waiting."""

    status: str
    exit_code: int
    error: IrkitError | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)


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
    ) -> None:
        self.playbook = playbook
        self.context = context
        self.journal = journal
        self.registered: dict[str, Any] = {"vars": dict(variables)}
        self.results: dict[str, dict[str, str]] = {}
        self.release = release
        self._shield = shield
        self._started: list[Step] = []
        self._critical: IrkitError | None = None
        self.past = past
        self.dry = dry
        self._known: dict[str, Any] = {}
        self._done: dict[str, Done] = {}
        self.watch = Stopwatch(context.checkpoint)
        context.checkpoint = context.writer.checkpoint = self.watch.check
        context.vars = dict(variables)
        context.planned = frozenset(step.action.name for step in playbook.every_step)

    def run(self) -> Outcome:
        """All steps.  Never raises for what a step does; raises ``StorageError`` when the journal can't be written."""
        if self.past is not None:
            self._go_on(self.past)
        else:
            self._begin()
        with self.watch.limit(self.playbook.timeout, "the run"):
            error = (self._preflight() if not self._started else None) or self._steps()
        if error is not None:
            self._shield()
            if not isinstance(error, Interrupted):
                self._aftermath(self.playbook.on_exception)
        error = self._aftermath(self.playbook.final) or error
        outcome = self._conclude(error or self._critical)
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
            vars=self.registered["vars"], encrypted=bool(self.context.writer.identities), dry_run=self.dry,
        )  # fmt: skip

    def _go_on(self, past: Past) -> None:
        """Take over what a killed or interrupted run had done: its steps are not run again."""
        self.journal.write("run-resumed", by=whoami(), running=past.running)
        self.registered.update(past.registered)
        self._known = facts_to_json(self.context.facts)
        ending = {step.id for step in (*self.playbook.on_exception, *self.playbook.final)} if past.status else set()
        self._done = {name: done for name, done in past.done.items() if name not in ending}
        self._started = [step for step in self.playbook.steps if step.id in past.begun]
        if past.running:
            self.context.warn(
                f"{past.running!r} was under way when the run was cut off: it is looked at and done again"
            )

    def _preflight(self) -> IrkitError | None:
        """What must hold before anything is touched; what can't be said does not hold."""
        for check in self.playbook.preflight:
            truth = check.condition.decide(self._scope())
            if truth is not True:
                known = "does not hold" if truth is False else "can't be decided"
                self._skip(self.playbook.steps, "the preflight refused it")
                return Refused(check.message, hint=f"the preflight check `{check.condition.text}` {known}")
        return None

    def _steps(self) -> IrkitError | None:
        """The steps in their order, with the jumps that failures ask for."""
        steps, position = self.playbook.steps, 0
        while position < len(steps):
            step = steps[position]
            error = self._step(step)
            position += 1
            if error is None:
                continue
            if step.on_failure == "goto" and not isinstance(error, Interrupted):
                target = next(number for number, one in enumerate(steps) if one.id == step.goto)
                self._skip(steps[position:target], f"{step.id!r} failed: it jumps to {step.goto!r}")
                position = target
                continue
            interrupted = isinstance(error, Interrupted)
            self._skip(steps[position:], "the run was interrupted" if interrupted else "an earlier step failed")
            if step.on_failure == "rollback" and not interrupted:
                self._shield()
                self._roll_back()
            return error
        return None

    def _aftermath(self, steps: Sequence[Step]) -> IrkitError | None:
        """``on_exception`` or ``finally``: every step of it, whatever fails; a signal that came meanwhile."""
        caught: IrkitError | None = None
        for step in steps:
            error = self._step(step)
            if isinstance(error, Interrupted):
                caught = error
                self._shield()
        return caught

    def _roll_back(self) -> None:
        """Take back what was begun, the last first.  Containment stays, unless the operator asked for it."""
        for step in reversed(self._started):
            if step.rollback is None:
                continue
            if step.action.name in CONTAINMENT and not self.release:
                self.context.note(f"{step.name}: stays as it is, a rollback undoes no containment")
                continue
            undo = replace(
                step, id=f"rollback-{step.id}"[:63], name=f"Take back: {step.name}", action=step.rollback.action,
                arguments=step.rollback.arguments, register="", when=None, needs=(), approve=None, rollback=None, on_failure="continue",
            )  # fmt: skip
            self._step(undo)

    def _step(self, step: Step) -> IrkitError | None:
        """Run one step; the error that ends the run or makes it jump, if it does."""
        if step.id in self._done:
            return self._was(step, self._done.pop(step.id))
        artifacts, gaps = len(self.context.writer.artifacts), len(self.context.writer.gaps)
        row: dict[str, Any] = {"id": step.id, "name": step.name, "uses": step.action.name, "started": now()}
        self.journal.write("step-started", id=step.id, uses=step.action.name)
        self.context.observer(Event("step-started", step.name, step.id))
        begun = time.monotonic()
        result, error = self._left_out(step) or self._attempts(step)
        seconds = time.monotonic() - begun
        row.update(
            outcome=result.outcome,
            conclusion=_conclusion(result, error, step),
            finished=now(),
            message=result.message,
            seconds=round(seconds, 4),
        )
        self.context.steps.append(row)
        self.results[step.id] = {"outcome": row["outcome"], "conclusion": row["conclusion"]}
        if step.action.name == SEALING:
            self.context.sealed_off()
        if step.register:
            self.registered[step.register] = dict(result.data)
        self.context.observer(Event("step-finished", result.message, step.id, result.outcome, seconds))
        self.journal.write(
            "step-finished",
            id=step.id,
            outcome=row["outcome"],
            conclusion=row["conclusion"],
            message=result.message,
            data=dict(result.data),
            register=step.register,
            state=self._state(artifacts, gaps),
        )
        self.context.keep_before()
        if error is not None and step.critical and self._critical is None:
            self._critical = error
        return error if isinstance(error, Interrupted) or step.on_failure != "continue" else None

    def _state(self, artifacts: int, gaps: int) -> dict[str, Any]:
        """What a step added to what is known: enough for a run that is killed now to go on."""
        writer, facts = self.context.writer, self.context.facts
        state = state_of(facts, writer.artifacts[artifacts:], writer.gaps[gaps:], self._known)
        self._known.update(state["facts"])
        return state

    def _was(self, step: Step, done: Done) -> IrkitError | None:
        """A step that ended before the run was cut off: its row, and the failure that it was."""
        self.context.steps.append(
            {
                "id": step.id, "name": step.name, "uses": step.action.name, "started": done.started, "outcome": done.outcome,
                "conclusion": done.conclusion, "finished": done.finished, "message": done.message, "seconds": 0.0,
            }
        )  # fmt: skip
        self.results[step.id] = {"outcome": done.outcome, "conclusion": done.conclusion}
        if step.action.name == SEALING:
            self.context.sealed_off()
        if done.outcome != "failed":
            return None
        error = IrkitError(done.message)
        if step.critical and self._critical is None:
            self._critical = error
        return error if step.on_failure != "continue" else None

    def _left_out(self, step: Step) -> tuple[Result, IrkitError | None] | None:
        """Why a step does not run, if it does not: what it needs, or its condition."""
        for one in step.needs:
            conclusion = self.results.get(one, {}).get("conclusion", "skipped")
            if conclusion != "succeeded":
                return Result("skipped", f"it needs {one!r}, which was {conclusion}"), None
        if step.when is None:
            return None
        truth = step.when.decide(self._scope())
        if truth is True or (truth is not False and step.when_unknown == "run"):
            return None
        if truth is False:
            return Result("skipped", f"its condition does not hold: {step.when.text}"), None
        message = f"its condition can't be decided: {step.when.text}"
        if step.when_unknown == "abort":
            return Result("failed", message), Refused(message)
        return Result(UNDECIDED, message), None

    def _scope(self) -> dict[str, Any]:
        """What conditions may name."""
        before, facts = self.context.before, self.context.facts
        target = {**self.context.target.to_json(), "running": bool(before.running)}
        run = {
            "quarantine": facts.quarantine_state or None, "findings": len(facts.findings), "gaps": len(self.context.writer.gaps),
        }  # fmt: skip
        return {**self.registered, "steps": self.results, "target": target, "run": run}

    def _attempts(self, step: Step) -> tuple[Result, IrkitError | None]:
        """Once, or as often as it may be retried: only what may pass by itself is tried again."""
        delay = step.retry.delay
        for attempt in range(1, step.retry.attempts + 1):
            result, error = self._attempt(step)
            if error is None or attempt == step.retry.attempts or not transient(error):
                break
            self.journal.write("step-retried", id=step.id, attempt=attempt, message=result.message, delay=delay)
            self.context.note(f"{step.name}: {result.message}; trying again in {delay:g} s")
            try:
                self.watch.sleep(delay)
            except IrkitError as ended:
                return Result(_outcome_of(ended), ended.message), ended
            delay *= step.retry.backoff
        return result, error

    def _attempt(self, step: Step) -> tuple[Result, IrkitError | None]:
        try:
            self.context.checkpoint()
            if self.dry and (step.action.effect != "read" or not step.action.rehearsed):
                asked = f", once it is approved ({step.approve.message})" if step.approve else ""
                return Result(PLANNED, f"would be done{asked}: {step.action.summary}"), None
            if step.approve is not None:
                self._approval(step, step.approve)
            arguments = {name: resolve(value, self.registered) for name, value in step.arguments.items()}
            if step not in self._started:
                self._started.append(step)
            with self.watch.limit(step.timeout, f"the step {step.id!r}"):
                result = step.action.run(self.context, arguments)
                if not step.action.urgent:
                    self.context.writer.sync()
        except IrkitError as error:
            return Result(_outcome_of(error), error.message), error
        except Exception as error:  # a fault of irkit's own must not keep the later steps from isolating the target
            wrapped = IrkitError(
                f"irkit's own fault: {type(error).__name__}: {error}",
                hint="please report this; run again with IRKIT_DEBUG=1 for the details",
            )
            wrapped.__cause__ = error
            return Result("failed", wrapped.message), wrapped
        return result, None

    def _approval(self, step: Step, approve: Approve) -> None:
        """Raises ``Refused`` when it is denied."""
        from irkit.playbook import approval

        bound = {
            "case": self.context.case.id, "run": self.context.run, "playbook": self.playbook.digest, "target": self.context.target.id,
        }  # fmt: skip
        self.journal.write(
            "approval-asked", id=step.id, message=approve.message, by=list(approve.by), min=approve.minimum
        )
        self.context.warn(f"waiting for an approval: irkit case approve {self.context.case.id} {step.id}")
        try:
            answers = approval.ask(self.context.run_folder, step.id, approve, bound, self.watch.check)
        except IrkitError as error:
            self.journal.write("approval-refused", id=step.id, message=error.message)
            raise
        finally:
            approval.close(self.context.run_folder, step.id)
        given = [{"key": one.key.id, "name": one.key.name, "time": one.time} for one in answers]
        self.journal.write("approval-given", id=step.id, answers=given)

    def _skip(self, steps: Sequence[Step], message: str) -> None:
        for step in steps:
            self.results[step.id] = {"outcome": "skipped", "conclusion": "skipped"}
            self.context.steps.append(
                {
                    "id": step.id,
                    "name": step.name,
                    "uses": step.action.name,
                    "started": "",
                    "outcome": "skipped",
                    "conclusion": "skipped",
                    "finished": "",
                    "message": message,
                    "seconds": 0.0,
                }
            )

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
        self.journal.write("salvage-started")
        try:
            sealed = closing.seal_now(self.context, partial=True)
        except (IrkitError, OSError) as error:
            message = getattr(error, "message", str(error))
            self.context.warn(f"what was acquired could not be sealed: {message}")
            self.journal.write("salvage-failed", message=message)
            return
        self.journal.write("salvage-finished", bundle=str(sealed.path), digest=sealed.digest)


def _conclusion(result: Result, error: IrkitError | None, step: Step) -> str:
    """What the run makes of an outcome: a failure may be tolerated, an interruption never is."""
    if error is None or isinstance(error, Interrupted):
        return "succeeded" if result.outcome in ("succeeded", "degraded", PLANNED) else result.outcome
    return TOLERATED if step.on_failure in ("continue", "goto") else "failed"


def _outcome_of(error: IrkitError) -> str:
    return "interrupted" if isinstance(error, Interrupted) else "failed"
