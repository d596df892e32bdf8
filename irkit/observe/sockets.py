"""Sockets that have, or learn, an address that is not their namespace's own."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from irkit.errors import Refused

IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # linux/in.h, linux/in6.h
IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR = 20, 74


def not_the_host(namespace: int) -> None:
    """A diversion of the host's own traffic would cut the host off."""
    for own in ("/proc/self/ns/net", "/proc/1/ns/net"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(own), os.fstat(namespace)):  # noqa: PTH116 - a namespace, not a file
                raise Refused("the target shares the host's network: a sinkhole would turn the host's own traffic away")


def transparent(family: socket.AddressFamily | int, kind: socket.SocketKind) -> socket.socket:
    """A socket of this thread's namespace that may have an address which is not the namespace's own (ip(7))."""
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    except BaseException:
        made.close()
        raise
    return made


def tell_original(sock: socket.socket) -> None:
    """Each datagram shall come with the address that it was meant for, for :func:`original`."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVORIGDSTADDR, 1)


def original(details: list[tuple[int, int, bytes]]) -> tuple[str, int] | None:
    """Where a datagram was meant to go: a ``sockaddr_in`` or ``sockaddr_in6`` (ip(7))."""
    for level, kind, data in details:
        if (level, kind) == (socket.IPPROTO_IP, IP_RECVORIGDSTADDR) and len(data) >= 8:
            return socket.inet_ntop(socket.AF_INET, data[4:8]), int(struct.unpack_from("!H", data, 2)[0])
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR) and len(data) >= 24:
            return socket.inet_ntop(socket.AF_INET6, data[8:24]), int(struct.unpack_from("!H", data, 2)[0])
    return None
