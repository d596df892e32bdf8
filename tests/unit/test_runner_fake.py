"""What is hard to stage on a real engine: it refuses, forgets to answer or dies while a target is sealed off or given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from irkit import cases, resources
from irkit.actions.context import Context
from irkit.cases import Case
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.fake.state import FakeImage, Program
from irkit.engine.interface import Endpoint, NetworkSpec
from irkit.errors import Conflict, EngineError, EngineUnreachable, ExitCode, IrkitError, NotFound, Refused
from irkit.events import silent
from irkit.evidence import keys
from irkit.evidence.keys import Signer
from irkit.evidence.writer import BundleWriter
from irkit.models import Target
from irkit.playbook.journal import Journal, read_journal
from irkit.playbook.reader import load_playbook
from irkit.playbook.runner import Outcome, Runner
from irkit.quarantine import firewall
from irkit.quarantine.release import clear_away, compare, give_back, leftovers
from irkit.quarantine.seal import LABEL, QUARANTINE, ROLE, holder_of, network_name, prepare_network, seal_off
from irkit.quarantine.state import SavedState
from irkit.recover import rebuild as rebuilding
from irkit.recover.config import Recipe, recipe
from tests.contract.stage import IMAGE, fake_engine, place

CASE = "2026-01-01-web-abcd"
QUARANTINED = network_name(CASE)
ALWAYS = {"Name": "always", "MaximumRetryCount": 0}
NO = {"Name": "no", "MaximumRetryCount": 0}
REFUSED = EngineError("the engine refuses", status=500)
NO_ADDRESS = EngineError("no available IPv4 addresses on this network's address pools", status=500)


@pytest.fixture(autouse=True)
def no_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own tables are none of a unit test's business."""
    monkeypatch.setattr(firewall, "tables", list)


@dataclass
class Scene:
    """A target on two networks, frozen, with a restart policy; ``saved`` is its state before anything else."""

    fake: FakeEngine
    target: str
    front: str
    back: str
    saved: SavedState = field(init=False)

    def __post_init__(self) -> None:
        self.saved = SavedState.of(self.fake.container(self.target))

    def networks(self, container: str = "") -> dict[str, str]:
        """The addresses by network, as inspect names them."""
        with self.fake.unrecorded():
            return {one.network: one.ipv4 for one in self.fake.container(container or self.target).endpoints}

    def really_on(self) -> set[str]:
        """The networks that say themselves that the target is on them."""
        with self.fake.unrecorded():
            every = [self.fake.network(one.id) for one in self.fake.networks()]
        return {one.name for one in every if self.target in {each.container_id for each in one.members}}

    def seal(self) -> Any:
        """Sealing off, as the action does it."""
        return seal_off(self.fake, self.saved, CASE, lambda: prepare_network(self.fake, CASE))

    def release(self) -> tuple[str, ...]:
        """Giving back; the differences."""
        return give_back(self.fake, self.saved, CASE).differences

    def elsewhere(self, act: Callable[[FakeEngine], object]) -> Callable[[], None]:
        """Something that somebody else does."""

        def do() -> None:
            with self.fake.unrecorded():
                act(self.fake)

        return do

    def other(self, network: str, address: str) -> str:
        """A container of somebody else's, on an address."""
        with self.fake.unrecorded():
            made = self.fake.create({"Image": IMAGE}, f"other-{address}")
            self.fake.start(made)
            self.fake.connect(network, made, place(fixed_ipv4=address))
        return made


def staged(fake: FakeEngine, **host: Any) -> Scene:
    front = fake.create_network(NetworkSpec("front", False, {}, {}, "10.9.1.0/24"))
    back = fake.create_network(NetworkSpec("back", False, {}, {}, "10.9.2.0/24"))
    host = {"NetworkMode": "front", "RestartPolicy": ALWAYS, **host}
    wish = {"front": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.9.1.50"}}}
    body = {"Image": IMAGE, "Cmd": ["serve"], "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": wish}}
    target = fake.create(body, "web")
    fake.start(target)
    fake.connect(back, target)
    fake.pause(target)
    return Scene(fake, target, front, back)


@pytest.fixture
def scene() -> Scene:
    return staged(fake_engine())


# -- sealing off ------------------------------------------------------------------------------------------------


