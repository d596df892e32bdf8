"""From an alert to a decision: which rule, which container, and whether a run may begin."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from irkit import cases
from irkit.clock import rfc3339
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError, EngineUnreachable, IrkitError, NotFound, UsageProblem
from irkit.playbook.model import Reference, resolve
from irkit.text import printable
from irkit.watch import healthy
from irkit.watch.alert import CONTAINER_ID, Alert
from irkit.watch.model import Healthy, Rule, Rules, container_scope, service_of
from irkit.watch.state import DRY_DUE, DUE, Job, State

JOBS_LIMIT = 200
VALUE_LIMIT = 1000
TRIES, PAUSE = 3, 0.5
OVERALL = "*"
"""Under this name the state counts the runs of all rules."""
FEW = "too few healthy replicas would remain"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an alert.  ``job``: the run that it asks for."""

    word: str
    why: str = ""
    rule: str = ""
    container: str = ""
    name: str = ""
    case: str = ""
    job: Job | None = None


@dataclass(slots=True)
class Decider:
    """Decides with the rules as they are now.  ``clock``: seconds since the epoch."""

    rules: Rules
    engine: Engine
    state: State
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    dry_only: bool = False

    def decide(self, alert: Alert) -> Decision:
        """Nothing is started here; what is to be started is in the state when this returns, not yet on the disk."""
        candidates = [rule for rule in self.rules.rules if rule.match.alert(alert)]
        if not candidates:
            return Decision("unmatched", "no rule fits")
        if self.clock() - alert.time > self.rules.max_age:
            return Decision(
                "stale", f"it is of {rfc3339(alert.time)}, older than {self.rules.max_age:g} s", candidates[0].id
            )
        if not alert.container:
            return Decision("no-container", "it names no container", candidates[0].id)
        try:
            container = self._container(alert.container)
        except NotFound:
            return Decision("gone", "the engine has no such container", candidates[0].id, alert.container)
        except EngineError as error:
            return Decision("unreachable", error.message, candidates[0].id, alert.container)
        scope = {**alert.scope, **container_scope(container)}
        for rule in candidates:
            if rule.match.container(container) and (rule.when is None or rule.when.decide(scope) is True):
                found = self._admit(rule, alert, container, scope)
                return Decision(found.word, found.why, rule.id, container.id, container.name, found.case, found.job)
        return Decision("unmatched", "no rule fits its container", "", container.id, container.name)

    def _container(self, reference: str) -> Container:
        """The engine's own word for what the alert names; a name that looks like an id means nothing else."""
        for attempt in range(1, TRIES + 1):
            try:
                found = self.engine.container(reference)
                break
            except EngineUnreachable:
                if attempt == TRIES:
                    raise
                self.sleep(PAUSE)
        if found.id.startswith(reference) if CONTAINER_ID.fullmatch(reference) else found.name == reference:
            return found
        raise NotFound(f"{reference} names another container")

    def _admit(self, rule: Rule, alert: Alert, container: Container, scope: Mapping[str, Any]) -> Decision:
        now = self.clock()
        self.state.prune(now)
        key = key_of(rule, alert, container)
        if self.state.handled(key, now):
            return Decision("duplicate", f"handled within the last {rule.window:g} s")
        case = cases.active_case(container.id)
        if case is not None and case.state == "contained":
            return Decision("contained", f"the case {case.id} holds it already", case=case.id)
        for one in self.state.jobs.values():
            if one.target == container.id:
                return Decision(
                    "under-way", f"the run {one.id} of the rule {one.rule} is {one.phase} on it", case=one.case
                )
        if rule.rate is not None and not self.state.allowed(rule.id, rule.rate, now):
            return Decision("rate-limited", f"{rule.rate.runs} runs of the rule in {rule.rate.seconds:g} s")
        if not self.state.allowed(OVERALL, self.rules.rate, now):
            return Decision("rate-limited", f"{self.rules.rate.runs} runs in {self.rules.rate.seconds:g} s")
        if len(self.state.jobs) >= JOBS_LIMIT:
            return Decision("dropped", f"{JOBS_LIMIT} runs are under way or wait")
        try:
            variables = values(rule, scope)
        except UsageProblem as error:
            return Decision("unusable", error.message)
        few = self.few(rule, container)
        if few and rule.healthy is not None and rule.healthy.otherwise == "refuse":
            return Decision("too-few-healthy", few)
        if not self.state.remember(key, now + rule.window):
            return Decision("dropped", "there is no room to remember that it was handled")
        self.state.started(rule.id, now)
        self.state.started(OVERALL, now)
        job = self._job(rule, alert, container, key, variables, few)
        self.state.jobs[job.id] = job
        return Decision("accepted", few, job=job)

    def few(self, rule: Rule, container: Container, own: str = "") -> str:
        """Why too few replicas would remain, empty when enough do.  What can't be counted is not enough.  ``own``: a job's id."""
        if rule.healthy is None or not rule.changes:
            return ""
        taken = {one.target for one in self.state.jobs.values() if one.changes and one.id != own}
        return _few(self.engine, container, rule.healthy, taken)

    def _job(self, rule: Rule, alert: Alert, container: Container, key: str, variables: list[str], few: str) -> Job:
        return Job(
            secrets.token_hex(4), rule.id, told(alert), alert.time, key, str(rule.playbook), rule.playbook_id, rule.digest, container.id,
            container.name, container.image_ref, variables, rule.changes, DRY_DUE if rule.dry_run_first or self.dry_only else DUE,
            [*(["the rule asks for an approval"] if rule.asks else []), *([few] if few else [])],
        )  # fmt: skip


def _few(engine: Engine, container: Container, rule: Healthy, taken: set[str]) -> str:
    try:
        left = healthy.remaining(engine, container, rule, taken)
    except IrkitError as error:
        return f"{FEW}: {error.message}"
    return f"{FEW}: {left}, not {rule.count}" if left < rule.count else ""


def key_of(rule: Rule, alert: Alert, container: Container) -> str:
    """By what two alerts count as one."""
    service = service_of(container)
    parts = {
        "rule": rule.id, "alert": alert.rule, "container": container.id, "image": container.image_id,
        "service": "\0".join(service) if service else container.id,
    }  # fmt: skip
    text = "\0".join(f"{name}={parts[name]}" for name in rule.by)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def told(alert: Alert) -> dict[str, Any]:
    """What the journal says of an alert: escaped, and not all of it."""
    return {
        "digest": alert.digest, "source": alert.source, "rule": printable(alert.rule), "priority": alert.priority,
        "time": rfc3339(alert.time), "received": rfc3339(alert.received), "container": alert.container,
    }  # fmt: skip


def values(rule: Rule, scope: Mapping[str, Any]) -> list[str]:
    """``NAME=VALUE`` for ``irkit run --var``.  Raises ``UsageProblem`` for what an alert can't give."""
    found = []
    for name, value in rule.vars.items():
        said = resolve(value, scope)
        if isinstance(value, Reference) and (said is None or isinstance(said, dict | list)):
            raise UsageProblem(f"the alert gives no plain value for {name!r}")
        text = (
            ",".join(map(str, said))
            if isinstance(said, list)
            else str(said).lower()
            if isinstance(said, bool)
            else str(said)
        )
        if len(text) > VALUE_LIMIT or printable(text).replace("\\\\", "\\") != text:
            raise UsageProblem(
                f"the value for {name!r} is longer than {VALUE_LIMIT} characters, or has control characters"
            )
        found.append(f"{name}={text}")
    return found
