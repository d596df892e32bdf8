"""The proof from afar: helper containers try the roads that irkit itself tries where the engine is on its own host.

The same roads, probes and verdicts as :mod:`irkit.quarantine.prove`.  A helper shares the namespace of the target, of a
former peer, or the host's; none joins a network that the target was on, where it could be given the target's former
address and answer for it.  One alone is on the quarantine network, as a neighbour.
"""

from __future__ import annotations

import errno
import secrets
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from irkit.clock import now
from irkit.errors import EngineError, EngineUnreachable
from irkit.models import Probe
from irkit.netns import default_gateways, default_gateways6, interfaces, local_ipv4, local_ipv6
from irkit.quarantine.agent import FILES, SEEN
from irkit.quarantine.farscene import CONTROL, LOOK, FarPeer, FarScene, Post
from irkit.quarantine.farverdict import Road, Told
from irkit.quarantine.frames import udp_frame
from irkit.quarantine.helpers import HOST, Helpers
from irkit.quarantine.neighbours import FIXED, UNANSWERED
from irkit.quarantine.own_rules import NAT
from irkit.quarantine.resolver import DNS_SERVER, OUTSIDE_NAME, nameservers
from irkit.quarantine.scene import (
    DEVICE_LIMIT,
    METADATA,
    METADATA6,
    OUTSIDE6,
    QUARANTINED,
    Connection,
    Proof,
    judge,
    shown,
)
from irkit.text import printable

PATIENCE = 1.5
"""Seconds that a helper waits at least: longer than the second after which the kernel asks once more by ARP."""
CONTROLS = ("tcp", "udp", "icmp")
CONNECTION_LIMIT = 64
AT_ONCE = 8
TABLES = ("tcp", "tcp6", "udp", "udp6")


def prove_afar(scene: FarScene, helpers: Helpers, wait: float = PATIENCE) -> Proof:
    """Try everything that helpers can.  What can't be tried is ``unknown``.  Raises ``EngineUnreachable``."""
    try:
        return _Proving(scene, helpers, max(wait, PATIENCE)).run()
    except EngineUnreachable:
        raise
    except EngineError as error:
        detail = f"the helpers could not do their work: {error.message}"
        return Proof("unproven", (Probe("network namespace of the target", "out", "unknown", detail, now()),))


