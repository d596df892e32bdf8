"""Trying connections: many at once, each judged by what answered, one deadline for all."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from irkit.clock import now
from irkit.home import random_name
from irkit.models import Probe
from irkit.netns import in_netns, listener
from irkit.quarantine.outcomes import BLOCKING

PATIENCE = 25
SHORTEST = 0.1


@dataclass(slots=True)
class Try:
    """One connection to be tried.  ``expect`` is the nonce of irkit's own listener at the other end, if it is one.

    ``control`` names the try that must succeed for silence to count as blocked; ``silent`` may explain silence otherwise.
    """

    path: str
    direction: str
    address: str
    port: int
    netns: str | None = None
    device: str = ""
    scope: str = ""
    expect: bytes = b""
    control: Try | None = None
    refused: str = "reached"
    silent: Callable[[], str] | None = None
    sock: socket.socket | None = None
    outcome: str = ""
    detail: str = ""
    started: float = 0.0
    finished: float = 0.0
    begun: str = ""
    got: bytes = field(default=b"", repr=False)

    def settle(self, outcome: str, detail: str) -> None:
        """Note the outcome: ``connected``, ``refused``, ``blocked``, ``silent`` or ``failed``."""
        self.outcome, self.detail, self.finished = outcome, detail, time.monotonic()
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.close()

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return max(0.0, self.finished - self.started) * 1000

    def probe(self) -> Probe:
        """The verdict."""
        result, detail = self._verdict()
        return Probe(self.path, self.direction, result, detail, self.begun, self.milliseconds)

    def _verdict(self) -> tuple[str, str]:
        if self.outcome == "connected":
            return "reached", self.detail
        if self.outcome == "refused":
            return (
                self.refused,
                "an answer came back: connection refused"
                if self.refused == "reached"
                else "nobody listens there any more",
            )
        if self.outcome == "blocked":
            return "blocked", self.detail
        if self.outcome == "silent":
            return self._silence()
        return "unknown", self.detail

    def _silence(self) -> tuple[str, str]:
        waited = f"no answer within {self.milliseconds:.0f} ms"
        if self.control is not None:
            if self.control.outcome == "connected":
                return (
                    "blocked",
                    f"{waited}; the same listener answered a control in {self.control.milliseconds:.1f} ms",
                )
            return "unknown", f"{waited}, but the control did not answer either: {self.control.detail}"
        reason = self.silent() if self.silent else ""
        return (
            ("blocked", f"{waited}; {reason}")
            if reason
            else ("unknown", f"{waited}, and nothing shows that it would have answered")
        )


class Answerer:
    """A listener of ours in some namespace that answers every connection with its nonce."""

    def __init__(self, netns: str | None) -> None:
        self.nonce = b"irkit " + random_name(16).encode() + b"\n"
        self.sock = in_netns(netns, listener)
        self.port = int(self.sock.getsockname()[1])

    def answer(self) -> None:
        """Take one connection."""
        with contextlib.suppress(OSError):
            peer, _ = self.sock.accept()
            with peer:
                peer.setblocking(False)
                peer.send(self.nonce)

    def close(self) -> None:
        """Stop listening."""
        self.sock.close()


def run_tries(
    tries: Sequence[Try], answerers: Iterable[Answerer], timeout: float, sent: Callable[[], None] = lambda: None
) -> None:
    """Start all tries, serve the listeners, and settle every try.

    Silence is waited for ``PATIENCE`` times as long as the slowest control took, ``SHORTEST`` seconds at least and
    ``timeout`` at most: on a busy machine longer than on an idle one.  ``sent`` is called when all are on their way.
    """
    controls = [one for one in tries if one.direction == "control"]
    waiting: dict[socket.socket, Try] = {}
    with selectors.DefaultSelector() as selector:
        for one in answerers:
            selector.register(one.sock, selectors.EVENT_READ, one)
        for netns, group in _by_netns(tries).items():
            _start(netns, group)
            for attempt in group:
                if not attempt.outcome and attempt.sock is not None:
                    waiting[attempt.sock] = attempt
                    selector.register(attempt.sock, selectors.EVENT_WRITE, attempt)
        sent()
        begun = time.monotonic()
        while waiting and (left := begun + _window(controls, timeout) - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if isinstance(key.data, Answerer):
                    key.data.answer()
                else:
                    _advance(selector, key.data, waiting)
        for attempt in waiting.values():
            attempt.settle(
                "connected" if attempt.got else "silent",
                "something answered, but not irkit's own listener" if attempt.got else "no answer",
            )


def _window(controls: list[Try], timeout: float) -> float:
    """Seconds to wait for an answer, as far as the controls tell by now."""
    if not all(one.outcome for one in controls):
        return timeout
    slowest = max((one.milliseconds / 1000 for one in controls), default=0.0)
    return min(timeout, max(SHORTEST, PATIENCE * slowest))


def _by_netns(tries: Iterable[Try]) -> dict[str | None, list[Try]]:
    groups: dict[str | None, list[Try]] = {}
    for attempt in tries:
        groups.setdefault(attempt.netns, []).append(attempt)
    return groups


def _start(netns: str | None, group: list[Try]) -> None:
    try:
        in_netns(netns, lambda: _connect_all(group))
    except OSError as error:
        for attempt in group:
            attempt.started = attempt.started or time.monotonic()
            attempt.begun = attempt.begun or now()
            attempt.settle("failed", f"the network namespace can't be entered: {error.strerror}")


def _connect_all(group: list[Try]) -> None:
    for attempt in group:
        _connect(attempt)


def _connect(attempt: Try) -> None:
    attempt.begun, attempt.started = now(), time.monotonic()
    family = socket.AF_INET6 if ":" in attempt.address else socket.AF_INET
    try:
        attempt.sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if attempt.device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, attempt.device.encode() + b"\0")
        scope = socket.if_nametoindex(attempt.scope) if attempt.scope else 0
        where = (
            (attempt.address, attempt.port, 0, scope) if family == socket.AF_INET6 else (attempt.address, attempt.port)
        )
        number = sock.connect_ex(where)
    except OSError as error:
        number = error.errno or errno.EIO
    if number not in (0, errno.EINPROGRESS):
        _failed(attempt, number)


def _failed(attempt: Try, number: int) -> None:
    if number == errno.ECONNREFUSED:
        attempt.settle("refused", "connection refused")
    elif number in BLOCKING:
        attempt.settle("blocked", BLOCKING[number])
    elif number in (errno.ETIMEDOUT,):
        attempt.settle("silent", "timed out")
    else:
        attempt.settle("failed", os.strerror(number))


def _advance(selector: selectors.BaseSelector, attempt: Try, waiting: dict[socket.socket, Try]) -> None:
    sock = attempt.sock
    if sock is None or sock not in waiting:
        return
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    done = True
    if number:
        selector.unregister(sock)
        _failed(attempt, number)
    elif selector.get_key(sock).events & selectors.EVENT_WRITE:
        if attempt.expect:
            selector.modify(sock, selectors.EVENT_READ, attempt)
            done = False
        else:
            selector.unregister(sock)
            attempt.settle("connected", "the connection was accepted")
    else:
        done = _read(selector, attempt, sock)
    if done:
        waiting.pop(sock, None)


def _read(selector: selectors.BaseSelector, attempt: Try, sock: socket.socket) -> bool:
    try:
        data = sock.recv(200)
    except BlockingIOError:
        return False
    except OSError as error:
        selector.unregister(sock)
        attempt.settle("connected", f"the connection was accepted, then broken off: {error.strerror}")
        return True
    attempt.got += data
    if attempt.expect in attempt.got:
        selector.unregister(sock)
        attempt.settle(
            "connected",
            f"irkit's own listener answered in {(time.monotonic() - attempt.started) * 1000:.1f} ms",
        )
        return True
    if not data or len(attempt.got) > 200:
        selector.unregister(sock)
        attempt.settle("connected", "something accepted and answered, but not irkit's own listener")
        return True
    return False
