"""A sinkhole: answers what a target calls for, so that its beacons show themselves.

Nothing runs in the container and nothing leaves its network namespace: the host opens listeners in it, and
:mod:`irkit.observe.diversion` turns the target's traffic to them.  Each DNS question gets one fixed address, each TCP
connection is accepted, HTTP gets an empty 200, all else gets silence.  The listeners can be seen in the container.

Events are dicts for JSON Lines, each with ``time`` (RFC 3339, UTC), ``kind``, and the ``from`` and ``to`` that the
target used (``{"address": str, "port": int}``):

* ``dns``: ``transport`` (``udp``, ``tcp``), ``name`` (as in a zone file, nothing is lost), ``type``, ``answer``
* ``tcp``, when the connection ends: ``ended``, ``size`` (bytes that the target sent), ``first_b64`` (the first of
  them, exactly), ``first`` (the same, readable), ``answered`` (``http``, ``dns`` or empty), ``closed`` (``by_target``,
  ``reset``, ``timeout``, ``limit``, ``stopped``)
* ``udp``: ``size``, ``first_b64``, ``first``: not a DNS question, not answered
"""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

from irkit.clock import now
from irkit.errors import EngineError, Refused
from irkit.netns import in_netns
from irkit.observe import diversion, dns
from irkit.observe.sockets import not_the_host, original, tell_original, transparent
from irkit.text import printable

ADDRESS = "198.51.100.7"  # TEST-NET-2, RFC 5737: nobody's
HTTP_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"
HTTP_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")
LISTEN4, LISTEN6 = "127.0.0.1", "::1"
DATAGRAM = 65535
HEAD = 8192
TURN = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """``connections`` at once, ``events`` that are passed on, ``seconds`` and ``bytes`` for each connection."""

    connections: int = 256
    events: int = 100_000
    seconds: float = 5.0
    bytes: int = 1024 * 1024
    first: int = 256


@dataclass(frozen=True, slots=True)
class Counts:
    """``events`` were passed on, ``not_stored`` came after the limit, ``refused`` connections beyond the limit were
    closed at once, ``not_answered`` answers could not be sent."""

    dns: int = 0
    tcp: int = 0
    udp: int = 0
    events: int = 0
    not_stored: int = 0
    refused: int = 0
    not_answered: int = 0


@dataclass(slots=True)
class _Connection:
    sock: socket.socket
    event: dict[str, Any]
    deadline: float
    first: bytearray = field(default_factory=bytearray)
    head: bytearray = field(default_factory=bytearray)
    size: int = 0
    answered: str = ""


