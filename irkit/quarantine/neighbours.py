"""The kernel's table of neighbours (ARP, RFC 826; NDP, RFC 4861) by rtnetlink(7), in the calling thread's namespace.

While the kernel waits for an answer it asks only once a second. A probe that is shorter would take its own haste for
silence and call a road blocked that is open; so what did not answer is forgotten before probes are sent.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NLMSG_DONE = 3
REQUEST, ACK, DUMP = 0x01, 0x04, 0x300
NDA_DST = 1
UNANSWERED = 0x01 | 0x20
"""``NUD_INCOMPLETE`` and ``NUD_FAILED``."""
FIXED = 0x40 | 0x80
"""``NUD_NOARP`` and ``NUD_PERMANENT``."""
HEADER, NDMSG, ATTRIBUTE = "=IHHII", "=BBHiHBB", "=HH"
LIMIT = 1 << 20


class Neighbour(NamedTuple):
    """One row: an address on an interface, whether anybody answers for it, and whether it was set, not learnt."""

    address: str
    interface: str
    answered: bool
    fixed: bool = False


def request(kind: int, flags: int, sequence: int, family: int, index: int = 0, address: str = "") -> bytes:
    """A netlink message about neighbours (``struct nlmsghdr``, ``struct ndmsg``, one attribute at most)."""
    body = struct.pack(NDMSG, family, 0, 0, index, 0, 0, 0)
    if address:
        packed = socket.inet_pton(family, address)
        body += struct.pack(ATTRIBUTE, 4 + len(packed), NDA_DST) + packed
    return struct.pack(HEADER, 16 + len(body), kind, flags, sequence, 0) + body


def parse(data: bytes) -> tuple[list[tuple[int, str, int]], bool]:
    """``(interface index, address, state)`` of a dump's messages, and whether it is over.  Stops at what is malformed."""
    rows, offset, done = [], 0, False
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 16 or offset + length > len(data):
            break
        if kind == NLMSG_DONE:
            done = True
        elif kind == RTM_NEWNEIGH and length >= 28:
            family, _, _, index, state, _, _ = struct.unpack_from(NDMSG, data, offset + 16)
            address = _destination(data[offset + 28 : offset + length], family)
            if address:
                rows.append((index, address, state))
        offset += (length + 3) & ~3
    return rows, done


def _destination(attributes: bytes, family: int) -> str:
    offset = 0
    while offset + 4 <= len(attributes):
        length, kind = struct.unpack_from(ATTRIBUTE, attributes, offset)
        if length < 4:
            break
        value = attributes[offset + 4 : offset + length]
        if kind == NDA_DST and (family, len(value)) in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            return socket.inet_ntop(family, value)
        offset += (length + 3) & ~3
    return ""


def _link() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    link.settimeout(0.2)
    return link


def neighbours() -> list[Neighbour]:
    """All rows of both families.  Raises ``OSError`` when the kernel can't be asked."""
    found: list[Neighbour] = []
    names = dict(socket.if_nameindex())
    for family in (socket.AF_INET, socket.AF_INET6):
        with _link() as link:
            link.send(request(RTM_GETNEIGH, REQUEST | DUMP, 1, family))
            done = False
            while not done:
                rows, done = parse(link.recv(LIMIT))
                found += [
                    Neighbour(one, names.get(index, ""), not state & UNANSWERED, bool(state & FIXED))
                    for index, one, state in rows
                ]
                done = done or not rows
    return found


def forget(addresses: Iterable[str] | None = None) -> None:
    """Delete the rows of these addresses that nobody answered, or with ``None`` all rows that were learnt.

    Best effort: what can't be forgotten makes a probe no worse than it was.
    """
    wanted = None if addresses is None else set(addresses)
    with contextlib.suppress(OSError):
        rows = [
            one for one in neighbours() if not one.fixed and (wanted is None or (one.address in wanted and not one.answered))
        ]  # fmt: skip
        if rows:
            with _link() as link:
                for sequence, one in enumerate(rows, 1):
                    family = socket.AF_INET6 if ":" in one.address else socket.AF_INET
                    index = socket.if_nametoindex(one.interface)
                    link.send(request(RTM_DELNEIGH, REQUEST | ACK, sequence, family, index, one.address))
                    link.recv(4096)
