"""Each key of a step or a playbook does what it says: a run without it would end otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from irkit import documents
from irkit.actions.context import Result
from irkit.actions.registry import Action
from irkit.errors import (
    Conflict,
    EngineError,
    EngineUnreachable,
    ExitCode,
    Interrupted,
    IrkitError,
    PlaybookInvalid,
    Waiting,
)
from irkit.evidence import keys
from irkit.playbook import approval
from irkit.playbook.conditions import parse
from irkit.playbook.journal import Journal, read_journal
from irkit.playbook.model import Approve, Check, Playbook, Retry, Step, Undo
from irkit.playbook.reader import read_playbook
from irkit.playbook.resume import read_past
from irkit.playbook.runner import Outcome, Runner
from tests.unit.test_playbook import HEAD, Stub, failing, good

Body = Callable[[Any, Mapping[str, Any]], Result]


def step(identity: str, body: Body = good, on_failure: str = "abort", action: str = "test.do", **more: Any) -> Step:
    return Step(identity, identity, Action(action, "read", "", body), {}, identity, on_failure, **more)


def play(stub: Stub, *steps: Step, release: bool = False, **more: Any) -> Outcome:
    journal = Journal(stub.path)
    playbook = Playbook("test", "Test", "", {}, steps, "sha256:0", Path("p"), **more)
    try:
        return Runner(playbook, stub, journal, {"x": 1}, lambda: setattr(stub, "signal", False), release=release).run()  # type: ignore[arg-type]
    finally:
        journal.close()


def outcomes(outcome: Outcome) -> dict[str, str]:
    return {row["id"]: row["outcome"] for row in outcome.steps}


NO = failing(IrkitError("no"))


def test_when(stub: Stub) -> None:
    done = play(
        stub, step("a"), step("b", when=parse("a.value == 7 and vars.x == 1")), step("c", when=parse("a.value > 7")),
        step("d", when=parse("steps.c.outcome == 'skipped' and target.name == 'web-1' and not target.running")),
        step("e", when=parse("target.running and known(run.gaps) and run.gaps == 0")),
    )  # fmt: skip
    assert outcomes(done) == {"a": "succeeded", "b": "succeeded", "c": "skipped", "d": "skipped", "e": "succeeded"}
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("word", "outcome", "code"), [("skip", "undecided", 4), ("run", "succeeded", 0), ("abort", "failed", 5)]
)
def test_when_it_can_not_be_decided(stub: Stub, word: str, outcome: str, code: int) -> None:
    done = play(stub, step("a", when=parse("b.value == 1"), when_unknown=word))
    assert (outcomes(done)["a"], done.exit_code) == (outcome, code)


def test_needs(stub: Stub) -> None:
    done = play(stub, step("a", NO, "continue"), step("b", needs=("a",)), step("c", needs=("b",)), step("d"))
    assert outcomes(done) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "succeeded"}


class Flaky:
    """Fails a few times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.tries = times, error, 0

    def __call__(self, _: Any, __: Mapping[str, Any]) -> Result:
        self.tries += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return Result("succeeded", "")


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (EngineUnreachable("gone"), 3), (EngineError("x", status=500), 3), (EngineError("x", status=429), 3),
        (Conflict("x", status=409), 1), (IrkitError("x"), 1), (ZeroDivisionError("x"), 1),
    ],
)  # fmt: skip
def test_retry_only_what_may_pass(stub: Stub, error: Exception, tries: int) -> None:
    flaky = Flaky(2, error)
    began = time.monotonic()
    done = play(stub, step("a", flaky, retry=Retry(3, 0.02, 2)))
    assert flaky.tries == tries and (done.exit_code == 0) == (tries == 3)
    assert time.monotonic() - began >= (0.06 if tries == 3 else 0)
    told = [row["delay"] for row in read_journal(stub.path) if row["type"] == "step-retried"]
    assert told == [0.02, 0.04][: tries - 1]  # `delay`, then times `backoff`


def test_retry_gives_up(stub: Stub) -> None:
    flaky = Flaky(9, EngineUnreachable("gone"))
    assert play(stub, step("a", flaky, retry=Retry(3, 0.01, 1))).exit_code == 1 and flaky.tries == 3


