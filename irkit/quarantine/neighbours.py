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

from irkit.quarantine.netlink import ACK, REQUEST, attribute, attributes, dump, link, message

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDA_DST = 1
UNANSWERED = 0x01 | 0x20
"""``NUD_INCOMPLETE`` and ``NUD_FAILED``."""
FIXED = 0x40 | 0x80
"""``NUD_NOARP`` and ``NUD_PERMANENT``."""
NDMSG = "=BBHiHBB"


class Neighbour(NamedTuple):
    """One row: an address on an interface, whether anybody answers for it, and whether it was set, not learnt."""

    address: str
    interface: str
    answered: bool
    fixed: bool = False


def request(family: int, index: int = 0, address: str = "") -> bytes:
    """A question about neighbours (``struct ndmsg``, one attribute at most)."""
    body = struct.pack(NDMSG, family, 0, 0, index, 0, 0, 0)
    return body + (attribute(NDA_DST, socket.inet_pton(family, address)) if address else b"")


def parse(body: bytes) -> tuple[int, str, int] | None:
    """``(interface index, address, state)`` of an ``RTM_NEWNEIGH`` message."""
    if len(body) < 12:
        return None
    family, _, _, index, state, _, _ = struct.unpack_from(NDMSG, body)
    value = dict(attributes(body[12:])).get(NDA_DST, b"")
    if (family, len(value)) not in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        return None
    return index, socket.inet_ntop(family, value), state


def neighbours() -> list[Neighbour]:
    """All rows of both families.  Raises ``OSError`` when the kernel can't be asked."""
    found: list[Neighbour] = []
    names = dict(socket.if_nameindex())
    for family in (socket.AF_INET, socket.AF_INET6):
        for one in dump(RTM_GETNEIGH, request(family)):
            row = parse(one.body) if one.kind == RTM_NEWNEIGH else None
            if row is not None:
                index, address, state = row
                found.append(Neighbour(address, names.get(index, ""), not state & UNANSWERED, bool(state & FIXED)))
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
            with link() as sock:
                for sequence, one in enumerate(rows, 1):
                    family = socket.AF_INET6 if ":" in one.address else socket.AF_INET
                    body = request(family, socket.if_nametoindex(one.interface), one.address)
                    sock.send(message(RTM_DELNEIGH, REQUEST | ACK, sequence, body))
                    sock.recv(4096)