class _Proving:
    def __init__(self, scene: FarScene, helpers: Helpers, wait: float) -> None:
        self.scene, self.helpers, self.wait = scene, helpers, wait
        self.lost: list[Probe] = []

    def run(self) -> Proof:
        inside = self._post("the target's namespace", f"container:{self.scene.holder}", sniff=True)
        host = self._try_post("the host's own network", HOST)
        posts = [inside, *([host] if host else [])]
        self._nowhere(inside)
        self._host(inside, host)
        for peer, post in self._peers(inside):
            self._between(inside, post, peer)
            if all(one is not post for one in posts):  # a peer may have several addresses
                posts.append(post)
        self._ports(inside, host)
        established = self._established(inside)
        dns = self._dns(inside)
        with ThreadPoolExecutor(AT_ONCE, "irkit-helper") as pool:
            list(pool.map(self._try, posts))
            list(pool.map(self._listen, posts))
        probes = [road.probe() for post in posts for road in post.roads if road.direction in ("in", "out")]
        probes += [*(_gone(road) for road in established), _asked(dns), *self.lost]
        probes = [self._doubted(one, inside) for one in probes]
        return Proof(judge(probes), tuple(probes))

    # -- places -----------------------------------------------------------------------------------------------

    def _post(self, place: str, mode: str, *, sniff: bool = False) -> Post:
        helper = self.helpers.start(place, mode, sniff=sniff)
        post = Post(helper, self.helpers.ask(helper, "facts"))
        if not post.listens:
            raise EngineError(f"the helper in {place} does not listen")
        if post.facts.get("order") != sys.byteorder:  # the kernel writes addresses in its own byte order (proc(5))
            raise EngineError("the engine's host has another byte order than this one: its tables can't be read here")
        self.lost += [
            Probe(f"{place}: {name}", "out", "unknown", "the kernel's table is longer than a helper reads", now())
            for name in post.cut(FILES if sniff else FILES[:3])
        ]  # fmt: skip
        for kind in CONTROLS:
            road = Road(CONTROL, CONTROL, kind, "127.0.0.1", _port(post, kind), expect=_nonce(post, kind))
            post.roads.append(road)
        return post

    def _try_post(self, place: str, mode: str) -> Post | None:
        try:
            return self._post(place, mode)
        except EngineUnreachable:
            raise
        except EngineError as error:
            self.lost.append(Probe(place, "out", "unknown", f"no helper could be put there: {error.message}", now()))
            return None

    def _try(self, post: Post) -> None:
        begun = now()
        told, post.rows = self.helpers.probe(post.helper, [road.request() for road in post.roads], self.wait)
        for road, one in zip(post.roads, told, strict=True):
            road.told, road.begun = Told.of(one), begun

    def _listen(self, post: Post) -> None:
        noted = self.helpers.ask(post.helper, "seen").get("seen")
        post.seen = frozenset(str(one) for one in noted) if isinstance(noted, list) else frozenset()
        post.overrun = not isinstance(noted, list) or len(noted) >= SEEN

    def _peers(self, inside: Post) -> Iterator[tuple[FarPeer, Post]]:
        """A helper in the namespace of each peer, and one on the quarantine network as a neighbour."""
        known: dict[str, Post | None] = {}
        for peer in self.scene.peers:
            if peer.container_id not in known:
                known[peer.container_id] = self._try_post(f"{peer.role} {peer.name}", f"container:{peer.container_id}")
            post = known[peer.container_id]
            if post is not None:
                yield peer, post
        if self.scene.network:
            stand_in = self._try_post("the quarantine network, as a neighbour", self.scene.network)
            for address in self._own_addresses(stand_in) if stand_in else []:
                assert stand_in is not None  # noqa: S101 - see above
                yield FarPeer("irkit's helper", stand_in.helper.id, address, QUARANTINED), stand_in

    @staticmethod
    def _own_addresses(post: Post) -> list[str]:
        return [
            *local_ipv4(post.net("fib_trie")),
            *(one for one, _ in local_ipv6(post.net("if_inet6")) if not one.startswith("fe80:")),
        ]

    # -- roads ------------------------------------------------------------------------------------------------

    def _devices(self, inside: Post) -> list[str]:
        found = interfaces(inside.net("dev"))
        path, more = "interfaces of the target", f"{len(found) - DEVICE_LIMIT} more were not tried by themselves"
        if len(found) > DEVICE_LIMIT and path not in {one.path for one in self.lost}:
            self.lost.append(Probe(path, "out", "unknown", more, now()))
        return ["", *found[:DEVICE_LIMIT]]

    def _to_post(self, label: str, direction: str, start: Post, far: Post, address: str, device: str = "") -> None:
        path = f"{label} by {device}" if device else label

        def failing(kind: str) -> str:
            return far.failing(kind) or start.failing(kind)

        for kind in CONTROLS:
            start.roads.append(
                Road(f"{path}, {kind.upper()}", direction, kind, address, _port(far, kind), device, expect=_nonce(far, kind), arrived=far.arrived, controls=failing)
            )  # fmt: skip

    def _between(self, inside: Post, theirs: Post, peer: FarPeer) -> None:
        """Both ways, by the target's addresses old and new."""
        for device in self._devices(inside):
            self._to_post(f"{peer.role} {peer.name} {peer.address}", "out", inside, theirs, peer.address, device)
        for address in dict.fromkeys([*self.scene.addresses, *(one for one, _ in self.scene.old)]):
            label = f"{peer.role} {peer.name} to {address}"
            if address and all(one.path != f"{label}, TCP" for one in theirs.roads):
                self._to_post(label, "in", theirs, inside, address)

    def _host(self, inside: Post, host: Post | None) -> None:
        """To the host's addresses and the gateways, and from the host to the target's."""
        if host is None:
            self.lost += [
                Probe(f"gateway {one}", "out", "unknown", "no helper listens on the host's own network", now()) for one in self.scene.gateways
            ]  # fmt: skip
            return
        own, six = local_ipv4(host.net("fib_trie")), local_ipv6(host.net("if_inet6"))
        links = set(interfaces(host.net("dev")))
        targets = [(f"host address {one}", one) for one in own]
        for gateway in self.scene.gateways:
            if gateway not in own and all(
                gateway != one for one, _ in six
            ):  # a router of its own: irkit has no listener there
                self._to_nobody(inside, f"gateway {gateway}", gateway, 80, 53)
        targets += [(f"host address {one}", one) for one, _ in six if not one.startswith("fe80:")]
        local = [
            (f"bridge link-local {one}", one)
            for one, link in six
            if one.startswith("fe80:") and link == self.scene.bridge
        ]
        for device in self._devices(inside):
            for label, address in targets + (local if device else []):
                self._to_post(label, "out", inside, host, address, device)
        self._frames(inside, host, own)
        for address, bridge in [*((one, self.scene.bridge) for one in self.scene.addresses), *self.scene.old]:
            if address and bridge in links:
                self._to_post(f"host to {address}", "in", host, inside, address, bridge)
        if self.scene.network and self.scene.bridge not in links:
            detail = f"the bridge {self.scene.bridge} is not in the network of the helper on the host"
            self.lost.append(Probe("the host's helper and the engine share a network", "in", "unknown", detail, now()))

    def _frames(self, inside: Post, host: Post, own: list[str]) -> None:
        """Frames to the bridge itself need no route: what stops them must be on the bridge or behind it."""
        bridge = host.mac(self.scene.bridge)
        source = next((one for one in self.scene.addresses if ":" not in one), "")
        for device in self._devices(inside)[1:]:
            mine = inside.mac(device)
            for address in own if bridge and mine and source else []:
                road = Road(
                    f"host address {address} by a raw frame on {device}", "out", "frame", address, device=device
                )
                frame = udp_frame(mine, bridge, source, address, _port(host, "udp"), road.token.encode())
                road.data, road.arrived, road.controls = frame.hex(), host.arrived, host.failing
                inside.roads.append(road)

    def _nowhere(self, inside: Post) -> None:
        """To where irkit has no listener: the metadata service, an outside address, the nameservers."""
        places = [("metadata service", one, 80, 0) for one in (METADATA, METADATA6)]
        places += [("outside", one, 443, 53) for one in (self.scene.outside, OUTSIDE6)]
        places += [("nameserver", one, 53, 53) for one in nameservers(str(inside.facts.get("resolv", "")))]
        for label, address, tcp, udp in places:
            self._to_nobody(inside, f"{label} {address}", address, tcp, udp)

    def _to_nobody(self, inside: Post, label: str, address: str, tcp: int, udp: int) -> None:
        for device in self._devices(inside):
            path = label + (f" by {device}" if device else "")
            silent = self._nobody_home(inside, address, device)
            inside.roads.append(Road(f"{path}, TCP {tcp}", "out", "tcp", address, tcp, device, silent=silent))
            if udp:
                inside.roads.append(Road(f"{path}, UDP {udp}", "out", "udp", address, udp, device, silent=silent))
            inside.roads.append(Road(f"{path}, ICMP", "out", "icmp", address, 0, device, silent=silent))

    @staticmethod
    def _nobody_home(inside: Post, address: str, device: str) -> Callable[[], str]:
        def explain() -> str:
            gateways = default_gateways(inside.net("route")) | default_gateways6(inside.net("ipv6_route"))
            for interface, next_hop in _unanswered(inside.rows):
                if device and interface != device:
                    continue
                if (next_hop, interface) in gateways:
                    return f"the way out is by {next_hop} on {interface}, and nobody answers for it"
                if next_hop == address:
                    return f"nobody on {interface} answers for it"
            return ""

        return explain

    def _ports(self, inside: Post, host: Post | None) -> None:
        """From the host to every port that was published."""
        if host is None:
            self.lost += [
                Probe(f"published port {one.host_port}/{one.protocol}", "in", "unknown", "no helper on the host's own network", now())
                for one in self.scene.ports
            ]  # fmt: skip
            return
        for port in self.scene.ports:
            if port.protocol not in CONTROLS:
                detail = f"{port.protocol} is not tried"
                self.lost.append(
                    Probe(f"published port {port.host_port}/{port.protocol}", "in", "unknown", detail, now())
                )
                continue
            alive = Road(f"port {port.container_port}", LOOK, "tcp", "127.0.0.1", port.container_port)
            if port.protocol == "tcp":
                inside.roads.append(alive)
            for address in _listening(port, host):
                road = Road(
                    f"published port {shown(address, port.host_port)}/{port.protocol}", "in", port.protocol, address, port.host_port,
                    refused="blocked", arrived=inside.arrived,
                )  # fmt: skip
                if port.protocol == "udp":
                    road.controls = self._sniffing(inside, host)
                else:
                    road.silent = lambda one=alive: _alive(one)
                host.roads.append(road)

    @staticmethod
    def _sniffing(inside: Post, host: Post) -> Callable[[str], str]:
        def failing(kind: str) -> str:
            if inside.server("sniffs") is not True:
                return "no packet socket could be opened in the target's namespace"
            return inside.failing(kind) or host.failing(kind)

        return failing

    # -- what is left of before -------------------------------------------------------------------------------

    def _established(self, inside: Post) -> list[Road]:
        """Connections that the frozen target still holds: dead when the address that they were made from is gone."""
        found = []
        tables = {name: inside.net(name) for name in TABLES}
        every = [one for one in dict.fromkeys(self.scene.established(tables)) if self._leaves(one)]
        for one in every[:CONNECTION_LIMIT]:
            road = Road(f"established {one}", LOOK, "bind", one.local)
            found.append(road)
            inside.roads.append(road)
        if len(every) > CONNECTION_LIMIT:
            rest = f"{len(every) - CONNECTION_LIMIT} more were not looked at"
            self.lost.append(Probe("established connections", "out", "unknown", rest, now()))
        return found

    def _leaves(self, one: Connection) -> bool:
        """Neither within the namespace nor from an address that it has only in the quarantine, whose roads are all tried."""
        return not one.remote.startswith("127.") and one.remote != "::1" and one.local not in self.scene.addresses

    @staticmethod
    def _dns(inside: Post) -> Road:
        """One question for a name outside, to the engine's DNS."""
        name = b"".join(bytes([len(part)]) + part.encode() for part in OUTSIDE_NAME.split("."))
        question = (
            struct.pack(">6H", secrets.randbits(16), 0x0100, 1, 0, 0, 0) + name + b"\0" + struct.pack(">2H", 1, 1)
        )
        road = Road(
            f"outside name {OUTSIDE_NAME} by the engine's DNS", LOOK, "udp", DNS_SERVER, 53, data=question.hex()
        )
        inside.roads.append(road)
        return road

    def _doubted(self, probe: Probe, inside: Post) -> Probe:
        """Silence proves nothing where the target may have rules of its own that drop irkit's tries and not its own."""
        names = sorted(set(str(inside.facts.get("tables", "")).split()) - {NAT})
        rules = (
            f"its namespace has tables of iptables-legacy that can't be read from afar ({printable(names[0], 32)})"
            if names
            else ""
        )
        why = self.scene.doubt or rules
        if not why or probe.result != "blocked":
            return probe
        return replace(probe, result="unknown", detail=f"{why}; {probe.detail}")


