"""One contract for both ways to talk to an engine: the hot path over the socket, and the Docker SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from irkit.engine.docker import DockerEngine
from irkit.engine.interface import Endpoint, NetworkSpec
from irkit.errors import Conflict, EngineError, EngineUnreachable, NotFound

from .conftest import LABEL, WEB, Lab


@pytest.fixture(params=[True, False], ids=["wire", "sdk"])
def either(request: pytest.FixtureRequest, engine: DockerEngine) -> DockerEngine:
    return DockerEngine(engine.endpoint, use_wire=bool(request.param))


@pytest.fixture
def network(either: DockerEngine, lab: Lab) -> Iterator[str]:
    made = either.create_network(NetworkSpec(f"{lab.token}-net", True, {}, {LABEL: lab.token}, "10.231.92.0/24"))
    yield made
    with contextlib.suppress(EngineError):
        either.remove_network(made)


def test_pause_and_conflicts(either: DockerEngine, lab: Lab) -> None:
    name = lab.run("a")
    either.pause(name)
    assert either.container(name).paused and either.container(name).running
    with pytest.raises(Conflict):
        either.pause(name)
    either.unpause(name)
    either.start(name)
    either.stop(name, grace=0)
    either.stop(name, grace=0)
    assert not either.container(name).running


def test_networks(either: DockerEngine, lab: Lab, network: str) -> None:
    name = lab.run("b")
    place = Endpoint("", "", "", "", "", "", aliases=("me",), fixed_ipv4="10.231.92.7")
    either.connect(network, name, place)
    joined = {one.network_id: one for one in either.container(name).endpoints}[network]
    assert joined.ipv4 == "10.231.92.7" and "me" in joined.aliases
    assert [one.ipv4 for one in either.network(network).members] == ["10.231.92.7"]
    assert either.networks(f"{LABEL}={lab.token}")[0].id == network
    either.disconnect(network, name)
    assert not either.network(network).members


def test_missing_things(either: DockerEngine) -> None:
    with pytest.raises(NotFound):
        either.container("nosuch-container")
    with pytest.raises(NotFound):
        either.network("nosuch-network")
    with pytest.raises(NotFound):
        either.image("nosuch-image")


def test_create_rename_exec_logs_remove(either: DockerEngine, lab: Lab) -> None:
    body = {"Image": WEB, "Cmd": ["/bin/sh", "-c", "echo out; echo err >&2; sleep 60"], "Labels": {LABEL: lab.token}}
    made = either.create(body, f"{lab.token}-c")
    either.start(made)
    either.rename(made, f"{lab.token}-d")
    assert either.exec(made, ["/bin/sh", "-c", "echo hi; exit 3"]) == (3, b"hi\n")
    assert b"".join(either.logs(made, "stdout")).endswith(b"Z out\n")
    assert b"".join(either.logs(made, "stderr")).endswith(b"Z err\n")
    either.set_restart_policy(made, {"Name": "always", "MaximumRetryCount": 0})
    assert either.container(made).restart_policy["Name"] == "always"
    assert made in either.containers(f"{LABEL}={lab.token}")
    either.remove(made, force=True)
    with pytest.raises(NotFound):
        either.container(made)


def test_every_call_is_recorded(either: DockerEngine) -> None:
    either.info()
    assert [(call.method, call.status) for call in either.calls[-2:]] == [("GET", 200), ("GET", 200)]


@pytest.mark.parametrize("use_wire", [True, False])
def test_nobody_there(use_wire: bool) -> None:
    with pytest.raises(EngineUnreachable):
        DockerEngine("unix:///nowhere/docker.sock", use_wire=use_wire).info()