def test_timeout_of_a_step(stub: Stub) -> None:
    def long(context: Any, _: Mapping[str, Any]) -> Result:
        for _round in range(100):
            context.checkpoint()
            time.sleep(0.01)
        return Result("succeeded", "")

    done = play(stub, step("a", long, "continue", timeout=0.05), step("b"))
    assert (
        outcomes(done) == {"a": "failed", "b": "succeeded"}
        and "took longer than the 0.05 seconds" in done.steps[0]["message"]
    )


def test_timeout_of_the_run_skips_what_is_left_but_not_finally(stub: Stub) -> None:
    def long(_: Any, __: Mapping[str, Any]) -> Result:
        time.sleep(0.55)
        return Result("succeeded", "")

    done = play(stub, step("a", long), step("b"), step("c"), timeout=0.5, final=(step("z"),))
    assert outcomes(done) == {"a": "succeeded", "b": "failed", "c": "skipped", "z": "succeeded"}


def test_critical_is_kept_apart_from_on_failure(stub: Stub) -> None:
    done = play(stub, step("a", NO, "continue", critical=True), step("b"))
    assert outcomes(done) == {"a": "failed", "b": "succeeded"} and (done.status, done.exit_code) == ("failed", 1)


def test_goto(stub: Stub) -> None:
    done = play(stub, step("a", NO, "goto", goto="d"), step("b"), step("c"), step("d"))
    assert outcomes(done) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "succeeded"}
    assert done.exit_code == ExitCode.GAPS


def undo(said: list[str], name: str) -> Undo:
    def body(_: Any, __: Mapping[str, Any]) -> Result:
        said.append(name)
        return Result("succeeded", "")

    return Undo(Action("test.undo", "change", "", body), {})


@pytest.mark.parametrize("release", [False, True])
def test_rollback_takes_back_what_was_begun_last_first(stub: Stub, release: bool) -> None:
    said: list[str] = []
    done = play(
        stub, step("f", action="container.freeze", rollback=undo(said, "f")), step("a", rollback=undo(said, "a")),
        step("n", when=parse("vars.x == 2"), rollback=undo(said, "n")), step("b", NO, "rollback", rollback=undo(said, "b")),
        step("c", rollback=undo(said, "c")), release=release,
    )  # fmt: skip
    assert said == (["b", "a", "f"] if release else ["b", "a"])
    assert outcomes(done)["c"] == "skipped" and (done.status, done.exit_code) == ("failed", 1)
    assert outcomes(done)["rollback-a"] == "succeeded"


def test_abort_takes_nothing_back(stub: Stub) -> None:
    said: list[str] = []
    play(stub, step("a", rollback=undo(said, "a")), step("b", NO))
    assert not said


@pytest.mark.parametrize("how", ["success", "failure", "signal"])
def test_finally_and_on_exception(stub: Stub, how: str) -> None:
    body = {"success": good, "failure": NO, "signal": failing(Interrupted("SIGTERM"))}[how]
    done = play(
        stub, step("a", body), step("b"), on_exception=(step("x", NO), step("y")), final=(step("z", NO), step("zz"))
    )
    found = outcomes(done)
    assert (found["z"], found["zz"]) == ("failed", "succeeded")
    assert ("x" in found, "y" in found) == ((True, True) if how == "failure" else (False, False))
    assert done.exit_code == {"success": 4, "failure": 1, "signal": 6}[how]


def test_finally_is_not_cut_short_by_the_signal_that_ended_the_run(stub: Stub) -> None:
    stub.signal = True  # until the run shields itself
    done = play(stub, step("a"), step("b"), final=(step("z"),))
    assert outcomes(done) == {"a": "interrupted", "b": "skipped", "z": "succeeded"} and done.exit_code == 6


def test_a_signal_while_finally_runs_does_not_cut_it_short(stub: Stub) -> None:
    done = play(stub, step("a"), final=(step("y", failing(Interrupted("SIGTERM"))), step("z")))
    assert outcomes(done)["z"] == "succeeded" and done.exit_code == 6


@pytest.mark.parametrize("text", ["vars.x == 2", "vars.nothing == 1"])
def test_preflight_refuses_before_anything_is_touched(stub: Stub, text: str) -> None:
    done = play(stub, step("a"), preflight=(Check(parse("vars.x == 1"), "fine"), Check(parse(text), "not today")))
    assert outcomes(done) == {"a": "skipped"} and done.exit_code == 5
    assert done.error is not None and done.error.message == "not today" and text in str(done.error.hint)