def test_sealed_off_and_given_back(scene: Scene) -> None:
    before = scene.fake.container(scene.target)
    scene.fake.mutations.clear()
    done = scene.seal()
    assert (done.network, sorted(done.left)) == (QUARANTINED, ["back", "front"])
    assert [one.method for one in scene.fake.mutations] == [
        "set_restart_policy", "disconnect", "disconnect", "create_network", "connect",
    ]  # fmt: skip
    assert scene.really_on() == {QUARANTINED} and scene.fake.container(scene.target).paused
    assert not scene.release()
    after = scene.fake.container(scene.target)
    assert not compare(scene.saved, after, after)
    assert after.paused and after.restart_policy == before.restart_policy
    assert not clear_away(scene.fake, CASE) and not scene.fake.networks(LABEL)


@pytest.mark.parametrize("at", [1, 2])
def test_a_disconnect_fails(scene: Scene, at: int) -> None:
    scene.fake.fail("disconnect", REFUSED, at=at)
    with pytest.raises(EngineError, match="refuses"):
        scene.seal()
    assert QUARANTINED not in scene.networks() and len(scene.networks()) == 3 - at
    assert scene.fake.container(scene.target).restart_policy == NO and scene.fake.container(scene.target).paused
    assert scene.seal().network == QUARANTINED
    assert scene.really_on() == {QUARANTINED}


def test_the_target_was_taken_off_a_network_by_somebody_else(scene: Scene) -> None:
    def act(fake: FakeEngine) -> None:
        fake.disconnect(scene.front, scene.target)
        fake.disconnect(scene.back, scene.target)
        fake.remove_network(scene.front)

    scene.fake.before("disconnect", scene.elsewhere(act))
    assert scene.seal().network == QUARANTINED
    assert scene.really_on() == {QUARANTINED}


def test_the_address_pool_is_used_up() -> None:
    scene = staged(FakeEngine(IMAGE, pool="10.9.1.0/24"))
    with pytest.raises(EngineError, match="address pool"):
        scene.seal()
    assert not scene.networks() and not scene.really_on()
    scene.elsewhere(lambda fake: fake.remove_network("front"))()
    assert scene.seal().network == QUARANTINED


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["set_restart_policy", "disconnect", "create_network", "connect"])
def test_the_engine_dies_while_sealing_off(scene: Scene, method: str, done: bool) -> None:
    """Whether it did as asked or not: repeated, it is sealed off."""
    scene.fake.die(method, done=done)
    with pytest.raises(EngineUnreachable):
        scene.seal()
    scene.fake.revive()
    if method in ("create_network", "connect"):
        assert not {"front", "back"} & scene.really_on()
    assert scene.seal().network == QUARANTINED
    assert scene.really_on() == {QUARANTINED} and scene.fake.container(scene.target).restart_policy == NO


def test_connect_fails(scene: Scene) -> None:
    scene.fake.fail("connect", REFUSED)
    with pytest.raises(EngineError, match="refuses"):
        scene.seal()
    assert not scene.networks()
    assert scene.seal().network == QUARANTINED


def test_somebody_joins_it_to_another_network_meanwhile(scene: Scene) -> None:
    scene.fake.before("connect", scene.elsewhere(lambda fake: fake.connect("bridge", scene.target)), done=True)
    with pytest.raises(EngineError, match="bridge"):
        scene.seal()
    assert scene.seal().left == ("bridge",)
    assert scene.really_on() == {QUARANTINED}


def full(scene: Scene) -> Callable[[], None]:
    """Let the quarantine network have no address left, so that the engine refuses a connect in its own way; the way back."""
    scene.fake.before("connect", lambda: scene.fake.set_subnet(QUARANTINED, "10.9.9.0/32"))
    return lambda: scene.fake.set_subnet(QUARANTINED, "10.9.9.0/24")


def test_connect_is_refused_and_sealing_repeated(scene: Scene) -> None:
    back = full(scene)
    with pytest.raises(EngineError, match="no available IPv4 addresses"):
        scene.seal()
    assert not scene.really_on()
    back()
    assert scene.seal().network == QUARANTINED
    assert scene.really_on() == {QUARANTINED}


def test_sealing_off_what_a_network_had_refused_before(scene: Scene) -> None:
    with scene.fake.unrecorded():
        third = scene.fake.create_network(NetworkSpec("third", False, {}, {}, "10.9.3.0/24"))
        with pytest.raises(EngineError):
            scene.fake.connect(third, scene.target, place(fixed_ipv4="192.0.2.1"))
    scene.seal()
    assert scene.really_on() == {QUARANTINED}


