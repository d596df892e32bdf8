"""Running a playbook: one journal record before and one after each step; a failure is what its step says it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.actions import closing
from irkit.actions.context import Context, Result
from irkit.clock import now
from irkit.errors import ExitCode, Interrupted, IrkitError
from irkit.events import Event
from irkit.playbook.journal import Journal
from irkit.playbook.model import Playbook, Step, resolve

TOLERATED = "tolerated"
SEALING = "quarantine.seal"


@dataclass(slots=True)
class Outcome:
    """How a run ended.  ``status``: succeeded, degraded, failed, aborted, interrupted or waiting."""

    status: str
    exit_code: int
    error: IrkitError | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)


class Runner:
    """One run of a playbook in a context."""

    def __init__(
        self,
        playbook: Playbook,
        context: Context,
        journal: Journal,
        variables: Mapping[str, Any],
        shield: Callable[[], None],
    ) -> None:
        self.playbook = playbook
        self.context = context
        self.journal = journal
        self.registered: dict[str, Any] = {"vars": dict(variables)}
        self._shield = shield
        context.vars = dict(variables)
        context.planned = frozenset(step.action.name for step in playbook.steps)

    def run(self) -> Outcome:
        """All steps.  Never raises for what a step does; raises ``StorageError`` when the journal can't be written."""
        self.context.mark("started")
        self.journal.write(
            "run-started", run=self.context.run, case=self.context.case.id, by=self.context.case.opened_by,
            target=self.context.target.to_json(), playbook={"id": self.playbook.id, "digest": self.playbook.digest},
            vars=self.registered["vars"],
        )  # fmt: skip
        error: IrkitError | None = None
        for position, step in enumerate(self.playbook.steps):
            error = self._step(step)
            if error is not None:
                self._skip(self.playbook.steps[position + 1 :], error)
                break
        outcome = self._conclude(error)
        self.context.mark("finished")
        self.journal.write(
            "run-finished",
            status=outcome.status,
            exit_code=outcome.exit_code,
            quarantine=self.context.facts.quarantine_state,
        )
        return outcome

    def _step(self, step: Step) -> IrkitError | None:
        """Run one step; the error that ends the run, if it does."""
        row: dict[str, Any] = {"id": step.id, "name": step.name, "uses": step.action.name, "started": now()}
        self.journal.write("step-started", id=step.id, uses=step.action.name)
        self.context.observer(Event("step-started", step.name, step.id))
        begun = time.monotonic()
        result, error = self._attempt(step)
        seconds = time.monotonic() - begun
        row.update(
            outcome=result.outcome,
            conclusion=_conclusion(result, error, step),
            finished=now(),
            message=result.message,
            seconds=round(seconds, 4),
        )
        self.context.steps.append(row)
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
        )
        if isinstance(error, Interrupted) or (error is not None and step.on_failure == "abort"):
            return error
        return None

    def _attempt(self, step: Step) -> tuple[Result, IrkitError | None]:
        try:
            self.context.checkpoint()
            arguments = {name: resolve(value, self.registered) for name, value in step.arguments.items()}
            result = step.action.run(self.context, arguments)
            if not step.action.urgent:
                self.context.writer.sync()
        except Interrupted as error:
            return Result("interrupted", error.message), error
        except IrkitError as error:
            return Result("failed", error.message), error
        except Exception as error:  # a fault of irkit's own must not keep the later steps from isolating the target
            wrapped = IrkitError(
                f"irkit's own fault: {type(error).__name__}: {error}",
                hint="please report this; run again with IRKIT_DEBUG=1 for the details",
            )
            wrapped.__cause__ = error
            return Result("failed", wrapped.message), wrapped
        return result, None

    def _skip(self, steps: tuple[Step, ...], error: IrkitError) -> None:
        for step in steps:
            message = "the run was interrupted" if isinstance(error, Interrupted) else "an earlier step failed"
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
        if "quarantine.prove" in ran or "quarantine.seal" in ran:
            if facts.quarantine_state == "open":
                return Outcome("failed", ExitCode.CHECK_FAILED, None, steps)
            if facts.quarantine_state not in ("proven", "frozen-only") and running:
                return Outcome("degraded", ExitCode.CHECK_FAILED, None, steps)
            if facts.quarantine_state == "frozen-only" and any(
                step["uses"].startswith("quarantine.") and step["outcome"] == "failed" for step in steps
            ):
                return Outcome("degraded", ExitCode.CHECK_FAILED, None, steps)
        if any(step["outcome"] in ("failed", "degraded") for step in steps) or self.context.writer.gaps:
            return Outcome("degraded", ExitCode.GAPS, None, steps)
        return Outcome("succeeded", ExitCode.DONE, None, steps)

    def _salvage(self) -> None:
        """What was taken so far is sealed as partial: nothing is lost because a later step failed or a signal came."""
        self._shield()
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
        return "succeeded" if result.outcome in ("succeeded", "degraded") else result.outcome
    return TOLERATED if step.on_failure == "continue" else "failed"
