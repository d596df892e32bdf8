"""include, foreach and parallel: read, run, cut off and gone on with."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irkit import documents
from irkit.actions import registry
from irkit.actions.context import Result
from irkit.actions.registry import ACTIONS, Action, Param
from irkit.errors import Interrupted, IrkitError, PlaybookInvalid
from irkit.playbook import lint, plan
from irkit.playbook.journal import Journal, read_journal
from irkit.playbook.model import Playbook
from irkit.playbook.reader import load_playbook, read_playbook
from irkit.playbook.resume import read_past
from irkit.playbook.runner import Outcome, Runner
from tests.unit.test_playbook import Stub

HEAD = "apiVersion: irkit/v1\nkind: Playbook\nid: {id}\nname: x\n"


@pytest.fixture(autouse=True)
def actions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Two actions: ``test.say`` tells what it was given, ``test.fail`` fails on 'bad'; both are remembered."""
    said: list[tuple[str, Any]] = []

    def say(ctx: Any, args: Mapping[str, Any]) -> Result:
        said.append((ctx.step, args["what"]))
        return Result("succeeded", "said", {"what": args["what"]})

    def fail(ctx: Any, args: Mapping[str, Any]) -> Result:
        said.append((ctx.step, args["what"]))
        if args["what"] == "bad":
            raise IrkitError("it was bad")
        return Result("succeeded", "", {})

    what = (Param("what", object, required=True),)
    for action in (
        Action("test.say", "read", "", say, what, beside=True),
        Action("test.main", "read", "", say, what),
        Action("test.fail", "read", "", fail, what),
        Action("test.once", "change", "", say, what, repeatable=False),
    ):
        monkeypatch.setitem(ACTIONS, action.name, action)  # type: ignore[index]
    assert registry.ACTIONS is ACTIONS
    return said


def book(tmp_path: Path, body: str, identity: str = "outer") -> Playbook:
    path = tmp_path / f"{identity}.yaml"
    path.write_text(HEAD.format(id=identity) + body)
    return load_playbook(path)


def play(stub: Stub, playbook: Playbook, variables: Mapping[str, Any] | None = None, **more: Any) -> Outcome:
    again = more.get("past") is not None
    journal = Journal.reopen(stub.path) if again else Journal(stub.path)
    try:
        return Runner(playbook, stub, journal, playbook.bind(variables or {}), lambda: None, **more).run()  # type: ignore[arg-type]
    finally:
        journal.close()


INNER = """vars: {word: {type: string}, often: {type: integer, default: 1}}
steps:
  - {id: one, uses: test.main, with: {what: "${{ vars.word }}"}, register: got}
  - {id: two, uses: test.main, with: {what: "${{ got.what }}"}, needs: [one], when: vars.word != 'quiet' and steps.one.outcome == 'succeeded'}
finally:
  - {id: end, uses: test.main, with: {what: "${{ vars.word }}"}}
"""


