"""Release: the former place back, compared afterwards with what was saved."""

from __future__ import annotations

from dataclasses import dataclass

from irkit.engine.interface import Container, Endpoint, Engine
from irkit.errors import EngineError, NotFound
from irkit.quarantine.seal import LABEL
from irkit.quarantine.state import SavedState


@dataclass(frozen=True, slots=True)
class Released:
    """What is back, and what differs from before."""

    networks: tuple[str, ...]
    differences: tuple[str, ...]


def give_back(engine: Engine, saved: SavedState, case_id: str) -> Released:
    """Leave the case's quarantine and rejoin the former networks, frozen all the while.  Can be repeated.

    A network that is gone, or refuses, becomes a difference; the others are still given back.
    """
    container = engine.container(saved.container_id)
    problems: list[str] = []
    if not saved.cannot_leave:
        leave_quarantine(engine, container, case_id)
        present = {one.network for one in engine.container(saved.container_id).endpoints}
        for endpoint in saved.endpoints:
            if endpoint.network not in present:
                problems += _rejoin(engine, saved, endpoint)
    if saved.restart_policy.get("Name") not in ("", "no") and not saved.auto_remove:
        engine.set_restart_policy(saved.container_id, saved.restart_policy)
    return Released(tuple(one.network for one in saved.endpoints), tuple(problems))


def leave_quarantine(engine: Engine, container: Container, case_id: str) -> None:
    """Leave every network that is labelled as this case's."""
    for endpoint in container.endpoints:
        try:
            network = engine.network(endpoint.network_id or endpoint.network)
        except NotFound:
            continue
        if network.labels.get(LABEL) == case_id:
            engine.disconnect(network.id, container.id)


def _rejoin(engine: Engine, saved: SavedState, endpoint: Endpoint) -> list[str]:
    """By id when the network still exists, else by name (it may have been made anew)."""
    for reference in (endpoint.network_id, endpoint.network):
        try:
            engine.connect(reference, saved.container_id, _as_given(saved, endpoint))
        except NotFound:
            continue
        except EngineError as error:
            return [f"network {endpoint.network}: {error.message}"]
        return []
    return [f"network {endpoint.network}: it does not exist any more"]


def _as_given(saved: SavedState, endpoint: Endpoint) -> Endpoint:
    """The endpoint without the alias that the engine adds by itself (the short id), which it refuses on ``bridge``."""
    own = saved.container_id[:12]
    aliases = () if endpoint.network == "bridge" else tuple(one for one in endpoint.aliases if one != own)
    return Endpoint(
        endpoint.network, endpoint.network_id, endpoint.ipv4, endpoint.ipv6, endpoint.mac, endpoint.gateway, aliases,
        endpoint.links, endpoint.fixed_ipv4, endpoint.fixed_ipv6, endpoint.driver_opts,
    )  # fmt: skip


def compare(saved: SavedState, container: Container) -> list[str]:
    """What is not as it was: networks, addresses, aliases, ports, restart policy, frozen or not."""
    found: list[str] = []
    now_on = {one.network: one for one in container.endpoints}
    for old in saved.endpoints:
        new = now_on.pop(old.network, None)
        if new is None:
            found.append(f"network {old.network}: not on it")
            continue
        found += [
            f"network {old.network}: {label} was {before or 'none'}, is {after or 'none'}"
            for label, before, after in (
                ("address", old.ipv4, new.ipv4), ("IPv6 address", old.ipv6, new.ipv6),
                ("aliases", ", ".join(sorted(old.aliases)), ", ".join(sorted(new.aliases))),
                ("links", ", ".join(sorted(old.links)), ", ".join(sorted(new.links))),
            )
            if before != after
        ]  # fmt: skip
    found += [f"network {name}: joined in the meantime" for name in sorted(now_on)]
    if saved.running and container.running and saved.ports != container.ports:
        found.append(f"published ports were {_ports(saved.ports)}, are {_ports(container.ports)}")
    if dict(saved.restart_policy) != container.restart_policy and not saved.auto_remove:
        found.append(
            f"restart policy was {saved.restart_policy.get('Name')}, is {container.restart_policy.get('Name')}"
        )
    if saved.running != container.running or saved.paused != container.paused:
        found.append(f"it was {_state(saved.running, saved.paused)}, is {_state(container.running, container.paused)}")
    return found


def _ports(ports: tuple[object, ...]) -> str:
    return ", ".join(f"{getattr(one, 'host_ip', '')}:{getattr(one, 'host_port', '')}" for one in ports) or "none"


def _state(running: bool, paused: bool) -> str:
    return "paused" if paused else "running" if running else "stopped"