def test_a_foreign_network_of_that_name(scene: Scene) -> None:
    scene.fake.create_network(NetworkSpec(QUARANTINED, False, {}, {LABEL: CASE, ROLE: QUARANTINE}))
    with pytest.raises(Conflict, match="no quarantine of this case"):
        scene.seal()
    assert not scene.networks()


def test_nothing_is_changed_for_who_cannot_leave() -> None:
    scene = staged(fake_engine())
    with scene.fake.unrecorded():
        host = scene.fake.create({"Image": IMAGE, "HostConfig": {"NetworkMode": "host"}}, "host-1")
        scene.fake.start(host)
        saved = SavedState.of(scene.fake.container(host))
    scene.fake.mutations.clear()
    assert "host's own" in seal_off(scene.fake, saved, CASE, lambda: prepare_network(scene.fake, CASE)).reason
    assert not scene.fake.mutations


def test_a_shared_namespace_moves_with_its_holder(scene: Scene) -> None:
    fake = scene.fake
    fake.unpause(scene.target)
    one = fake.create({"Image": IMAGE, "HostConfig": {"NetworkMode": "container:web"}}, "side")
    fake.start(one)
    target = fake.container(one)
    saved = SavedState.of(target, *holder_of(fake, target))
    assert (saved.holder_id, saved.holder_name) == (scene.target, "web")
    assert seal_off(fake, saved, CASE, lambda: prepare_network(fake, CASE)).network == QUARANTINED
    assert scene.really_on() == {QUARANTINED}
    assert not give_back(fake, saved, CASE).differences
    assert scene.really_on() == {"front", "back"}
    scene.seal()
    assert holder_of(fake, target)[1] == CASE
    fake.remove(scene.target, force=True)
    assert holder_of(fake, target) == (None, "")


# -- giving back ------------------------------------------------------------------------------------------------


def test_a_former_network_has_gone(scene: Scene) -> None:
    scene.seal()
    scene.fake.remove_network(scene.front)
    (difference,) = scene.release()
    assert "front" in difference and "does not exist any more" in difference
    assert scene.really_on() == {"back"} and scene.fake.container(scene.target).paused
    container = scene.fake.container(scene.target)
    assert compare(scene.saved, container, container) == ["network front: not on it"]


def test_a_former_network_was_made_anew(scene: Scene) -> None:
    scene.seal()
    scene.fake.remove_network(scene.front)
    anew = scene.fake.create_network(NetworkSpec("front", False, {}, {}, "10.9.1.0/24"))
    assert not scene.release()
    assert scene.really_on() == {"front", "back"} and scene.networks()["front"] == "10.9.1.50"
    assert scene.target in {one.container_id for one in scene.fake.network(anew).members}


def test_a_former_network_was_made_anew_without_a_subnet_of_its_own(scene: Scene) -> None:
    """The engine chooses the address there, and the comparison says that it is another one."""
    scene.seal()
    scene.fake.remove_network(scene.back)
    scene.fake.create_network(NetworkSpec("back", False, {}, {}))
    assert not scene.release()
    container = scene.fake.container(scene.target)
    assert "back" in scene.really_on()
    assert any(one.startswith("network back: address was") for one in compare(scene.saved, container, container))


def test_a_former_address_is_taken(scene: Scene) -> None:
    scene.seal()
    scene.other(scene.front, "10.9.1.50")
    (difference,) = scene.release()
    assert "front" in difference and "Address already in use" in difference
    assert scene.really_on() == {"back"}
    assert scene.fake.container(scene.target).restart_policy == ALWAYS


def test_a_former_address_comes_free_and_release_is_repeated(scene: Scene) -> None:
    scene.seal()
    other = scene.other(scene.front, "10.9.1.50")
    assert scene.release()
    scene.fake.remove(other, force=True)
    assert not scene.release()
    assert scene.really_on() == {"front", "back"}


def test_given_back_after_the_quarantine_had_refused_it(scene: Scene) -> None:
    back = full(scene)
    with pytest.raises(EngineError, match="no available IPv4 addresses"):
        scene.seal()
    back()
    assert not scene.release()
    assert scene.really_on() == {"front", "back"}


