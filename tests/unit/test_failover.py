"""Failover against an engine that refuses, forgets to answer or dies: the target is untouched or contained, never half."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.engine.fake.engine import FakeEngine
from irkit.engine.fake.state import Program
from irkit.engine.interface import Container, Endpoint, NetworkSpec, PortBinding
from irkit.errors import EngineError, EngineUnreachable, IrkitError, Refused
from irkit.quarantine import ports
from irkit.quarantine.ports import tcp_port
from irkit.recover import failover
from irkit.recover import rebuild as rebuilding
from irkit.recover.config import Recipe, recipe
from irkit.recover.failover import COLD, WARM, Names
from tests.contract.stage import IMAGE, fake_engine

CASE = "2026-01-01-web-abcd"
NAMES = Names.of("web", CASE)
NURSERY = NetworkSpec(NAMES.nursery, True, {}, {})
REFUSED = EngineError("the engine refuses", status=500)
PORT = {"8080/tcp": [{"HostIp": "", "HostPort": "8000"}]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "SETTLE", 0.0)
    monkeypatch.setattr(rebuilding, "POLL", 0.0)
    monkeypatch.setattr(failover, "REACHED", 0.0)


class Scene:
    """A target on two networks, with a fixed address, an alias and a published port; what it was is ``before``."""

    def __init__(self) -> None:
        self.fake = fake_engine()
        self.fake.create_network(NetworkSpec("front", False, {}, {}, "10.9.1.0/24"))
        back = self.fake.create_network(NetworkSpec("back", False, {}, {}, "10.9.2.0/24"))
        wish = {"front": {"Aliases": ["shop"], "IPAMConfig": {"IPv4Address": "10.9.1.50"}}}
        host = {"NetworkMode": "front", "PortBindings": PORT}
        body = {"Image": IMAGE, "Cmd": ["serve"], "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": wish}}
        self.target = self.fake.create(body, "web")
        self.fake.start(self.target)
        self.fake.connect(back, self.target)
        self.before = self.fake.container(self.target)
        plan = recipe(self.before, None, IMAGE)
        # the fake says no IPAMConfig in inspect, so that the fixed address is given here
        self.plan = Recipe({**plan.body, "NetworkingConfig": {"EndpointsConfig": wish}}, plan.networks, ())
        self.where = (Endpoint.from_inspect("front", wish["front"]), *plan.networks)

    def prepare(self, start: str = WARM, known: str = "") -> str:
        return failover.prepare(self.fake, self.plan, NAMES, start, NURSERY, 5, lambda: None, known)[0]

    def switch(self, new: str, start: str = WARM) -> None:
        with self.fake.unrecorded():
            target = self.fake.container(self.target)
        failover.take_over(self.fake, target, new, self.where, NAMES, start, "irkit-none")

    def served(self, container: str) -> bool:
        """Whether it runs in the target's place, with all that belongs to it."""
        with self.fake.unrecorded():
            one = self.fake.container(container)
        places = {each.network: each for each in one.endpoints}
        return (
            one.name == "web" and one.running and {each.host_port for each in one.ports} == {8000}
            and set(places) == {"front", "back"} and places["front"].ipv4 == "10.9.1.50" and "shop" in places["front"].aliases
        )  # fmt: skip

    def untouched(self) -> bool:
        with self.fake.unrecorded():
            now = self.fake.container(self.target)
            alone = len(self.fake.containers()) == 1 and not any(
                one.name == NAMES.nursery for one in self.fake.networks()
            )
        return alone and self.served(self.target) and now.raw == self.before.raw


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("start", [WARM, COLD])
def test_taken_over(scene: Scene, start: str) -> None:
    new = scene.prepare(start)
    with scene.fake.unrecorded():
        ready = scene.fake.container(new)
    assert ready.name == NAMES.temporary and ready.running == (start == WARM) and not ready.ports
    assert scene.served(scene.target) and NAMES.nursery not in {one.name for one in scene.fake.networks()}
    scene.fake.pause(scene.target)
    scene.switch(new, start)
    assert scene.served(new)
    old = scene.fake.container(scene.target)
    assert old.name == NAMES.aside and old.paused and not old.endpoints and not old.ports


