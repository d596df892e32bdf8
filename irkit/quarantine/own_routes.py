"""Routing rules, dead ends and IPsec policies that somebody put into the target's own network namespace, by netlink(7).

They may refuse a probe, "no route", and let marked packets pass: what a refusal shows is then nothing.  To be called in
that namespace, by a thread of irkit's.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from irkit.quarantine.netlink import attributes, dump

RTM_NEWROUTE, RTM_GETROUTE, RTM_NEWRULE, RTM_GETRULE = 24, 26, 32, 34
NETLINK_XFRM, XFRM_MSG_NEWPOLICY, XFRM_MSG_GETPOLICY = 6, 0x13, 0x15
HEAD = "=BBBBBBBBI"
"""``struct fib_rule_hdr`` and ``struct rtmsg`` (linux/fib_rules.h, linux/rtnetlink.h)."""
FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL = 6, 15, 21
FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, NONE = 13, 14, b"\xff\xff\xff\xff"
RTA_ENCAP_TYPE = 21
GIVEN = frozenset({(0, 255), (32766, 254), (32767, 253)})
"""Priority and table of the rules that each namespace begins with: local, main, default (ip-rule(8))."""
TO_TABLE = 1
DEAD_ENDS = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
BY_KERNEL = 2
ROUTES = 10000
UNSUPPORTED = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ESOCKTNOSUPPORT)
FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


def own_routes() -> list[str]:
    """Each of them in words.  Raises ``OSError`` when the kernel can't be asked."""
    found = []
    for family, name in FAMILIES.items():
        body = struct.pack(HEAD, family, 0, 0, 0, 0, 0, 0, 0, 0)
        rules = (rule(one.body) for one in dump(RTM_GETRULE, body) if one.kind == RTM_NEWRULE)
        found += [f"a routing rule of its own ({name}, priority {one})" for one in rules if one is not None]
        found += [f"a route of its own that may drop ({name}, {one})" for one in _dead_ends(body)]
    try:
        policies = [one for one in dump(XFRM_MSG_GETPOLICY, b"", NETLINK_XFRM) if one.kind == XFRM_MSG_NEWPOLICY]
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        policies = []  # a kernel without IPsec has no policies
    return [*dict.fromkeys(found), *(["an IPsec policy of its own"] if policies else [])]


def rule(body: bytes) -> int | None:
    """The priority of a rule that no namespace begins with; ``None`` for one that it does."""
    if len(body) < 12:
        return None
    _, to_bits, from_bits, tos, table, _, _, action, flags = struct.unpack_from(HEAD, body)
    found = dict(attributes(body[12:]))
    priority = _number(found.get(FRA_PRIORITY, bytes(4)))
    table = _number(found.get(FRA_TABLE, struct.pack("=I", table)))
    plain = not (to_bits or from_bits or tos or flags) and action == TO_TABLE
    idle = {one for one in (FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN) if found.get(one) == NONE}
    selects = set(found) - {FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL} - idle
    return None if plain and not selects and (priority, table) in GIVEN else priority


def _dead_ends(body: bytes) -> Iterator[str]:
    for count, one in enumerate(dump(RTM_GETROUTE, body)):
        if count >= ROUTES:
            yield f"more than {ROUTES} routes"
            return
        if one.kind == RTM_NEWROUTE and (kind := dead_end(one.body)):
            yield kind


def dead_end(body: bytes) -> str:
    """Why a route may refuse packets, where it is not the kernel's own; empty for any other."""
    if len(body) < 12:
        return ""
    _, _, _, _, _, protocol, _, kind, _ = struct.unpack_from(HEAD, body)
    if protocol == BY_KERNEL:
        return ""
    encapsulated = RTA_ENCAP_TYPE in dict(attributes(body[12:]))  # a program (BPF) may drop as well
    return DEAD_ENDS.get(kind, "encapsulated" if encapsulated else "")


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else -1
