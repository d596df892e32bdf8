"""Forgetting neighbours that did not answer, so that a probe asks anew (ARP, RFC 826; NDP, RFC 4861).

While the kernel waits for an answer it asks only once a second; a probe that is shorter would take its own haste for
silence, and call a road blocked that is open.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

RTM_DELNEIGH = 29
NLM_F_REQUEST_ACK = 0x01 | 0x04
NDA_DST = 1
ARP_INCOMPLETE = "0x0"


def delete_request(index: int, address: str, sequence: int) -> bytes:
    """A netlink message that deletes one neighbour (rtnetlink(7), ``struct ndmsg``)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = struct.pack("=BBHiHBB", family, 0, 0, index, 0, 0, 0)
    body += struct.pack("=HH", 4 + len(packed), NDA_DST) + packed
    return struct.pack("=IHHII", 16 + len(body), RTM_DELNEIGH, NLM_F_REQUEST_ACK, sequence, 0) + body


def unanswered(arp_table: str) -> list[tuple[str, str]]:
    """``(address, interface)`` of the rows of ``/proc/net/arp`` that nobody has answered."""
    rows = (line.split() for line in arp_table.splitlines()[1:])
    return [(row[0], row[5]) for row in rows if len(row) == 6 and row[2] == ARP_INCOMPLETE]


def forget_unanswered(addresses: Iterable[str]) -> None:
    """In the calling thread's network namespace: all unanswered IPv4 neighbours, and the IPv6 ones among ``addresses``.

    Best effort: what can't be forgotten makes a probe no worse than it was.
    """
    try:
        table = Path("/proc/thread-self/net/arp").read_text(errors="replace")
    except OSError:
        table = ""
    wanted = unanswered(table)
    wanted += [(address, name) for address in addresses if ":" in address for _, name in socket.if_nameindex()]
    if not wanted:
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link,
    ):
        link.settimeout(0.05)
        for sequence, (address, interface) in enumerate(wanted, 1):
            with contextlib.suppress(OSError):
                link.send(delete_request(socket.if_nametoindex(interface), address, sequence))
                link.recv(4096)