def test_a_dry_run_changes_nothing_and_asks_nobody(stub: Stub) -> None:
    ran: list[str] = []

    def body(_: Any, __: Mapping[str, Any]) -> Result:
        ran.append("x")
        return Result("succeeded", "")

    change = Step("c", "c", Action("x.c", "change", "Change it.", body), {}, "c", "abort", approve=Approve("sure?"))
    proof = Step("p", "p", Action("quarantine.prove", "read", "Prove it.", body, rehearsed=False), {}, "", "abort")
    journal = Journal(stub.path)
    steps = (step("a"), change, proof, step("b", when=parse("c.value == 7")))
    playbook = Playbook("test", "Test", "", {}, steps, "sha256:0", Path("p"))
    done = Runner(playbook, stub, journal, {"x": 1}, lambda: None, dry=True).run()  # type: ignore[arg-type]
    assert outcomes(done) == {"a": "succeeded", "c": "planned", "p": "planned", "b": "undecided"} and not ran
    assert done.exit_code == 0 and "once it is approved (sure?): Change it." in done.steps[1]["message"]


# -- approvals -------------------------------------------------------------------------------------------------------


def answering(stub: Stub, *signers: keys.Signer, decision: str = "approve", change: bytes = b"") -> None:
    """Somebody at another terminal answers as soon as the runner looks for an answer."""
    request = stub.run_folder / "approvals/a.json"  # type: ignore[attr-defined]

    def checkpoint() -> None:
        if request.exists() and not list(request.parent.glob("*.dsse.json")):
            for signer in signers:
                approval.answer(request, signer, decision, "because")
            if change:
                request.write_bytes(request.read_bytes().replace(b"abc", change))

    stub.checkpoint = checkpoint  # type: ignore[method-assign]


ASK = Approve("remove it?", timeout=0.5)


def test_approved(stub: Stub) -> None:
    answering(stub, keys.generate("ann", uses=("approval",)))
    done = play(stub, step("a", approve=ASK))
    assert outcomes(done) == {"a": "succeeded"}
    (given,) = [row for row in read_journal(stub.path) if row["type"] == "approval-given"]
    assert [one["name"] for one in given["answers"]] == ["ann"]
    asked = json.loads((stub.run_folder / "approvals/a.json").read_bytes())  # type: ignore[attr-defined]
    bound = {
        "case": "case-1",
        "run": "run-1",
        "playbook": "sha256:0",
        "target": "abc",
        "step": "a",
        "message": "remove it?",
    }
    assert {name: asked[name] for name in bound} == bound and len(asked["nonce"]) == 32
    assert any("irkit case approve case-1 a" in text for text in stub.said)  # type: ignore[attr-defined]


def test_without_an_answer_it_is_denied(stub: Stub) -> None:
    ran: list[int] = []
    done = play(stub, step("a", lambda *_: ran.append(1) or good(*_), approve=Approve("?", timeout=0.05)))  # type: ignore[func-returns-value]
    assert not ran and done.exit_code == 5 and "0 of 1 approvals came" in done.steps[0]["message"]


def test_denied(stub: Stub) -> None:
    answering(stub, keys.generate("ann", uses=("approval",)), decision="deny")
    done = play(stub, step("a", approve=ASK))
    assert done.exit_code == 5 and done.steps[0]["message"] == "ann denied it: because"


@pytest.mark.parametrize("wrong", ["use", "name", "count", "request"])
def test_what_does_not_count(stub: Stub, wrong: str) -> None:
    """A key that is not for approvals, is not of those asked, one key for two, an answer to another question."""
    signer = keys.generate("ann", uses=("evidence",) if wrong == "use" else ("approval",))
    by, minimum = (("bob",) if wrong == "name" else ()), 2 if wrong == "count" else 1
    answering(stub, signer, change=b"xyz" if wrong == "request" else b"")
    done = play(stub, step("a", approve=Approve("?", by, minimum, 0.2)))
    assert list((stub.run_folder / "approvals").glob("*.dsse.json")), "there was an answer"  # type: ignore[attr-defined]
    assert done.exit_code == 5 and outcomes(done) == {"a": "failed"}


