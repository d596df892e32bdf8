"""SCTP (RFC 9260) as far as a probe needs it: an INIT, made by hand, and an ear that hears one.

Raw sockets carry it, so that neither end's kernel needs SCTP; what is shown of it holds for every protocol that is
neither TCP, UDP nor ICMP.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

SCTP = 132
INIT, UNKNOWN_PARAMETER = 1, 0x8042
"""Chunk type INIT (3.3.2), and a parameter whose type says: skip me when you don't know me (3.2.1)."""
SOURCE_PORT, TARGET_PORT = 40000, 9899
POLYNOMIAL = 0x82F63B78
PACKETS = 10000


def _table() -> tuple[int, ...]:
    found = list(range(256))
    for _ in range(8):
        found = [value >> 1 ^ (POLYNOMIAL if value & 1 else 0) for value in found]
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 9260, appendix A (Castagnoli's)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def init(port: int, mark: bytes) -> bytes:
    """A packet with an INIT to ``port``; ``mark`` lies in a parameter that nobody knows, and makes its initiate tag."""
    parameter = struct.pack(">HH", UNKNOWN_PARAMETER, 4 + len(mark)) + mark + bytes(-len(mark) % 4)
    tag = int.from_bytes(mark[:4], "big") or 1
    body = struct.pack(">IIHHI", tag, 65536, 1, 1, tag) + parameter
    chunk = struct.pack(">BBH", INIT, 0, 4 + len(body)) + body
    head = struct.pack(">HHI", SOURCE_PORT, port, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


class InitEar:
    """Raw sockets in some namespace, to be called there, that note which INITs arrived.  Raises ``OSError``."""

    port = TARGET_PORT

    def __init__(self) -> None:
        self.nonce = os.urandom(16)
        self.socks = [socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, SCTP)]
        with contextlib.suppress(OSError):  # no IPv6
            self.socks.append(socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, SCTP))

    def mark(self, number: int) -> bytes:
        """What the INIT with this number carries."""
        return self.nonce + struct.pack(">I", number)

    def heard(self) -> set[int]:
        """The numbers of all that arrived by now."""
        found = set()
        for sock in self.socks:
            with contextlib.suppress(OSError):
                for _ in range(PACKETS):
                    _, nonce, mark = sock.recv(2048).rpartition(self.nonce)
                    if nonce and len(mark) == 4:
                        found.add(int(struct.unpack(">I", mark)[0]))
        return found

    def close(self) -> None:
        """Close the sockets."""
        for sock in self.socks:
            sock.close()


def sender(family: int, device: str) -> socket.socket:
    """A raw socket to send by, in the calling thread's namespace.  Raises ``OSError``."""
    made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, SCTP)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    return made