def test_include(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    book(tmp_path, INNER, "inner")
    outer = book(
        tmp_path,
        "vars: {name: {type: string, default: ann}}\nsteps:\n"
        "  - {id: first, uses: test.main, with: {what: 5}, register: got}\n"
        '  - {id: a, include: ./inner.yaml, with: {word: "${{ vars.name }}"}}\n'
        "  - {id: b, include: ./inner.yaml, with: {word: quiet}, when: got.what == 5, needs: [a-two]}\n",
    )
    outcome = play(stub, outer)
    assert outcome.status == "succeeded"
    assert actions == [
        ("first", 5), ("a-one", "ann"), ("a-two", "ann"), ("b-one", "quiet"), ("a-end", "ann"), ("b-end", "quiet"),
    ]  # fmt: skip
    assert outer.digest != outer.file_digest
    changed = (tmp_path / "inner.yaml").read_text().replace("quiet", "still")
    (tmp_path / "inner.yaml").write_text(changed)
    assert load_playbook(tmp_path / "outer.yaml").digest != outer.digest


GUARDED = (
    "vars: {ok: {type: boolean, default: true}}\npreflight: [{check: vars.ok, message: not today}]\nsteps: [{id: one, uses: test.fail, with: {what: bad}}]\n"
    "on_exception: [{id: sorry, uses: test.main, with: {what: 1}}]\nfinally: [{id: end, uses: test.main, with: {what: 2}}]\n"
)


def test_what_an_included_one_says_of_failures_holds(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    book(tmp_path, GUARDED, "inner")
    outer = book(
        tmp_path,
        "steps: [{id: a, include: ./inner.yaml}]\non_exception: [{id: own, uses: test.main, with: {what: 0}}]\n",
    )
    assert play(stub, outer).status == "failed"
    assert actions == [("a-one", "bad"), ("own", 0), ("a-sorry", 1), ("a-end", 2)]


def test_the_preflight_of_an_included_one_holds(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    book(tmp_path, GUARDED, "inner")
    done = play(
        stub,
        book(
            tmp_path,
            "steps: [{id: f, uses: test.main, with: {what: 0}}, {id: a, include: ./inner.yaml, with: {ok: false}}]\n",
        ),
    )
    assert done.exit_code == 5 and done.error is not None and done.error.message == "not today"
    assert actions == [("a-sorry", 1), ("a-end", 2)]  # the run is over, and nothing was done


def test_an_include_is_decided_once(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    book(tmp_path, INNER, "inner")
    outer = book(tmp_path, "steps:\n  - {id: a, include: ./inner.yaml, with: {word: x}, when: run.gaps > 5}\n")
    assert play(stub, outer).status == "succeeded"
    assert actions == []
    rows = [row for row in read_journal(stub.path) if row["type"] == "include-decided"]
    assert len(rows) == 1
    assert read_past(stub.path).decided["a"] == rows[0]["decided"]


def test_nested_includes_keep_apart(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    book(tmp_path, INNER, "inner")
    book(
        tmp_path,
        "vars: {w: {type: string}}\nsteps:\n  - {id: x, include: ./inner.yaml, with: {word: '${{ vars.w }}'}}\n"
        "  - {id: y, uses: test.main, with: {what: '${{ vars.w }}'}}\n",
        "middle",
    )
    outer = book(tmp_path, "steps:\n  - {id: a, include: ./middle.yaml, with: {w: deep}}\n")
    assert play(stub, outer).status == "succeeded"
    assert [name for name, _ in actions] == ["a-x-one", "a-x-two", "a-y", "a-x-end"]
    assert {word for _, word in actions} == {"deep"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("steps: [{id: a, include: ./outer.yaml}]", "includes itself"),
        ("steps: [{id: a, include: no-such-playbook}]", "no playbook"),
        ("steps: [{id: a, include: ./inner.yaml}]", "needs a value for 'word'"),
        ("steps: [{id: a, include: ./inner.yaml, with: {word: 5}}]", "must be of type string"),
        ("steps: [{id: a, include: ./inner.yaml, with: {word: x, often: true}}]", "must be of type integer"),
        ("steps: [{id: a, include: ./inner.yaml, with: {wort: x}}]", "no variable 'wort'"),
        (
            "steps: [{id: a-one, uses: test.main, with: {what: 1}}, {id: a, include: ./inner.yaml, with: {word: x}}]",
            "two steps",
        ),
        ("steps: [{id: a, include: ./inner.yaml, with: {word: x}, uses: test.main}]", "unknown key 'uses'"),
        ("steps: [{id: a, parallel: [{id: b, uses: test.say, with: {what: 1}}]}]", "at least two"),
        (
            "steps: [{id: a, parallel: [{id: b, uses: test.main, with: {what: 1}}, {id: c, uses: test.main, with: {what: 1}}]}]",
            "only one of these",
        ),
        (
            "steps: [{id: a, parallel: [{id: b, uses: test.say, with: {what: 1}, on_failure: rollback}, {id: c, uses: test.say, with: {what: 1}}]}]",
            "can't jump",
        ),
        ("steps: [{id: a, uses: test.main, foreach: 5, with: {what: 1}}]", "must be a list"),
        ("steps: [{id: a, uses: test.main, with: {what: '${{ item }}'}}]", "nothing is registered as 'item'"),
        ("steps: [{id: a, uses: test.main, with: {what: 1}, when: item == 1}]", "nothing is called 'item'"),
        (
            "steps: [{id: a, uses: image.verify, with: {image: x}, register: c}, {id: b, uses: test.main, with: {what: '${{ c.image }}'}}]",
            "'c' has no 'image'",
        ),
        ("steps: [{id: a, uses: notify, with: {channel: x, message: y, severity: loud}}]", "must be one of info"),
    ],
)
def test_mistakes(tmp_path: Path, body: str, message: str) -> None:
    book(tmp_path, INNER, "inner")
    with pytest.raises(PlaybookInvalid, match=rf"outer\.yaml:\d+:\d+: .*{message}"):
        book(tmp_path, body)


def test_foreach(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(
        tmp_path,
        "steps:\n  - {id: a, uses: test.fail, foreach: [x, bad, y, z], with: {what: '${{ item }}'}, when: item != 'y', on_failure: continue, register: all}\n"
        "  - {id: b, uses: test.main, with: {what: '${{ all.failed }}'}}\n",
    )
    outcome = play(stub, outer)
    assert actions == [("a-1", "x"), ("a-2", "bad"), ("a-4", "z"), ("b", 1)]
    assert outcome.status == "degraded"
    assert [row["id"] for row in outcome.steps] == ["a-1", "a-2", "a-3", "a-4", "a", "b"]


def test_foreach_ends_at_a_failure_that_aborts(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(tmp_path, "steps: [{id: a, uses: test.fail, foreach: [x, bad, y], with: {what: '${{ item }}'}}]")
    assert play(stub, outer).status == "failed"
    assert actions == [("a-1", "x"), ("a-2", "bad")]


def test_parallel_runs_at_the_same_time(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    met = threading.Barrier(3, timeout=5)

    def meet(ctx: Any, args: Mapping[str, Any]) -> Result:
        met.wait()
        return Result("succeeded", ctx.step, {})

    for name in ("test.say", "test.main"):
        monkeypatch.setitem(ACTIONS, name, replace(ACTIONS[name], run=meet))  # type: ignore[index]
    outer = book(
        tmp_path,
        "steps:\n  - id: all\n    parallel:\n      - {id: a, uses: test.say, with: {what: 1}}\n      - {id: b, uses: test.main, with: {what: 1}}\n"
        "      - {id: c, uses: test.say, with: {what: 1}}\n",
    )
    outcome = play(stub, outer)
    assert [(row["id"], row["message"]) for row in outcome.steps] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert outcome.status == "succeeded"


def test_a_timeout_in_parallel_is_that_step_s_alone(
    tmp_path: Path,
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, seen = threading.Event(), threading.Event()

    def one(ctx: Any, args: Mapping[str, Any]) -> Result:
        time.sleep(0.1)
        late.set()  # its own time is over, and it has not looked yet
        seen.wait(10)
        ctx.checkpoint()
        return Result("succeeded", "", {})

    def other(ctx: Any, args: Mapping[str, Any]) -> Result:
        late.wait(10)
        ctx.checkpoint()
        seen.set()
        return Result("succeeded", "", {})

    for name, body in (("test.say", one), ("test.main", other)):
        monkeypatch.setitem(ACTIONS, name, replace(ACTIONS[name], run=body))  # type: ignore[index]
    outer = book(
        tmp_path,
        "steps:\n  - id: all\n    parallel:\n      - {id: a, uses: test.say, with: {what: 100}, timeout: 0.05, on_failure: continue}\n"
        "      - {id: b, uses: test.main, with: {what: 8}}\n",
    )
    assert {row["id"]: row["outcome"] for row in play(stub, outer).steps} == {"a": "failed", "b": "succeeded"}


def cut(stub: Stub, after: str) -> None:
    """The journal as a kill would leave it, right after a step was begun."""
    lines = stub.path.read_bytes().splitlines(keepends=True)
    rows = list(read_journal(stub.path))
    number = next(n for n, row in enumerate(rows) if row["type"] == "step-started" and row["id"] == after)
    stub.path.write_bytes(b"".join(lines[: number + 1]))


ONCE = "steps:\n  - {id: a, uses: test.main, with: {what: 1}}\n  - {id: b, uses: test.once, with: {what: 2}}\n  - {id: c, uses: test.main, with: {what: 3}}\n"


def test_what_may_have_been_done_is_not_done_again(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(tmp_path, ONCE)
    play(stub, outer)
    cut(stub, "b")
    actions.clear()
    stub.steps.clear()
    outcome = play(stub, outer, past=read_past(stub.path))
    assert actions == [("c", 3)]
    assert {row["id"]: row["outcome"] for row in outcome.steps}["b"] == "undecided"
    assert outcome.exit_code == 4


def test_unless_somebody_says_so(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(tmp_path, ONCE)
    play(stub, outer)
    cut(stub, "b")
    actions.clear()
    stub.steps.clear()
    play(stub, outer, past=read_past(stub.path), again=frozenset({"b"}))
    assert actions == [("b", 2), ("c", 3)]


def test_or_its_probe_knows(tmp_path: Path, stub: Stub, actions: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    probed = replace(ACTIONS["test.once"], probe=lambda ctx, args: Result("succeeded", f"was done: {args['what']}", {}))
    monkeypatch.setitem(ACTIONS, "test.once", probed)  # type: ignore[index]
    outer = book(tmp_path, ONCE)
    play(stub, outer)
    cut(stub, "b")
    actions.clear()
    stub.steps.clear()
    outcome = play(stub, outer, past=read_past(stub.path))
    assert actions == [("c", 3)]
    assert outcome.status == "succeeded"


def test_foreach_goes_on_where_it_was(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(tmp_path, "steps: [{id: a, uses: test.main, foreach: [x, y, z], with: {what: '${{ item }}'}}]")
    play(stub, outer)
    cut(stub, "a-2")
    actions.clear()
    stub.steps.clear()
    assert play(stub, outer, past=read_past(stub.path)).status == "succeeded"
    assert actions == [("a-2", "y"), ("a-3", "z")]


def test_foreach_goes_on_after_a_signal(
    tmp_path: Path, stub: Stub, actions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = book(
        tmp_path,
        "steps: [{id: a, uses: test.fail, foreach: [x, y, z], with: {what: '${{ item }}'}, register: got, on_failure: continue}]",
    )
    calm, fail = ACTIONS["test.fail"], [True]

    def signalled(ctx: Any, args: Mapping[str, Any]) -> Result:
        if args["what"] == "y" and fail:
            raise Interrupted("SIGTERM")
        return calm.run(ctx, args)

    monkeypatch.setitem(ACTIONS, "test.fail", replace(calm, run=signalled))  # type: ignore[index]
    outer = load_playbook(outer.path)
    assert play(stub, outer).status == "interrupted"
    fail.clear()
    stub.steps.clear()
    assert play(stub, outer, past=read_past(stub.path)).status == "succeeded"
    assert [what for _, what in actions] == ["x", "y", "z"]


@pytest.mark.parametrize("again", [True, False])
def test_a_step_may_say_that_it_may_be_done_again(
    tmp_path: Path, stub: Stub, actions: list[Any], monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    params = (Param("what", object, required=True), Param("again", bool, False))
    monkeypatch.setitem(ACTIONS, "test.once", replace(ACTIONS["test.once"], params=params))  # type: ignore[index]
    outer = book(tmp_path, ONCE.replace("what: 2", f"what: 2, again: {str(again).lower()}"))
    play(stub, outer)
    cut(stub, "b")
    actions.clear()
    stub.steps.clear()
    play(stub, outer, past=read_past(stub.path))
    assert actions == ([("b", 2), ("c", 3)] if again else [("c", 3)])


def test_parallel_goes_on_with_what_was_cut_off(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(
        tmp_path,
        "steps:\n  - id: p\n    parallel: [{id: a, uses: test.say, with: {what: 1}}, {id: b, uses: test.main, with: {what: 2}}]\n",
    )
    play(stub, outer)
    cut(stub, "b")
    past = read_past(stub.path)
    assert past.running == ["a", "b"]
    actions.clear()
    stub.steps.clear()
    assert play(stub, outer, past=past).status == "succeeded"
    assert sorted(actions) == [("a", 1), ("b", 2)]


def test_plan_and_lint_see_through_includes(tmp_path: Path) -> None:
    book(tmp_path, INNER, "inner")
    outer = book(
        tmp_path,
        "vars: {name: {type: string, default: ann}, off: {type: boolean, default: false}}\nsteps:\n"
        "  - {id: a, include: ./inner.yaml, with: {word: '${{ vars.name }}'}, when: vars.off}\n",
    )
    rows = plan.rows(outer, outer.bind({}))
    assert [(row["id"], row["runs"], row["playbook"]) for row in rows][:2] == [
        ("a-one", "no", "inner"),
        ("a-two", "no", "inner"),
    ]
    assert rows[0]["with"] == {"what": "ann"}
    assert [one.rule for one in lint.lint(outer)] == []
    assert "unused-variable" in [
        one.rule
        for one in lint.lint(book(tmp_path, ONCE.replace("steps:", "vars: {q: {type: string, default: x}}\nsteps:")))
    ]


def test_a_skipped_step_registers_nothing(tmp_path: Path, stub: Stub) -> None:
    outer = book(
        tmp_path,
        "steps:\n  - {id: a, uses: test.main, with: {what: 1}, when: run.gaps > 3, register: got}\n  - {id: b, uses: test.main, with: {what: '${{ got.what }}'}}\n",
    )
    outcome = play(stub, outer)
    assert "fault" not in outcome.steps[-1]["message"]
    assert outcome.exit_code == 2


def test_references_to_the_target(tmp_path: Path, stub: Stub, actions: list[Any]) -> None:
    outer = book(tmp_path, "steps: [{id: a, uses: test.main, with: {what: ['${{ target.name }}', 'x']}}]")
    assert play(stub, outer).status == "succeeded"
    assert actions == [("a", ["web-1", "x"])]


def test_read_playbook_from_a_document() -> None:
    doc = documents.parse((HEAD.format(id="x") + ONCE).encode(), "x.yaml")
    assert read_playbook(doc, "sha256:1", Path("x.yaml")).digest == "sha256:1"