def test_the_target_is_off_before_the_replacement_joins(scene: Scene) -> None:
    new = scene.prepare()
    scene.fake.pause(scene.target)
    scene.fake.mutations.clear()
    scene.switch(new)
    done = [(one.method, one.args[1 if one.method.endswith("connect") else 0]) for one in scene.fake.mutations]
    # the first network has a fixed address, which only one of them can have
    assert done[:2] == [("disconnect", scene.target)] * 2 and done[2:4] == [("connect", new)] * 2
    assert done[4:] == [("rename", scene.target), ("rename", new)]
    scene.fake.mutations.clear()
    scene.switch(new)
    assert not scene.fake.mutations, "once more does nothing"


def test_where_nothing_clashes_it_answers_beside_the_target(scene: Scene) -> None:
    open_ = replace(scene.plan, body={**scene.plan.body, "HostConfig": {"NetworkMode": "front"}})
    where = tuple(failover.named(one, "web") for one in scene.where)
    assert not failover.early_places(scene.fake, scene.plan, where), "the port is the target's"
    early = failover.early_places(scene.fake, open_, where)
    assert [one.network for one in early] == ["back"], "on front it has a fixed address"
    new = failover.prepare(scene.fake, open_, NAMES, WARM, NURSERY, 5, lambda: None, early=early)[0]
    (place,) = scene.fake.container(new).endpoints
    assert "web" in place.aliases and scene.served(scene.target)


def test_one_that_joins_the_warm_up_again_and_again_leaves_no_network(scene: Scene, monkeypatch: Any) -> None:
    """As a replacement does that dies at once, and that its restart policy starts over and over."""

    def dies(_: Any, new: str, *__: Any) -> str:
        raise EngineError("it has exited")

    leave = scene.fake.disconnect

    def joins_again(network: str, container: str) -> None:
        if network != NAMES.nursery:
            leave(network, container)

    monkeypatch.setattr(failover, "wait_healthy", dies)
    monkeypatch.setattr(scene.fake, "disconnect", joins_again)
    with pytest.raises(EngineError, match="web was not touched"):
        scene.prepare()
    assert scene.untouched()


def test_a_network_that_is_refused_early_touches_nothing(scene: Scene) -> None:
    early = (Endpoint("nowhere", "", "", "", "", ""),)
    with pytest.raises(EngineError, match="web was not touched"):
        failover.prepare(scene.fake, scene.plan, NAMES, WARM, NURSERY, 5, lambda: None, early=early)
    assert scene.untouched()


@pytest.mark.parametrize("method", ["create", "disconnect", "create_network", "connect", "start"])
def test_what_can_not_be_prepared_touches_nothing(scene: Scene, method: str) -> None:
    scene.fake.fail(method, REFUSED)
    with pytest.raises(EngineError, match="web was not touched"):
        scene.prepare()
    assert scene.untouched()


def test_a_replacement_that_ends_touches_nothing(scene: Scene) -> None:
    scene.fake.programs[("serve",)] = Program(err=b"no peers\n", code=2)
    with pytest.raises(EngineError, match=r"exit code 2; web was not touched.*no peers") as told:
        scene.prepare()
    assert scene.untouched() and "--start cold" in str(told.value.hint)


def test_a_signal_while_it_is_prepared_touches_nothing(scene: Scene) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failover.prepare(scene.fake, scene.plan, NAMES, WARM, NURSERY, 5, stop)
    assert scene.untouched()


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["create", "create_network", "connect", "start", "disconnect", "remove_network"])
def test_the_engine_dies_while_it_is_prepared(scene: Scene, method: str, done: bool) -> None:
    """What a killed run had made is removed, and made anew."""
    made: list[str] = []
    scene.fake.die(method, done=done)
    with contextlib.suppress(EngineUnreachable):
        failover.prepare(scene.fake, scene.plan, NAMES, WARM, NURSERY, 5, lambda: None, "", made.append)
    scene.fake.revive()
    new = scene.prepare(known=made[-1] if made else "")
    assert len(scene.fake.containers()) == 2 and scene.served(scene.target)
    scene.fake.pause(scene.target)
    scene.switch(new)
    assert scene.served(new)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("method", ["disconnect", "rename", "connect"])
def test_a_switch_that_is_refused_leaves_it_contained_and_says_so(scene: Scene, method: str, at: int) -> None:
    new = scene.prepare()
    scene.fake.pause(scene.target)
    scene.fake.fail(method, REFUSED, at=at)
    with pytest.raises(EngineError, match=r"web has its name back; the target stays contained"):
        scene.switch(new)
    with scene.fake.unrecorded():
        assert len(scene.fake.containers()) == 1
        target = scene.fake.container("web")
        assert target.id == scene.target and target.paused
        assert len(target.endpoints) == (3 - at if method == "disconnect" else 0)


