"""The leak test: every road that a contained victim could take, with all defences up, and with each taken out in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from .conftest import Lab
from .leaks import World, world

NO_WALL = "import irkit.actions.walls as w; w.firewall.available = lambda: False"
WITHOUT = "import irkit.quarantine.seal as s; s.OPTIONS.pop('com.docker.network.bridge.{}')"
JOIN_FIRST = """
import irkit.actions.containment as c
import irkit.quarantine.seal as s
c._prepare_ahead = lambda _: None
leave = s.leave
def early(engine, network, container):
    quarantine = s.prepare_network(engine, CASE[0])
    if quarantine.name not in {one.network for one in engine.container(container).endpoints}:
        engine.connect(quarantine.id, container)
    leave(engine, network, container)
CASE = []
real = s.seal_off
def seal_off(engine, saved, case_id, network):
    CASE.append(case_id)
    return real(engine, saved, case_id, network)
s.leave, s.seal_off = early, seal_off
"""
STAY = "import irkit.quarantine.seal as s; s.leave = lambda *_: None"
NOT_INTERNAL = """
import irkit.quarantine.seal as s
from irkit.engine.interface import NetworkSpec
def prepare(engine, case_id):
    name = s.network_name(case_id)
    try:
        return engine.network(name)
    except s.NotFound:
        engine.create_network(NetworkSpec(name, False, {**s.OPTIONS, s.BRIDGE_NAME: s.bridge_name(case_id)}, {s.LABEL: case_id, s.ROLE: s.QUARANTINE}))
        return engine.network(name)
s.prepare_network = prepare
"""
INHIBIT, ICC, MASQUERADE = (WITHOUT.format(one) for one in ("inhibit_ipv4", "enable_icc", "enable_ip_masquerade"))


def contain(made: World, *patches: str) -> dict[str, object]:
    """Contain by the real command, with defences taken out by ``patches``; then thaw, so that only the network holds."""
    script = "\n".join((*patches, "from irkit.cli.main import main", f"main(['contain', {made.name!r}, '--json'])"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, "IRKIT_HOME": str(made.lab.home)}
    )  # fmt: skip
    assert done.stdout, done.stderr
    run: dict[str, object] = json.loads(done.stdout)
    made.network = f"irkit-{run['case']}"
    made.lab.docker("unpause", made.name)
    made.join_neighbour()
    return run


def test_nothing_leaks(lab: Lab) -> None:
    """All roads that were open are closed, although the victim is thawed and has company."""
    with world(lab) as made:
        wanted = (
            "out: gateway, tcp", "out: host uplink, udp", "out: old peer, icmp", "out: outside, tcp", "out: metadata, tcp", "out: gateway v6, tcp",
            "in: published tcp", "in: published tcp from outside", "in: published udp", "in: host to old address, tcp", "in: old peer to old address, udp",
            "out: name by the engine's DNS", "out: name by an outside server", "held: victim to peer", "held: victim to outside",
            "out: gateway, sctp", "out: old peer, sctp", "out: outside, protocol 253", "out: gateway v6, protocol 253", "in: old peer to old address, sctp",
        )  # fmt: skip
        missing = set(wanted) - made.opened(*wanted)
        assert not missing
        run = contain(made)
        assert run["quarantine"]["state"] == "proven"  # type: ignore[index]
        roads = made.roads()
        assert len(roads) >= 25
        assert made.open_roads() == set()


@pytest.mark.parametrize(
    ("patches", "road"),
    [
        pytest.param((NO_WALL,), "out: raw frame to 10.231.79.1", id="firewall"),
        pytest.param((NO_WALL, INHIBIT), "out: quarantine gateway, tcp", id="inhibit_ipv4"),
        pytest.param((NO_WALL, INHIBIT), "out: quarantine gateway, sctp", id="inhibit_ipv4 for other protocols"),
        pytest.param((NO_WALL, ICC), "in: quarantined neighbour, tcp", id="icc"),
        pytest.param((NO_WALL, INHIBIT, NOT_INTERNAL), "out: outside, udp", id="internal"),
        pytest.param((NO_WALL, INHIBIT, NOT_INTERNAL, MASQUERADE), "out: outside, tcp", id="masquerade"),
        pytest.param((NO_WALL, INHIBIT, JOIN_FIRST), "in: published tcp", id="order"),
        pytest.param((NO_WALL, STAY), "out: old peer, tcp", id="leaving"),
    ],
)
def test_each_defence_is_needed(lab: Lab, patches: tuple[str, ...], road: str) -> None:
    """With one defence out (and those that stand behind it, where there are some) a road is open, and irkit says so."""
    if JOIN_FIRST in patches and int(lab.docker("version", "-f", "{{.Server.Version}}").partition(".")[0]) > 20:
        pytest.skip("newer engines don't move the published port along")
    with world(lab) as made:
        run = contain(made, *patches)
        leaked = made.opened(road)
        assert road in leaked, sorted(leaked)
        if road != "in: quarantined neighbour, tcp":  # the neighbour came after the proof
            assert run["quarantine"]["state"] != "proven"  # type: ignore[index]
