"""From an alert to a run: every decision that there is, what is kept over a restart, and what is said."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irkit import cases
from irkit.engine.fake.engine import FakeEngine
from irkit.errors import EngineError, EngineUnreachable, EvidenceAltered, IrkitError, Refused
from irkit.evidence import keys
from irkit.home import home
from irkit.models import Target
from irkit.playbook import approval
from irkit.playbook.journal import read_journal
from irkit.watch import journal as journal_module
from irkit.watch import runs as runs_module
from irkit.watch import state as state_module
from irkit.watch.alert import parse
from irkit.watch.children import Children, Ended
from irkit.watch.inbox import Note, Reply, received
from irkit.watch.service import Watch
from irkit.watch.state import DRY_RUNNING, RUNNING, WAITING, State
from tests.fits import fits
from tests.unit.watch.watching import HEAD, RULE, NoChildren, container, falco, told

Make = Callable[..., Watch]
NO_ASK = RULE.replace("contain}", "contain, approval: none, dry_run_first: false}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "POLL_APPROVALS", 0.0)


def hand(watch: Watch, line: bytes, source: str = "falco", position: Any = None) -> str:
    thing = dataclasses.replace(received(source, line, position), reply=(reply := Reply()))
    watch._thing(thing)
    assert reply.event.is_set()
    return reply.decision


def test_each_decision(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK + "rate: {runs: 2, per: 1h}\n")
    web, others = container(engine, "web-1"), [container(engine, f"web-{number}") for number in (2, 3)]
    assert hand(watch, falco(web, "Something else")) == "unmatched"
    assert hand(watch, falco("host")) == "no-container"
    assert hand(watch, falco("f" * 12)) == "gone"
    assert hand(watch, falco("../../x")) == "malformed" and hand(watch, b"{") == "malformed"
    assert hand(watch, falco(web, time="2020-01-01T00:00:00Z")) == "stale"
    assert hand(watch, falco(web)) == "accepted" and hand(watch, falco(web)) == "duplicate"
    assert hand(watch, falco(web, "Terminal shell, another")) == "duplicate", "by default by rule and container"
    watch._decider.state.seen.clear()
    assert hand(watch, falco(web)) == "under-way"
    assert hand(watch, falco(others[0])) == "accepted"
    assert hand(watch, falco(others[1])) == "rate-limited"
    case = cases.open_case(Target(others[1], "web-3", "shop/web:1", "sha256:0", "x")).with_state("contained")
    assert hand(watch, falco(others[1])) == "contained" and told(watch, "contained")[0]["case"] == case.id
    assert watch.missed == 2
    for row in told(watch):
        fits(row, "decision")
    watch.journal.close()
    kinds = [row["type"] for row in read_journal(home() / "watch/journal.jsonl")]
    assert kinds.count("accepted") == 2 and "unmatched" not in kinds and kinds.count("tally") == 1


def test_an_id_is_no_name_and_a_name_no_beginning_of_one(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK)
    container(engine, "deadbeef0000")
    assert hand(watch, falco("deadbeef0000")) == "gone"
    container(engine, "web-1")
    assert hand(watch, falco("", fields={"container.id": None, "container.name": "web-1"})) == "accepted"
    assert hand(watch, falco("", fields={"container.id": None, "container.name": "web"})) == "gone"


def test_an_engine_that_is_away_is_asked_again_and_then_said(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK)
    watch._decider.sleep = lambda seconds: None
    web = container(engine, "web-1")
    engine.fail("container", EngineUnreachable("nobody"), times=2)
    assert hand(watch, falco(web)) == "accepted"
    engine.fail("container", EngineUnreachable("nobody"), times=None)
    assert hand(watch, falco(web, "Terminal shell 2")) == "unreachable" and watch.missed == 1


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ("fields.proc.name == 'sh'", True),
        ("fields.proc.name == 'bash'", False),
        ("fields.nothing == 1", False),
        ("not fields.nothing == 1", False),
        ("container.labels.tier == 'front' and container.running and alert.priority in ['notice', 'error']", True),
        ("alert.tags contains 'shell' and alert.source == 'falco'", True),
    ],
)
def test_conditions(engine: FakeEngine, watch_of: Make, when: str, fits: bool) -> None:
    watch = watch_of(f"rules:\n  - {{id: a, match: {{rule: '*'}}, when: \"{when}\", playbook: contain}}\n")
    assert hand(watch, falco(container(engine, "web-1", tier="front"))) == ("accepted" if fits else "unmatched")


def test_the_first_rule_that_fits_its_container_is_the_one(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(
        "rules:\n  - {id: a, match: {rule: '*', container: 'db-*'}, playbook: contain}\n  - {id: b, match: {rule: '*'}, playbook: contain}\n  - {id: c, match: {rule: '*'}, playbook: contain}\n"
    )
    hand(watch, falco(container(engine, "web-1")))
    assert [job.rule for job in watch.runs.jobs.values()] == ["b"]


def test_only_declared_ways_lead_from_an_alert_into_a_run(engine: FakeEngine, watch_of: Make) -> None:
    rules = "rules:\n  - {id: a, match: {rule: '*'}, playbook: contain, vars: {profile: '${{ fields.proc.name }}'}, dedup: {window: 1s}, dry_run_first: false, approval: none}\n"
    watch = watch_of(rules)
    children: Any = watch.children
    web = container(engine, "web-1")
    assert (
        hand(watch, falco(web, playbook="eradicate-image", vars={"x": 1}, fields={"proc.name": "--engine=evil $(id)"}))
        == "accepted"
    )
    watch.runs.tick()
    assert children.began == [(RUNNING, web, ["profile=--engine=evil $(id)"])]
    for bad in ("a\nb", "\x1b[31m", "x" * 2000, ["a"], {"a": 1}, None, "\ud800"):
        watch._decider.state.jobs.clear()
        watch._decider.state.seen.clear()
        assert hand(watch, falco(web, fields={"proc.name": bad})) == "unusable", bad


def test_a_dry_run_then_an_approval_then_the_run(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of()
    children: Any = watch.children
    web = container(engine, "web-1")
    hand(watch, falco(web))
    (job,) = watch.runs.jobs.values()
    watch.runs.tick()
    assert children.began == [(DRY_RUNNING, web, [])] and job.phase == DRY_RUNNING
    watch.runs.tick()
    assert job.phase == WAITING and job.plan[0]["id"] == "freeze" and watch.runs.waiting() == 1
    request = json.loads(Path(job.request).read_bytes())
    assert request["playbook"] == job.digest and request["target"] == web and request["plan"] == job.plan
    watch.runs.tick()
    assert len(children.began) == 1, "nothing is done unasked"
    signer = keys.generate("ann", uses=("approval",))
    approval.answer(Path(job.request), signer, "approve")
    watch.runs.tick()
    assert children.began[1:] == [(RUNNING, web, [])]
    watch.runs.tick()
    assert not watch.runs.jobs and not list(approval.pending(Path(job.request).parent.parent))
    words = [row["decision"] for row in told(watch)]
    assert words == ["accepted", "dry-run-started", "dry-run-ended", "asked", "approved", "run-started", "run-ended"]
    assert watch.metrics.value("irkit_watch_runs_finished_total", playbook="contain", outcome="succeeded") == 1
    for row in told(watch):
        fits(row, "decision")


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("deny", "denied"),
        ("late", "expired"),
        ("rule", "cancelled"),
        ("gone", "cancelled"),
        ("evidence-key", "expired"),
    ],
)
def test_without_an_approval_there_is_no_run(engine: FakeEngine, watch_of: Make, how: str, word: str) -> None:
    watch = watch_of(RULE.replace("contain}", "contain, dry_run_first: false}"))
    children: Any = watch.children
    hand(watch, falco(container(engine, "web-1")))
    (job,) = watch.runs.jobs.values()
    watch.runs.tick()
    assert job.phase == WAITING
    if how == "deny":
        approval.answer(Path(job.request), keys.generate("ann", uses=("approval",)), "deny", "no")
    elif how == "evidence-key":
        approval.answer(Path(job.request), keys.generate("eve", uses=("evidence",)), "approve")
    elif how == "rule":
        (home() / "watch.yaml").write_text(HEAD + RULE.replace("id: shell", "id: other"))
        watch._reload()
    elif how == "gone":
        Path(job.request).unlink()
    if how in ("late", "evidence-key"):
        watch.runs.tick()
        assert job.phase == WAITING
        job.expires = time.time() - 1
    watch.runs.tick()
    assert told(watch, word) and not watch.runs.jobs and not children.began


def test_a_failed_dry_run_ends_it_and_the_next_alert_may_try_again(engine: FakeEngine, watch_of: Make) -> None:
    children = NoChildren(ends={DRY_RUNNING: Ended(1, None, "no engine")})
    watch = watch_of(RULE, children=children)
    web = container(engine, "web-1")
    hand(watch, falco(web))
    watch.runs.tick()
    watch.runs.tick()
    (ended,) = told(watch, "dry-run-ended")
    assert (
        ended["outcome"] == "failed" and ended["why"] == "no engine" and not watch.runs.jobs and watch.runs.trouble == 1
    )
    assert hand(watch, falco(web)) == "accepted"


def test_dry_runs_only(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK.replace("dry_run_first: false", "dry_run_first: true"), dry_only=True)
    children: Any = watch.children
    hand(watch, falco(container(engine, "web-1")))
    for _ in range(4):
        watch.runs.tick()
    assert [phase for phase, *_ in children.began] == [DRY_RUNNING] and told(watch, "planned") and not watch.runs.jobs


def test_dry_runs_only_without_a_dry_run_first(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK, dry_only=True)
    children: Any = watch.children
    hand(watch, falco(container(engine, "web-1")))
    for _ in range(4):
        watch.runs.tick()
    assert [phase for phase, *_ in children.began] == [DRY_RUNNING]
    assert hand(watch_of(NO_ASK), falco(engine.containers()[0])) == "accepted", "it counts as nothing for a real watch"


def test_a_changed_playbook_is_not_run(engine: FakeEngine, watch_of: Make) -> None:
    home().mkdir()
    own = home() / "own.yaml"
    own.write_text("apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: x\nsteps: [{id: a, uses: acquire.logs}]\n")
    watch = watch_of("rules:\n  - {id: a, match: {rule: '*'}, playbook: ./own.yaml}\n")
    hand(watch, falco(container(engine, "web-1")))
    own.write_text(own.read_text().replace("acquire.logs", "container.freeze"))
    watch.runs.tick()
    (ended,) = told(watch, "cancelled")
    assert "has changed" in ended["why"]


def replicas(engine: FakeEngine, count: int) -> list[str]:
    return [
        container(engine, f"web-{number}", com_docker_compose_service="web", com_docker_compose_project="shop")
        for number in range(count)
    ]


FEW = "rules:\n  - {id: a, match: {rule: '*'}, playbook: contain, approval: none, dry_run_first: false, min_healthy: {count: 1, by: %s, otherwise: %s}}\n"


@pytest.mark.parametrize("by", ["service", "image", "'label:com.docker.compose.service'"])
def test_enough_replicas_must_remain(engine: FakeEngine, watch_of: Make, by: str) -> None:
    watch = watch_of(FEW % (by, "refuse"))
    one, two = replicas(engine, 2)
    container(engine, "odd", start=False)
    assert hand(watch, falco(one)) == "accepted"
    assert hand(watch, falco(two)) == "too-few-healthy", "the other one is about to be contained"
    watch.runs.tick()
    watch.runs.tick()
    assert hand(watch, falco(two)) == "accepted", "the run ended, and no case holds the other one"


@pytest.mark.parametrize("how", ["paused", "unhealthy", "stopped", "contained", "another-project"])
def test_what_is_no_healthy_replica(engine: FakeEngine, watch_of: Make, how: str) -> None:
    watch = watch_of(FEW % ("service", "refuse"))
    one, two = replicas(engine, 2)
    if how == "paused":
        engine.pause(two)
    elif how == "unhealthy":
        engine.set_health(two, "unhealthy")
    elif how == "stopped":
        engine.end(two)
    elif how == "contained":
        cases.open_case(Target(two, "web-2", "shop/web:1", "sha256:0", "x")).with_state("contained")
    else:
        engine.remove(two, force=True)
        container(engine, "far", com_docker_compose_service="web", com_docker_compose_project="other")
    assert hand(watch, falco(one)) == "too-few-healthy"


def test_what_can_t_be_counted_is_not_enough(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(FEW % ("service", "refuse"))
    web = container(engine, "web-1")
    assert (
        hand(watch, falco(web)) == "too-few-healthy"
        and "says which service" in told(watch, "too-few-healthy")[0]["why"]
    )


def test_too_few_replicas_may_be_asked_for_even_where_nobody_would_be(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(FEW % ("service", "ask"))
    children: Any = watch.children
    (one,) = replicas(engine, 1)
    assert hand(watch, falco(one)) == "accepted"
    watch.runs.tick()
    (job,) = watch.runs.jobs.values()
    assert (
        job.phase == WAITING
        and "too few" in json.loads(Path(job.request).read_bytes())["message"]
        and not children.began
    )
    approval.answer(Path(job.request), keys.generate("ann", uses=("approval",)), "approve")
    watch.runs.tick()
    assert children.began, "who approved knew it"


def test_replicas_are_counted_again_before_the_run(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(FEW.replace("approval: none, dry_run_first: false", "approval: none") % ("service", "ask"))
    one, two = replicas(engine, 2)
    hand(watch, falco(one))
    watch.runs.tick()
    engine.end(two)
    watch.runs.tick()
    watch.runs.tick()
    (job,) = watch.runs.jobs.values()
    assert job.phase == WAITING and job.reasons


def test_what_only_reads_needs_no_replicas(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of((FEW % ("service", "refuse")).replace("playbook: contain", "playbook: evidence-only"))
    assert hand(watch, falco(container(engine, "web-1"))) == "accepted"


def test_no_more_runs_at_a_time_than_there_may_be(engine: FakeEngine, watch_of: Make) -> None:
    children = NoChildren(ends={RUNNING: None})
    watch = watch_of(NO_ASK + "limits: {running: 2}\n", children=children)
    for number in range(4):
        assert hand(watch, falco(container(engine, f"web-{number}"))) == "accepted"
    watch.runs.tick()
    assert len(children.began) == 2
    children.ends.clear()
    watch.runs.tick()
    watch.runs.tick()
    assert len(children.began) == 4


def test_nothing_is_forgotten_over_a_restart(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK + "rate: {runs: 1, per: 1h}\n")
    web, other = container(engine, "web-1"), container(engine, "web-2")
    position = {"source": "file:/x", "offset": 10, "head": "0"}
    assert hand(watch, falco(web), position=position) == "accepted"
    path = home() / "watch/state.json"
    assert path.stat().st_mode & 0o777 == 0o600
    children = NoChildren(alive=False)
    again = watch_of(NO_ASK + "rate: {runs: 1, per: 1h}\n", children=children)  # as after a kill: nothing was closed
    assert again.state.positions["file:/x"] == position
    again.runs.take_up()
    assert hand(again, falco(web)) == "duplicate" and hand(again, falco(other)) == "rate-limited"
    again.runs.tick()
    assert [target for _, target, _ in children.began] == [web], "what was accepted is begun, once"


@pytest.mark.parametrize("written", [False, True])
def test_a_record_is_in_the_journal_once_whenever_it_is_killed(
    engine: FakeEngine, watch_of: Make, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    class Killed(BaseException):
        pass

    def write(self: Any, decision: str, **facts: Any) -> None:
        if written:
            self._journal.write(decision, **facts)
        raise Killed

    watch = watch_of(NO_ASK)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(journal_module.Decisions, "write", write)
        hand(watch, falco(container(engine, "web-1")))
    again = watch_of(NO_ASK)
    again.runs.take_up()
    assert [row["type"] for row in read_journal(home() / "watch/journal.jsonl")] == ["accepted", "taken-up"]
    assert not again.state.untold and len(again.runs.jobs) == 1


@pytest.mark.parametrize(("alive", "began"), [(True, 0), (False, 1)])
def test_a_run_under_way_is_taken_up(engine: FakeEngine, watch_of: Make, alive: bool, began: int) -> None:
    watch = watch_of(NO_ASK, children=NoChildren(ends={RUNNING: None}))
    hand(watch, falco(container(engine, "web-1")))
    watch.runs.tick()
    children = NoChildren(alive=alive, ends={RUNNING: Ended(None, None, "")})
    again = watch_of(NO_ASK, children=children)
    again.runs.take_up()
    again.runs.tick()
    assert len(children.began) == began
    again.runs.tick()
    (ended,) = told(again, "run-ended")
    assert ended["outcome"] == "lost"


def test_a_damaged_state_is_not_guessed(watch_of: Make) -> None:
    watch_of()
    (home() / "watch/state.json").write_text('{"schema": "irkit.watch-state/v1", "jobs": [{}]}')
    with pytest.raises(IrkitError, match="can't read the watch's state") as caught:
        watch_of()
    assert "handled twice" in str(caught.value.hint)


def test_a_damaged_journal_is_not_gone_on_with(watch_of: Make) -> None:
    watch_of().journal.write("watch-started")
    (home() / "watch/journal.jsonl").write_text('{"seq": 1}\n')
    with pytest.raises(EvidenceAltered):
        watch_of()


def test_there_is_room_for_so_many_and_then_nothing_is_begun(
    engine: FakeEngine, watch_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "SEEN_LIMIT", 1)
    watch = watch_of(NO_ASK)
    assert hand(watch, falco(container(engine, "web-1"))) == "accepted"
    assert hand(watch, falco(container(engine, "web-2"))) == "dropped" and len(watch.runs.jobs) == 1


def test_windows_and_rates_end(tmp_path: Path) -> None:
    state = State(tmp_path / "s")
    state.remember("a", 100.0)
    assert state.handled("a", 99.0) and not state.handled("a", 100.0)
    state.prune(100.0)
    assert not state.seen
    rate = type("R", (), {"runs": 1, "seconds": 10.0})()
    state.started("r", 0.0)
    assert not state.allowed("r", rate, 9.0) and state.allowed("r", rate, 10.0)


def test_a_flood_is_counted_and_not_written_line_by_line(watch_of: Make) -> None:
    watch = watch_of()
    for _ in range(500):
        hand(watch, b"{")
    watch.journal.tick(last=True)
    assert len(told(watch, "malformed")) == journal_module.EACH
    assert [row["count"] for row in told(watch, "tally")] == [500 - journal_module.EACH]


def test_the_journal_rotates_and_its_chain_goes_on(watch_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "ROTATE", 300)
    watch = watch_of()
    for _ in range(3):
        watch.journal.write("gap", source="events", why="x" * 100)
    watch.journal.close()
    files = sorted((home() / "watch").glob("journal-*.jsonl"))
    assert files
    first = next(read_journal(home() / "watch/journal.jsonl"))
    assert first["type"] == "continued" and first["file"] == files[-1].name


def test_rules_are_read_anew_unless_they_are_bad(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of()
    (home() / "watch.yaml").write_text(HEAD + "rules: [")
    watch._reload()
    assert told(watch, "reload-refused") and watch.rules.rules[0].id == "shell"
    (home() / "watch.yaml").write_text(HEAD + RULE.replace("id: shell", "id: new"))
    watch._reload()
    assert told(watch, "reloaded") and watch._decider.rules.rules[0].id == "new"


def test_one_alert_s_trouble_is_its_own(engine: FakeEngine, watch_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watch_of(NO_ASK)
    web = container(engine, "web-1")
    monkeypatch.setattr(type(watch._decider), "decide", lambda self, alert: 1 / 0)
    assert hand(watch, falco(web)) == "failed" and "ZeroDivisionError" in told(watch, "failed")[0]["why"]


def test_hostile_text_is_escaped(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of("rules:\n  - {id: a, match: {rule: '*'}, playbook: contain, dry_run_first: false}\n")
    hand(watch, falco(container(engine, "web-1"), "evil\x1b[2J\n\u202e"))
    watch.runs.tick()
    (job,) = watch.runs.jobs.values()
    for text in (told(watch, "accepted")[0]["alert"]["rule"], json.loads(Path(job.request).read_bytes())["message"]):
        assert text.isprintable() and "\\x1b[2J\\n\\u202e" in text


def test_notes_and_drops_are_written(watch_of: Make) -> None:
    watch = watch_of()
    watch._thing(Note("gap", "events", "lost\x1b"))
    watch.inbox.limit = 1
    for _ in range(1002):
        watch.inbox.offer(received("falco", b"{}"))
    watch._dropped()
    assert told(watch, "gap")[0]["why"] == "lost\\x1b" and told(watch, "dropped")[0]["count"] == 2 and watch.missed == 3
    assert watch.metrics.value("irkit_watch_event_gaps_total") == 1


def test_only_one_watch_at_a_time(irkit_home: Path) -> None:
    with cases.watch_lock(), pytest.raises(Refused, match="a watch is under way"), cases.watch_lock():
        pass


def test_what_a_child_says_is_read_with_care(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK)
    hand(watch, falco(container(engine, "web-1")))
    (job,) = watch.runs.jobs.values()
    job.phase = RUNNING
    children = Children(["--engine", "unix:///no/such.sock"])
    children.start(job)
    ends = time.monotonic() + 20
    while (ended := children.ended(job)) is None and time.monotonic() < ends:
        time.sleep(0.05)
    assert ended is not None and ended.code == 1 and ended.status == "failed" and "no engine at" in ended.said
    # a watch that is killed now finds how it ended, and does not begin it again
    other = Children()
    assert other.adopt(job) and (again := other.ended(job)) is not None and again.said == ended.said
    other.forget(job, RUNNING)
    assert not list((home() / "watch/runs").iterdir())
    (home() / "watch/runs/0000.run.out").touch()
    other.tidy({job.id})
    assert not list((home() / "watch/runs").iterdir())


def test_an_alert_needs_no_engine_when_no_rule_fits(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK)
    before = len(engine.calls)
    assert hand(watch, falco("a" * 12, "Other")) == "unmatched" and len(engine.calls) == before
    assert parse("falco", falco("a" * 12), 1.0).container == "a" * 12
    assert EngineError("x").exit_code == 1


def test_it_ends_with_its_pipe_whatever_serves_metrics(engine: FakeEngine, watch_of: Make) -> None:
    watch = watch_of(NO_ASK)
    line = falco(container(engine, "web-1"))

    class One:
        name = "a pipe"

        def run(self) -> None:
            watch.inbox.put(received("falco", line))

    class Metrics:
        name = "metrics"

        def run(self) -> None:
            watch.inbox.stop.wait()

    watch.run([One()], [], [Metrics()])
    words = [row["decision"] for row in told(watch)]
    assert words == ["watch-started", "accepted", "run-started", "run-ended", "watch-stopped"]
    assert watch.inbox.stop.is_set()


def test_a_source_that_dies_ends_the_watch_and_is_said(watch_of: Make) -> None:
    watch = watch_of(NO_ASK)

    class Broken:
        name = "broken"

        def run(self) -> None:
            raise OSError("the disk is gone")

    with pytest.raises(IrkitError, match="should last"):
        watch.run([], [Broken()])
    assert "the disk is gone" in told(watch, "source-error")[0]["why"]
    assert told(watch, "watch-stopped")
