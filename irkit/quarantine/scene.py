"""What a proof needs to know, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from irkit.engine.interface import PortBinding
from irkit.models import Probe

OUTSIDE = "198.51.100.1"
"""TEST-NET-2 (RFC 5737): nobody is there, so the probe can show the lack of a route, and never disturbs anyone."""
OUTSIDE6 = "2001:db8::1"
"""The documentation prefix (RFC 3849)."""
METADATA, METADATA6 = "169.254.169.254", "fd00:ec2::254"
DEVICE_LIMIT = 16
"""Interfaces of the target that tries are bound to."""
OLD, QUARANTINED = "old peer", "quarantined neighbour"


class Peer(NamedTuple):
    """A container that shared a network with the target, or is quarantined as well."""

    name: str
    pid: int
    address: str
    role: str = OLD


class Connection(NamedTuple):
    """A connection that was established when the target was frozen."""

    protocol: str
    local: str
    local_port: int
    remote: str
    remote_port: int

    def __str__(self) -> str:
        return f"{self.protocol} {shown(self.local, self.local_port)} to {shown(self.remote, self.remote_port)}"


class Scene(NamedTuple):
    """All that the probes need to know.

    ``old``: the target's former addresses with the bridge they were on; ``bridge``: the quarantine's; ``addresses``:
    the target's addresses on it; ``nameservers``: those of its ``resolv.conf``.  What another container has now:
    ``heirs``, former addresses and who has them; ``taken``, published ports, all of them ``heir``'s.
    """

    pid: int
    bridge: str
    addresses: tuple[str, ...]
    old: tuple[tuple[str, str], ...] = ()
    gateways: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    connections: tuple[Connection, ...] = ()
    nameservers: tuple[str, ...] = ()
    outside: str = OUTSIDE
    heirs: tuple[tuple[str, str], ...] = ()
    taken: tuple[PortBinding, ...] = ()
    heir: str = ""

    @property
    def victim(self) -> str:
        """The target's network namespace."""
        return f"/proc/{self.pid}/ns/net"


class Proof(NamedTuple):
    """``state``: proven, unproven, frozen-only or open.  ``by``: which helpers tried, and what they can't (JSON)."""

    state: str
    probes: tuple[Probe, ...]
    by: Mapping[str, Any] = {}


def judge(probes: Iterable[Probe]) -> str:
    """``open`` when one was reached, ``unproven`` when one is unknown or there are none, else ``proven``."""
    results = [probe.result for probe in probes]
    if "reached" in results:
        return "open"
    return "proven" if results and set(results) == {"blocked"} else "unproven"


def shown(address: str, port: int) -> str:
    """``address:port`` as it is written."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
