"""Release: the former place back, compared afterwards with what was saved."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from irkit.engine.interface import Container, Endpoint, Engine, Network
from irkit.engine.places import leave
from irkit.errors import Conflict, EngineError, EngineUnreachable, NotFound
from irkit.quarantine import diversion, firewall
from irkit.quarantine.helpers import is_helper
from irkit.quarantine.seal import LABEL
from irkit.quarantine.state import SavedState

SUBNET_NEEDED = "user configured subnets"
"""libnetwork: "user specified IP address is supported only when connecting to networks with user configured subnets"."""


@dataclass(frozen=True, slots=True)
class Released:
    """What is back, and what differs from before."""

    networks: tuple[str, ...]
    differences: tuple[str, ...]


def give_back(engine: Engine, saved: SavedState, case_id: str) -> Released:
    """Leave the case's quarantine and rejoin the former networks, frozen all the while.  Can be repeated.

    A network that is gone, or refuses, becomes a difference; the others are still given back.
    """
    problems: list[str] = []
    if not saved.cannot_leave and not saved.sealed_by:
        holder = engine.container(saved.holder_id)
        _leave_quarantine(engine, holder, case_id)
        present = {one.network for one in engine.container(saved.holder_id).endpoints}
        for endpoint in saved.endpoints:
            if endpoint.network not in present:
                problems += _rejoin(engine, saved, endpoint)
    if saved.restarts:
        engine.set_restart_policy(saved.container_id, saved.restart_policy)
    return Released(tuple(one.network for one in saved.endpoints), tuple(problems))


def planned(engine: Engine, saved: SavedState, container: Container, case_id: str) -> list[str]:
    """What :func:`give_back`, :func:`clear_away` and a thaw would do now, a sentence each; only reads."""
    steps: list[str] = []
    if not saved.cannot_leave and not saved.sealed_by:
        holder = engine.container(saved.holder_id)
        present = {one.network for one in holder.endpoints}
        steps += [f"leave the network {one.name}" for one in _quarantines(engine, holder, case_id)]
        steps += [_joining(engine, one) for one in saved.endpoints if one.network not in present]
    if saved.restarts:
        steps.append(f"set the restart policy to {saved.restart_policy.get('Name')}")
    steps += [
        f"delete the firewall table {one.family} {one.name}"
        for one in firewall.tables()
        if firewall.belongs(one, case_id)
    ]
    steps += [f"remove the network {one.name}" for one in engine.networks(f"{LABEL}={case_id}")]
    if container.paused:
        steps.append("leave it frozen, as it was before" if saved.paused else "thaw it")
    return steps


def _joining(engine: Engine, endpoint: Endpoint) -> str:
    try:
        network: Network | None = engine.network(endpoint.network_id or endpoint.network)
    except NotFound:
        network = None
    also = f" with the aliases {', '.join(endpoint.aliases)}" if endpoint.aliases else ""
    gone = "" if network else ", which does not exist any more: it can't be given back"
    return f"join the network {endpoint.network} as {endpoint.ipv4 or endpoint.ipv6 or 'any address'}{also}{gone}"


def clear_away(engine: Engine, case_id: str) -> list[str]:
    """Remove the case's firewall tables and networks, found by label.  What could not be removed comes back, in words."""
    problems = []
    try:
        for table in firewall.tables():
            if firewall.belongs(table, case_id):
                firewall.drop(table)
    except EngineError as error:
        problems.append(f"the firewall tables of {case_id} could not be removed: {error.message}")
    problems += _remove_helpers(engine, case_id)
    for network in engine.networks(f"{LABEL}={case_id}"):
        try:
            engine.remove_network(network.id)
        except NotFound:
            continue
        except EngineError as error:
            problems.append(f"the quarantine network {network.name} could not be removed: {error.message}")
    return problems


def _remove_helpers(engine: Engine, case_id: str) -> list[str]:
    """Helper containers of the case that a killed run has left; they end by themselves, too."""
    problems = []
    for reference in engine.containers(f"{LABEL}={case_id}"):
        try:
            if is_helper(engine.container(reference)):
                engine.remove(reference, force=True, volumes=True)
        except (NotFound, Conflict):
            continue
        except EngineError as error:
            problems.append(f"the helper {reference[:12]} could not be removed: {error.message}")
    return problems


