"""What helpers need to know to prove a quarantine from afar, and what they tell of the places where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from irkit.engine.interface import PortBinding
from irkit.quarantine.agent import TEXT
from irkit.quarantine.farverdict import Road, verdict
from irkit.quarantine.helpers import Helper
from irkit.quarantine.scene import OUTSIDE, Connection

CONTROL, LOOK = "control", "look"
"""Directions of what is no probe: a try that must succeed, and one whose outcome is read in another way."""


@dataclass(frozen=True, slots=True)
class FarPeer:
    """A container that shared a network with the target, or is quarantined as well; its namespace gets a helper."""

    name: str
    container_id: str
    address: str
    role: str


@dataclass(frozen=True, slots=True)
class FarScene:
    """What :class:`irkit.quarantine.scene.Scene` says, without process ids.

    ``holder``: the container whose namespace it is.  ``network``: the quarantine network, empty when the target is on
    none.  ``doubt``: why silence in the target's namespace may be the target's own doing.
    """

    holder: str
    network: str
    bridge: str
    addresses: tuple[str, ...]
    old: tuple[tuple[str, str], ...] = ()
    gateways: tuple[str, ...] = ()
    peers: tuple[FarPeer, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    outside: str = OUTSIDE
    doubt: str = ""
    established: Callable[[Mapping[str, str]], tuple[Connection, ...]] = lambda tables: ()
    """Reads connections out of the kernel's socket tables, by name (``tcp``, ``tcp6``, ``udp``, ``udp6``)."""


@dataclass(slots=True)
class Post:
    """A helper, what its namespace looks like, and the roads that begin there."""

    helper: Helper
    facts: Mapping[str, Any]
    roads: list[Road] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    seen: frozenset[str] = frozenset()
    overrun: bool = False

    def net(self, name: str) -> str:
        """One of the kernel's tables, as text."""
        tables = self.facts.get("net")
        return str(tables.get(name, "")) if isinstance(tables, Mapping) else ""

    def cut(self, names: Sequence[str]) -> list[str]:
        """The tables among these that are longer than the agent reads."""
        return [name for name in names if len(self.net(name)) >= TEXT]

    def server(self, name: str) -> Any:
        """What the listener says of itself: ``nonce``, ``tcp``, ``udp``, ``sniffs``."""
        server = self.facts.get("server")
        return server.get(name) if isinstance(server, Mapping) else None

    @property
    def listens(self) -> bool:
        """Whether a listener is there."""
        return all(isinstance(self.server(one), int) for one in ("tcp", "udp")) and bool(self.server("nonce"))

    def mac(self, interface: str) -> bytes:
        """An interface's hardware address; empty when there is none."""
        macs = self.facts.get("macs")
        try:
            found = bytes.fromhex(str(macs.get(interface, "")).replace(":", "")) if isinstance(macs, Mapping) else b""
        except ValueError:
            return b""
        return found if len(found) == 6 else b""

    def arrived(self, token: str) -> bool:
        """Whether its listener noted a token."""
        return token in self.seen

    def failing(self, kind: str) -> str:
        """Why silence at this listener means nothing; empty when its controls held."""
        if self.overrun:
            return f"the listener in {self.helper.place} was overrun"
        wanted = "udp" if kind == "frame" else kind
        for road in self.roads:
            if road.direction == CONTROL and road.kind == wanted and verdict(road)[0] != "reached":
                return f"a control in {self.helper.place} did not go through"
        return ""