def test_leaving_the_quarantine_fails(scene: Scene) -> None:
    scene.seal()
    scene.fake.fail("disconnect", REFUSED)
    with pytest.raises(EngineError, match="refuses"):
        scene.release()
    assert scene.really_on() == {QUARANTINED} and scene.fake.container(scene.target).restart_policy == NO
    assert not scene.release()
    assert scene.really_on() == {"front", "back"}


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("method", "at"), [("disconnect", 1), ("connect", 1), ("connect", 2), ("set_restart_policy", 1)]
)
def test_the_engine_dies_while_giving_back(scene: Scene, method: str, at: int, done: bool) -> None:
    scene.seal()
    scene.fake.die(method, at=at, done=done)
    with pytest.raises(EngineUnreachable):
        scene.release()
    scene.fake.revive()
    assert scene.fake.container(scene.target).paused
    assert not scene.release()
    container = scene.fake.container(scene.target)
    assert not compare(scene.saved, container, container)


def test_one_of_two_networks_refuses(scene: Scene) -> None:
    scene.seal()
    scene.fake.fail("connect", REFUSED)
    assert scene.release() == ("network back: the engine refuses",)
    assert scene.really_on() == {"front"}
    assert not scene.release()
    assert scene.really_on() == {"front", "back"}


def stopped(started: bool) -> Scene:
    fake = fake_engine()
    front = fake.create_network(NetworkSpec("front", False, {}, {}, "10.9.1.0/24"))
    target = fake.create({"Image": IMAGE, "HostConfig": {"NetworkMode": "front"}}, "web")
    if started:
        fake.start(target)
        fake.stop(target)
    return Scene(fake, target, front, front)


def test_a_stopped_target() -> None:
    scene = stopped(started=True)
    scene.seal()
    assert set(scene.networks()) == {QUARANTINED}
    assert not scene.release()
    assert set(scene.networks()) == {"front"}
    scene.fake.start(scene.target)
    assert scene.really_on() == {"front"}


def test_a_target_that_was_never_started() -> None:
    scene = stopped(started=False)
    scene.seal()
    assert set(scene.networks()) == {QUARANTINED}
    assert not scene.release()
    assert set(scene.networks()) == {"front"}


def test_a_stopped_target_whose_network_was_made_anew() -> None:
    scene = stopped(started=True)
    scene.seal()
    scene.fake.remove_network(scene.front)
    scene.fake.create_network(NetworkSpec("front", False, {}, {}, "10.9.1.0/24"))
    assert not scene.release()
    scene.fake.start(scene.target)
    assert scene.really_on() == {"front"}


def test_the_quarantine_network_cannot_be_removed(scene: Scene) -> None:
    scene.seal()
    (problem,) = clear_away(scene.fake, CASE)
    assert QUARANTINED in problem and "active endpoints" in problem
    assert leftovers(scene.fake, lambda case: False) == []
    scene.release()
    assert leftovers(scene.fake, lambda case: case == CASE) == []
    assert leftovers(scene.fake, lambda case: False) == [CASE]
    gone = scene.elsewhere(lambda fake: fake.remove_network(QUARANTINED))
    scene.fake.before("remove_network", gone)
    assert not clear_away(scene.fake, CASE)
    assert leftovers(scene.fake, lambda case: False) == []


# -- whole runs -------------------------------------------------------------------------------------------------


@dataclass
class Ran:
    """A finished run."""

    outcome: Outcome
    context: Context

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        return {str(step["id"]): step for step in self.outcome.steps}

    @property
    def records(self) -> list[str]:
        return [row["type"] for row in read_journal(self.context.run_folder / "journal.jsonl")]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRKIT_HOME", str(tmp_path_factory.mktemp("keys")))
        return keys.generate("default")


def run(scene: Scene, signer: Signer, playbook: str, **variables: Any) -> Ran:
    with scene.fake.unrecorded():
        before = scene.fake.container(scene.target)
    case = cases.open_case(Target(before.id, before.name, before.image_ref, before.image_id, scene.fake.endpoint))
    name, folder = case.new_run()
    context = Context(
        scene.fake, case, name, case.target, before, BundleWriter(case.folder / "bundles" / name), silent, lambda: None, lambda: signer
    )  # fmt: skip
    book = load_playbook(resources.find("playbooks", playbook))
    journal = Journal(folder / "journal.jsonl")
    try:
        outcome = Runner(book, context, journal, book.bind(variables), lambda: None).run()
    finally:
        journal.close()
    return Ran(outcome, context)


