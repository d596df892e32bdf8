"""Who the target meets: peers on its networks, sharers of its namespaces, and who comes in by a published port."""

from __future__ import annotations

from collections.abc import Iterator

from irkit.engine.interface import Container, Endpoint, Network, PortBinding
from irkit.quarantine.seal import LABEL, ROLE
from irkit.scope.contained import PROBED_PEERS, Answer
from irkit.scope.host import is_socket
from irkit.scope.model import Found, Row
from irkit.scope.scene import HOST, SHARED, SPACES, Scene, mounts, usable

ICC = "com.docker.network.bridge.enable_icc"
LOOPBACK = ("127.", "::1")
WORST = {"pid": "high", "network": "high", "ipc": "medium", "uts": "low"}


def find_peers(scene: Scene) -> Iterator[Found]:
    """Rows of the kinds peer, namespace, network-mode and port; reasons ``network`` and ``namespace``."""
    yield from _shared_namespaces(scene)
    owner = scene.network_owner
    if owner is None:
        return
    yield from _ports(scene, owner)
    for endpoint in usable(owner):
        network = scene.network_of(endpoint)
        if network is not None and network.labels.get(ROLE) == "quarantine":
            yield Found(_quarantined(network))
            continue
        yield from _around(scene, endpoint, network)
        yield from _members(scene, owner, endpoint, network)


def weight(other: Container) -> str:
    """Why an attacker would want this one, or an empty string."""
    words = []
    if other.host_config.get("Privileged"):
        words.append("privileged")
    if any(is_socket(str(one.get("Source") or "")) for one in mounts(other)):
        words.append("holds an engine's socket")
    words += [f"in the host's {name} namespace" for name in ("network", "pid") if other.host_config.get(SPACES[name]) == HOST]  # fmt: skip
    return ", ".join(words)


def same_network(one: Endpoint, other: Endpoint) -> bool:
    """By id; a container that never ran has no id there, only the name."""
    if one.network_id and other.network_id:
        return one.network_id == other.network_id
    return one.network == other.network


def _quarantined(network: Network) -> Row:
    case = network.labels.get(LABEL, "?")
    detail = f"contained already, by case {case}: this is what is left; its former networks are in the case"
    return Row("network-mode", "low", network.name, detail, "this is the quarantine", "yes")


def _around(scene: Scene, endpoint: Endpoint, network: Network | None) -> Iterator[Found]:
    """What is on a network besides containers of this engine: the host, the outside, other hosts."""
    raw = network.raw if network else {}
    answer = _bridge_answer(scene, network)
    if raw.get("Internal"):
        detail = f"gateway {endpoint.gateway or 'unknown'}; an internal network has no way to the outside by it"
        yield Found(Row("peer", "low", f"the host, by {endpoint.network}", detail, *answer))
    else:
        detail = f"gateway {endpoint.gateway or 'unknown'}: services of the host, the local network, the internet"
        yield Found(Row("peer", "medium", f"the host and the outside, by {endpoint.network}", detail, *answer))
    if network is not None and network.driver not in ("bridge", ""):
        detail = f"{network.driver} network: containers of other hosts can't be seen from this engine"
        row = Row("peer", "medium", f"others on {endpoint.network}", detail, *scene.contain.network(probed=False))
        yield Found(row)


def _bridge_answer(scene: Scene, network: Network | None) -> Answer:
    return scene.contain.network(probed=network is not None and network.driver == "bridge")


def _members(scene: Scene, owner: Container, mine: Endpoint, network: Network | None) -> Iterator[Found]:
    """The other containers on one network, and the members that the engine lists but can't be asked about."""
    options = (network.raw.get("Options") or {}) if network else {}
    apart = options.get(ICC) == "false"
    pairs = [(other, endpoint) for other in scene.others if other.id != owner.id for endpoint in usable(other) if same_network(mine, endpoint)]  # fmt: skip
    running = sum(other.running for other, _ in pairs)
    limit = f"{PROBED_PEERS} of its {running} peers are probed" if running > PROBED_PEERS else ""
    for other, endpoint in pairs:
        yield Found(_peer(scene, other, endpoint, apart, limit), "network", other.id)
    seen = {owner.id, scene.target.id, *(other.id for other, _ in pairs)}
    for member in network.members if network else ():
        if member.container_id not in seen:
            detail = f"on {mine.network} at {member.ipv4 or member.ipv6}: listed by the network, not by the engine"
            yield Found(Row("peer", "medium", member.name, detail, *scene.contain.network(probed=False)))


def _peer(scene: Scene, other: Container, endpoint: Endpoint, apart: bool, limit: str) -> Row:
    where = ", ".join(one for one in (endpoint.ipv4, endpoint.ipv6) if one)
    if not other.running:
        answer = scene.contain.network(probed=False)
        return Row("peer", "low", other.name, f"on {endpoint.network}, not running now", *answer)
    wanted = weight(other)
    detail = f"on {endpoint.network} at {where or 'an unknown address'}" + (f"; {wanted}" if wanted else "")
    severity = "high" if wanted else "medium"
    if apart:
        severity, detail = "low", f"{detail}; the network keeps its containers apart"
    return Row("peer", severity, other.name, detail, *scene.contain.network(limit=limit))


def _shared_namespaces(scene: Scene) -> Iterator[Found]:
    target = scene.target
    owners = {space: scene.owner(target, space) for space in SPACES}
    if target.network_mode.startswith(SHARED):
        owner = scene.by_ref(owners["network"])
        name = owner.name if owner else target.network_mode
        detail = f"lives on the networks of {name}: its peers and published ports are listed here too"
        yield Found(Row("network-mode", "high", f"network of {name}", detail, *scene.contain.network()))
    for other in scene.others:
        shared = [space for space in SPACES if scene.owner(other, space) == owners[space]]
        if not shared:
            continue
        by_host = all(owners[space] == HOST for space in shared)
        severity = "low" if by_host else min((WORST[one] for one in shared), key=("high", "medium", "low").index)
        whose = "the host's" if by_host else "one"
        words = f"{whose} {' and '.join(shared)} namespace" + ("s" if len(shared) > 1 else "")
        detail = f"both live in {words}" + ("" if other.running else "; not running now")
        yield Found(Row("namespace", severity, other.name, detail, *_sharer(scene, shared)), "namespace", other.id)


def _sharer(scene: Scene, shared: list[str]) -> Answer:
    then = "the other container runs on: contain it too"
    if "network" in shared and not scene.contain.stays:
        then = "the other container leaves the network with it, but runs on, not frozen: contain it too"
    return scene.contain.hold("use it", then)


def _ports(scene: Scene, owner: Container) -> Iterator[Found]:
    """Published ports of the network's owner; a stopped one's as they would be bound."""
    ports = owner.ports or PortBinding.from_inspect(owner.host_config.get("PortBindings"))
    hosts: dict[tuple[int, str, int], list[str]] = {}
    for port in ports:
        hosts.setdefault((port.container_port, port.protocol, port.host_port), []).append(port.host_ip or "0.0.0.0")  # noqa: S104
    for (inside, protocol, outside), addresses in sorted(hosts.items()):
        local = all(one.startswith(LOOPBACK) for one in addresses)
        detail = f"{', '.join(addresses)} port {outside} of the host → {inside}/{protocol}"
        detail += "" if owner.running else "; not open now, as it is not running"
        if owner.id != scene.target.id:
            detail += f"; published by {owner.name}"
        answer = scene.contain.network("published port", probed=protocol in ("tcp", "udp"))
        severity = "low" if local or not owner.running else "medium"
        yield Found(Row("port", severity, f"{outside}/{protocol}", detail, *answer))
