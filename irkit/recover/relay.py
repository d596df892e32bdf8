"""Passes new connections on to a replacement that is on no network yet, from within its network namespace.

Each accepted connection must have been meant for a published port (``SO_ORIGINAL_DST``: what it was before the kernel
diverted it); it is joined to the container's port by a socket that was made in the replacement's namespace, so that
nothing but the replacement can be reached by it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

from irkit.engine.interface import PortBinding
from irkit.netns import in_netns

ANY = ("", "0.0.0.0", "::")  # noqa: S104 - what an engine answers
PLACES = ("192.0.2.1", "198.51.100.1")
"""Documentation addresses (RFC 5737), of which one is lent to the replacement's loopback interface: a service may trust
those who come from 127.0.0.1, and strangers must not come from there."""
LENT_SECONDS = 15
"""For so long the kernel keeps that address, unless it is lent once more (ip-address(8), ``valid_lft``)."""
PAIRS = 256
BUFFER = 65536
BACKLOG = 256
GRACE = 0.5
"""Seconds in which a connection that was diverted last may still be accepted."""
CONNECTED = 1.0
ORIGINAL_DST = 80
"""``SO_ORIGINAL_DST`` and ``IP6T_SO_ORIGINAL_DST`` (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h)."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def family_of(port: PortBinding) -> int:
    """The address family that a binding is for."""
    return socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET


def original(link: socket.socket) -> tuple[str, int]:
    """Whom a diverted connection was meant for.  Raises ``OSError`` for one that the kernel knows nothing of."""
    if link.family == socket.AF_INET6:
        raw = link.getsockopt(socket.IPPROTO_IPV6, ORIGINAL_DST, 28)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]
    raw = link.getsockopt(socket.IPPROTO_IP, ORIGINAL_DST, 16)
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]


def meant(ports: tuple[PortBinding, ...], family: int, address: str, number: int) -> PortBinding | None:
    """The published port that an address and number are, those of one address before those of any."""
    fitting = [one for one in ports if one.host_port == number and family_of(one) == family]
    exact = [one for one in fitting if one.host_ip == address]
    return next(iter(exact or [one for one in fitting if one.host_ip in ANY]), None)


def lend(netns: str) -> str:
    """Give the replacement's loopback an address that is nobody's, for a moment; which one.

    Raises ``OSError`` or ``subprocess.SubprocessError``, also where all of them are taken.
    """

    def give() -> str:
        there = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True, timeout=5)
        free = next((one for one in PLACES if f" {one}/" not in there.stdout), "")
        if not free:
            raise OSError(f"the addresses {', '.join(PLACES)} are taken")
        _lend(free)
        return free

    return in_netns(netns, give)


def renew(netns: str, address: str) -> None:
    """Lend it once more, before it goes by itself.  Raises ``OSError`` or ``subprocess.SubprocessError``."""
    in_netns(netns, lambda: _lend(address))


def _lend(address: str) -> None:
    _ip("replace", address, "scope", "host", "valid_lft", str(LENT_SECONDS), "preferred_lft", str(LENT_SECONDS))