def test_contain_and_release(scene: Scene, signer: Signer) -> None:
    scene.fake.unpause(scene.target)
    done = run(scene, signer, "contain")
    quarantine = network_name(done.context.case.id)
    assert done.steps["freeze"]["outcome"] == done.steps["seal-off"]["outcome"] == "succeeded"
    assert scene.really_on() == {quarantine} and scene.fake.container(scene.target).paused
    assert done.outcome.exit_code == ExitCode.CHECK_FAILED, "no host's view: not proven"
    assert done.context.facts.sealed is not None
    back = run(scene, signer, "release")
    assert back.outcome.status == "succeeded", back.outcome
    assert scene.really_on() == {"front", "back"} and not scene.fake.container(scene.target).paused
    assert not scene.fake.networks(LABEL)


def test_somebody_else_freezes_it_first(scene: Scene, signer: Signer) -> None:
    scene.fake.unpause(scene.target)
    scene.fake.before("pause", scene.elsewhere(lambda fake: fake.pause(scene.target)))
    done = run(scene, signer, "contain")
    assert done.steps["freeze"]["outcome"] == "succeeded" and "was frozen already" in done.steps["freeze"]["message"]


def test_it_is_isolated_although_it_cannot_be_frozen(scene: Scene, signer: Signer) -> None:
    scene.fake.unpause(scene.target)
    scene.fake.fail("pause", REFUSED)
    done = run(scene, signer, "contain")
    assert done.steps["freeze"]["outcome"] == "failed"
    assert done.steps["seal-off"]["outcome"] == "succeeded"
    assert scene.really_on() == {network_name(done.context.case.id)}
    assert done.outcome.exit_code == ExitCode.CHECK_FAILED
    assert done.context.facts.sealed is not None


@pytest.mark.parametrize("error", [REFUSED, NotFound("could not find an available address pool", status=404)])
def test_no_quarantine_network(scene: Scene, signer: Signer, error: EngineError) -> None:
    """Nothing fails without a word: the target is frozen and on no network, and the run says that it is not proven."""
    scene.fake.unpause(scene.target)
    scene.fake.fail("create_network", error, times=None)
    done = run(scene, signer, "contain")
    assert done.steps["seal-off"]["outcome"] == "failed" and error.message in done.steps["seal-off"]["message"]
    assert not scene.networks() and scene.fake.container(scene.target).paused
    assert done.outcome.exit_code == ExitCode.CHECK_FAILED
    scene.fake.revive()
    again = run(scene, signer, "contain")
    assert again.steps["seal-off"]["outcome"] == "succeeded"
    assert scene.really_on() == {network_name(done.context.case.id)}
    back = run(scene, signer, "release")
    assert back.steps["networks"]["outcome"] == "succeeded", back.steps["networks"]
    assert scene.really_on() == {"front", "back"}


@pytest.mark.thorough
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["pause", "set_restart_policy", "disconnect", "create_network", "connect"])
def test_the_engine_dies_while_containing(scene: Scene, signer: Signer, method: str, done: bool) -> None:
    """The run goes on to its end, keeps what it has, and says that the check did not hold; repeated, it works."""
    scene.fake.unpause(scene.target)
    scene.fake.die(method, done=done)
    first = run(scene, signer, "contain")
    assert first.outcome.exit_code in (ExitCode.CHECK_FAILED, ExitCode.FAILED), first.outcome
    assert first.records[0] == "run-started" and first.records[-1] == "run-finished"
    assert first.records.count("step-started") == first.records.count("step-finished")
    scene.fake.revive()
    again = run(scene, signer, "contain")
    assert again.context.case.id == first.context.case.id
    assert again.steps["seal-off"]["outcome"] == "succeeded", again.steps["seal-off"]
    assert scene.really_on() == {network_name(first.context.case.id)} and scene.fake.container(scene.target).paused
    back = run(scene, signer, "release")
    assert back.outcome.status == "succeeded", back.outcome
    container = scene.fake.container(scene.target)
    assert scene.really_on() == {"front", "back"} and container.restart_policy == ALWAYS and not container.paused


@pytest.mark.thorough
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["disconnect", "connect", "set_restart_policy", "remove_network", "unpause"])
def test_the_engine_dies_while_releasing(scene: Scene, signer: Signer, method: str, done: bool) -> None:
    scene.fake.unpause(scene.target)
    run(scene, signer, "contain")
    scene.fake.die(method, done=done)
    first = run(scene, signer, "release")
    assert first.outcome.exit_code != ExitCode.DONE
    scene.fake.revive()
    run(scene, signer, "release")
    container = scene.fake.container(scene.target)
    assert scene.really_on() == {"front", "back"}
    assert container.restart_policy == ALWAYS and not container.paused


# -- rebuild ----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "SETTLE", 0.0)
    monkeypatch.setattr(rebuilding, "POLL", 0.0)


