"""The contract of :class:`irkit.engine.interface.Engine`, as far as irkit relies on it.

Subclass it where a fixture ``engine`` is; the tests make what they need through the interface alone.  Where engines
differ, a test asks for the least that irkit needs; what only Docker 20.10 does is said to be so.
"""

from __future__ import annotations

import io
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator

import pytest

from irkit.engine.interface import Endpoint, Engine, NetworkSpec
from irkit.errors import Conflict, EngineError, NotFound
from irkit.quarantine.release import SUBNET_NEEDED
from irkit.quarantine.seal import OPTIONS

from .stage import END, GREET, IMAGE, LABEL, SAY, Stage, place


def on(engine: Engine, container: str) -> dict[str, Endpoint]:
    """A container's places, by network."""
    return {one.network: one for one in engine.container(container).endpoints}


def members(engine: Engine, network: str) -> dict[str, str]:
    """Who is on a network, with the address."""
    return {one.container_id: one.ipv4 for one in engine.network(network).members}


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within some seconds."""
    deadline = time.monotonic() + 10
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def only_docker_20(engine: Engine) -> None:
    """Skip with any other engine."""
    version = engine.info().version
    if not version.startswith("20.10"):
        pytest.skip(f"as Docker 20.10 does it, and this is {version}")


class EngineContract:
    """One test, one promise."""

    @pytest.fixture
    def stage(self, engine: Engine) -> Iterator[Stage]:
        made = Stage(engine)
        yield made
        made.clean()

    # -- containers ------------------------------------------------------------------------------------------

    def test_pause(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a")
        engine.pause(one)
        assert engine.container(one).paused and engine.container(one).running and engine.container(one).pid
        with pytest.raises(Conflict):
            engine.pause(one)
        with pytest.raises(EngineError):
            engine.start(one)
        engine.unpause(one)
        assert not engine.container(one).paused and engine.container(one).running
        with pytest.raises(EngineError):
            engine.unpause(one)

    def test_what_does_not_run_is_not_paused(self, engine: Engine, stage: Stage) -> None:
        one = stage.make("a")
        for _ in range(2):
            with pytest.raises(Conflict):
                engine.pause(one)
            with pytest.raises(EngineError):
                engine.unpause(one)
            engine.start(one)
            engine.stop(one, grace=0)

    def test_start_and_stop_can_be_repeated(self, engine: Engine, stage: Stage) -> None:
        one = stage.make("a")
        assert not engine.container(one).running and engine.container(one).pid == 0
        for _ in range(2):
            engine.start(one)
        assert engine.container(one).running and engine.container(one).pid
        for _ in range(2):
            engine.stop(one, grace=0)
        assert not engine.container(one).running and engine.container(one).pid == 0

    def test_what_ends_by_itself(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a", *END)
        assert eventually(lambda: not engine.container(one).running)
        assert engine.container(one).state["ExitCode"] == 3

    def test_create(self, engine: Engine, stage: Stage) -> None:
        one = stage.make("a", Env=["A=1"], host={"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}})
        made = engine.container(one)
        assert (made.id, made.name, made.image_ref) == (one, stage.name("a"), IMAGE)
        assert made.image_id == engine.image(IMAGE).id
        assert made.labels[LABEL] == stage.token and "A=1" in made.config["Env"]
        assert made.config["Hostname"] == one[:12]
        assert made.restart_policy["Name"] == "always" and not made.auto_remove

    def test_create_refused(self, engine: Engine, stage: Stage) -> None:
        stage.make("a")
        with pytest.raises(Conflict):
            stage.make("a")
        with pytest.raises(NotFound):
            engine.create({"Image": "irkit-dev/nosuch:1", "Labels": stage.labels}, stage.name("b"))
        with pytest.raises(EngineError):
            engine.create(stage.body(), "- no name -")
        with pytest.raises(EngineError):
            stage.make("b", host={"RestartPolicy": {"Name": "nonsense"}})
        assert len(engine.containers(stage.label)) == 1

    def test_references(self, engine: Engine, stage: Stage) -> None:
        one = stage.make("a")
        assert {engine.container(ref).id for ref in (one, one[:12], stage.name("a"))} == {one}
        net = stage.network()
        assert {engine.network(ref).id for ref in (net.id, net.id[:12], net.name)} == {net.id}

    def test_an_empty_reference_names_nothing(self, engine: Engine) -> None:
        for attempt in (engine.container, engine.network):
            with pytest.raises(EngineError):
                attempt("")

    def test_containers_by_label(self, engine: Engine, stage: Stage) -> None:
        made = {stage.make("a"), stage.run("b")}
        assert set(engine.containers(stage.label)) == made
        assert made <= set(engine.containers(LABEL)) <= set(engine.containers())
        assert not engine.containers(f"{LABEL}=nobody")

    def test_rename(self, engine: Engine, stage: Stage) -> None:
        one, other = stage.run("a"), stage.make("b")
        engine.pause(one)
        engine.rename(one, stage.name("c"))
        assert engine.container(stage.name("c")).id == one
        with pytest.raises(NotFound):
            engine.container(stage.name("a"))
        with pytest.raises(Conflict):
            engine.rename(other, stage.name("c"))
        for wrong in ("", "- no name -"):
            with pytest.raises(EngineError):
                engine.rename(other, wrong)
        engine.rename(other, stage.name("a"))
        assert engine.container(other).name == stage.name("a")

    def test_remove(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a")
        with pytest.raises(Conflict):
            engine.remove(one)
        engine.pause(one)
        with pytest.raises(Conflict):
            engine.remove(one)
        assert engine.container(one).paused
        engine.remove(one, force=True)
        with pytest.raises(NotFound):
            engine.container(one)
        engine.remove(stage.make("a"))
        assert not engine.containers(stage.label)

    def test_restart_policy(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a")
        engine.pause(one)
        for name in ("always", "no", "unless-stopped"):
            engine.set_restart_policy(one, {"Name": name, "MaximumRetryCount": 0})
            assert engine.container(one).restart_policy["Name"] == name
        engine.set_restart_policy(one, {"Name": "on-failure", "MaximumRetryCount": 2})
        assert engine.container(one).restart_policy == {"Name": "on-failure", "MaximumRetryCount": 2}
        with pytest.raises(EngineError):
            engine.set_restart_policy(one, {"Name": "nonsense", "MaximumRetryCount": 0})
        assert engine.container(one).restart_policy["Name"] == "on-failure" and engine.container(one).paused

    def test_what_removes_itself(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a", host={"AutoRemove": True})
        assert engine.container(one).auto_remove
        with pytest.raises(EngineError):
            engine.set_restart_policy(one, {"Name": "always", "MaximumRetryCount": 0})
        engine.stop(one, grace=0)
        assert eventually(lambda: one not in engine.containers())

    def test_exec_and_logs(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a", *SAY)
        assert engine.exec(one, list(GREET)) == (3, b"hi\n")
        assert engine.exec(one, list(GREET), detach=True) == (0, b"")
        assert eventually(lambda: b"".join(engine.logs(one, "stdout")).endswith(b"Z out\n"))
        assert eventually(lambda: b"".join(engine.logs(one, "stderr")).endswith(b"Z err\n"))
        engine.pause(one)
        with pytest.raises(EngineError):
            engine.exec(one, list(GREET))
        engine.stop(one, grace=0)
        with pytest.raises(EngineError):
            engine.exec(one, list(GREET))
        assert b"".join(engine.logs(one, "stdout")).endswith(b"Z out\n")

    def test_nothing_of_that_name(self, engine: Engine, stage: Stage) -> None:
        gone = stage.name("gone")
        tries: list[Callable[[], object]] = [
            lambda: engine.container(gone), lambda: engine.pause(gone), lambda: engine.unpause(gone), lambda: engine.start(gone),
            lambda: engine.stop(gone), lambda: engine.rename(gone, stage.name("x")), lambda: engine.remove(gone),
            lambda: engine.remove(gone, force=True), lambda: engine.exec(gone, ["/bin/true"]), lambda: list(engine.logs(gone, "stdout")),
            lambda: engine.set_restart_policy(gone, {"Name": "no", "MaximumRetryCount": 0}), lambda: engine.changes(gone),
            lambda: engine.network(gone), lambda: engine.remove_network(gone), lambda: engine.image(gone),
            lambda: engine.image_history(gone), lambda: list(engine.image_save(gone)),
        ]  # fmt: skip
        for attempt in tries:
            with pytest.raises(NotFound) as caught:
                attempt()
            assert caught.value.status == 404 and caught.value.hint

    # -- networks --------------------------------------------------------------------------------------------

    def test_create_network(self, engine: Engine, stage: Stage) -> None:
        made = engine.create_network(NetworkSpec(stage.name("q"), True, OPTIONS, {**stage.labels, "role": "x"}))
        found = engine.network(made)
        assert (found.id, found.name, found.driver, found.members) == (made, stage.name("q"), "bridge", ())
        assert found.raw["Internal"] and found.labels["role"] == "x"
        assert all(found.raw["Options"].get(key) == value for key, value in OPTIONS.items())
        assert [one.id for one in engine.networks(stage.label)] == [made]
        assert made in {one.id for one in engine.networks()} and not engine.networks(f"{LABEL}=nobody")

    def test_create_network_refused(self, engine: Engine, stage: Stage) -> None:
        net = stage.network()
        with pytest.raises(Conflict):
            engine.create_network(NetworkSpec(net.name, False, {}, stage.labels))
        for subnet in (f"{net.hosts[0].rpartition('.')[0]}.0/24", "nonsense"):
            with pytest.raises(EngineError):
                engine.create_network(NetworkSpec(stage.name("other"), False, {}, stage.labels, subnet))
        assert len(engine.networks(stage.label)) == 1

    def test_remove_network(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(), stage.run("a")
        engine.connect(net.id, one)
        with pytest.raises(EngineError) as caught:
            engine.remove_network(net.id)
        assert not isinstance(caught.value, NotFound)
        engine.disconnect(net.id, one)
        engine.remove_network(net.id)
        with pytest.raises(NotFound):
            engine.remove_network(net.id)
        with pytest.raises(EngineError):
            engine.remove_network("bridge")

    def test_connect_and_disconnect(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(), stage.run("a")
        engine.connect(net.id, one, place(fixed_ipv4=net.hosts[5], aliases=("me",)))
        joined = on(engine, one)[net.name]
        assert (joined.network_id, joined.ipv4, joined.fixed_ipv4) == (net.id, net.hosts[5], net.hosts[5])
        assert "me" in joined.aliases and joined.mac
        assert members(engine, net.id) == {one: net.hosts[5]}
        with pytest.raises(EngineError):
            engine.connect(net.id, one)
        assert members(engine, net.id) == {one: net.hosts[5]}
        engine.disconnect(net.name, one)
        assert net.name not in on(engine, one) and not members(engine, net.id)

    def test_leaving_twice(self, engine: Engine, stage: Stage) -> None:
        """Sealing off relies on the words when it is repeated."""
        net, one = stage.network(), stage.run("a")
        for running in (True, False):
            with pytest.raises(EngineError) as caught:
                engine.disconnect(net.id, one)
            assert isinstance(caught.value, NotFound) or "is not connected to" in caught.value.message
            if running:
                engine.stop(one, grace=0)

    def test_paused_containers_move(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(internal=True), stage.run("a")
        engine.pause(one)
        for former in on(engine, one).values():
            engine.disconnect(former.network_id, one)
        assert not engine.container(one).endpoints
        engine.connect(net.id, one)
        assert list(on(engine, one)) == [net.name] and one in members(engine, net.id)
        assert engine.container(one).paused

    def test_connect_refused(self, engine: Engine, stage: Stage) -> None:
        net, one, other = stage.network(), stage.run("a"), stage.run("b")
        engine.connect(net.id, one, place(fixed_ipv4=net.hosts[5]))
        for address in (net.hosts[5], net.hosts[0], "192.0.2.7", "nonsense"):
            with pytest.raises(EngineError) as caught:
                engine.connect(net.id, other, place(fixed_ipv4=address))
            assert not isinstance(caught.value, NotFound)
            assert not on(engine, other).get(net.name, place()).ipv4
            assert members(engine, net.id) == {one: net.hosts[5]}
        engine.connect(net.id, other, place(fixed_ipv4=net.hosts[6], aliases=("second",)))
        assert members(engine, net.id) == {one: net.hosts[5], other: net.hosts[6]}
        assert "second" in on(engine, other)[net.name].aliases

    def test_connect_to_nothing(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(), stage.run("a")
        for network, container in ((stage.name("gone"), one), (net.id, stage.name("gone"))):
            with pytest.raises(NotFound):
                engine.connect(network, container)
            with pytest.raises(NotFound):
                engine.disconnect(network, container)
        for network, container in (("", one), (net.id, "")):
            with pytest.raises(EngineError):
                engine.connect(network, container)
        assert not members(engine, net.id)

    def test_a_taken_address_comes_free(self, engine: Engine, stage: Stage) -> None:
        net, one, other = stage.network(), stage.run("a"), stage.run("b")
        engine.connect(net.id, one, place(fixed_ipv4=net.hosts[5]))
        engine.stop(one, grace=0)
        engine.connect(net.id, other, place(fixed_ipv4=net.hosts[5]))
        with pytest.raises(EngineError):
            engine.start(one)
        assert not engine.container(one).running and engine.container(one).state["Error"]
        engine.disconnect(net.id, other)
        engine.start(one)
        assert members(engine, net.id) == {one: net.hosts[5]}

    def test_no_address_left(self, engine: Engine, stage: Stage) -> None:
        net = stage.network(bits=30)
        one, other = stage.run("a"), stage.run("b")
        engine.connect(net.id, one)
        with pytest.raises(EngineError):
            engine.connect(net.id, other)
        assert members(engine, net.id) == {one: net.hosts[1]}

    def test_fixed_address_on_the_engines_own_subnet(self, engine: Engine, stage: Stage) -> None:
        """Docker refuses it; a release relies on the words when it asks for a former address."""
        net, one = stage.plain_network("auto"), stage.run("a")
        engine.connect(net.id, one)
        address = on(engine, one)[net.name].ipv4
        engine.disconnect(net.id, one)
        try:
            engine.connect(net.id, one, place(fixed_ipv4=address))
        except EngineError as error:
            assert SUBNET_NEEDED in error.message
            engine.connect(net.id, one)
        assert one in members(engine, net.id)

    def test_default_bridge(self, engine: Engine, stage: Stage) -> None:
        one = stage.run("a")
        (endpoint,) = engine.container(one).endpoints
        bridge = engine.network(endpoint.network_id)
        assert endpoint.network == bridge.name and endpoint.gateway in bridge.gateways and endpoint.ipv4
        engine.disconnect(bridge.id, one)
        if bridge.name == "bridge":
            with pytest.raises(EngineError):
                engine.connect(bridge.id, one, place(aliases=("x",)))
            with pytest.raises(EngineError):
                engine.connect(bridge.id, one, place(fixed_ipv4=endpoint.ipv4))
            assert not engine.container(one).endpoints
        engine.connect(bridge.id, one)
        assert one in members(engine, bridge.id)

    def test_links_are_kept(self, engine: Engine, stage: Stage) -> None:
        net, one, other = stage.network(), stage.run("a"), stage.run("b")
        engine.connect(net.id, one)
        engine.connect(net.id, other, place(links=(f"{stage.name('a')}:db",)))
        assert on(engine, other)[net.name].links in ((f"{stage.name('a')}:db",), ())

    def test_stopped_containers_keep_their_place(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(), stage.run("a")
        engine.connect(net.id, one, place(fixed_ipv4=net.hosts[5], aliases=("me",)))
        engine.stop(one, grace=0)
        assert not on(engine, one)[net.name].ipv4 and not members(engine, net.id)
        engine.start(one)
        assert members(engine, net.id) == {one: net.hosts[5]} and "me" in on(engine, one)[net.name].aliases

    def test_stopped_containers_move(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(), stage.make("a")
        for former in on(engine, one):
            engine.disconnect(former, one)
        assert not engine.container(one).endpoints
        engine.connect(net.id, one, place(fixed_ipv4=net.hosts[5]))
        assert list(on(engine, one)) == [net.name] and not members(engine, net.id)
        engine.start(one)
        assert list(on(engine, one)) == [net.name] and members(engine, net.id) == {one: net.hosts[5]}

    def test_created_on_a_network(self, engine: Engine, stage: Stage) -> None:
        net = stage.network()
        wish = {"Aliases": ["me"], "IPAMConfig": {"IPv4Address": net.hosts[5]}}
        host = {"NetworkMode": net.name}
        one = stage.make("a", host=host, NetworkingConfig={"EndpointsConfig": {net.name: wish}})
        assert engine.container(one).network_mode == net.name and list(on(engine, one)) == [net.name]
        engine.start(one)
        assert members(engine, net.id) == {one: net.hosts[5]} and "me" in on(engine, one)[net.name].aliases
        other = stage.make("b", host=host, NetworkingConfig={"EndpointsConfig": {net.name: wish}})
        with pytest.raises(EngineError):
            engine.start(other)
        assert not engine.container(other).running and members(engine, net.id) == {one: net.hosts[5]}

    def test_start_without_the_network(self, engine: Engine, stage: Stage) -> None:
        net = stage.network()
        one = stage.run("a", host={"NetworkMode": net.name})
        engine.stop(one, grace=0)
        engine.remove_network(net.id)
        with pytest.raises(NotFound):
            engine.start(one)
        state = engine.container(one).state
        assert not state["Running"] and state["Error"]
        assert list(on(engine, one)) == [net.name]
        engine.disconnect(net.name, one)
        assert not engine.container(one).endpoints

    def test_host_mode(self, engine: Engine, stage: Stage) -> None:
        if "name=userns" in (engine.info().raw.get("SecurityOptions") or ()):
            pytest.skip("with userns-remap the engine refuses the host's network namespace")
        net, one = stage.network(), stage.run("a", host={"NetworkMode": "host"})
        assert engine.container(one).network_mode == "host"
        with pytest.raises(EngineError):
            engine.connect(net.id, one)
        with pytest.raises(EngineError):
            engine.disconnect("host", one)
        with pytest.raises(EngineError):
            engine.connect("host", stage.run("b"))

    def test_no_network(self, engine: Engine, stage: Stage) -> None:
        net, one = stage.network(), stage.run("a", host={"NetworkMode": "none"})
        assert engine.container(one).network_mode == "none" and not any(each.ipv4 for each in on(engine, one).values())
        with pytest.raises(EngineError):
            engine.connect(net.id, one)
        assert not members(engine, net.id)

    def test_shared_namespace(self, engine: Engine, stage: Stage) -> None:
        net, holder = stage.network(), stage.run("a")
        one = stage.run("b", host={"NetworkMode": f"container:{stage.name('a')}"})
        assert engine.container(one).network_mode == f"container:{holder}"
        assert not engine.container(one).endpoints
        with pytest.raises(EngineError):
            engine.connect(net.id, one)
        for each in (one, holder):
            engine.stop(each, grace=0)
        with pytest.raises(EngineError):
            engine.start(one)

    def test_published_ports(self, engine: Engine, stage: Stage) -> None:
        """They go when the network is left, an internal one does not bring them back, the former one does."""
        inner, port = stage.network(internal=True), str(20000 + secrets.randbelow(10000))
        host = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}}
        one = stage.run("a", host=host, ExposedPorts={"80/tcp": {}})
        assert [(each.container_port, each.host_ip, each.host_port) for each in engine.container(one).ports] == [
            (80, "127.0.0.1", int(port))
        ]
        (former,) = engine.container(one).endpoints
        with pytest.raises(EngineError):
            stage.run("b", host=host, ExposedPorts={"80/tcp": {}})
        engine.disconnect(former.network_id, one)
        assert not engine.container(one).ports
        engine.connect(inner.id, one)
        assert not engine.container(one).ports
        engine.disconnect(inner.id, one)
        engine.connect(former.network_id, one)
        assert [each.host_port for each in engine.container(one).ports] == [int(port)]

    # -- images and calls ------------------------------------------------------------------------------------

    def test_image(self, engine: Engine) -> None:
        found = engine.image(IMAGE)
        assert found.id.startswith("sha256:") and found.layers and found.platform.startswith("linux/")
        assert engine.image(found.id).id == found.id
        assert engine.image_history(IMAGE)
        with tarfile.open(fileobj=io.BytesIO(b"".join(engine.image_save(IMAGE)))) as tar:
            assert "manifest.json" in tar.getnames()

    def test_every_call_is_recorded(self, engine: Engine, stage: Stage) -> None:
        assert engine.endpoint and engine.local == engine.endpoint.startswith("unix://")
        engine.info()
        assert {(call.method, call.status) for call in engine.calls[-2:]} == {("GET", 200)}
        one = stage.run("a")
        before = len(engine.calls)
        engine.pause(one)
        with pytest.raises(Conflict):
            engine.pause(one)
        engine.start(stage.run("b"))
        calls = engine.calls[before:]
        assert [(call.method, call.status) for call in calls] == [
            ("POST", 204), ("POST", 409), ("POST", 201), ("POST", 204), ("POST", 304),
        ]  # fmt: skip
        assert calls[0].path.endswith(f"/containers/{one}/pause") and calls[0].to_json()["started"].endswith("Z")

    # -- what only Docker 20.10 does, and what irkit must cope with ------------------------------------------------

    def test_a_refused_connect_leaves_an_entry(self, engine: Engine, stage: Stage) -> None:
        """Inspect then names a network that a running container is not on; leaving it is refused."""
        only_docker_20(engine)
        net, one, other = stage.network(), stage.run("a"), stage.run("b")
        engine.connect(net.id, one, place(fixed_ipv4=net.hosts[5]))
        with pytest.raises(EngineError) as caught:
            engine.connect(net.id, other, place(fixed_ipv4=net.hosts[5], aliases=("x",)))
        assert (caught.value.status, caught.value.message) == (403, "Address already in use")
        left = engine.container(other).raw["NetworkSettings"]["Networks"][net.name]
        assert (left["NetworkID"], left["IPAddress"]) == ("", "") and "x" in left["Aliases"]
        assert net.name not in on(engine, other)
        with pytest.raises(EngineError, match="is not connected to"):
            engine.disconnect(net.id, other)
        engine.connect(net.id, other)
        assert other in members(engine, net.id) and not on(engine, other)[net.name].fixed_ipv4

    def test_a_stopped_container_is_put_on_a_network_that_is_gone(self, engine: Engine, stage: Stage) -> None:
        """The entry is named by what was given, here the id, and the container can't be started any more."""
        only_docker_20(engine)
        net, one = stage.network(), stage.make("a")
        engine.remove_network(net.id)
        engine.connect(net.id, one)
        assert net.id in on(engine, one)
        with pytest.raises(NotFound):
            engine.start(one)
        engine.disconnect(net.id, one)
        engine.start(one)

    def test_the_short_id_is_an_alias(self, engine: Engine, stage: Stage) -> None:
        """A release must not ask for it."""
        only_docker_20(engine)
        net, one = stage.network(), stage.run("a")
        engine.connect(net.id, one, place(aliases=("me",)))
        assert on(engine, one)[net.name].aliases == ("me", one[:12]) and not on(engine, one)["bridge"].aliases

    def test_never_started_containers_have_no_network_ids(self, engine: Engine, stage: Stage) -> None:
        only_docker_20(engine)
        one, net = stage.make("a"), stage.network()
        engine.connect(net.id, one)
        assert {each.network_id for each in engine.container(one).endpoints} == {""}
