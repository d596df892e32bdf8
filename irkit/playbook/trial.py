"""Tests of playbooks (``kind: PlaybookTest``): the real runner, journal and conditions on a fake engine, without a host.

What changes the container or its networks is really done to the fake engine; what reads a host or reaches people is
simulated, and gives what the test says, or a good end.  ``docs/playbooks.md`` describes the format.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irkit import cases, documents, resources
from irkit.actions.context import Context, Result
from irkit.actions.registry import ACTIONS, Action
from irkit.documents import Doc
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import NetworkSpec
from irkit.errors import EngineError, EngineUnreachable, IrkitError, Refused, UsageProblem
from irkit.events import silent
from irkit.evidence import keys
from irkit.evidence.keys import Signer
from irkit.evidence.writer import BundleWriter, Origin
from irkit.models import Target
from irkit.playbook.journal import Journal
from irkit.playbook.model import Approve, Playbook, Step
from irkit.playbook.profiled import with_profile
from irkit.playbook.reader import load_playbook
from irkit.playbook.runner import Outcome, Runner

REAL = (
    "container.freeze", "container.thaw", "container.stop", "container.remove", "image.remove", "quarantine.seal", "quarantine.release",
    "evidence.seal", "evidence.verify",
)  # fmt: skip
"""Actions that are really run."""
OUTCOMES = ("succeeded", "degraded", "skipped", "failed")
DECISIONS = ("approve", "deny")
IMAGE = "irkit-test/image:1"
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "compare.findings": {"count": 0, "critical": 0, "high": 0, "rules": []},
    "scope.survey": {
        "network": [], "image": [], "volume": [], "namespace": [], "secret": [], "worst": "", "secrets": [], "rows": 0,
    },
    "image.verify": {"image_id": "sha256:" + "0" * 64},
    "playbook.run": {"case": "", "run": "", "status": "succeeded", "quarantine": "proven", "bundle": ""},
    "audit.check": {"fail": 0, "warn": 0, "unknown": 0, "refused": 0},
    "compare.changes": {"added": 0, "changed": 0, "deleted": 0, "unseen": 0},
    "ask": {"answer": "", "by": "nobody"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulated action gives."""

    outcome: str
    message: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Staged:
    """An engine's method that fails: from its ``at``-th call on, ``times`` times; ``status`` 0: nobody answers."""

    method: str
    at: int
    times: int
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What must hold at the end; what is ``None`` or empty is not asked."""

    status: str
    exit_code: int | None
    steps: Mapping[str, str]
    order: tuple[str, ...]
    calls: tuple[str, ...]
    no_calls: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One test.  ``target``: the state it is in (``running``, ``frozen``, ``stopped``)."""

    name: str
    vars: Mapping[str, Any]
    target: str
    quarantine: str
    simulated: Mapping[str, Simulated]
    staged: tuple[Staged, ...]
    approvals: Mapping[str, str]
    expected: Expected


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a test ended.  ``problems``: empty when all held."""

    name: str
    problems: tuple[str, ...]
    status: str
    exit_code: int
    steps: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """A row of ``irkit playbook test --json``."""
        return {
            "name": self.name, "passed": not self.problems, "problems": list(self.problems), "status": self.status,
            "exit_code": self.exit_code, "steps": dict(self.steps),
        }  # fmt: skip


def load_trials(path: Path) -> tuple[Playbook, tuple[Trial, ...]]:
    """The playbook and its tests.  Raises ``PlaybookInvalid`` naming file, line and column."""
    doc, _ = documents.load(path)
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("PlaybookTest",))
    name = doc.text("playbook")
    beside = "/" in name or name.endswith((".yaml", ".yml"))
    playbook = load_playbook(path.parent / name if beside else resources.find("playbooks", name))
    trials = tuple(_trial(item) for item in doc.items("tests").docs())
    if not trials:
        raise doc.places["tests"].error("there must be at least one test")
    doc.done()
    return playbook, trials


def _trial(doc: Doc) -> Trial:
    simulated = doc.mapping("actions", None)
    approvals = doc.mapping("approvals", None)
    trial = Trial(
        doc.text("name"), doc.mapping("vars", None).plain(), doc.choice("target", ("running", "frozen", "stopped"), "running"),
        doc.choice("quarantine", ("proven", "partial", "unproven", "open", "frozen-only"), "proven"),
        {name: _simulated(simulated.mapping(name)) for name in list(simulated.values)},
        tuple(_staged(item) for item in doc.items("engine", ()).docs()),
        {name: approvals.choice(name, DECISIONS) for name in list(approvals.values)}, _expected(doc.mapping("expect")),
    )  # fmt: skip
    for one in (simulated, approvals, doc):
        one.done()
    return trial


def _simulated(doc: Doc) -> Simulated:
    found = Simulated(
        doc.choice("outcome", OUTCOMES, "succeeded"),
        doc.text("message", "simulated"),
        doc.mapping("data", None).plain(),
    )
    doc.done()
    return found


def _staged(doc: Doc) -> Staged:
    found = Staged(
        doc.text("fails"), doc.integer("at", 1), doc.integer("times", 1000), doc.integer("status", 500),
        doc.text("message", "the engine refuses"),
    )  # fmt: skip
    if found.method.startswith("_") or not callable(getattr(FakeEngine, found.method, None)):
        raise doc.places["fails"].error(
            f"the engine has no call {found.method!r}", "like pause, disconnect, create_network, remove"
        )
    doc.done()
    return found


def _expected(doc: Doc) -> Expected:
    steps = doc.mapping("steps", None)
    expected = Expected(
        doc.text("status", ""), doc.integer("exit_code", None), {name: steps.text(name) for name in list(steps.values)},
        doc.texts("order", ()), doc.texts("calls", ()), doc.texts("no_calls", ()),
        doc.choice("target", ("running", "frozen", "stopped", "gone"), ""),
    )  # fmt: skip
    steps.done()
    doc.done()
    return expected


def play(playbook: Playbook, trial: Trial) -> Verdict:
    """Run one test in a home of its own.  Raises ``UsageProblem`` for variables that do not fit."""
    with _own_home() as folder:
        engine, target = _engine(trial)
        signer = keys.generate(keys.DEFAULT_NAME)
        outcome = _run(playbook, trial, engine, target, signer, folder)
        state = _state(engine, target)
    steps = {str(row["id"]): str(row["outcome"]) for row in outcome.steps}
    calls = [one.method for one in engine.mutations]
    return Verdict(
        trial.name,
        tuple(_problems(trial.expected, outcome, steps, calls, state)),
        outcome.status,
        outcome.exit_code,
        steps,
    )


@contextmanager
def _own_home() -> Iterator[Path]:
    before = os.environ.get("IRKIT_HOME")
    with tempfile.TemporaryDirectory(prefix="irkit-test-") as folder:
        os.environ["IRKIT_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["IRKIT_HOME"]
            else:
                os.environ["IRKIT_HOME"] = before


def _engine(trial: Trial) -> tuple[FakeEngine, str]:
    """An engine that counts as remote, so that nothing touches this host, with the target on a network of its own."""
    engine = FakeEngine(IMAGE, endpoint="tcp://nowhere.invalid:2376")
    with engine.unrecorded():
        engine.create_network(NetworkSpec("front", False, {}, {}))
        target = engine.create({"Image": IMAGE, "HostConfig": {"NetworkMode": "front"}}, "target")
        if trial.target != "stopped":
            engine.start(target)
        if trial.target == "frozen":
            engine.pause(target)
    engine.mutations.clear()
    for one in trial.staged:
        error = EngineError(one.message, status=one.status) if one.status else EngineUnreachable("nobody answers")
        engine.fail(one.method, error, at=one.at, times=one.times)
    return engine, target


def _run(playbook: Playbook, trial: Trial, engine: FakeEngine, target: str, signer: Signer, folder: Path) -> Outcome:
    bound = playbook.bind(trial.vars)
    playbook, profile = with_profile(playbook, bound)
    ids = {step.id for step in playbook.every_step}
    unknown = [name for name in trial.simulated if name not in ids and name not in ACTIONS]
    unknown += [
        name for name in (*trial.approvals, *trial.expected.steps) if name not in ids and not _numbered(name, ids)
    ]
    if unknown:
        raise UsageProblem(f"{trial.name}: no step or action {unknown[0]!r}", hint=f"steps: {', '.join(sorted(ids))}")
    with engine.unrecorded():
        before = engine.container(target)
    case = cases.open_case(Target(before.id, before.name, before.image_ref, before.image_id, engine.endpoint))
    run, where = case.new_run()
    context = Context(
        engine, case, run, case.target, before, BundleWriter(case.folder / "bundles" / run), silent, lambda: None, lambda: signer,
        profile=profile,
    )  # fmt: skip
    journal = Journal(where / "journal.jsonl")
    try:
        runner = Runner(_simulate(playbook, trial), context, journal, bound, lambda: None)
        runner.steps.approval = lambda step, approve: _decide(trial, step, approve)  # type: ignore[method-assign]
        return runner.run()
    finally:
        journal.close()


def _numbered(name: str, ids: set[str]) -> bool:
    """Whether it is one of a ``foreach``."""
    stem, _, number = name.rpartition("-")
    return number.isdigit() and stem in ids


def _simulate(playbook: Playbook, trial: Trial) -> Playbook:
    def steps(those: Sequence[Step]) -> tuple[Step, ...]:
        return tuple(
            replace(step, action=_action(step.id, step.action, trial), rollback=_undo(step, trial)) for step in those
        )

    return replace(
        playbook, steps=steps(playbook.steps), on_exception=steps(playbook.on_exception), final=steps(playbook.final)
    )


def _undo(step: Step, trial: Trial) -> Any:
    undo = step.rollback
    return undo and undo._replace(action=_action(f"rollback-{step.id}", undo.action, trial))


def _action(step: str, action: Action, trial: Trial) -> Action:
    told = trial.simulated.get(step) or trial.simulated.get(action.name)
    if told is None and action.name in REAL:
        return action
    given = told or Simulated("succeeded", "simulated", {})
    data = {**dict.fromkeys(action.gives), **DEFAULTS.get(action.name, {}), **given.data}

    def run(context: Context, _: Mapping[str, Any]) -> Result:
        if given.outcome == "failed":
            raise IrkitError(given.message)
        if action.name == "quarantine.prove":
            context.facts.quarantine_state = trial.quarantine
        if action.name.startswith("acquire."):
            origin = Origin(action.name, "simulated", "simulated by a test")
            context.writer.add_json(f"simulated/{step}.json", {"simulated": True}, origin)
        return Result(given.outcome, given.message, data)

    return replace(action, run=run, probe=None)


def _decide(trial: Trial, step: Step, approve: Approve) -> None:
    decision = trial.approvals.get(step.id)
    if decision != "approve":
        raise Refused("denied by the test" if decision else f"nobody approved: {approve.message}")


def _state(engine: FakeEngine, target: str) -> str:
    engine.revive()
    with engine.unrecorded():
        try:
            found = engine.container(target)
        except IrkitError:
            return "gone"
    return "frozen" if found.paused else "running" if found.running else "stopped"


def _problems(
    expected: Expected, outcome: Outcome, steps: Mapping[str, str], calls: Sequence[str], state: str
) -> Iterator[str]:
    if expected.status and outcome.status != expected.status:
        yield f"it {outcome.status}, not {expected.status}" + (f": {outcome.error.message}" if outcome.error else "")
    if expected.exit_code is not None and outcome.exit_code != expected.exit_code:
        yield f"exit code {outcome.exit_code}, not {expected.exit_code}"
    for name, wanted in expected.steps.items():
        if steps.get(name) != wanted:
            yield f"step {name}: {steps.get(name, 'did not come up')}, not {wanted}"
    ran = [name for name, ended in steps.items() if ended not in ("skipped", "undecided")]
    if expected.order and not _within(expected.order, ran):
        yield f"the order was {', '.join(ran)}"
    if expected.calls and not _within(expected.calls, calls):
        yield f"the engine's changing calls were {', '.join(calls) or 'none'}"
    for one in expected.no_calls:
        if one in calls:
            yield f"the engine was asked to {one}"
    if expected.target and state != expected.target:
        yield f"the target is {state}, not {expected.target}"


def _within(wanted: Sequence[str], found: Sequence[str]) -> bool:
    """Whether it comes in this order, with anything in between."""
    rest = iter(found)
    return all(one in rest for one in wanted)