class Sinkhole:
    """From :meth:`start` to :meth:`close`, in a thread of its own.

    ``emit`` gets each event, from that thread; what it raises ends the sinkhole and is raised again by :meth:`close`.
    ``resolvers``: loopback addresses in the container's ``resolv.conf``; others need not be named.
    """

    def __init__(
        self,
        netns_path: str,
        emit: Callable[[dict[str, Any]], object],
        *,
        address: str = ADDRESS,
        limits: Limits | None = None,
        resolvers: Sequence[str] = diversion.RESOLVERS,
    ) -> None:
        self._path, self._emit, self._resolvers = netns_path, emit, tuple(resolvers)
        self._address = str(IPv4Address(address))
        self._limits = limits or Limits()
        self._counts = Counts()
        self._namespace = self._wake = -1
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._connections: dict[int, _Connection] = {}
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def counts(self) -> Counts:
        """What came so far."""
        return self._counts

    def start(self) -> None:
        """Open the listeners and turn the traffic to them.  Raises ``EngineError``, and ``Refused`` when the
        namespace is the host's own; then nothing of it is left.
        """
        if self._thread is not None:
            raise RuntimeError("a sinkhole is used once")
        try:
            # held, so that close() finds it again when the target is gone
            self._namespace = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            not_the_host(self._namespace)
            ports = in_netns(self._inside, self._listen)
        except OSError as error:
            self._release()
            raise EngineError(
                f"can't listen in the target's network namespace: {error.strerror or error}",
                hint="run irkit as root on the engine's own host; the target must be running",
            ) from error
        except Refused:
            self._release()
            raise
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="irkit-sinkhole", daemon=True)
        self._thread.start()
        try:
            diversion.divert(self._inside, ports, self._resolvers)
        except BaseException:
            self._stop()
            raise

    def close(self) -> Counts:
        """Take the diversion back and end.  Can be repeated.

        Raises ``EngineError`` when something of the diversion is still in the namespace (the listeners are closed all
        the same), otherwise what ``emit`` raised.
        """
        if self._namespace < 0 and self._wake < 0:
            return self._counts
        try:
            diversion.undo(self._inside)
        finally:
            self._stop()
        if self._failure is not None:
            raise self._failure
        return self._counts

    def __enter__(self) -> Sinkhole:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _inside(self) -> str:
        return f"/proc/self/fd/{self._namespace}"

    def _stop(self) -> None:
        if self._wake >= 0 and self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
        self._release()

    def _release(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._selector.close()
        for descriptor in (self._wake, self._namespace):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake = self._namespace = -1

    # --- the listeners, made in the target's namespace ---

    def _listen(self) -> diversion.Ports:
        tcp4, udp4 = self._open(socket.AF_INET, socket.SOCK_STREAM), self._open(socket.AF_INET, socket.SOCK_DGRAM)
        if not diversion.has_ipv6():
            return diversion.Ports(tcp4, udp4)
        tcp6, udp6 = self._open(socket.AF_INET6, socket.SOCK_STREAM), self._open(socket.AF_INET6, socket.SOCK_DGRAM)
        return diversion.Ports(tcp4, udp4, tcp6, udp6)

    def _open(self, family: socket.AddressFamily, kind: socket.SocketKind) -> int:
        made = transparent(family, kind)
        self._listeners.append(made)
        made.bind((LISTEN4 if family == socket.AF_INET else LISTEN6, 0))
        if kind == socket.SOCK_STREAM:
            made.listen(256)
            self._selector.register(made, selectors.EVENT_READ, self._accept)
        else:
            tell_original(made)
            self._selector.register(made, selectors.EVENT_READ, self._datagrams)
        return int(made.getsockname()[1])

    # --- the thread: it lives in the target's namespace, for the sockets that answers need ---

    def _run(self) -> None:
        try:
            in_netns(self._inside, self._serve)
        except BaseException as error:  # kept for the caller of close()
            self._failure = error

    def _serve(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select(self._patience()):
                    if key.data is None:
                        return
                    key.data(key.fileobj)
                moment = time.monotonic()
                for connection in [one for one in self._connections.values() if one.deadline <= moment]:
                    self._end(connection, "timeout")
        finally:
            for connection in list(self._connections.values()):
                self._end(connection, "stopped", quiet=self._failure is not None)

    def _patience(self) -> float | None:
        if not self._connections:
            return None
        return max(0.0, min(one.deadline for one in self._connections.values()) - time.monotonic())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(TURN):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # gone before it was accepted
                continue
            self._counts = replace(self._counts, tcp=self._counts.tcp + 1)
            if len(self._connections) >= self._limits.connections:
                self._counts = replace(self._counts, refused=self._counts.refused + 1)
                sock.close()
                continue
            sock.setblocking(False)
            event = _event("tcp", peer, sock.getsockname())
            self._connections[sock.fileno()] = _Connection(sock, event, time.monotonic() + self._limits.seconds)
            self._selector.register(sock, selectors.EVENT_READ, self._receive)

    def _receive(self, sock: socket.socket) -> None:
        connection = self._connections[sock.fileno()]
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._end(connection, "reset")
            return
        if not data:
            self._end(connection, "by_target")
            return
        connection.size += len(data)
        connection.first += data[: max(0, self._limits.first - len(connection.first))]
        connection.head += data[: max(0, HEAD - len(connection.head))]
        if connection.event["to"]["port"] == 53:
            self._answer_stream(connection)
        elif not connection.answered and connection.head.startswith(HTTP_METHODS) and b"\r\n\r\n" in connection.head:
            connection.answered = "http"
            self._send(connection, HTTP_ANSWER)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        if connection.size > self._limits.bytes:
            self._end(connection, "limit")

    def _answer_stream(self, connection: _Connection) -> None:
        """DNS over TCP: each message after its length (RFC 1035, 4.2.2)."""
        while len(connection.head) >= 2:
            length = int.from_bytes(connection.head[:2], "big")
            if len(connection.head) < 2 + length:
                return
            question = dns.parse(bytes(connection.head[2 : 2 + length]))
            if question is None:
                return
            del connection.head[: 2 + length]
            reply, given = dns.answer(question, self._address)
            connection.answered = "dns"
            self._name(connection.event["from"], connection.event["to"], "tcp", question, given)
            self._send(connection, len(reply).to_bytes(2, "big") + reply)

    def _send(self, connection: _Connection, data: bytes) -> None:
        try:
            sent = connection.sock.send(data)
        except OSError:
            sent = -1
        if sent != len(data):
            self._counts = replace(self._counts, not_answered=self._counts.not_answered + 1)

    def _end(self, connection: _Connection, closed: str, *, quiet: bool = False) -> None:
        del self._connections[connection.sock.fileno()]
        self._selector.unregister(connection.sock)
        connection.sock.close()
        if not quiet:
            self._store(
                {**connection.event, "ended": now(), "size": connection.size, **_bytes(bytes(connection.first))}
                | {"answered": connection.answered, "closed": closed}
            )

    def _datagrams(self, sock: socket.socket) -> None:
        for _ in range(TURN):
            try:
                data, details, _, peer = sock.recvmsg(DATAGRAM, 256)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for an earlier answer
                continue
            there = original(details) or sock.getsockname()
            question = dns.parse(data) if there[1] == 53 else None
            if question is None:
                self._counts = replace(self._counts, udp=self._counts.udp + 1)
                self._store(_event("udp", peer, there) | {"size": len(data), **_bytes(data[: self._limits.first])})
                continue
            reply, given = dns.answer(question, self._address)
            self._name(_place(peer), _place(there), "udp", question, given)
            try:
                with transparent(sock.family, socket.SOCK_DGRAM) as back:
                    back.bind(there)
                    back.sendto(reply, peer)
            except OSError:
                self._counts = replace(self._counts, not_answered=self._counts.not_answered + 1)

    def _name(
        self, here: dict[str, Any], there: dict[str, Any], transport: str, asked: dns.Question, given: str
    ) -> None:
        self._counts = replace(self._counts, dns=self._counts.dns + 1)
        self._store(
            {"time": now(), "kind": "dns", "from": here, "to": there, "transport": transport, "name": asked.name}
            | {"type": asked.type_name, "answer": given}
        )

    def _store(self, event: dict[str, Any]) -> None:
        if self._counts.events >= self._limits.events:
            self._counts = replace(self._counts, not_stored=self._counts.not_stored + 1)
            return
        self._counts = replace(self._counts, events=self._counts.events + 1)
        self._emit(event)


def _place(address: tuple[Any, ...]) -> dict[str, Any]:
    return {"address": address[0], "port": address[1]}


def _event(kind: str, here: tuple[Any, ...], there: tuple[Any, ...]) -> dict[str, Any]:
    return {"time": now(), "kind": kind, "from": _place(here), "to": _place(there)}


def _bytes(first: bytes) -> dict[str, str]:
    return {"first_b64": base64.b64encode(first).decode("ascii"), "first": printable(first)}