def _port(post: Post, kind: str) -> int:
    return int(post.server(kind)) if kind in ("tcp", "udp") else 0


def _nonce(post: Post, kind: str) -> str:
    return str(post.server("nonce")) if kind in ("tcp", "udp") else ""


def _alive(road: Road) -> str:
    outcome = {"connected": "connected", "refused": "refused"}.get(road.told.outcome, "")
    return f"inside the namespace {road.path} answers: {outcome}" if outcome else ""


def _listening(port: Any, host: Post) -> list[str]:
    """The host's addresses on which a port was published."""
    if port.host_ip in ("", "0.0.0.0"):  # noqa: S104
        return ["127.0.0.1", *local_ipv4(host.net("fib_trie"))]
    if port.host_ip == "::":
        own = [address for address, _ in local_ipv6(host.net("if_inet6"))]
        return ["::1", *(address for address in own if not address.startswith("fe80:"))]
    return [port.host_ip]


def _unanswered(rows: list[Any]) -> list[tuple[str, str]]:
    """``(interface, address)`` of whom the kernel has asked for and heard nothing of."""
    found = []
    for row in rows:
        if (
            isinstance(row, list)
            and len(row) == 3
            and isinstance(row[2], int)
            and row[2] & UNANSWERED
            and not row[2] & FIXED
        ):
            found.append((str(row[0]), str(row[1])))
    return found


