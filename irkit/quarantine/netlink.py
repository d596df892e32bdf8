"""Questions to the kernel by netlink(7), in the calling thread's network namespace.  What is malformed ends the reading."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 0x01, 0x04, 0x300
NESTED = 0x3FFF
"""An attribute's type without the flags ``NLA_F_NESTED`` and ``NLA_F_NET_BYTEORDER``."""
HEADER, ATTRIBUTE = "=IHHII", "=HH"
LIMIT = 1 << 20
SECONDS = 0.2


class Message(NamedTuple):
    """One message: its type (``RTM_…``), and what follows its header."""

    kind: int
    body: bytes


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A message with its header (``struct nlmsghdr``)."""
    return struct.pack(HEADER, 16 + len(body), kind, flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one answer."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 16 or offset + length > len(data):
            return
        yield Message(kind, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute (``struct nlattr``), filled up to four bytes."""
    return struct.pack(ATTRIBUTE, 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """``(type, value)`` of each attribute."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from(ATTRIBUTE, data, offset)
        if length < 4 or offset + length > len(data):
            return
        yield kind & NESTED, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def link(protocol: int = socket.NETLINK_ROUTE) -> socket.socket:
    """A socket to ask by.  Raises ``OSError``."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    made.settimeout(SECONDS)
    return made


def dump(kind: int, body: bytes, protocol: int = socket.NETLINK_ROUTE) -> Iterator[Message]:
    """All rows of a table.  Raises ``OSError``, also for what the kernel refuses."""
    with link(protocol) as sock:
        sock.send(message(kind, REQUEST | DUMP, 1, body))
        while True:
            got = list(messages(sock.recv(LIMIT)))
            for one in got:
                if one.kind == NLMSG_DONE:
                    return
                refusal(one)
                yield one
            if not got:
                raise OSError("an answer of netlink's that can't be understood")


def order(kind: int, body: bytes) -> None:
    """Have the kernel change something.  Raises ``OSError`` when it refuses."""
    with link() as sock:
        sock.send(message(kind, REQUEST | ACK, 1, body))
        for one in messages(sock.recv(LIMIT)):
            refusal(one)


def refusal(one: Message, expected: int = 0) -> None:
    """Raise the ``OSError`` of an error message, unless it is the ``expected`` one.

    Such a message (``struct nlmsgerr``) holds a negative ``errno``, or zero for an acknowledgement.
    """
    if one.kind == NLMSG_ERROR and len(one.body) >= 4:
        number = -struct.unpack_from("=i", one.body)[0]
        if number and number != expected:
            raise OSError(number, os.strerror(number))
