"""Performing steps: one, some at the same time, or one for each of many; with a journal record before and after each."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from irkit.actions.context import Context, Result
from irkit.clock import now
from irkit.errors import Interrupted, IrkitError, Refused, UsageProblem, transient
from irkit.events import Event
from irkit.playbook.journal import Journal
from irkit.playbook.model import Approve, Guard, Playbook, Step, resolve, visible
from irkit.playbook.state import Known
from irkit.playbook.stopwatch import Stopwatch

if TYPE_CHECKING:
    from irkit.playbook.resume import Done

TOLERATED = "tolerated"
PLANNED = "planned"
"""The outcome of a step that a dry run did not run."""
UNDECIDED = "undecided"
"""The outcome of a step whose condition can't be decided: it did not run, and the run is not all that it should be."""
SEALING = "quarantine.seal"
EACH_LIMIT = 1000


@dataclass(slots=True, eq=False, repr=False)
class Work:
    """A step under way."""

    step: Step
    row: dict[str, Any]
    artifacts: int
    gaps: int
    result: Result = field(default_factory=lambda: Result("failed", ""))
    error: IrkitError | None = None
    seconds: float = 0.0
    context: Context | None = None
    """Its own, when it runs beside others."""


class Performer:
    """The steps of one run: what they registered, how they ended.  ``done``: those that a killed run had finished.

    ``cut_off``: ids of steps that were under way when the run was killed.
    """

    def __init__(
        self, playbook: Playbook, context: Context, journal: Journal, variables: Mapping[str, Any], *, dry: bool
    ) -> None:
        self.playbook = playbook
        self.context = context
        self.journal = journal
        self.dry = dry
        self.registered: dict[str, Any] = {"vars": dict(variables)}
        self.results: dict[str, dict[str, str]] = {}
        self.started: list[Step] = []
        self.critical: IrkitError | None = None
        self.done: dict[str, Done] = {}
        self.cut_off: set[str] = set()
        self.again: frozenset[str] = frozenset()
        self.wait = True
        """Whether a step waits for its approval, or the run ends until there is one."""
        self.decided: dict[str, bool | str] = {}
        self.known = Known()
        self.watch = Stopwatch(context.checkpoint)
        self._lock = threading.Lock()
        context.checkpoint = context.writer.checkpoint = self.watch.check

    def step(self, step: Step) -> IrkitError | None:
        """Run one step; the error that ends the run or makes it jump, if it does."""
        if step.id in self.done:
            return self._was(step, self.done.pop(step.id))
        if step.foreach is not None:
            return self._each(step)
        work = self._open(step)
        self._work(work, self.context)
        return self._close(work)

    def together(self, steps: Sequence[Step]) -> IrkitError | None:
        """Run neighbours at the same time, and wait for all: the first error that ends the run, in their order."""
        errors: dict[str, IrkitError | None] = {}
        todo = []
        for step in steps:
            if step.id in self.done:
                errors[step.id] = self._was(step, self.done.pop(step.id))
            else:
                todo.append(self._open(step))
        if any(one.step.action.collects for one in todo):
            _ = self.context.host_view  # looked for once, not by each
        threads = []
        for one in (one for one in todo if one.step.action.beside):
            one.context = beside_context(self.context, one.step)
            threads.append(threading.Thread(target=self._work, args=(one, one.context)))
        for thread in threads:
            thread.start()
        for one in todo:
            if not one.step.action.beside:
                self._work(one, self.context)
        for thread in threads:
            thread.join()
        for one in todo:
            errors[one.step.id] = self._close(one)
        return next((errors[step.id] for step in steps if errors[step.id] is not None), None)

    def failed(self, step: Step) -> bool:
        """Whether a step ended the run, or made it jump."""
        ended = self.results.get(step.id, {}).get("outcome")
        return ended in ("failed", "interrupted") and step.on_failure != "continue"

    def _each(self, step: Step) -> IrkitError | None:
        """Once for each item, as steps of their own: ``ID-1``, ``ID-2``, …; then a record of them all."""
        row: dict[str, Any] = {"id": step.id, "name": step.name, "uses": step.action.name, "started": now()}
        begun, results, failed = time.monotonic(), [], 0
        artifacts, gaps = len(self.context.writer.artifacts), len(self.context.writer.gaps)
        work = Work(step, row, artifacts, gaps)
        try:
            items = self._items(step)
        except IrkitError as error:
            work.result, work.error = Result("failed", error.message), error
            self.journal.write("step-started", id=step.id, uses=step.action.name)
            return self._close(work)
        ended: IrkitError | None = None
        for number, item in enumerate(items, 1):
            identity = f"{step.id}-{number}"
            one = replace(
                step,
                id=identity,
                name=f"{step.name} ({number} of {len(items)})",
                foreach=None,
                item=(item,),
                register="",
            )
            ended = self.step(one)
            result = self.results[identity]
            failed += result["outcome"] not in ("succeeded", "degraded", PLANNED, "skipped")
            results.append({"item": item, **result})
            if ended is not None:
                break
        words = f"{len(results)} of {len(items)} done" + (f", {failed} failed" if failed else "")
        # of one that was interrupted nothing is final: a run that goes on does what is left
        work.result = Result(outcome_of(ended) if ended else "degraded" if failed else "succeeded", words, {
            "results": results, "count": len(results), "failed": failed})  # fmt: skip
        work.error, work.seconds = ended, time.monotonic() - begun
        work.artifacts, work.gaps = len(self.context.writer.artifacts), len(self.context.writer.gaps)
        return self._close(work)

    def _items(self, step: Step) -> list[Any]:
        found = resolve(step.foreach, self._names(step))
        if not isinstance(found, list | tuple):
            raise UsageProblem(f"foreach of the step {step.id!r} is no list")
        if len(found) > EACH_LIMIT:
            raise UsageProblem(f"foreach of the step {step.id!r} has {len(found)} items, more than {EACH_LIMIT}")
        return list(found)

    def _open(self, step: Step) -> Work:
        row: dict[str, Any] = {"id": step.id, "name": step.name, "uses": step.action.name, "started": now()}
        work = Work(step, row, len(self.context.writer.artifacts), len(self.context.writer.gaps))
        self.journal.write("step-started", id=step.id, uses=step.action.name)
        self.context.observer(Event("step-started", step.name, step.id))
        return work

    def _work(self, work: Work, context: Context) -> None:
        """Only this part may run in a thread of its own."""
        begun = time.monotonic()
        context.step = work.step.id
        work.result, work.error = self._left_out(work.step) or self._attempts(work.step, context)
        work.seconds = time.monotonic() - begun

    def _close(self, work: Work) -> IrkitError | None:
        if work.context is not None and work.step.action.collects:
            work.artifacts, work.gaps = len(self.context.writer.artifacts), len(self.context.writer.gaps)
            self.context.writer.absorb(work.context.writer)
        step, row, result, error = work.step, work.row, work.result, work.error
        row.update(
            outcome=result.outcome, conclusion=conclusion(result, error, step), finished=now(), message=result.message,
            seconds=round(work.seconds, 4),
        )  # fmt: skip
        self.context.steps.append(row)
        self.results[step.id] = {"outcome": row["outcome"], "conclusion": row["conclusion"]}
        if step.action.name == SEALING:
            self.context.sealed_off()
        if step.register:
            self.registered[step.register] = dict(result.data)
        self.context.observer(Event("step-finished", result.message, step.id, result.outcome, work.seconds))
        self.journal.write(
            "step-finished",
            id=step.id,
            outcome=row["outcome"],
            conclusion=row["conclusion"],
            message=result.message,
            data=dict(result.data),
            register=step.register,
            state=self._state(work.artifacts, work.gaps),
        )
        self.context.keep_before()
        if error is not None and step.critical and self.critical is None:
            self.critical = error
        return error if isinstance(error, Interrupted) or step.on_failure != "continue" else None

    def _state(self, artifacts: int, gaps: int) -> dict[str, Any]:
        """What a step added to what is known: enough for a run that is killed now to go on."""
        writer, facts = self.context.writer, self.context.facts
        return {
            "facts": self.known.news(facts), "artifacts": [one.to_json() for one in writer.artifacts[artifacts:]],
            "gaps": [one.to_json() for one in writer.gaps[gaps:]],
        }  # fmt: skip

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
        if step.critical and self.critical is None:
            self.critical = error
        return error if step.on_failure != "continue" else None

    def _left_out(self, step: Step) -> tuple[Result, IrkitError | None] | None:
        """Why a step does not run, if it does not: the ``include`` that it is of, what it needs, or its condition."""
        for guard in step.guards:
            if (left := self._guarded(guard)) is not None:
                return left
        own = Guard("", step.scope, step.when, step.when_unknown, step.needs)
        return self._decide(own, step) or self._may_be_done(step)

    def _guarded(self, guard: Guard) -> tuple[Result, IrkitError | None] | None:
        """Decided once, and kept in the journal: a run that goes on must not decide otherwise in the middle."""
        with self._lock:
            if guard.id not in self.decided:
                left = self._decide(guard, None)
                self.decided[guard.id] = True if left is None else left[0].outcome + "\n" + left[0].message
                self.journal.write("include-decided", id=guard.id, decided=self.decided[guard.id])
            decided = self.decided[guard.id]
        if decided is True:
            return None
        outcome, _, message = str(decided).partition("\n")
        return Result(outcome, message), Refused(message) if outcome == "failed" else None

    def _decide(self, guard: Guard, step: Step | None) -> tuple[Result, IrkitError | None] | None:
        for one in guard.needs:
            ended = self.results.get(one, {}).get("conclusion", "skipped")
            if ended != "succeeded":
                return Result("skipped", f"it needs {one!r}, which was {ended}"), None
        if guard.when is None:
            return None
        truth = guard.when.decide(self.scope(guard.scope, step))
        if truth is True or (truth is not False and guard.when_unknown == "run"):
            return None
        if truth is False:
            return Result("skipped", f"its condition does not hold: {guard.when.text}"), None
        message = f"its condition can't be decided: {guard.when.text}"
        if guard.when_unknown == "abort":
            return Result("failed", message), Refused(message)
        return Result(UNDECIDED, message), None

    def _may_be_done(self, step: Step) -> tuple[Result, IrkitError | None] | None:
        """A step that was under way when the run was killed: whether it was done is asked, where that can be asked."""
        if step.id not in self.cut_off or step.id in self.again or self.dry:
            return None
        if step.action.probe is not None:
            try:
                found = step.action.probe(self.context, self._arguments(step))
            except IrkitError as error:
                return Result("failed", error.message), error
            return (found, None) if found is not None else None
        if step.action.repeatable or step.arguments.get("again") is True:
            return None
        return Result(
            UNDECIDED, f"the run was killed while it was under way, so it may have been done: not done again (irkit resume --again {step.id})"
        ), None  # fmt: skip

    def _names(self, step: Step) -> dict[str, Any]:
        """What the step's references may name."""
        around = {"target": self.scope_facts()[0], "run": self.scope_facts()[1]}
        names = visible(self.playbook.bindings, {**self.registered, **around}, step.scope)
        return {**names, "item": step.item[0]} if step.item is not None else names

    def scope_facts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """``target`` and ``run``, as conditions and references know them."""
        before, facts = self.context.before, self.context.facts
        target = {**self.context.target.to_json(), "running": bool(before.running), "paused": bool(before.paused)}
        run = {
            "id": self.context.run, "case": self.context.case.id, "quarantine": facts.quarantine_state or None,
            "findings": len(facts.findings), "gaps": len(self.context.writer.gaps),
        }  # fmt: skip
        return target, run

    def scope(self, scope: str, step: Step | None = None) -> dict[str, Any]:
        """What conditions of a scope may name."""
        target, run = self.scope_facts()
        prefix = f"{scope}-" if scope else ""
        steps = {name.removeprefix(prefix): result for name, result in self.results.items() if name.startswith(prefix)}
        names = visible(self.playbook.bindings, self.registered, scope)
        item = {"item": step.item[0]} if step is not None and step.item is not None else {}
        return {**names, **item, "steps": steps, "target": target, "run": run}

    def _attempts(self, step: Step, context: Context) -> tuple[Result, IrkitError | None]:
        """Once, or as often as it may be retried: only what may pass by itself is tried again."""
        delay = step.retry.delay
        for attempt in range(1, step.retry.attempts + 1):
            result, error = self._attempt(step, context)
            if error is None or attempt == step.retry.attempts or not transient(error):
                break
            with self._lock:
                self.journal.write("step-retried", id=step.id, attempt=attempt, message=result.message, delay=delay)
            self.context.note(f"{step.name}: {result.message}; trying again in {delay:g} s")
            try:
                self.watch.sleep(delay)
            except IrkitError as ended:
                return Result(outcome_of(ended), ended.message), ended
            delay *= step.retry.backoff
        return result, error

    def _attempt(self, step: Step, context: Context) -> tuple[Result, IrkitError | None]:
        try:
            self.context.checkpoint()
            if self.dry and step.action.planned:
                asked = f", once it is approved ({step.approve.message})" if step.approve else ""
                return Result(PLANNED, f"would be done{asked}: {step.action.summary}"), None
            if step.approve is not None:
                self.approval(step, step.approve)
            arguments = self._arguments(step)
            if step not in self.started:
                self.started.append(step)
            with self.watch.limit(step.timeout, f"the step {step.id!r}"):
                result = step.action.run(context, arguments)
                if not step.action.urgent and (step.action.collects or not step.action.beside):
                    context.writer.sync()
        except IrkitError as error:
            return Result(outcome_of(error), error.message), error
        except Exception as error:  # a fault of irkit's own must not keep the later steps from isolating the target
            wrapped = IrkitError(
                f"irkit's own fault: {type(error).__name__}: {error}",
                hint="please report this; run again with IRKIT_DEBUG=1 for the details",
            )
            wrapped.__cause__ = error
            return Result("failed", wrapped.message), wrapped
        return result, None

    def _arguments(self, step: Step) -> dict[str, Any]:
        """The parameters' values.  Raises ``UsageProblem`` for one whose type or value is not what is declared."""
        names = self._names(step)
        found = {name: resolve(value, names) for name, value in step.arguments.items()}
        for param in step.action.params:
            value = found.get(param.name)
            if value is None or (isinstance(value, tuple) and param.type is list):
                continue
            if not isinstance(value, param.type) or (isinstance(value, bool) and param.type is not bool):
                raise UsageProblem(
                    f"{param.name!r} of {step.action.name} must be of type {param.type.__name__}, not {value!r}"
                )
            if param.choices and value not in param.choices:
                raise UsageProblem(
                    f"{param.name!r} of {step.action.name} must be one of {', '.join(map(str, param.choices))}"
                )
        return found

    def approval(self, step: Step, approve: Approve) -> None:
        """Raises ``Refused`` when it is denied."""
        from irkit.playbook import approval

        bound = {
            "case": self.context.case.id, "run": self.context.run, "playbook": self.playbook.digest, "target": self.context.target.id,
        }  # fmt: skip
        self._write("approval-asked", id=step.id, message=approve.message, by=list(approve.by), min=approve.minimum)
        self.context.warn(f"waiting for an approval: irkit case approve {self.context.case.id} {step.id}")
        try:
            answers = approval.ask(self.context.run_folder, step.id, approve, bound, self.watch.check, wait=self.wait)
        except Interrupted:
            raise  # the request stays open: a run that goes on takes the answers that came meanwhile
        except IrkitError as error:
            approval.close(self.context.run_folder, step.id)
            self._write("approval-refused", id=step.id, message=error.message)
            raise
        approval.close(self.context.run_folder, step.id)
        given = [{"key": one.key.id, "name": one.key.name, "time": one.time} for one in answers]
        self._write("approval-given", id=step.id, answers=given)

    def _write(self, kind: str, **facts: Any) -> None:
        """A record from within a step: others may run beside it."""
        with self._lock:
            self.journal.write(kind, **facts)

    def skip(self, steps: Sequence[Step], message: str) -> None:
        """Steps that are passed over, and why."""
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


def beside_context(context: Context, step: Step) -> Context:
    """The same context under a step's own name, for one that runs beside others; a collector's with a writer of its own."""
    beside = copy.copy(context)
    beside.step = step.id
    if step.action.collects:
        beside.writer = context.writer.beside()
    return beside


def conclusion(result: Result, error: IrkitError | None, step: Step) -> str:
    """What the run makes of an outcome: a failure may be tolerated, an interruption never is."""
    if error is None or isinstance(error, Interrupted):
        return "succeeded" if result.outcome in ("succeeded", "degraded", PLANNED) else result.outcome
    return TOLERATED if step.on_failure in ("continue", "goto") else "failed"


def outcome_of(error: IrkitError) -> str:
    """``interrupted`` or ``failed``."""
    return "interrupted" if isinstance(error, Interrupted) else "failed"
