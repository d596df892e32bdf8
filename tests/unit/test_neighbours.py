"""Neighbours that did not answer are forgotten, so that a probe asks anew."""

from __future__ import annotations

import socket
import struct

from irkit.quarantine.neighbours import delete_request, unanswered

ARP = """IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.2         0x1         0x2         02:42:0a:00:00:02     *        eth0
odd line
10.0.0.3         0x1         0x0         00:00:00:00:00:00     *        eth1
"""


def test_unanswered() -> None:
    assert unanswered(ARP) == [("10.0.0.1", "eth0"), ("10.0.0.3", "eth1")]
    assert unanswered("") == []


def test_delete_request() -> None:
    message = delete_request(7, "fe80::1", 3)
    length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", message)
    assert (length, kind, flags, sequence) == (len(message), 29, 5, 3)
    assert struct.unpack_from("=BBHi", message, 16)[::3] == (socket.AF_INET6, 7)
    assert message[-16:] == socket.inet_pton(socket.AF_INET6, "fe80::1")