def _gone(road: Road) -> Probe:
    """A connection whose address is gone is dead: the kernel delivers nothing to it, and sends nothing of it."""
    if road.told.outcome == "bound":
        result, detail = "reached", f"its address {road.address} is still there"
    elif road.told.name == errno.errorcode[errno.EADDRNOTAVAIL]:
        result, detail = "blocked", f"dead: its address {road.address} is gone from the namespace"
    else:
        result, detail = "unknown", road.told.name or road.told.outcome
    return Probe(road.path, "out", result, detail, road.begun, road.told.ms)


def _asked(road: Road) -> Probe:
    """What the engine's DNS said; with no answer it counts as blocked, as there is no control for it."""
    told = road.told
    code = told.answer[3] & 15 if len(told.answer) >= 4 else -1
    if told.outcome == "answered":
        result, detail = ("blocked", f"the engine's DNS did not ask anybody outside (response code {code})")
        if code not in (2, 5):
            result, detail = "reached", f"an answer from outside came back (response code {code})"
    elif told.outcome == "refused":
        result, detail = "blocked", "nobody listens there"
    elif told.outcome == "silent":
        result, detail = "blocked", "the engine's DNS has no answer for it"
    else:
        result, detail = "unknown", told.name or told.outcome
    return Probe(road.path, "out", result, detail, road.begun, told.ms)
