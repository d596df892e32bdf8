"""Probes without a handshake: UDP to irkit's own ears, ICMP echo, and raw frames past the target's routes.

Every datagram carries a nonce. It counts as reached when it arrived (UDP, frames) or was answered (ICMP), and its
silence counts as blocked only when the same datagram, sent where it must arrive, did.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from irkit.clock import now
from irkit.models import Probe
from irkit.quarantine.frames import checksum, udp_frame
from irkit.quarantine.neighbours import forget
from irkit.quarantine.netns import in_netns
from irkit.quarantine.outcomes import BLOCKING

ECHO, ECHO6 = 8, 128
REPLY, REPLY6 = 0, 129


class Ear:
    """A UDP socket of irkit's in some namespace that notes which datagrams arrived."""

    def __init__(self, netns: str | None) -> None:
        self.nonce = secrets.token_bytes(16)
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


@dataclass(frozen=True, slots=True)
class Frame:
    """How a raw frame is addressed: it needs no route, only the neighbour's hardware address."""

    source: str
    source_mac: bytes
    target_mac: bytes


@dataclass(slots=True)
class Shot:
    """One datagram.  With ``ear`` it is UDP to that ear (in a raw ``frame`` if given), without one it is an ICMP echo.

    ``control``: the shot that must have arrived for silence to count; ``silent``: what explains silence otherwise.
    """

    path: str
    direction: str
    address: str
    netns: str | None
    ear: Ear | None = None
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
                in_netns(netns, lambda group=group: _fire(group))  # type: ignore[misc]
            except OSError as error:
                for shot in group:
                    shot.begun = shot.begun or now()
                    shot.outcome = shot.outcome or "failed"
                    shot.detail = f"the network namespace can't be entered: {error.strerror}"

    def probes(self) -> list[Probe]:
        """One verdict a shot, controls left out.  Called when answers have had their time."""
        heard: dict[int, set[int]] = {}
        for shot in self.shots:
            if shot.outcome == "sent":
                if shot.ear is not None:
                    arrived = heard.setdefault(id(shot.ear), shot.ear.heard())
                    shot.outcome = "arrived" if shot.number in arrived else "silent"
                else:
                    shot.outcome = "arrived" if _answered(shot) else "silent"
        spent = (time.monotonic() - self._started) * 1000
        found = []
        for shot in self.shots:
            if shot.direction != "control":
                result, detail = _verdict(shot, spent)
                found.append(Probe(shot.path, shot.direction, result, detail, shot.begun, spent))
        return found

    def close(self) -> None:
        """Close what is open."""
        for shot in self.shots:
            if shot.sock is not None:
                shot.sock.close()


def _fire(group: Iterable[Shot]) -> None:
    forget()
    opened: dict[str, socket.socket] = {}
    for shot in group:
        shot.begun = now()
        try:
            _send(shot, opened)
            shot.outcome = "sent"
        except OSError as error:
            number = error.errno or errno.EIO
            shot.outcome, shot.detail = "failed", os.strerror(number)
            if number in BLOCKING:
                shot.outcome, shot.detail = "blocked", BLOCKING[number]


def _send(shot: Shot, opened: dict[str, socket.socket]) -> None:
    """``opened``: packet sockets by interface; closing one makes the kernel wait, so all frames share it."""
    if shot.frame is not None and shot.ear is not None:
        frame = udp_frame(
            shot.frame.source_mac, shot.frame.target_mac, shot.frame.source, shot.address, shot.ear.port, shot.ear.mark(shot.number)
        )  # fmt: skip
        raw = opened.get(shot.device)
        if raw is None:
            raw = opened[shot.device] = shot.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            raw.bind((shot.device, 0))
        raw.send(frame)
        return
    family = socket.AF_INET6 if ":" in shot.address else socket.AF_INET
    if shot.ear is not None or shot.port:
        shot.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        data = shot.ear.mark(shot.number) if shot.ear is not None else b"irkit"
    else:
        protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        shot.sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        data = echo_request(family, shot.number)
    if shot.device:
        shot.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, shot.device.encode() + b"\0")
    port = shot.ear.port if shot.ear is not None else shot.port
    if family == socket.AF_INET6:
        link_local = shot.address.lower().startswith("fe80:") and shot.device
        shot.sock.sendto(data, (shot.address, port, 0, socket.if_nametoindex(shot.device) if link_local else 0))
    else:
        shot.sock.sendto(data, (shot.address, port))


_IDENTIFIER = secrets.randbits(16)


def echo_request(family: int, number: int) -> bytes:
    """An ICMP echo request (RFC 792; RFC 4443, whose checksum the kernel computes)."""
    kind = ECHO6 if family == socket.AF_INET6 else ECHO
    body = struct.pack(">HH", _IDENTIFIER, number & 0xFFFF) + b"irkit"
    return struct.pack(">BBH", kind, 0, checksum(struct.pack(">BBH", kind, 0, 0) + body)) + body


def _answered(shot: Shot) -> bool:
    """Whether an echo reply, or any answer to a UDP datagram, is there."""
    sock = shot.sock
    if sock is None:
        return False
    while True:
        try:
            data = sock.recv(2048)
        except ConnectionRefusedError:
            shot.detail = "an answer came back: port unreachable"
            return True
        except OSError as error:
            if error.errno in BLOCKING:
                shot.detail = BLOCKING[error.errno]
            return False
        if shot.port or is_reply(sock.family, data, shot.number):
            return True


def is_reply(family: int, data: bytes, number: int) -> bool:
    """Whether a packet from a raw ICMP socket is the reply to our request.  IPv4 ones begin with the IP header."""
    if family == socket.AF_INET and data:
        data = data[(data[0] & 15) * 4 :]
    if len(data) < 8:
        return False
    kind, _, _, identifier, sequence = struct.unpack_from(">BBHHH", data)
    return kind in (REPLY, REPLY6) and (identifier, sequence) == (_IDENTIFIER, number & 0xFFFF)


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