def rebuild(scene: Scene) -> rebuilding.Rebuilt:
    with scene.fake.unrecorded():
        old = scene.fake.container(scene.target)
    plan = recipe(old, None, IMAGE)
    fixed = tuple(Endpoint(one.network, "", "", "", "", "", one.aliases) for one in plan.networks)
    body = {**plan.body, "NetworkingConfig": {"EndpointsConfig": {"front": {"Aliases": ["web"]}}}}
    return rebuilding.rebuild(scene.fake, old, "web", Recipe(body, fixed, ()), "web-old", 5, lambda: None)


def unchanged(scene: Scene) -> bool:
    with scene.fake.unrecorded():
        return scene.fake.container("web").id == scene.target and len(scene.fake.containers()) == 1


@pytest.mark.usefixtures("quick")
def test_rebuilt(scene: Scene) -> None:
    done = rebuild(scene)
    assert scene.fake.container("web").id == done.id and scene.fake.container("web-old").id == scene.target
    assert set(scene.networks(done.id)) == {"front", "back"} and scene.fake.container("web-old").paused


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", ["create", "connect", "start"])
def test_a_rebuild_that_fails_is_undone(scene: Scene, method: str) -> None:
    scene.fake.fail(method, REFUSED if method != "create" else NotFound("No such image: x", status=404))
    with pytest.raises(EngineError, match="web is as it was before"):
        rebuild(scene)
    assert unchanged(scene)


@pytest.mark.usefixtures("quick")
def test_a_new_container_that_ends_is_removed(scene: Scene) -> None:
    scene.fake.programs[("serve",)] = Program(err=b"no configuration\n", code=2)
    with pytest.raises(EngineError, match=r"exit code 2; web is as it was before.*no configuration"):
        rebuild(scene)
    assert unchanged(scene)


@pytest.mark.usefixtures("quick")
def test_a_new_container_that_is_unhealthy_is_removed(scene: Scene) -> None:
    scene.fake.before("start", lambda: scene.fake.set_health("web", "unhealthy"), done=True)
    with pytest.raises(EngineError, match="health check fails; web is as it was before"):
        rebuild(scene)
    assert unchanged(scene)


@pytest.mark.usefixtures("quick")
def test_the_answer_to_create_is_lost(scene: Scene) -> None:
    scene.fake.fail("create", EngineUnreachable("no answer"), done=True)
    with pytest.raises(IrkitError, match="web is as it was before"):
        rebuild(scene)
    assert unchanged(scene)


@pytest.mark.usefixtures("quick")
def test_the_answer_to_the_first_rename_is_lost(scene: Scene) -> None:
    scene.fake.fail("rename", EngineUnreachable("no answer"), done=True)
    with pytest.raises(IrkitError):
        rebuild(scene)
    assert unchanged(scene)


@pytest.mark.usefixtures("quick")
def test_a_rebuild_is_repeated_after_the_engine_died(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from irkit.actions import recovery
    from irkit.home import write_json

    with scene.fake.unrecorded():
        before = scene.fake.container(scene.target)
    case = cases.open_case(Target(before.id, before.name, before.image_ref, before.image_id, scene.fake.endpoint))
    case = case.with_state("contained")
    write_json(case.folder / "container.json", dict(before.raw))
    monkeypatch.setattr(Case, "bundles", (tmp_path,))
    scene.seal()
    with scene.fake.unrecorded():
        writer = BundleWriter(tmp_path / "b")
        context = Context(
            scene.fake, case, "r", case.target, before, writer, silent, lambda: None, lambda: pytest.fail("no key is needed")
        )  # fmt: skip
    arguments = {"image": IMAGE, "image_id": IMAGE, "health_timeout": 5}
    scene.fake.die("create")
    with pytest.raises(EngineUnreachable):
        recovery.rebuild(context, arguments)
    scene.fake.revive()
    assert recovery.rebuild(context, arguments).outcome == "succeeded"
    assert scene.fake.container("web").running

    done = recovery.was_rebuilt(context, arguments)
    assert done is not None and done.outcome == "succeeded"
    with pytest.raises(Refused, match="web was rebuilt already"):
        recovery.rebuild_plan(scene.fake, case, arguments)  # a plan says no more than a rebuild would do
    scene.fake.add_image(FakeImage("other:1"))
    with pytest.raises(Refused, match="not from the verified image"):
        recovery.was_rebuilt(context, {**arguments, "image_id": "other:1"})
