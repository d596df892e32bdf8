"""The proof: tries to get out of the quarantine and into it, from the host, with nothing run in the container."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from irkit.clock import now
from irkit.models import Probe
from irkit.netns import in_netns, local_ipv4, local_ipv6
from irkit.quarantine.datagrams import Frame, Volley
from irkit.quarantine.frames import hardware_address
from irkit.quarantine.links import cables, links
from irkit.quarantine.neighbours import forget
from irkit.quarantine.ports import TakenPorts, UdpPorts, port_tries
from irkit.quarantine.procfs import exists, read
from irkit.quarantine.resolver import EngineDns
from irkit.quarantine.roads import Post, Roads
from irkit.quarantine.scene import DEVICE_LIMIT, METADATA, METADATA6, OUTSIDE6, Connection, Peer, Proof, Scene, judge
from irkit.quarantine.tries import run_tries

TIMEOUT = 1.0
CONNECTION_LIMIT = 64


def prove(scene: Scene, timeout: float = TIMEOUT) -> Proof:
    """Try everything at once.  Takes a tenth of a second, ``timeout`` at most; what can't be tried is ``unknown``."""
    try:
        return _prove(scene, timeout)
    except OSError as error:
        detail = f"the probes could not run: {error.strerror or error}"
        return Proof("unproven", (Probe("network namespace of the target", "out", "unknown", detail, now()),))


def _prove(scene: Scene, timeout: float) -> Proof:
    with contextlib.ExitStack() as stack:
        in_netns(scene.victim, forget)
        _ask_anew(scene)
        volley = Volley()
        stack.callback(volley.close)
        devices, lost = _devices(scene)
        roads = Roads(scene, volley, devices)

        def post(netns: str | None) -> Post:
            made = Post(netns, volley)
            stack.callback(made.close)
            return made

        host, inside = post(None), post(scene.victim)
        posts = [host, inside]
        _host_roads(roads, scene, host)
        _nowhere_roads(roads, scene)
        _inward_roads(roads, scene, inside)
        for peer in scene.peers:
            try:
                posts.append(post(f"/proc/{peer.pid}/ns/net"))
            except OSError as error:
                lost.append(_lost(peer, error))
                continue
            _peer_roads(roads, scene, peer, posts[-1], inside)
        ports = UdpPorts(scene)
        stack.callback(ports.close)
        taken = TakenPorts(scene)
        stack.callback(taken.close)
        dns = EngineDns(scene.victim)
        stack.callback(dns.close)
        tries = [*(one.tcp_control for one in posts), *roads.tries, *port_tries(scene)]
        ports.send()
        taken.send()
        volley.fire()
        run_tries(tries, [one.tcp for one in posts], timeout, roads.look)
        probes = [one.probe() for one in tries if one.direction != "control"]
        probes += [
            *volley.probes(),
            *_same_host(scene),
            *lost,
            *ports.probes(),
            *taken.probes(),
            *_inherited(scene),
            *dns.probes(),
            *_connections(scene),
        ]
    return Proof(judge(probes), tuple(probes))


def _ask_anew(scene: Scene) -> None:
    """Elsewhere only what was asked for the target in vain is forgotten: others may be probing there as well."""
    mine = {*scene.addresses, *(address for address, _ in scene.old)}
    for netns in {None, *(f"/proc/{peer.pid}/ns/net" for peer in scene.peers)}:
        with contextlib.suppress(OSError):
            in_netns(netns, lambda: forget(mine))


def _lost(peer: Peer, error: OSError) -> Probe:
    detail = f"its network namespace can't be entered: {error.strerror}"
    return Probe(f"{peer.role} {peer.name}", "out", "unknown", detail, now())


def _devices(scene: Scene) -> tuple[list[str], list[Probe]]:
    """Unbound, as an attacker without privileges would; and bound to each interface, as one with NET_RAW could.

    Those that lead out of the namespace come first; a target can make itself thousands of others.
    """
    found = sorted((one for one in links(scene.victim) if not one.loopback), key=lambda one: not one.leaves)
    more = len(found) - DEVICE_LIMIT
    lost = [Probe("interfaces of the target", "out", "unknown", f"{more} more were not tried by themselves", now())]
    return ["", *(one.name for one in found[:DEVICE_LIMIT])], lost if more > 0 else []


def _host_roads(roads: Roads, scene: Scene, host: Post) -> None:
    """To every address of the host, the gateways among them, where irkit itself listens."""
    own = local_ipv4(read("/proc/thread-self/net/fib_trie"))
    targets = [(f"host address {address}", address) for address in own]
    targets += [(f"gateway {address}", address) for address in scene.gateways if address not in own]
    local = []
    for address, interface in local_ipv6(read("/proc/thread-self/net/if_inet6")):
        if not address.startswith("fe80:"):
            targets.append((f"host address {address}", address))
        elif interface == scene.bridge:
            local.append((f"bridge link-local {address}", address))
    for device in roads.devices:
        for label, address in targets + (local if device else []):
            roads.to_post(label, "out", scene.victim, host, address, device)
    _frames(roads, scene, host, own)


