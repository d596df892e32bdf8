"""Sealing off: the case's own network, and nothing else.

A quarantine network that is merely ``--internal`` leaves five doors open (docs/quarantine.md); the options below close
those that measurements found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from irkit.engine.interface import Container, Engine, Network, NetworkSpec
from irkit.engine.places import leave
from irkit.errors import Conflict, EngineError, NotFound
from irkit.quarantine.state import SHARED, SavedState

LABEL = "dev.irkit.case"
BRIDGE_NAME = "com.docker.network.bridge.name"
ROLE = "dev.irkit.role"
QUARANTINE = "quarantine"
OPTIONS = {
    "com.docker.network.bridge.inhibit_ipv4": "true",  # the host has no address on it: no way to the host, none from it
    "com.docker.network.bridge.enable_icc": "false",  # quarantined neighbours can't talk
    "com.docker.network.bridge.enable_ip_masquerade": "false",
}


class SealedOff(NamedTuple):
    """What was done.  ``network`` is empty when the target stays where it is: ``reason`` says why."""

    network: str
    network_id: str
    bridge: str
    left: tuple[str, ...]
    reason: str = ""


def network_name(case_id: str) -> str:
    """The case's quarantine network."""
    return f"irkit-{case_id}"


def bridge_name(case_id: str) -> str:
    """The quarantine bridge's interface: ours to choose, so that a firewall can name it before it is there."""
    return "irk-" + hashlib.sha256(case_id.encode()).hexdigest()[:10]


def bridge_of(network: Network) -> str:
    """The bridge's interface as the engine names it; Podman does not say, and took the name that it was given."""
    return network.bridge if network.raw.get("Options") else bridge_name(network.labels.get(LABEL, ""))


def prepare_network(engine: Engine, case_id: str) -> Network:
    """The case's quarantine network, made when there is none.

    An engine that drops all options (Podman) has the firewall to rely on alone, and the proof to tell.

    Raises ``Conflict`` when a network of that name exists that is not irkit's or has other options.
    """
    name = network_name(case_id)
    try:
        network = engine.network(name)
    except NotFound:
        options = {**OPTIONS, BRIDGE_NAME: bridge_name(case_id)}
        engine.create_network(NetworkSpec(name, True, options, {LABEL: case_id, ROLE: QUARANTINE}))
        network = engine.network(name)
    options = network.raw.get("Options") or {}
    if (
        network.labels.get(LABEL) != case_id
        or not network.raw.get("Internal")
        or (options and any(options.get(key) != value for key, value in OPTIONS.items()))
    ):
        raise Conflict(
            f"the network {name} is there already, but it is no quarantine of this case",
            hint=f"look at it with `docker network inspect {name}`, then remove or rename it",
        )
    return network


def seal_off(engine: Engine, saved: SavedState, case_id: str, network: Callable[[], Network] | None) -> SealedOff:
    """Leave every network, then join the quarantine: in this order, so that published ports are closed first.

    ``network`` is asked for only when all others were left: whatever goes wrong with it, the target has no network.
    Can be repeated.  Raises ``EngineError`` when the target is still on another network afterwards.
    """
    if saved.cannot_leave or network is None:
        return SealedOff("", "", "", (), saved.cannot_leave or "it has no network")
    stop_restarts(engine, saved)
    name = network_name(saved.sealed_by or case_id)
    left, joined = [], False
    for endpoint in engine.container(saved.holder_id).endpoints:
        if endpoint.network == name:
            joined = True
        else:
            leave(engine, endpoint.network_id or endpoint.network, saved.holder_id)
            left.append(endpoint.network)
    quarantine = network()
    if not joined:
        engine.connect(quarantine.id, saved.holder_id)
    _check(engine.container(saved.holder_id), quarantine.name)
    return SealedOff(quarantine.name, quarantine.id, bridge_of(quarantine), tuple(left))


def holder_of(engine: Engine, container: Container) -> tuple[Container | None, str]:
    """The container whose network namespace ``container`` shares, and the case that has sealed that one off already.

    ``(None, "")`` when it has a namespace of its own, or the other container is gone.
    """
    if not container.network_mode.startswith(SHARED):
        return None, ""
    try:
        holder = engine.container(container.network_mode.removeprefix(SHARED))
    except NotFound:
        return None, ""
    for endpoint in holder.endpoints:
        try:
            network = engine.network(endpoint.network_id or endpoint.network)
        except NotFound:
            continue
        if network.labels.get(ROLE) == QUARANTINE:
            return holder, network.labels.get(LABEL, "")
    return holder, ""


def stop_restarts(engine: Engine, saved: SavedState) -> None:
    """The engine must not start the target again by itself: a restarted container is not frozen."""
    if saved.restarts:
        engine.set_restart_policy(saved.container_id, {"Name": "no", "MaximumRetryCount": 0})


def _check(container: Container, wanted: str) -> None:
    names = [one.network for one in container.endpoints]
    if names != [wanted]:
        raise EngineError(
            f"{container.name} is on {', '.join(names) or 'no network'} after sealing off, not on {wanted} alone"
        )