def test_a_switch_that_can_not_be_taken_back_says_what_is_not(scene: Scene) -> None:
    new = scene.prepare()
    scene.fake.pause(scene.target)
    scene.fake.die("connect")
    with pytest.raises(IrkitError, match=r"could not be removed.*could not be given its name back"):
        scene.switch(new)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("method", ["disconnect", "rename", "connect"])
def test_a_switch_that_the_engine_died_in_is_gone_on_with(scene: Scene, method: str, at: int, done: bool) -> None:
    new = scene.prepare()
    scene.fake.pause(scene.target)
    scene.fake.die(method, at=at, done=done)
    with pytest.raises(IrkitError):
        scene.switch(new)
    scene.fake.revive()
    scene.switch(new)
    assert scene.served(new) and scene.fake.container(scene.target).name == NAMES.aside


def test_somebody_elses_container_of_the_temporary_name_stays(scene: Scene) -> None:
    with scene.fake.unrecorded():
        other = scene.fake.create({"Image": IMAGE}, NAMES.temporary)
        scene.fake.start(other)
    with pytest.raises(EngineError, match="already in use"):
        scene.prepare()
    assert scene.fake.container(NAMES.temporary).id == other and scene.served(scene.target)


def container(**raw: Any) -> Container:
    body = {"Id": "a" * 64, "Name": "/web", "Image": IMAGE, "Config": {}, "HostConfig": {}, "State": {"Running": True}}
    return Container({**body, **raw})


@pytest.mark.parametrize("mode", ["host", "container:abc"])
def test_a_shared_network_namespace_is_refused(mode: str) -> None:
    with pytest.raises(Refused, match="network namespace"):
        failover.refuse_shared(container(HostConfig={"NetworkMode": mode}))


@pytest.mark.parametrize(
    ("mount", "host", "start"),
    [
        ({"Type": "bind", "RW": True}, {}, COLD),
        ({"Type": "bind", "RW": False}, {}, WARM),
        ({"Type": "volume", "Name": "data", "RW": True}, {"Binds": ["data:/d"]}, COLD),
        ({"Type": "volume", "Name": "data", "RW": True}, {"Mounts": [{"Source": "data"}]}, COLD),
        ({"Type": "volume", "Name": "3f" * 32, "RW": True}, {}, WARM),
        ({"Type": "volume", "Name": "3f" * 32, "RW": True}, {"VolumesFrom": ["db"]}, COLD),
        ({"Type": "tmpfs", "RW": True}, {}, WARM),
    ],
)
def test_two_never_write_to_the_same_files(mount: dict[str, Any], host: dict[str, Any], start: str) -> None:
    before = container(HostConfig=host, Mounts=[{"Destination": "/d", **mount}])
    assert failover.start_of(before, "auto")[0] == start
    assert failover.start_of(before, WARM)[0] == WARM


def test_ports_that_the_engine_chose_are_fixed() -> None:
    bound = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "49153"}, {"HostIp": "::", "HostPort": "49153"}]}
    for asked, everything in (
        ({"80/tcp": [{"HostIp": "", "HostPort": ""}]}, False),
        ({"80/tcp": [{"HostPort": "49150-49160"}]}, False),
        ({}, True),
    ):
        host = {"PortBindings": asked, "PublishAllPorts": everything}
        plan = Recipe({"HostConfig": host}, (), ())
        made = failover.pinned(plan, container(HostConfig=host, NetworkSettings={"Ports": bound}))
        assert made.body["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "49153"}]}
        assert not made.body["HostConfig"]["PublishAllPorts"] and "49153" in made.notes[0]
    given_ = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}
    same = Recipe({"HostConfig": {"PortBindings": given_}}, (), ())
    assert (
        failover.pinned(same, container(HostConfig=same.body["HostConfig"], NetworkSettings={"Ports": bound})) is same
    )


def test_the_default_bridge_is_a_place() -> None:
    before = container(NetworkSettings={"Networks": {"bridge": {"NetworkID": "b", "EndpointID": "e"}}})
    assert failover.places(before) == (Endpoint("bridge", "", "", "", "", ""),)


