"""Playbooks: what is refused and where, and what a runner makes of failures and signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from irkit import documents, resources
from irkit.actions.context import Facts, Result
from irkit.actions.registry import ACTIONS, Action
from irkit.errors import Interrupted, IrkitError, PlaybookInvalid, Refused, UsageProblem
from irkit.events import Event
from irkit.models import Gap
from irkit.playbook.journal import Journal, read_journal
from irkit.playbook.model import Playbook, Reference, Step, resolve
from irkit.playbook.performer import TOLERATED
from irkit.playbook.profiled import with_profile
from irkit.playbook.reader import load_playbook, read_playbook
from irkit.playbook.runner import Outcome, Runner

HEAD = "apiVersion: irkit/v1\nkind: Playbook\nid: test\nname: Test\n"
SHIPPED = sorted(resources.shipped("playbooks").glob("*.yaml"))


def read(text: str) -> Playbook:
    return read_playbook(documents.parse(text.encode(), "p.yaml"), "sha256:0", Path("p.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped(path: Path) -> None:
    playbook = load_playbook(path)
    assert playbook.id == path.stem
    assert playbook.steps
    assert playbook.digest.startswith("sha256:")


def test_the_shipped_ones_are_there() -> None:
    assert {path.stem for path in SHIPPED} >= {"contain", "snapshot", "release", "rebuild"}


def test_contain_isolates_whatever_fails_before() -> None:
    playbook, _ = with_profile(load_playbook(resources.shipped("playbooks") / "contain.yaml"), {"profile": "standard"})
    steps = playbook.steps
    order = [step.action.name for step in steps]
    assert all(step.on_failure == "continue" for step in steps[: order.index("quarantine.prove")])
    assert (
        order.index("container.freeze")
        < order.index("quarantine.seal")
        < order.index("acquire.filesystem")
        < order.index("evidence.seal")
    )


STEP = "steps:\n  - id: a\n    uses: acquire.logs\n"


def test_a_variable_of_another_type_is_refused_before_anything_runs() -> None:
    text = (
        HEAD
        + "vars:\n  out: {type: string, default: x}\nsteps:\n  - id: a\n    uses: quarantine.prove\n    with:\n      timeout_ms: ${{ vars.out }}\n"
    )
    with pytest.raises(PlaybookInvalid, match="the variable is of type string"):
        read(text)


@pytest.mark.parametrize(
    ("text", "said", "place"),
    [
        (HEAD + STEP + "oops: 1\n", "unknown key 'oops'", ":8:"),
        (HEAD + STEP + "    on_fail: abort\n", "unknown key 'on_fail'", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: acquire.log\n", "'uses' must be one of", ":7:"),
        (HEAD + "steps:\n  - id: a\n    uses: acquire.tmpfs\n    with: {profil: x}\n", "unknown key 'profil'", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: quarantine.prove\n    with: {timeout_ms: x}\n", "'timeout_ms' must be of type int", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: quarantine.prove\n    with: {timeout_ms: true}\n", "'timeout_ms' must be of type int", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: image.verify\n", "image.verify needs 'image'", ":6:"),
        (HEAD + "steps:\n  - id: a\n    uses: image.verify\n    with: {image: \"${{ clean.x }}\"}\n", "nothing is registered as 'clean'", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: image.verify\n    with: {image: \"${{ vars.x }}\"}\n", "no such variable", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: image.verify\n    with: {image: \"x${{ vars.x }}\"}\n", "must be the whole value", ":8:"),
        (HEAD + "steps:\n  - id: a\n    uses: image.verify\n    register: a\n    with: {image: \"${{ a.x }}\"}\n", "nothing is registered as 'a'", ":9:"),
        (HEAD + STEP + "    register: vars\n", "is taken", ":8:"),
        (HEAD + STEP + "    on_failure: ignore\n", "'on_failure' must be one of", ":8:"),
        (HEAD + STEP + "  - id: a\n    uses: acquire.logs\n", "two steps have the id 'a'", ":8:"),
        (HEAD + "steps: []\n", "at least one step", ":1:"),
        (HEAD + "steps: [x]\n", "expected a mapping", ":5:"),
        (HEAD.replace("irkit/v1", "irkit/v2") + STEP, "'apiVersion' must be one of", ":1:"),
        (HEAD.replace("id: test", "id: ../x") + STEP, "lower-case", ":3:"),
        (HEAD + "vars: {n: {type: integer, default: x}}\n" + STEP, "'default' must be of type integer", ":5:"),
        (HEAD + "vars: {n: {type: float}}\n" + STEP, "'type' must be one of", ":5:"),
        (HEAD + "vars: {\"x'; id; '\": {type: string}}\n" + STEP, "a variable's name must be", ":5:"),
    ],
)  # fmt: skip
def test_refused(text: str, said: str, place: str) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        read(text)
    assert said in caught.value.message
    assert caught.value.message.startswith("p.yaml" + place)


def test_bind() -> None:
    playbook = read(HEAD + "vars: {image: {type: string}, n: {type: integer, default: 60}}\n" + STEP)
    assert playbook.bind({"image": "x"}) == {"image": "x", "n": 60}
    assert playbook.bind({"image": "12", "n": "7"}) == {"image": "12", "n": 7}
    for given in ({}, {"image": 1}, {"image": "x", "n": "one"}, {"image": "x", "other": 1}):
        with pytest.raises(UsageProblem):
            playbook.bind(given)
    with pytest.raises(UsageProblem, match="needs a value for 'image'"):
        playbook.bind({})
    few = read(HEAD + "vars: {mode: {type: string, default: careful, choices: [careful, fast]}}\n" + STEP)
    assert few.bind({"mode": "fast"}) == {"mode": "fast"} and few.bind({}) == {"mode": "careful"}
    with pytest.raises(UsageProblem, match="one of careful, fast"):
        few.bind({"mode": "reckless"})


def test_resolve() -> None:
    registered = {"clean": {"image_id": "sha256:1", "inner": {"x": 1}}}
    assert resolve(Reference("clean", ("image_id",)), registered) == "sha256:1"
    assert resolve(Reference("clean", ("inner", "x")), registered) == 1
    assert resolve("plain", registered) == "plain"
    for fields in (("none",), ("image_id", "x")):
        with pytest.raises(UsageProblem):
            resolve(Reference("clean", fields), registered)


class Stub:
    """As much of a context as a runner needs."""

    def __init__(self, folder: Path) -> None:
        self.run, self.facts, self.vars = "run-1", Facts(), {}
        self.steps: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.case = SimpleNamespace(id="case-1", opened_by="me@here")
        self.target = SimpleNamespace(to_json=dict)
        self.before = SimpleNamespace(running=True, paused=False)
        self.gaps: list[Gap] = []
        self.synced = 0
        self.writer = SimpleNamespace(sync=self._sync, artifacts=[], gaps=self.gaps, identities=[])
        self.observer = self.events.append
        self.signal = False
        self.profile = None
        self.endings: list[Callable[[], None]] = []
        self.path = folder / "journal.jsonl"

    def _sync(self) -> None:
        self.synced += 1

    def keep_before(self) -> None:
        """Nothing to keep."""

    def mark(self, moment: str) -> None:
        self.facts.timeline[moment] = "now"

    def checkpoint(self) -> None:
        if self.signal:
            raise Interrupted("a signal came")


Body = Callable[[Any, Mapping[str, Any]], Result]


def good(_: Any, __: Mapping[str, Any]) -> Result:
    return Result("succeeded", "fine", {"value": 7})


def failing(error: Exception) -> Body:
    def body(_: Any, __: Mapping[str, Any]) -> Result:
        raise error

    return body


def step(identity: str, body: Body, on_failure: str = "abort", **arguments: Any) -> Step:
    return Step(identity, identity, Action("test.do", "read", "", body), arguments, identity, on_failure)


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    return Stub(tmp_path)


def play(stub: Stub, *steps: Step, shield: Callable[[], None] = lambda: None) -> tuple[Outcome, list[str]]:
    journal = Journal(stub.path)
    playbook = Playbook("test", "Test", "", {}, steps, "sha256:0", Path("p"))
    outcome = Runner(playbook, stub, journal, {"x": 1}, shield).run()  # type: ignore[arg-type]
    journal.close()
    return outcome, [f"{row['type']} {row.get('id', '')}".strip() for row in read_journal(stub.path)]


def test_a_record_before_and_after_each_step(stub: Stub) -> None:
    outcome, rows = play(stub, step("a", good), step("b", good))
    assert rows == [
        "run-started",
        "step-started a",
        "step-finished a",
        "step-started b",
        "step-finished b",
        "run-finished",
    ]
    assert (outcome.status, outcome.exit_code) == ("succeeded", 0)
    assert [event.kind for event in stub.events] == ["step-started", "step-finished"] * 2
    assert stub.synced == 2


def test_the_record_before_a_step_is_on_the_disk_when_it_runs(stub: Stub) -> None:
    seen: list[str] = []

    def look(_: Any, __: Mapping[str, Any]) -> Result:
        seen.extend(str(row["type"]) for row in read_journal(stub.path))
        return Result("succeeded", "")

    play(stub, step("a", look))
    assert seen == ["run-started", "step-started"]


def test_abort_ends_the_run(stub: Stub) -> None:
    outcome, rows = play(stub, step("a", failing(IrkitError("no")), "abort"), step("b", good))
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert [(row["id"], row["outcome"], row["conclusion"]) for row in outcome.steps] == [
        ("a", "failed", "failed"),
        ("b", "skipped", "skipped"),
    ]
    assert rows == ["run-started", "step-started a", "step-finished a", "run-finished"]


def test_continue_goes_on(stub: Stub) -> None:
    outcome, rows = play(stub, step("a", failing(IrkitError("no")), "continue"), step("b", good))
    assert (outcome.status, outcome.exit_code) == ("degraded", 4)
    assert [(row["id"], row["outcome"], row["conclusion"]) for row in outcome.steps] == [
        ("a", "failed", TOLERATED),
        ("b", "succeeded", "succeeded"),
    ]
    assert "step-finished b" in rows


def test_a_fault_of_irkit_is_a_failed_step(stub: Stub) -> None:
    outcome, _ = play(stub, step("a", failing(ZeroDivisionError("x")), "continue"), step("b", good))
    assert outcome.exit_code == 4
    assert "irkit's own fault: ZeroDivisionError" in outcome.steps[0]["message"]
    assert outcome.steps[1]["outcome"] == "succeeded"


def test_refused_aborts(stub: Stub) -> None:
    outcome, _ = play(stub, step("a", failing(Refused("no"))))
    assert (outcome.status, outcome.exit_code) == ("aborted", 5)


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_interrupted_skips_the_rest(stub: Stub, on_failure: str) -> None:
    shielded: list[bool] = []
    steps = step("a", good), step("b", failing(Interrupted("a signal came")), on_failure), step("c", good, "continue")
    outcome, rows = play(stub, *steps, shield=lambda: shielded.append(True))
    assert (outcome.status, outcome.exit_code) == ("interrupted", 6)
    assert [row["outcome"] for row in outcome.steps] == ["succeeded", "interrupted", "skipped"]
    assert rows[-2:] == ["run-interrupted", "run-finished"]
    assert "step-started c" not in rows
    assert shielded


def test_a_signal_between_steps_starts_no_action(stub: Stub) -> None:
    def stop(_: Any, __: Mapping[str, Any]) -> Result:
        stub.signal = True
        return Result("succeeded", "")

    ran: list[bool] = []

    def note(_: Any, __: Mapping[str, Any]) -> Result:
        ran.append(True)
        return Result("succeeded", "")

    outcome, _ = play(stub, step("a", stop), step("b", note, "continue"))
    assert (outcome.exit_code, ran) == (6, [])


def test_gaps_degrade(stub: Stub) -> None:
    stub.gaps.append(Gap("logs", "x", "y"))
    assert play(stub, step("a", good))[0].exit_code == 4


def test_registered_values_reach_later_steps(stub: Stub) -> None:
    seen: list[Mapping[str, Any]] = []

    def keep(_: Any, arguments: Mapping[str, Any]) -> Result:
        seen.append(arguments)
        return Result("succeeded", "")

    play(stub, step("a", good), step("b", keep, n=Reference("a", ("value",)), x=Reference("vars", ("x",)), p="plain"))
    assert seen == [{"n": 7, "x": 1, "p": "plain"}]


def test_a_reference_to_a_failed_step_fails_its_step(stub: Stub) -> None:
    outcome, _ = play(
        stub,
        step("a", failing(IrkitError("no")), "continue"),
        step("b", good, "continue", n=Reference("a", ("value",))),
    )
    assert [row["outcome"] for row in outcome.steps] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("open", "failed", 3),
        ("proven", "succeeded", 0),
        ("partial", "degraded", 3),
        ("", "degraded", 3),
        ("frozen-only", "succeeded", 0),
    ],
)
def test_the_quarantine_decides(stub: Stub, state: str, status: str, code: int) -> None:
    stub.facts.quarantine_state = state
    prove = Step("p", "p", Action("quarantine.prove", "read", "", good), {}, "", "continue")
    outcome, _ = play(stub, prove)
    assert (outcome.status, outcome.exit_code) == (status, code)


def test_every_action_is_described() -> None:
    for name, action in ACTIONS.items():
        assert (action.name, action.effect in ("read", "change", "destroy"), bool(action.summary)) == (name, True, True)