def leftovers(engine: Engine, contained: Callable[[str], bool], in_use: Collection[str] = ()) -> list[str]:
    """Cases whose network, helper container or firewall table is still there although no container is in quarantine by them.

    ``contained`` tells whether a case of this name holds a container.  ``in_use``: cases whose run still goes on, also of
    somebody else's home.  A relay's own rules are told by :func:`relays`.
    """
    held: set[str] = set()
    helping: set[str] = set()
    for reference in engine.containers():
        try:
            container = engine.container(reference)
        except NotFound:
            continue
        if is_helper(container):
            helping.add(container.labels.get(LABEL, ""))
        else:
            held.update(one.network_id for one in container.endpoints)
    networks = engine.networks(LABEL)
    used = {one.labels.get(LABEL, "") for one in networks if one.id in held}
    named = {one.labels.get(LABEL, "") for one in networks} | firewall.cases_of(
        [one for one in firewall.tables() if not diversion.is_relay(one)]
    )
    named |= helping
    return sorted(case for case in named - used if case and case not in in_use and not contained(case))


class Relays(NamedTuple):
    """Cases that have a relay's rules: of a run that still goes on, and those that nobody keeps up any more."""

    in_use: list[str]
    lapsed: list[str]


def relays() -> Relays:
    """Also of cases that hold a container: a run that was killed leaves its rules.  Raises ``EngineError``."""
    found = diversion.relays()
    return Relays(*(sorted(firewall.cases_of(one)) for one in found))


def remove_lapsed_relays() -> None:
    """What does nothing by now; it is looked for anew.  Raises ``EngineError``."""
    for table in diversion.relays().lapsed:
        firewall.drop(table)


def _leave_quarantine(engine: Engine, container: Container, case_id: str) -> None:
    for network in _quarantines(engine, container, case_id):
        leave(engine, network.id, container.id)


def _quarantines(engine: Engine, container: Container, case_id: str) -> list[Network]:
    """The networks of a container that are labelled as this case's."""
    found = []
    for endpoint in container.endpoints:
        try:
            network = engine.network(endpoint.network_id or endpoint.network)
        except NotFound:
            continue
        if network.labels.get(LABEL) == case_id:
            found.append(network)
    return found


def _rejoin(engine: Engine, saved: SavedState, endpoint: Endpoint) -> list[str]:
    """By id when the network still exists, else by name (it may have been made anew).

    The former address is asked for first; a network without a subnet of the user's own refuses that, and chooses.
    """
    reference = _present(engine, endpoint)
    if not reference:
        return [f"network {endpoint.network}: it does not exist any more"]
    for pinned in (True, False):
        try:
            engine.connect(reference, saved.holder_id, _as_given(saved, endpoint, pinned))
        except EngineUnreachable:
            raise
        except EngineError as error:
            if pinned and SUBNET_NEEDED in error.message:
                continue
            return [f"network {endpoint.network}: {error.message}"]
        break
    return []


def _present(engine: Engine, endpoint: Endpoint) -> str:
    """The id of the network, or its name where it was made anew; empty when there is neither.

    Asked for, as an engine takes a stopped container's word for a network that is gone.
    """
    for reference in filter(None, (endpoint.network_id, endpoint.network)):
        try:
            return engine.network(reference).id
        except NotFound:
            continue
    return ""


def _as_given(saved: SavedState, endpoint: Endpoint, pinned: bool) -> Endpoint:
    """The endpoint without the alias that the engine adds by itself (the short id), which it refuses on ``bridge``."""
    own = saved.holder_id[:12]
    plain = endpoint.network == "bridge"
    aliases = () if plain else tuple(one for one in endpoint.aliases if one != own)
    ipv4 = endpoint.fixed_ipv4 or (endpoint.ipv4 if pinned and not plain else "")
    ipv6 = endpoint.fixed_ipv6 or (endpoint.ipv6 if pinned and not plain else "")
    return endpoint._replace(aliases=aliases, fixed_ipv4=ipv4, fixed_ipv6=ipv6)


def compare(saved: SavedState, container: Container, holder: Container) -> list[str]:
    """What is not as it was: networks, addresses, aliases, links, ports, restart policy, frozen or not.

    ``holder``: the container whose network namespace it is, which is mostly the same one.
    """
    found: list[str] = []
    now_on = {one.network: one for one in holder.endpoints} if not saved.sealed_by else {}
    for old in saved.endpoints:
        new = now_on.pop(old.network, None)
        if new is None:
            found.append(f"network {old.network}: not on it")
            continue
        found += [
            f"network {old.network}: {label} was {before or 'none'}, is {after or 'none'}"
            for label, before, after in (
                ("address", old.ipv4, new.ipv4), ("IPv6 address", old.ipv6, new.ipv6), ("MAC address", old.mac, new.mac),
                ("aliases", ", ".join(sorted(old.aliases)), ", ".join(sorted(new.aliases))),
                ("links", ", ".join(sorted(old.links)), ", ".join(sorted(new.links))),
            )
            if before != after
        ]  # fmt: skip
    found += [f"network {name}: joined in the meantime" for name in sorted(now_on)]
    if saved.running and container.running and not saved.sealed_by and saved.ports != holder.ports:
        found.append(f"published ports were {_ports(saved.ports)}, are {_ports(holder.ports)}")
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