def test_a_target_that_had_left_its_first_network_has_each_place_once() -> None:
    networks = {"bridge": {"NetworkID": "b", "EndpointID": "e"}, "back": {"NetworkID": "k", "EndpointID": "f"}}
    before = container(HostConfig={"NetworkMode": "front"}, NetworkSettings={"Networks": networks})
    assert sorted(one.network for one in failover.places(before)) == ["back", "bridge"]


def test_fixed_ports_leave_the_rest_of_the_recipe_alone() -> None:
    bound = {"80/tcp": [{"HostIp": "", "HostPort": "49153"}]}
    before = container(HostConfig={"PublishAllPorts": True}, NetworkSettings={"Ports": bound})
    plan = Recipe({"HostConfig": {"PublishAllPorts": True}}, (), (), ("front",), ("hunter22",))
    made = failover.pinned(plan, before)
    assert made.leave == ("front",) and made.hidden == ("hunter22",)


@pytest.mark.parametrize("start", [WARM, COLD])
def test_a_switch_that_fails_repeats_no_secret(scene: Scene, start: str) -> None:
    body = {**scene.plan.body, "Env": ["TOKEN=hunter22-new", "MODE=prod"]}
    scene.plan = replace(scene.plan, body=body)
    new = scene.prepare(start)
    scene.fake.pause(scene.target)
    scene.fake.fail("rename", EngineError("no: hunter22-new", status=500))
    with pytest.raises(EngineError, match=r"\[secret\]") as told:
        failover.take_over(
            scene.fake, scene.fake.container(scene.target), new, scene.where, NAMES, start, "irkit-none", ("TOKEN",)
        )
    assert "hunter22" not in str(told.value)


@given(st.integers(0, 65535), st.integers(5, 15), st.binary(max_size=40))
def test_the_port_of_a_frame(port: int, words: int, rest: bytes) -> None:
    segment = struct.pack(">HH", 40000, port) + rest
    options = bytes(4 * (words - 5))
    four = bytes([0x40 | words]) + bytes(8) + bytes([socket.IPPROTO_TCP]) + bytes(10) + options + segment
    six = bytes(6) + bytes([socket.IPPROTO_TCP]) + bytes(33) + segment
    assert tcp_port(bytes(12) + b"\x08\x00" + four) == {port} == tcp_port(bytes(12) + b"\x86\xdd" + six)
    assert tcp_port(bytes(12) + b"\x08\x06" + four) == set()


@given(st.binary(max_size=80))
def test_any_frame_is_read(frame: bytes) -> None:
    assert len(tcp_port(frame)) <= 1


def test_the_fake_is_what_it_is_taken_for() -> None:
    """Ports of a running container are published when it joins a network that leads outside, not on an internal one."""
    fake = FakeEngine(IMAGE)
    inner = fake.create_network(NetworkSpec("inner", True, {}, {}))
    outer = fake.create_network(NetworkSpec("outer", False, {}, {}))
    made = fake.create({"Image": IMAGE, "HostConfig": {"NetworkMode": "inner", "PortBindings": PORT}}, "one")
    fake.start(made)
    assert not fake.container(made).ports
    fake.connect(outer, made)
    assert {one.host_port for one in fake.container(made).ports} == {8000}
    fake.disconnect(inner, made)
    assert fake.container(made).ports


def test_a_lying_record_removes_nobody_elses_container(scene: Scene) -> None:
    with scene.fake.unrecorded():
        stranger = scene.fake.create({"Image": IMAGE}, "stranger")
    error = EngineError("no", status=500)
    for one in (stranger, scene.target):
        failover.step_back(scene.fake, scene.target, one, NAMES, error)
    assert {scene.fake.container(one).name for one in (stranger, scene.target)} == {"stranger", "web"}
    assert "could not be removed" in error.message


def test_frames_that_were_lost_are_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood in the namespace would push what arrived out of the packet socket's buffer."""

    class Full:
        def recvfrom(self, _: int) -> tuple[bytes, tuple[str]]:
            raise BlockingIOError

        def getsockopt(self, *_: int) -> bytes:
            return struct.pack("II", 9, 4)

    port = PortBinding(8080, "tcp", "127.0.0.1", 18080)
    monkeypatch.setattr(ports, "in_netns", lambda *_: Full())
    taken = ports.TakenPorts(SimpleNamespace(taken=(port,), heir="web", victim="/proc/1/ns/net"))  # type: ignore[arg-type]
    (probe,) = taken.probes()
    assert probe.result == "unknown" and "4 frames" in probe.detail
