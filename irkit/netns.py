"""Sockets in another network namespace, made by the host without running anything in the container.

``setns(2)`` moves only the calling thread; a socket stays in the namespace that it was made in.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET = 0x40000000
Result = TypeVar("Result")
_libc = ctypes.CDLL(None, use_errno=True)


def in_netns(path: str | None, make: Callable[[], Result]) -> Result:
    """Run ``make`` in the namespace at ``path`` (``None``: our own) and give back what it returns or raises."""
    if path is None:
        return make()
    if threading.current_thread() is not threading.main_thread() and (home := _way_back()) >= 0:
        return _there_and_back(home, path, make)
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            _enter(path)
            outcome.append(make())
        except BaseException as error:  # handed to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body, name="irkit-netns", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _way_back() -> int:
    """The calling thread's own namespace, as a descriptor; -1 where it could not come back (root of a user namespace alone)."""
    try:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    if _libc.setns(home, CLONE_NEWNET) == 0:
        return home
    os.close(home)
    return -1


def _there_and_back(home: int, path: str, make: Callable[[], Result]) -> Result:
    """In the calling thread.  One that can't come back must not go on as if it had: that ends the process."""
    try:
        _enter(path)
        try:
            return make()
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                os.abort()
    finally:
        os.close(home)


def _enter(path: str) -> None:
    """Move the calling thread into the network namespace at ``path``.  Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def listener() -> socket.socket:
    """A listening TCP socket on every address of the namespace, both families where there are two."""
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", 0))
    except OSError:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.bind(("0.0.0.0", 0))  # noqa: S104 - the point is to be reachable on every address, for a moment
    made.listen(256)
    made.setblocking(False)
    return made


def interfaces(proc_net_dev: str) -> list[str]:
    """Interface names from ``/proc/PID/net/dev``, without the loopback."""
    names = [line.partition(":")[0].strip() for line in proc_net_dev.splitlines()[2:]]
    return [name for name in names if name and name != "lo"]


def local_ipv4(fib_trie: str) -> list[str]:
    """A namespace's own IPv4 addresses from ``/proc/net/fib_trie``, without 127.0.0.0/8."""
    found: list[str] = []
    last = ""
    for line in fib_trie.splitlines():
        if "|-- " in line:
            last = line.partition("|-- ")[2].strip()
        elif "/32 host LOCAL" in line and not last.startswith("127.") and last not in found:
            found.append(last)
    return found


def local_ipv6(if_inet6: str) -> list[tuple[str, str]]:
    """A namespace's own IPv6 addresses with their interface from ``/proc/net/if_inet6``, without ``::1``."""
    found = []
    for line in if_inet6.splitlines():
        fields = line.split()
        if len(fields) == 6 and fields[5] != "lo":
            found.append((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])), fields[5]))
    return found


def default_gateways(route: str) -> set[tuple[str, str]]:
    """``(gateway, interface)`` of each IPv4 default route in ``/proc/PID/net/route`` (addresses in host order)."""
    found = set()
    for line in route.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == "00000000" and fields[7] == "00000000":
            found.add((socket.inet_ntoa(struct.pack("=I", int(fields[2], 16))), fields[0]))
    return found


def default_gateways6(route: str) -> set[tuple[str, str]]:
    """``(gateway, interface)`` of each IPv6 default route in ``/proc/PID/net/ipv6_route``."""
    found = set()
    for line in route.splitlines():
        fields = line.split()
        if len(fields) == 10 and fields[1] == "00" and int(fields[4], 16) and fields[9] != "lo":
            found.add((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[4])), fields[9]))
    return found