def test_two_keys(stub: Stub) -> None:
    answering(stub, *(keys.generate(name, uses=("approval",)) for name in ("ann", "bob")))
    assert play(stub, step("a", approve=Approve("?", ("ann", "bob"), 2, 1))).exit_code == 0


def resumed(stub: Stub, *steps: Step, **more: Any) -> Outcome:
    stub.steps.clear()
    stub.checkpoint = lambda: None  # type: ignore[method-assign]
    journal = Journal.reopen(stub.path)
    playbook = Playbook("test", "Test", "", {}, steps, "sha256:0", Path("p"))
    try:
        return Runner(playbook, stub, journal, {"x": 1}, lambda: None, past=read_past(stub.path), **more).run()  # type: ignore[arg-type]
    finally:
        journal.close()


def paused(stub: Stub, *steps: Step, **more: Any) -> Outcome:
    journal = Journal(stub.path)
    playbook = Playbook("test", "Test", "", {}, steps, "sha256:0", Path("p"), **more)
    try:
        return Runner(playbook, stub, journal, {"x": 1}, lambda: None, wait=False).run()  # type: ignore[arg-type]
    finally:
        journal.close()


def test_without_waiting_the_run_ends_and_goes_on_once_it_is_approved(stub: Stub) -> None:
    ran: list[str] = []

    def body(_: Any, __: Mapping[str, Any]) -> Result:
        ran.append("x")
        return Result("succeeded", "")

    steps = (step("s", body), step("a", body, "continue", approve=Approve("remove it?", timeout=60)), step("b", body))
    said: list[str] = []
    done = paused(stub, *steps, final=(step("z", lambda *_: said.append("z") or good(*_)),), on_exception=(step("y"),))  # type: ignore[func-returns-value]
    assert (done.status, done.exit_code, ran, said) == ("waiting", ExitCode.WAITING, ["x"], [])
    assert isinstance(done.error, Waiting) and "case approve" in str(done.error.hint)
    request = stub.run_folder / "approvals/a.json"  # type: ignore[attr-defined]
    before = request.read_bytes()
    again = resumed(stub, *steps, wait=False)
    assert (again.status, again.exit_code, ran) == ("waiting", 7, ["x"]) and request.read_bytes() == before
    assert [one["step"] for one in approval.pending(stub.run_folder)] == ["a"]  # type: ignore[attr-defined]
    approval.answer(request, keys.generate("ann", uses=("approval",)), "approve")
    assert resumed(stub, *steps, wait=False).exit_code == 0 and ran == ["x", "x", "x"]
    assert not list(approval.pending(stub.run_folder))  # type: ignore[attr-defined]


def test_without_waiting_it_is_denied_after_its_time(stub: Stub) -> None:
    steps = (step("a", approve=Approve("?", timeout=0.05)),)
    assert paused(stub, *steps).status == "waiting"
    time.sleep(0.06)
    done = resumed(stub, *steps, wait=False)
    assert (done.status, done.exit_code) == ("aborted", 5) and "0 of 1 approvals" in done.steps[0]["message"]


def test_an_answer_that_came_while_nobody_looked_counts(stub: Stub) -> None:
    steps = (step("a", approve=Approve("?", timeout=30)),)
    assert paused(stub, *steps).status == "waiting"
    request = stub.run_folder / "approvals/a.json"  # type: ignore[attr-defined]
    approval.answer(request, keys.generate("ann", uses=("approval",)), "deny", "no")
    assert "ann denied it" in resumed(stub, *steps).steps[0]["message"]


def test_what_was_critical_before_a_pause_still_is(stub: Stub) -> None:
    steps = (step("c", NO, "continue", critical=True), step("a", approve=Approve("?", timeout=30)))
    assert paused(stub, *steps).status == "waiting"
    request = stub.run_folder / "approvals/a.json"  # type: ignore[attr-defined]
    approval.answer(request, keys.generate("ann", uses=("approval",)), "approve")
    done = resumed(stub, *steps)
    assert outcomes(done) == {"c": "failed", "a": "succeeded"} and (done.status, done.exit_code) == ("failed", 1)


def test_another_question_is_asked_anew(stub: Stub) -> None:
    assert paused(stub, step("a", approve=Approve("this?", timeout=30))).status == "waiting"
    request = stub.run_folder / "approvals/a.json"  # type: ignore[attr-defined]
    approval.answer(request, keys.generate("ann", uses=("approval",)), "approve")
    assert resumed(stub, step("a", approve=Approve("that?", timeout=30)), wait=False).status == "waiting"