def take_back(netns: str, address: str) -> None:
    """Take the lent address away.  It goes by itself, too."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        in_netns(netns, lambda: _ip("delete", address))


def _ip(verb: str, address: str, *more: str) -> None:
    argv = ["ip", "-4", "address", verb, f"{address}/32", "dev", "lo", *more]
    subprocess.run(argv, capture_output=True, check=True, timeout=5)


def accepts(netns: str, address: str, port: int) -> bool:
    """Whether something listens there, in that namespace."""

    def attempt() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
            link.settimeout(CONNECTED)
            return link.connect_ex((address, port)) == 0

    try:
        return in_netns(netns, attempt)
    except OSError:
        return False


class _Flow:
    """One direction of a pair: what was read and not yet written; whether its source has ended."""

    def __init__(self, sink: socket.socket) -> None:
        self.sink = sink
        self.waiting = bytearray()
        self.ended = False
        self.shut = False

    def write(self) -> None:
        """As much as the other end takes; then the end itself.  Raises ``OSError``."""
        with contextlib.suppress(BlockingIOError):
            while self.waiting:
                del self.waiting[: self.sink.send(self.waiting)]
        if self.ended and not self.waiting and not self.shut:
            self.shut = True
            self.sink.shutdown(socket.SHUT_WR)


class _Pair:
    """A client and the replacement's end."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.connected = False
        self.flows = {client: _Flow(server), server: _Flow(client)}

    def other(self, link: socket.socket) -> socket.socket:
        return self.server if link is self.client else self.client

    def wants(self, link: socket.socket) -> int:
        """What to wait for at one of its sockets."""
        out, into = self.flows[link], self.flows[self.other(link)]
        if not self.connected:
            return WRITE if link is self.server else 0
        return (READ if not out.ended and len(out.waiting) < BUFFER else 0) | (WRITE if into.waiting else 0)

    def move(self, link: socket.socket, events: int) -> bool:
        """Pass on what can be; whether both directions have ended.  Raises ``OSError``."""
        if not self.connected:
            if (failed := self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                raise OSError(failed, "the replacement does not answer")
            self.connected = True
        out = self.flows[link]
        if events & READ and not out.ended:
            with contextlib.suppress(BlockingIOError):
                taken = link.recv(BUFFER)
                out.waiting += taken
                out.ended = not taken
            out.write()
        if events & WRITE:
            self.flows[self.other(link)].write()
        return all(one.shut for one in self.flows.values())


class Relay:
    """Listens at a random port of each family and passes on what was meant for ``ports``, to ``address`` in ``netns``.

    ``near``: only connections of this host itself.  One thread does it all; :attr:`arrived` counts accepted connections
    for each published port, :attr:`refused` those that were meant for none, :attr:`failed` those that the replacement did not
    accept; :attr:`full`: whether some had to wait.  Raises ``OSError``.
    """

    def __init__(self, netns: str, address: str, ports: tuple[PortBinding, ...], near: bool) -> None:
        self.netns, self.address, self.ports = netns, address, ports
        self.arrived: Counter[PortBinding] = Counter()
        self.refused = self.failed = 0
        self.full = False
        self.doors: dict[int, socket.socket] = {}
        self._pairs: dict[socket.socket, _Pair] = {}
        self._watched: dict[socket.socket, int] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._bell = socket.socketpair()
        self._closes_at: float | None = None
        self._done = False
        self.cut = 0
        try:
            for family in sorted({family_of(one) for one in ports}):
                self.doors[family] = _door(family, near)
            in_netns(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close())
        except OSError:
            self._close_all()
            raise
        self._thread = threading.Thread(target=self._run, name="irkit-relay", daemon=True)
        self._thread.start()

    def door(self, family: int) -> int:
        """The port that connections of a family are to be diverted to; 0 where there is none."""
        return int(self.doors[family].getsockname()[1]) if family in self.doors else 0

    @property
    def open(self) -> int:
        """How many connections are relayed now."""
        return len(self._pairs) // 2

    @property
    def works(self) -> bool:
        """Whether it still runs: it ends early with a fault of its own alone."""
        return self._thread.is_alive()

    def shut(self) -> None:
        """Take no more connections, but for those that were diverted already; open ones go on."""
        if self._closes_at is None:
            self._closes_at = time.monotonic() + GRACE
            self._ring()

    def close(self) -> int:
        """Cut what is open; how many connections that were."""
        self._done = True
        self._ring()
        self._thread.join(10)
        return self.cut

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def _run(self) -> None:
        try:
            in_netns(self.netns, self._loop)
        except OSError:  # the replacement has ended: nobody is left to pass anything on to
            pass
        finally:
            self.cut = self.open
            self._close_all()

    def _loop(self) -> None:
        """In the replacement's namespace: a socket made here is of there; accepted ones are of the listener's."""
        self._selector.register(self._wake, READ)
        while not self._done:
            if self.doors and self._closes_at is not None and time.monotonic() >= self._closes_at:
                self._shut_doors()
            full = self.open >= PAIRS
            self.full |= full
            for door in self.doors.values():
                self._watch(door, 0 if full else READ)
            for key, events in self._selector.select(GRACE):
                self._serve(key.fileobj, events)  # type: ignore[arg-type]

    def _shut_doors(self) -> None:
        """Whoever the kernel has let in already is served: a busy machine may have kept this thread waiting."""
        for door in self.doors.values():
            self._watch(door, 0)
            with contextlib.suppress(OSError):  # BlockingIOError, when nobody waits any more
                while self.open < PAIRS:
                    self._accept(door)
            door.close()
        self.doors = {}

    def _serve(self, link: socket.socket, events: int) -> None:
        if link is self._wake:
            self._wake.recv(BUFFER)
        elif link in self._pairs:
            self._move(link, events)
        elif link in self.doors.values():
            try:
                self._accept(link)
            except OSError:  # it is gone by now, or there are no descriptors left: not at once again
                time.sleep(0.01)

    def _accept(self, door: socket.socket) -> None:
        client, _ = door.accept()
        try:
            port = meant(self.ports, client.family, *original(client))
        except OSError:
            port = None
        if port is None:
            self.refused += 1
            client.close()
            return
        self.arrived[port] += 1
        try:
            server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            client.close()
            raise
        pair = _Pair(client, server)
        for one in (client, server):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs[one] = pair
        server.connect_ex((self.address, port.container_port))  # how it went, its first event tells
        self._settle(pair)

    def _move(self, link: socket.socket, events: int) -> None:
        pair = self._pairs[link]
        try:
            ended = pair.move(link, events)
        except OSError:
            ended = True
            self.failed += not pair.connected
        if ended:
            for one in (pair.client, pair.server):
                self._watch(one, 0)
                del self._pairs[one]
                one.close()
        else:
            self._settle(pair)

    def _settle(self, pair: _Pair) -> None:
        for one in (pair.client, pair.server):
            self._watch(one, pair.wants(one))

    def _watch(self, link: socket.socket, events: int) -> None:
        now = self._watched.get(link, 0)
        if events == now:
            return
        change: Callable[..., object] = self._selector.modify if now and events else self._selector.register
        if events:
            change(link, events)
            self._watched[link] = events
        else:
            self._selector.unregister(link)
            del self._watched[link]

    def _close_all(self) -> None:
        for one in (*self.doors.values(), *self._pairs, self._wake, self._bell):
            one.close()
        self.doors, self._pairs = {}, {}
        self._selector.close()


def _door(family: int, near: bool) -> socket.socket:
    six = family == socket.AF_INET6
    made = socket.socket(socket.AddressFamily(family), socket.SOCK_STREAM)
    try:
        if six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        here = "::1" if six else "127.0.0.1"
        made.bind((here if near else "::" if six else "0.0.0.0", 0))  # noqa: S104 - where it was diverted from decides
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
