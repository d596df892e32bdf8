"""The fake engine keeps the contract of an engine, and stages what its tests ask for."""

from __future__ import annotations

import pytest

from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import Engine, NetworkSpec
from irkit.errors import EngineError, EngineUnreachable, NotFound
from tests.contract.engine import EngineContract
from tests.contract.evidence import EvidenceContract
from tests.contract.stage import IMAGE, Stage, fake_engine


class TestFake(EngineContract, EvidenceContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return fake_engine()


@pytest.fixture
def fake() -> FakeEngine:
    return fake_engine()


def test_failures_are_counted_from_now_on(fake: FakeEngine) -> None:
    one = Stage(fake).run("a")
    fake.pause(one)
    fake.fail("pause", EngineError("no", status=500), at=2)
    fake.unpause(one)
    fake.pause(one)
    fake.unpause(one)
    with pytest.raises(EngineError, match="no"):
        fake.pause(one)
    assert not fake.container(one).paused
    fake.pause(one)
    assert [(each.method, each.error) for each in fake.mutations][-2:] == [("pause", "no"), ("pause", "")]
    assert fake.calls[-3].status == 500


def test_an_answer_can_be_lost(fake: FakeEngine) -> None:
    one = Stage(fake).run("a")
    fake.fail("pause", EngineError("no answer"), done=True)
    with pytest.raises(EngineError, match="no answer"):
        fake.pause(one)
    assert fake.container(one).paused


def test_it_dies_and_comes_back(fake: FakeEngine) -> None:
    one = Stage(fake).run("a")
    fake.die("stop", done=True)
    assert fake.container(one).running
    with pytest.raises(EngineUnreachable):
        fake.stop(one)
    with pytest.raises(EngineUnreachable):
        fake.container(one)
    assert fake.calls[-1].status == 0
    fake.revive()
    assert not fake.container(one).running
    fake.die()
    with pytest.raises(EngineUnreachable):
        fake.info()


def test_somebody_else_comes_in_between(fake: FakeEngine) -> None:
    one = Stage(fake).run("a")

    def remove() -> None:
        with fake.unrecorded():
            fake.remove(one, force=True)

    fake.before("pause", remove)
    calls = len(fake.calls)
    with pytest.raises(NotFound):
        fake.pause(one)
    assert len(fake.calls) == calls + 1 and fake.changed("pause", "remove") == [("pause", one)]


def test_the_address_pool_is_used_up() -> None:
    fake = FakeEngine(IMAGE, pool="10.231.128.0/23")
    for name in ("a", "b"):
        fake.create_network(NetworkSpec(name, False, {}, {}))
    with pytest.raises(NotFound, match="non-overlapping IPv4 address pool"):
        fake.create_network(NetworkSpec("c", False, {}, {}))
    fake.remove_network("a")
    fake.create_network(NetworkSpec("c", False, {}, {}))


def test_no_process_is_a_real_one(fake: FakeEngine) -> None:
    assert fake.container(Stage(fake).run("a")).pid > 4194304