# -- reading ---------------------------------------------------------------------------------------------------------

TWO = "steps:\n  - id: a\n    uses: acquire.logs\n  - id: b\n    uses: acquire.logs\n"


def test_every_key_is_read() -> None:
    text = HEAD + (
        "timeout: 600\nvars: {image: {type: string, choices: [x, y]}, n: {type: number, default: 1.5}, l: {type: list, default: [1]}}\n"
        "preflight:\n  - {check: vars.image startswith 'x', message: only x}\nsteps:\n  - id: a\n    uses: container.freeze\n"
        "    rollback: {uses: container.thaw}\n    critical: true\n    timeout: 9.5\n    retry: {attempts: 3, delay: 0.5, backoff: 1}\n"
        "    refs: ['attack:T1611', 'd3fend:D3-NI', 'csf:RS.MI-01', 'react:RA3101']\n    on_failure: {goto: c}\n"
        "  - id: b\n    uses: acquire.logs\n    needs: a\n    when: steps.a.outcome == 'succeeded' and 1 in vars.l\n    when_unknown: run\n"
        "    approve: {message: sure?, by: [ann, bob], min: 2, timeout: 60}\n    on_failure: rollback\n  - {id: c, uses: acquire.logs}\n"
        "on_exception:\n  - {id: d, uses: acquire.logs}\nfinally:\n  - {id: e, uses: evidence.seal}\n"
    )
    playbook = read_playbook(documents.parse(text.encode(), "p.yaml"), "sha256:0", Path("p.yaml"))
    one, two, _ = playbook.steps
    assert playbook.timeout == 600 and playbook.preflight[0].message == "only x"
    assert (
        one.rollback is not None
        and one.rollback.action.name == "container.thaw"
        and one.critical
        and one.timeout == 9.5
    )
    assert one.retry == Retry(3, 0.5, 1) and (one.on_failure, one.goto) == ("goto", "c") and len(one.refs) == 4
    assert two.needs == ("a",) and two.when is not None and two.when_unknown == "run" and two.on_failure == "rollback"
    assert two.approve == Approve("sure?", ("ann", "bob"), 2, 60)
    assert [step.id for step in (*playbook.on_exception, *playbook.final)] == ["d", "e"]
    assert playbook.vars["image"].choices == ("x", "y") and playbook.vars["l"].default == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO + "    when: vars.x == 1\n", "7:5: 'vars.x': no such var before this"),
        (TWO + "    when: b.x == 1\n", "nothing is called 'b' here"),
        (TWO + "    when: steps.b.outcome == 'x'\n", "'steps.b.outcome': no such step"),
        (TWO + "    when: 1 ==\n", "when: expected a value"),
        (TWO + "    needs: [c]\n", "no earlier step has the id 'c'"),
        (TWO + "    on_failure: {goto: a}\n", "no later step has the id 'a'"),
        (TWO + "    on_failure: goto\n", "goto needs a step"),
        (TWO + "    timeout: 0\n", "must be more than 0"),
        (TWO + "    retry: {attempts: 99}\n", "'attempts' must be 1 to 20"),
        (TWO + "    approve: {message: x, by: [ann], min: 2}\n", "'min' must be"),
        (TWO + "    refs: [T1611]\n", "'T1611' is no reference"),
        (TWO + "    rollback: {uses: nothing}\n", "'uses' must be one of"),
        (TWO + "finally:\n  - {id: z, uses: acquire.logs, on_failure: rollback}\n", "has no meaning here"),
        (TWO + "finally:\n  - {id: a, uses: acquire.logs}\n", "two steps have the id 'a'"),
        ("vars: {n: {type: integer}}\n" + TWO + "    when: vars.n == 'x'\n", "vars.n is of type integer"),
        ("vars: {n: {type: string, default: z, choices: [x]}}\n" + TWO, "none of the choices"),
    ],
)  # fmt: skip
def test_mistakes_are_seen_before_anything_runs(text: str, said: str) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        read_playbook(documents.parse((HEAD + text).encode(), "p.yaml"), "sha256:0", Path("p.yaml"))
    assert said.split(": ", 1)[-1] in caught.value.message, caught.value.message
