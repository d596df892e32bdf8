"""What was accepted, step by step: a dry run, an approval, the run; and what became of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit import cases
from irkit.errors import IrkitError, NotFound, Refused, StorageError, transient
from irkit.home import read_json
from irkit.models import Target
from irkit.playbook import approval
from irkit.playbook.model import Approve
from irkit.text import printable
from irkit.watch.alert import moment
from irkit.watch.children import Children, Ended
from irkit.watch.decide import Decider
from irkit.watch.journal import Decisions
from irkit.watch.metrics import Metrics
from irkit.watch.model import Approval, Rule
from irkit.watch.rules import unchanged
from irkit.watch.state import DRY_DUE, DRY_RUNNING, DUE, RUNNING, WAITING, Job

POLL_APPROVALS = 1.0
GOOD = ("succeeded", "degraded")


@dataclass(slots=True)
class Runs:
    """Moves each job on.  ``dry_only``: nothing but dry runs.  ``trouble``: how many ended otherwise than they should."""

    decider: Decider
    children: Children
    journal: Decisions
    metrics: Metrics
    say: Callable[[str], None]
    dry_only: bool = False
    trouble: int = 0
    _looked: float = field(default=0.0)

    @property
    def jobs(self) -> dict[str, Job]:
        """All that have not ended."""
        return self.decider.state.jobs

    def take_up(self) -> None:
        """What another watch left: records, processes under way, runs that wait."""
        self.journal.make_up(self.decider.state)
        self.children.tidy(self.jobs)
        for job in list(self.jobs.values()):
            if job.under_way and not self.children.adopt(job):
                job.phase = DRY_DUE if job.phase == DRY_RUNNING else DUE
            self._commit("taken-up", job, f"it is {job.phase}")

    def tick(self) -> None:
        """Look at each job once.  Raises ``StorageError`` when the state can't be kept."""
        look = time.monotonic() - self._looked >= POLL_APPROVALS
        for job in list(self.jobs.values()):
            if job.under_way:
                ended, phase = self.children.ended(job), job.phase
                if ended is not None:
                    self._ended(job, ended)
                    self.children.forget(job, phase)
            elif job.phase == WAITING and look:
                self._guarded(job, self._answers)
        if look:
            self._looked = time.monotonic()
        for job in list(self.jobs.values()):
            if job.phase == DUE and job.reasons:
                self._guarded(job, self._ask)
            elif job.phase in (DRY_DUE, DUE) and self.under_way() < self.decider.rules.running:
                self._guarded(job, self._start)
        self.metrics.set("irkit_watch_runs_waiting_for_approval", self.waiting())
        self.metrics.set("irkit_watch_runs_under_way", self.under_way())

    def under_way(self) -> int:
        """How many processes there are."""
        return sum(1 for one in self.jobs.values() if one.under_way)

    def waiting(self) -> int:
        """How many wait for an approval."""
        return sum(1 for one in self.jobs.values() if one.phase == WAITING)

    def _guarded(self, job: Job, act: Callable[[Job, Rule], None]) -> None:
        """With the rule as it is now; what fails ends this job alone."""
        rule = next((one for one in self.decider.rules.rules if one.id == job.rule), None)
        try:
            if rule is None or rule.digest != job.digest:
                raise Refused("its rule is gone, or names another playbook now")
            act(job, rule)
        except StorageError:
            raise
        except IrkitError as error:
            if transient(error):
                return  # the engine is away for a moment: looked at again
            self._end(job, "cancelled", error.message, bad=True)

    # -- a process --------------------------------------------------------------------------------------------

    def _start(self, job: Job, rule: Rule) -> None:
        unchanged(rule)
        dry = job.phase == DRY_DUE
        if not dry and not job.few_accepted and (few := self._few(job, rule)):
            if rule.healthy is not None and rule.healthy.otherwise == "refuse":
                return self._end(job, "too-few-healthy", few)
            job.reasons = [few]
            return None
        job.phase = DRY_RUNNING if dry else RUNNING
        self._commit("dry-run-started" if dry else "run-started", job)
        self.children.start(job)
        if not dry:
            self.metrics.count("irkit_watch_runs_started_total", playbook=job.playbook_id)
        return None

    def _few(self, job: Job, rule: Rule) -> str:
        try:
            container = self.decider.engine.container(job.target)
        except NotFound as error:
            raise Refused("the container is gone") from error
        return self.decider.few(rule, container, job.id)

    def _ended(self, job: Job, ended: Ended) -> None:
        result = ended.result or {}
        job.case, job.run = str(result.get("case", job.case)), str(result.get("run", job.run))
        why = str((result.get("error") or {}).get("message", "")) or ("" if ended.result else ended.said)
        if job.phase == DRY_RUNNING:
            return self._dry_ended(job, ended, why)
        self.metrics.count("irkit_watch_runs_finished_total", playbook=job.playbook_id, outcome=ended.status)
        self._time_to_frozen(job, result)
        if ended.status == "lost":
            why = f"it was killed, or the watch was and nobody knows: {self._resume(job)}"
        if ended.result is None and ended.status != "lost":
            self.decider.state.seen.pop(job.key, None)  # it never began: the next alert may try again
        return self._end(
            job,
            "run-ended",
            why,
            bad=ended.status not in GOOD,
            outcome=ended.status,
            quarantine=(result.get("quarantine") or {}).get("state"),
        )

    def _resume(self, job: Job) -> str:
        with contextlib.suppress(IrkitError):
            case = cases.active_case(job.target)
            if case is not None:
                job.case = case.id
                return f"`irkit resume {case.id}` goes on"
        return "it has no case yet"

    def _dry_ended(self, job: Job, ended: Ended, why: str) -> None:
        result = ended.result or {}
        job.plan = [
            {name: printable(str(step.get(name, "")), 200) for name in ("id", "uses", "outcome", "message")}
            for step in result.get("steps", ())[:200]
        ]
        if ended.status != "succeeded":
            self.decider.state.seen.pop(job.key, None)
            return self._end(job, "dry-run-ended", why, bad=True, outcome=ended.status)
        job.phase = DUE
        self._commit("dry-run-ended", job, why, outcome=ended.status, plan=job.plan)
        return self._end(job, "planned", "nothing but dry runs was asked for") if self.dry_only else None

    def _time_to_frozen(self, job: Job, result: Mapping[str, Any]) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            frozen = moment(result["timeline"]["frozen"])
            self.metrics.frozen(max(0.0, frozen - job.alert_time))

    # -- an approval ------------------------------------------------------------------------------------------

    def _ask(self, job: Job, rule: Rule) -> None:
        """Write the request into the target's case, where `irkit case pending` and `approve` find it."""
        asked = self._approve(job, rule.approval)
        try:
            case = self._case(job)
        except Refused:
            return  # another run holds the target: asked again at the next look
        job.case = case.id
        bound = {
            "case": case.id, "run": job.run, "playbook": job.digest, "target": job.target, "vars": job.vars, "alert": job.alert,
            "rule": job.rule, "reasons": job.reasons, "plan": job.plan,
        }  # fmt: skip
        path, left = approval.request(case.folder / approval.WATCH, self._step(job), asked, bound)
        job.request, job.phase, job.expires = str(path), WAITING, time.time() + left
        self._commit("asked", job, "; ".join(job.reasons), step=self._step(job))
        self.say(f"waiting for an approval: irkit case approve {case.id} {self._step(job)}   ({asked.message})")

    def _case(self, job: Job) -> cases.Case:
        case = cases.active_case(job.target)
        if case is not None:
            return case
        container = self.decider.engine.container(job.target)
        endpoint = self.decider.engine.endpoint
        with cases.target_lock(container.id, container.name):
            return cases.open_case(
                Target(container.id, container.name, container.image_ref, container.image_id, endpoint)
            )

    @staticmethod
    def _step(job: Job) -> str:
        return f"start-{job.id}"

    @staticmethod
    def _approve(job: Job, rule: Approval) -> Approve:
        why = "; ".join(printable(reason, 300) for reason in job.reasons)
        where = f"{job.name} ({printable(job.image, 200)})"
        message = f"Run {job.playbook_id} on {where}? Rule {job.rule}, alert: {job.alert.get('rule', '')}; {why}"
        return Approve(message, rule.by, rule.minimum, rule.timeout)

    def _answers(self, job: Job, rule: Rule) -> None:
        path = Path(job.request)
        asked = self._approve(job, rule.approval)
        if (read_json(path) or {}).get("playbook") != job.digest:
            raise Refused(f"the request {path} is gone, or is another one")
        try:
            answers = approval.decided(path, asked)
        except Refused as denied:
            self._close(job)
            return self._end(job, "denied", denied.message)
        if len(answers) >= asked.minimum:
            self._close(job)
            job.few_accepted = any(reason.startswith("too few") for reason in job.reasons) or job.few_accepted
            job.reasons, job.phase = [], DUE
            by = [{"key": one.key.id, "name": one.key.name, "time": one.time} for one in answers]
            return self._commit("approved", job, by=by)
        if time.time() > job.expires:
            self._close(job)
            return self._end(job, "expired", f"{len(answers)} of {asked.minimum} approvals came in time")
        return None

    def _close(self, job: Job) -> None:
        approval.close(Path(job.request).parent.parent, self._step(job))

    # -- the end ----------------------------------------------------------------------------------------------

    def _end(self, job: Job, word: str, why: str = "", *, bad: bool = False, **facts: Any) -> None:
        self.trouble += bad
        self.jobs.pop(job.id, None)
        self._commit(word, job, why, **facts)

    def _commit(self, word: str, job: Job, why: str = "", **facts: Any) -> None:
        """The state as it is now, with a record of it."""
        self.journal.commit(
            self.decider.state, word, job=job.id, rule=job.rule, alert=job.alert, container=job.target, name=job.name, playbook=job.playbook_id,
            digest=job.digest, case=job.case, run=job.run, why=printable(why, 500), **facts,
        )  # fmt: skip
