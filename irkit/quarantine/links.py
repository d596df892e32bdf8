"""The interfaces of a network namespace by rtnetlink(7): which of them leads out of it past the quarantine.

A container with ``NET_ADMIN`` and no user namespace of its own can make itself a tunnel or a macvlan whose lower half is
in the *host's* namespace: the kernel allows it by ``IFLA_LINK_NETNSID``, because the host's end of a veth pair gave that
namespace a number.  Such an interface stays when every network was left, and no wall on the quarantine's bridge sees it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from irkit.netns import in_netns
from irkit.quarantine.netlink import (
    LIMIT,
    REQUEST,
    attribute,
    attributes,
    dump,
    link,
    message,
    messages,
    order,
    refusal,
)

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWNSID, RTM_GETNSID = 88, 90
NETNSA_NSID, NETNSA_FD = 1, 3
IFINFOMSG = "=BBHiII"
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_LINK_NETNSID = 3, 5, 10, 18, 37
IFLA_INFO_KIND = 1
IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS = 29, 8
_PLAIN = attribute(IFLA_EXT_MASK, struct.pack("=I", RTEXT_FILTER_SKIP_STATS))
INNER = frozenset({
    "bond", "bridge", "dummy", "erspan", "geneve", "gre", "gretap", "ifb", "ip6erspan", "ip6gre", "ip6gretap", "ip6tnl", "ipip", "ipvlan", "macvlan",
    "nlmon", "sit", "veth", "vlan", "vrf", "vti", "vti6", "vxlan",
})  # fmt: skip
"""Kinds that tell when their other half is in another namespace (``get_link_net`` of the kernel's ``rtnl_link_ops``).

Where they don't, what they send leaves by the namespace's other interfaces, if at all.  Not so: a device of hardware (no
kind), WireGuard (does not tell), tun and macvtap (who holds the file has the other half, and that may be anybody).
"""


class Link(NamedTuple):
    """One interface.  ``number``: its index.

    ``lower``: the index of its other half, or of the device beneath it; ``space``: the number of the namespace that that
    one is in, ``None`` when it is in this one; ``master``: the index of the bridge that it is plugged into.
    """

    number: int
    name: str
    kind: str
    up: bool
    loopback: bool
    lower: int = 0
    space: int | None = None
    master: int = 0

    @property
    def leaves(self) -> bool:
        """Whether what goes into it may come out somewhere else than in its namespace."""
        return not self.loopback and (self.space is not None or self.kind not in INNER)


def parse(body: bytes) -> Link | None:
    """An ``RTM_NEWLINK`` message's ``struct ifinfomsg`` and attributes."""
    if len(body) < 16:
        return None
    _, _, _, index, flags, _ = struct.unpack_from(IFINFOMSG, body)
    found = dict(attributes(body[16:]))
    kind = dict(attributes(found.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b"")
    return Link(
        index, _text(found.get(IFLA_IFNAME, b"")), _text(kind), bool(flags & IFF_UP), bool(flags & IFF_LOOPBACK),
        _number(found.get(IFLA_LINK, b"")) or 0, _number(found.get(IFLA_LINK_NETNSID, b"")), _number(found.get(IFLA_MASTER, b"")) or 0,
    )  # fmt: skip


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(value: bytes) -> int | None:
    return int(struct.unpack("=i", value)[0]) if len(value) == 4 else None


def links(netns: str | None = None) -> list[Link]:
    """All interfaces of the namespace at ``netns`` (``None``: our own).  Raises ``OSError``."""
    body = bytes(16) + _PLAIN
    rows = in_netns(netns, lambda: [parse(one.body) for one in dump(RTM_GETLINK, body) if one.kind == RTM_NEWLINK])
    return [one for one in rows if one is not None]


def switch(netns: str | None, index: int, up: bool) -> None:
    """Set an interface up or down.  Raises ``OSError``."""
    body = struct.pack(IFINFOMSG, 0, 0, 0, index, IFF_UP if up else 0, IFF_UP)
    in_netns(netns, lambda: order(RTM_NEWLINK, body))


def link_at(index: int) -> Link | None:
    """One interface of *our* namespace; ``None`` when there is none.  Raises ``OSError``."""
    with link() as sock:
        sock.send(message(RTM_GETLINK, REQUEST, 1, struct.pack(IFINFOMSG, 0, 0, 0, index, 0, 0) + _PLAIN))
        for one in messages(sock.recv(LIMIT)):
            if one.kind == RTM_NEWLINK:
                return parse(one.body)
            refusal(one, errno.ENODEV)
    return None


def ends(netns: str, there: Iterable[Link] | None = None) -> Mapping[int, Link]:
    """The interfaces of *our* namespace that are the other ends of veth(4) pairs of ``netns``, by those pairs' number there.

    By the number that our namespace knows that one by: indexes alone can be chosen to look like another container's.
    Only these are asked for: a host of many containers has many.  ``there``: the interfaces of ``netns``, if they are
    known.  Raises ``OSError``.
    """
    pairs = [
        one
        for one in (links(netns) if there is None else there)
        if one.kind == "veth" and one.space is not None and one.lower > 0
    ]
    space = _space(netns) if pairs else None
    found = {} if space is None else {one.number: link_at(one.lower) for one in pairs}
    return {
        number: end
        for number, end in found.items()
        if end is not None and end.kind == "veth" and end.space == space and end.lower == number
    }


def cables(netns: str) -> list[str]:
    """The names of :func:`ends`.  Raises ``OSError``."""
    return [one.name for one in ends(netns).values()]


def _space(netns: str) -> int | None:
    """The number by which our namespace knows the one at a path (``RTM_GETNSID``); ``None`` when it has none."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with link() as sock:
            sock.send(message(RTM_GETNSID, REQUEST, 1, bytes(4) + attribute(NETNSA_FD, struct.pack("=i", descriptor))))
            for one in messages(sock.recv(LIMIT)):
                if one.kind == RTM_NEWNSID:
                    found = _number(dict(attributes(one.body[4:])).get(NETNSA_NSID, b""))
                    return None if found is None or found < 0 else found
    finally:
        os.close(descriptor)
    return None
