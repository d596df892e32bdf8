"""Probes without a handshake: UDP to irkit's own ears, ICMP echo, and raw frames past the target's routes.

Every datagram carries a nonce. It counts as reached when it arrived (UDP, frames) or was answered (ICMP), and its
silence counts as blocked only when the same datagram, sent where it must arrive, did.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from irkit.clock import now
from irkit.models import Probe
from irkit.netns import in_netns
from irkit.quarantine.frames import checksum, udp_frame
from irkit.quarantine.outcomes import BLOCKING
from irkit.quarantine.sctp import InitEar, init, sender

ECHO, ECHO6 = 8, 128
REPLY, REPLY6 = 0, 129


class Ear:
    """A UDP socket of irkit's in some namespace that notes which datagrams arrived."""

    def __init__(self, netns: str | None) -> None:
        self.nonce = os.urandom(16)
        self.sock = in_netns(netns, _udp_listener)
        self.port = int(self.sock.getsockname()[1])

    def mark(self, number: int) -> bytes:
        """The datagram with this number."""
        return self.nonce + struct.pack(">I", number)

    def heard(self) -> set[int]:
        """The numbers of all that arrived by now."""
        found = set()
        with contextlib.suppress(OSError):
            while True:
                data = self.sock.recv(2048)
                if len(data) == len(self.nonce) + 4 and data.startswith(self.nonce):
                    found.add(struct.unpack(">I", data[-4:])[0])
        return found

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def _udp_listener() -> socket.socket:
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", 0))
    except OSError:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.bind(("0.0.0.0", 0))  # noqa: S104 - the point is to be reachable on every address, for a moment
    return made


class Echoes:
    """Raw ICMP sockets of one volley in one namespace, shared by all its echoes that leave the same way.

    A raw socket sees every reply that comes to its namespace, so each reply is known by the volley's nonce.
    """

    def __init__(self) -> None:
        self.nonce = os.urandom(16)
        self._socks: dict[tuple[str | None, int, str], socket.socket] = {}
        self._heard: set[int] | None = None

    def sender(self, netns: str | None, family: int, device: str) -> socket.socket:
        """The socket for echoes out of ``device``; to be called in that namespace.  Raises ``OSError``."""
        key = (netns, family, device)
        if key not in self._socks:
            protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
            made = self._socks[key] = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
            if device:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
            _only_replies(made, family)
        return self._socks[key]

    def request(self, family: int, number: int) -> bytes:
        """An ICMP echo request (RFC 792; RFC 4443, whose checksum the kernel computes)."""
        kind = ECHO6 if family == socket.AF_INET6 else ECHO
        body = struct.pack(">HH", number >> 16 & 0xFFFF, number & 0xFFFF) + self.nonce
        return struct.pack(">BBH", kind, 0, checksum(struct.pack(">BBH", kind, 0, 0) + body)) + body

    def heard(self) -> set[int]:
        """The numbers of all echoes that were answered by now."""
        if self._heard is None:
            self._heard = set()
            for (_, family, _), sock in self._socks.items():
                with contextlib.suppress(OSError):
                    while True:
                        number = self.number(family, sock.recv(2048))
                        if number is not None:
                            self._heard.add(number)
        return self._heard

    def number(self, family: int, data: bytes) -> int | None:
        """Which echo a packet is the reply to, if it is one of ours.  IPv4 ones begin with the IP header."""
        if family == socket.AF_INET and data:
            data = data[(data[0] & 15) * 4 :]
        if len(data) != 24 or data[0] != (REPLY6 if family == socket.AF_INET6 else REPLY) or data[8:] != self.nonce:
            return None
        high, low = struct.unpack_from(">HH", data, 4)
        return int(high) << 16 | int(low)

    def close(self) -> None:
        """Close all."""
        for sock in self._socks.values():
            sock.close()


def _only_replies(sock: socket.socket, family: int) -> None:
    """Let the kernel drop what is no echo reply (raw(7), ICMP_FILTER; RFC 3542, 3.2, ICMP6_FILTER)."""
    with contextlib.suppress(OSError):
        if family == socket.AF_INET6:
            mask = [0xFFFFFFFF] * 8
            mask[REPLY6 >> 5] &= ~(1 << (REPLY6 & 31))
            sock.setsockopt(socket.IPPROTO_ICMPV6, 1, struct.pack("=8I", *mask))
        else:
            sock.setsockopt(
                socket.SOL_RAW if hasattr(socket, "SOL_RAW") else 255, 1, struct.pack("=I", 0xFFFFFFFF & ~(1 << REPLY))
            )


class Frame(NamedTuple):
    """How a raw frame is addressed: it needs no route, only the neighbour's hardware address."""

    source: str
    source_mac: bytes
    target_mac: bytes


@dataclass(slots=True)
class Shot:
    """One datagram.  With ``ear`` it is UDP to that ear (in a raw ``frame`` if given) or an SCTP INIT, without one an ICMP echo.

    ``control``: the shot that must have arrived for silence to count; ``silent``: what explains silence otherwise.
    """

    path: str
    direction: str
    address: str
    netns: str | None
    ear: Ear | InitEar | None = None
    device: str = ""
    frame: Frame | None = None
    control: Shot | None = None
    silent: Callable[[], str] | None = None
    number: int = 0
    port: int = 0
    outcome: str = ""
    detail: str = ""
    begun: str = ""
    sock: socket.socket | None = None


