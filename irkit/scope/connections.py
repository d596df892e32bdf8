"""Established connections, read from the host's ``/proc``, and who is at their other end."""

from __future__ import annotations

import ipaddress
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from irkit.acquire.host import PROC, HostView, read_text
from irkit.acquire.netstate import parse_table
from irkit.scope.model import Found, Row
from irkit.scope.scene import HOST, Scene, usable

TABLES = ("tcp", "tcp6", "udp", "udp6")
LIVE = frozenset({"established", "syn-sent", "syn-received", "close-wait", "fin-wait-1", "fin-wait-2"})
METADATA = frozenset({"169.254.169.254", "169.254.170.2", "fd00:ec2::254"})
SHOWN = 100
_LOCAL = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def find_connections(scene: Scene, view: HostView | str) -> Iterator[Found]:
    """Rows of the kind connection; one that says why when they can't be seen (``view`` is the reason then)."""
    if isinstance(view, str):
        yield Found(_unseen(scene, view))
        return
    raw = {name: read_text(f"{PROC}/{view.pid}/net/{name}") for name in TABLES}
    if not raw["tcp"]:
        yield Found(_unseen(scene, "the kernel's tables could not be read"))
        return
    sockets = [row for name in TABLES for row in parse_table(name, raw[name])]
    if scene.owner(scene.target, "network") != scene.target.id:
        # The tables are those of the host or of another container: only what the target's processes hold is its own.
        held = held_sockets(view.pids())
        sockets = [row for row in sockets if row["inode"] in held or row["state"] == "listen"]
    yield from describe(scene, sockets, host_addresses())


def describe(scene: Scene, sockets: Iterable[Mapping[str, Any]], local: Iterable[str] = ()) -> Iterator[Found]:
    """Rows of ``parse_table`` as rows of the scope: one a remote end, direction and port, with a count.

    ``local``: the addresses of this host.
    """
    rows = list(sockets)
    listening = {(row["protocol"][:3], row["local_port"]) for row in rows if row["state"] == "listen"}
    ends: Counter[tuple[str, str, int, str]] = Counter()
    for row in rows:
        remote = plain_address(row["remote"])
        if row["state"] not in LIVE or ipaddress.ip_address(remote).is_loopback or not row["remote_port"]:
            continue
        protocol = row["protocol"][:3]
        inwards = (protocol, row["local_port"]) in listening
        port = row["local_port"] if inwards else row["remote_port"]
        ends["in" if inwards else "out", remote, port, protocol] += 1
    people = people_by_address(scene, local)
    for (direction, remote, port, protocol), count in sorted(ends.items())[:SHOWN]:
        yield Found(_connection(scene, people, direction, remote, port, protocol, count))
    if len(ends) > SHOWN:
        detail = f"{len(ends) - SHOWN} more remote ends that are not listed"
        yield Found(Row("connection", "high", "many connections", detail, *scene.contain.connection()))


def plain_address(address: str) -> str:
    """Its shortest form; an IPv4 address that an IPv6 socket shows (``::ffff:10.0.0.1``) as IPv4."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def people_by_address(scene: Scene, local: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """Who has an address: ``(name, "container" | "host")``.  The target's own networks come before all others."""
    known: dict[str, tuple[str, str]] = {}
    owner = scene.network_owner
    mine = {one.network_id for one in usable(owner)} if owner else set()
    for address in local:
        known[plain_address(address)] = ("this host", "host")
    pairs = [(endpoint.network_id in mine, one.name, endpoint) for one in scene.others for endpoint in usable(one)]
    for _, name, endpoint in sorted(pairs, key=lambda pair: pair[0]):
        for address in (endpoint.ipv4, endpoint.ipv6):
            if address:
                known[plain_address(address)] = (name, "container")
    for endpoint in usable(owner) if owner else ():
        network = scene.network_of(endpoint)
        for address in (endpoint.gateway, *(network.gateways if network else ())):
            if address:
                known[plain_address(address)] = (f"the host (gateway of {endpoint.network})", "host")
    return known


def host_addresses() -> tuple[str, ...]:
    """The addresses of the network namespace that irkit runs in: the engine's host, when its processes are seen."""
    found = _LOCAL.findall(read_text(f"{PROC}/self/net/fib_trie"))
    for line in read_text(f"{PROC}/self/net/if_inet6").splitlines():
        digits = line.partition(" ")[0]
        if len(digits) == 32:
            found.append(str(ipaddress.IPv6Address(int(digits, 16))))
    return tuple(dict.fromkeys(found))


def held_sockets(pids: Iterable[int]) -> set[int]:
    """The inodes of the sockets that these processes hold; processes that end meanwhile are passed over."""
    found = set()
    for pid in pids:
        try:
            names = os.listdir(f"{PROC}/{pid}/fd")  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            try:
                match = _SOCKET.fullmatch(os.readlink(f"{PROC}/{pid}/fd/{name}"))  # noqa: PTH115
            except OSError:
                continue
            if match:
                found.add(int(match.group(1)))
    return found


def _unseen(scene: Scene, why: str) -> Row:
    severity = "medium" if scene.target.running else "low"
    return Row("connection", severity, "established connections", f"not seen: {why}", *scene.contain.connection())


def _connection(
    scene: Scene, people: Mapping[str, tuple[str, str]], direction: str, remote: str, port: int, protocol: str, count: int
) -> Row:  # fmt: skip
    name, who = people.get(remote, ("", "outside"))
    address = ipaddress.ip_address(remote)
    if remote in METADATA:
        name, severity = "the cloud's metadata service", "high"
    elif who == "container":
        severity = "medium"
    elif who == HOST:
        severity = "low" if direction == "in" else "high"
    else:
        name = "outside" if address.is_global else "outside (a private address)"
        severity = "medium" if direction == "in" else "high"
    times = f", {count} connections" if count > 1 else ""
    words = "to its" if direction == "out" else "comes in to the target's"
    detail = f"{remote}: {words} {protocol} port {port}{times}"
    return Row("connection", severity, name, detail, *scene.contain.connection())