def _frames(roads: Roads, scene: Scene, host: Post, own: list[str]) -> None:
    """Frames to the bridge itself need no route: what stops them must be on the bridge or behind it."""
    if not exists(scene.bridge) or not scene.addresses:
        return
    bridge = hardware_address(scene.bridge)
    for device in roads.devices[1:]:
        with contextlib.suppress(OSError):
            mine = in_netns(scene.victim, lambda device=device: hardware_address(device))  # type: ignore[misc]
            for address in own:
                roads.frame(f"host address {address}", host, address, device, Frame(scene.addresses[0], mine, bridge))


def _nowhere_roads(roads: Roads, scene: Scene) -> None:
    """To the metadata service, an outside address and the nameservers, in both families."""
    for device in roads.devices:
        for address in (METADATA, METADATA6):
            roads.to_nobody("metadata service", address, (80,), device)
        for address in (scene.outside, OUTSIDE6):
            roads.to_nobody("outside", address, (443,), device, udp=53)
        for address in scene.nameservers:
            roads.to_nobody("nameserver", address, (53,), device, udp=53)


def _inward_roads(roads: Roads, scene: Scene, inside: Post) -> None:
    """From the host to the target's addresses, old and new, where irkit listens inside its namespace."""
    routes = [(address, scene.bridge) for address in scene.addresses] + list(scene.old)
    for address, bridge in routes:
        if address and exists(bridge):
            roads.to_post(f"host to {address}", "in", None, inside, address, bridge)


def _peer_roads(roads: Roads, scene: Scene, peer: Peer, theirs: Post, inside: Post) -> None:
    """To a peer and from it, with irkit's own listeners at both ends."""
    for device in roads.devices:
        roads.to_post(f"{peer.role} {peer.name} {peer.address}", "out", scene.victim, theirs, peer.address, device)
    for address in dict.fromkeys([*scene.addresses, *(address for address, _ in scene.old)]):
        if address:
            roads.to_post(f"{peer.role} {peer.name} to {address}", "in", theirs.netns, inside, address)


def _same_host(scene: Scene) -> list[Probe]:
    """Probes "from the host" mean something only in the namespace where the engine's bridges are."""
    if not scene.bridge or exists(scene.bridge):
        return []
    with contextlib.suppress(OSError):
        if cables(scene.victim):  # Podman makes a bridge only when a running container joins
            return []
    detail = f"the bridge {scene.bridge} is not in irkit's network namespace: run irkit where the engine runs"
    return [Probe("irkit and the engine share a network", "in", "unknown", detail, now())]


def _inherited(scene: Scene) -> list[Probe]:
    """A former address that another container has now: it answers for it, so only the target's own kernel can be asked."""
    found = []
    for address, heir in scene.heirs:
        begun = now()
        try:
            result, detail = in_netns(scene.victim, lambda address=address: _bindable(address))  # type: ignore[misc]
        except OSError as error:
            result, detail = "unknown", f"the network namespace can't be entered: {error.strerror}"
        found.append(Probe(f"former address {address}, now of {heir}", "in", result, detail, begun))
    return found


def _connections(scene: Scene) -> list[Probe]:
    """A connection is dead when the address that it was made from is no longer the namespace's.

    The kernel then neither delivers a segment to it nor sends one, whatever becomes of the process that holds it.
    """
    outward = [one for one in dict.fromkeys(scene.connections) if _leaves(one, scene)]
    found = []
    for one in outward[:CONNECTION_LIMIT]:
        begun = now()
        try:
            result, detail = in_netns(scene.victim, lambda one=one: _bindable(one.local))  # type: ignore[misc]
        except OSError as error:
            result, detail = "unknown", f"the network namespace can't be entered: {error.strerror}"
        found.append(Probe(f"established {one}", "out", result, detail, begun))
    if len(outward) > CONNECTION_LIMIT:
        rest = f"{len(outward) - CONNECTION_LIMIT} more were not looked at"
        found.append(Probe("established connections", "out", "unknown", rest, now()))
    return found


def _leaves(one: Connection, scene: Scene) -> bool:
    """Neither within the namespace nor from an address that it has only in the quarantine, whose roads are all tried."""
    return not one.remote.startswith("127.") and one.remote != "::1" and one.local not in scene.addresses


def _bindable(address: str) -> tuple[str, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return "blocked", f"dead: its address {address} is gone from the namespace"
            return "unknown", os.strerror(error.errno or errno.EIO)
    return "reached", f"its address {address} is still there"