class Volley:
    """All shots of a proof: :meth:`fire`, wait, :meth:`probes`."""

    def __init__(self) -> None:
        self.shots: list[Shot] = []
        self._echoes = Echoes()
        self._started = 0.0

    def add(self, shot: Shot) -> Shot:
        """Take a shot along."""
        shot.number = len(self.shots) + 1
        self.shots.append(shot)
        return shot

    def fire(self) -> None:
        """Send all, grouped by the namespace that they start from."""
        self._started = time.monotonic()
        groups: dict[str | None, list[Shot]] = {}
        for shot in self.shots:
            groups.setdefault(shot.netns, []).append(shot)
        for netns, group in groups.items():
            try:
                in_netns(netns, lambda group=group: self._fire(group))  # type: ignore[misc]
            except OSError as error:
                for shot in group:
                    shot.begun = shot.begun or now()
                    shot.outcome = shot.outcome or "failed"
                    shot.detail = f"the network namespace can't be entered: {error.strerror}"

    def _fire(self, group: Iterable[Shot]) -> None:
        opened: dict[str, socket.socket] = {}
        for shot in group:
            shot.begun = now()
            try:
                if isinstance(shot.ear, InitEar):
                    _send_init(shot, shot.ear, opened)
                elif shot.frame is not None and shot.ear is not None:
                    _send_frame(shot, shot.ear, shot.frame, opened)
                elif shot.ear is not None or shot.port:
                    _send_udp(shot)
                else:
                    self._send_echo(shot)
                shot.outcome = "sent"
            except OSError as error:
                number = error.errno or errno.EIO
                shot.outcome, shot.detail = "failed", os.strerror(number)
                if number in BLOCKING:
                    shot.outcome, shot.detail = "blocked", BLOCKING[number]

    def _send_echo(self, shot: Shot) -> None:
        family = _family(shot.address)
        sock = self._echoes.sender(shot.netns, family, shot.device)
        sock.sendto(self._echoes.request(family, shot.number), _where(shot, 0))

    def probes(self) -> list[Probe]:
        """One verdict a shot, controls left out.  Called when answers have had their time."""
        heard: dict[int, set[int]] = {}
        for shot in self.shots:
            if shot.outcome == "sent":
                if shot.ear is not None:
                    arrived = heard.setdefault(id(shot.ear), shot.ear.heard())
                    shot.outcome = "arrived" if shot.number in arrived else "silent"
                elif shot.port:
                    shot.outcome = _answer(shot)
                else:
                    shot.outcome = "arrived" if shot.number in self._echoes.heard() else "silent"
        spent = (time.monotonic() - self._started) * 1000
        found = []
        for shot in self.shots:
            if shot.direction != "control":
                result, detail = _verdict(shot, spent)
                found.append(Probe(shot.path, shot.direction, result, detail, shot.begun, spent))
        return found

    def close(self) -> None:
        """Close what is open."""
        self._echoes.close()
        for shot in self.shots:
            if shot.sock is not None:
                shot.sock.close()


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _where(shot: Shot, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if _family(shot.address) == socket.AF_INET:
        return shot.address, port
    link_local = shot.address.lower().startswith("fe80:") and shot.device
    return shot.address, port, 0, socket.if_nametoindex(shot.device) if link_local else 0


def _send_frame(shot: Shot, ear: Ear, frame: Frame, opened: dict[str, socket.socket]) -> None:
    """``opened``: packet sockets by interface; closing one makes the kernel wait, so all frames share it."""
    data = udp_frame(frame.source_mac, frame.target_mac, frame.source, shot.address, ear.port, ear.mark(shot.number))
    raw = opened.get(shot.device)
    if raw is None:
        raw = opened[shot.device] = shot.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind((shot.device, 0))
    raw.send(data)


def _send_init(shot: Shot, ear: InitEar, opened: dict[str, socket.socket]) -> None:
    """``opened``: raw sockets are shared by all that leave the same way."""
    key = f"SCTP {_family(shot.address)} {shot.device}"
    if key not in opened:
        opened[key] = shot.sock = sender(_family(shot.address), shot.device)
    opened[key].sendto(init(ear.port, ear.mark(shot.number)), _where(shot, 0))


def _send_udp(shot: Shot) -> None:
    shot.sock = socket.socket(_family(shot.address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if shot.device:
        shot.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, shot.device.encode() + b"\0")
    if shot.ear is not None:
        shot.sock.sendto(shot.ear.mark(shot.number), _where(shot, shot.ear.port))
    else:
        shot.sock.connect(_where(shot, shot.port))
        shot.sock.send(b"irkit")


def _answer(shot: Shot) -> str:
    """What came back for a UDP datagram to somebody else."""
    try:
        if shot.sock is not None:
            shot.sock.recv(2048)
            return "arrived"
    except ConnectionRefusedError:
        shot.detail = "an answer came back: port unreachable"
        return "arrived"
    except OSError as error:
        if error.errno in BLOCKING:
            shot.detail = BLOCKING[error.errno]
            return "blocked"
    return "silent"


def _verdict(shot: Shot, spent: float) -> tuple[str, str]:
    if shot.outcome == "arrived":
        return "reached", shot.detail or ("the datagram arrived" if shot.ear is not None else "an echo reply came back")
    if shot.outcome == "blocked":
        return "blocked", shot.detail
    if shot.outcome != "silent":
        return "unknown", shot.detail or "it was not sent"
    waited = f"nothing within {spent:.0f} ms"
    if shot.control is not None:
        if shot.control.outcome == "arrived":
            return "blocked", f"{waited}; the control did arrive"
        return (
            "unknown",
            f"{waited}, but the control did not arrive either{': ' + shot.control.detail if shot.control.detail else ''}",
        )
    reason = shot.silent() if shot.silent else ""
    if reason:
        return "blocked", f"{waited}; {reason}"
    return "unknown", f"{waited}, and nothing shows that it would have arrived"
