"""Just enough DNS (RFC 1035) to read a hostile question and to answer it.

A question is taken only when every byte of it fits: one question, plain labels, no compression.  What does not fit is
no question; nothing here raises for any bytes.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

A, AAAA, ANY, IN = 1, 28, 255, 1
TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA",
    33: "SRV", 35: "NAPTR", 41: "OPT", 43: "DS", 46: "RRSIG", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 99: "SPF",
    251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
HEADER = struct.Struct("!HHHHHH")
TTL = 5
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked.  ``question`` is its wire form (RFC 1035, 4.1.2), to be repeated in the answer."""

    id: int
    recursion: bool
    labels: tuple[bytes, ...]
    type: int
    question: bytes
    kind: int = IN

    @property
    def name(self) -> str:
        r"""The name as in a zone file (RFC 1035, 5.1): other bytes than letters, digits, ``-``, ``_`` are ``\DDD``."""
        return ".".join(
            "".join(chr(one) if one in _PLAIN else f"\\{one:03d}" for one in label) for label in self.labels
        )

    @property
    def type_name(self) -> str:
        """``A``, ``TXT`` …; ``TYPE731`` for one without a name here (RFC 3597)."""
        return TYPES.get(self.type, f"TYPE{self.type}")


def parse(message: bytes) -> Question | None:
    """The question in a message, or ``None`` when it is not exactly one plain standard query."""
    if len(message) < HEADER.size:
        return None
    number, flags, questions, answers, authorities, _ = HEADER.unpack_from(message)
    if flags & 0xF800 or questions != 1 or answers or authorities:  # a reply, another opcode, or not just a question
        return None
    labels: list[bytes] = []
    at = HEADER.size
    while True:
        if at >= len(message):
            return None
        length = message[at]
        at += 1
        if length == 0:
            break
        label = message[at : at + length]
        at += length
        if length > 63 or len(label) != length or at - HEADER.size > 254:
            return None
        labels.append(label)
    if at + 4 > len(message):
        return None
    kind, group = struct.unpack_from("!HH", message, at)
    return Question(number, bool(flags & 0x0100), tuple(labels), kind, message[HEADER.size : at + 4], group)


def answer(question: Question, address: str) -> tuple[bytes, str]:
    """The reply, and the address it gives: ``address`` for A (and ANY), nothing for all other types, never an error."""
    given = question.type in {A, ANY} and question.kind in {IN, ANY}
    flags = 0x8080 | (0x0100 if question.recursion else 0)
    reply = HEADER.pack(question.id, flags, 1, int(given), 0, 0) + question.question
    if given:
        reply += struct.pack("!HHHIH", 0xC00C, A, IN, TTL, 4) + ipaddress.IPv4Address(address).packed
    return reply, address if given else ""
