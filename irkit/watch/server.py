"""A small HTTP server for alerts: one object a POST, a token, TLS, and limits on everything that a client can make large or slow."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import http.server
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from irkit.errors import UsageProblem
from irkit.watch.alert import SIZE_LIMIT
from irkit.watch.inbox import Inbox, Received, Reply
from irkit.watch.metrics import CONTENT_TYPE, Metrics

HEAD_LIMIT, HEADER_LIMIT = 16 * 1024, 40
CONNECTIONS = 64
DEADLINE = 10.0
"""Seconds for a connection as a whole, from the TLS handshake to the answer: slow clients are cut off."""
DECISION = 5.0
"""Seconds that an answer waits for the decision; what is not decided then is answered 202."""
LOOK = 0.2
"""Seconds between two looks at whether the watch has ended."""
PER_SECOND, BURST = 50.0, 200.0
TOKEN_MIN = 16
TYPES = ("application/json", "text/plain")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where and how.  ``token``: none on a listener for metrics alone.  ``paths``: which source a POST's path is."""

    host: str
    port: int
    token: str = ""
    cert: Path | None = None
    key: Path | None = None
    paths: tuple[tuple[str, str], ...] = ()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    def check(self) -> None:
        """Raises ``UsageProblem`` for what would not be safe."""
        if bool(self.cert) != bool(self.key):
            raise UsageProblem("--tls-cert and --tls-key go together")
        if not self.loopback and not self.cert:
            raise UsageProblem(
                f"{self.host} can be reached from outside: without TLS anybody on the way could read the token and forge alerts",
                hint="--tls-cert FILE --tls-key FILE, or listen on 127.0.0.1",
            )
        if self.paths and len(self.token) < TOKEN_MIN:
            raise UsageProblem(f"the token has fewer than {TOKEN_MIN} characters", hint="openssl rand -hex 32 > FILE")


def address(text: str) -> tuple[str, int]:
    """``127.0.0.1:8765`` or ``[::1]:8765``.  Raises ``UsageProblem``; names are not looked up."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        ipaddress.ip_address(host)
        number = int(port)
        if not 0 <= number <= 65535:
            raise ValueError(port)
    except ValueError as error:
        raise UsageProblem(
            f"not an address and a port: {text!r}", hint="for example 127.0.0.1:8765 or [::1]:8765"
        ) from error
    return host, number


class _Bounded:
    """A request's head as a file that ends: too many lines or bytes are refused before they are kept."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._bytes, self._lines = HEAD_LIMIT, HEADER_LIMIT + 2

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(min(limit, self._bytes + 1) if limit >= 0 else self._bytes + 1)
        self._bytes -= len(line)
        self._lines -= 1
        if self._bytes < 0 or self._lines < 0:
            raise http.client.HTTPException("the head of the request is too large")
        return line

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        self._file.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "irkit", ""
    protocol_version = "HTTP/1.1"
    timeout = DEADLINE

    def setup(self) -> None:
        super().setup()
        self.rfile = _Bounded(self.rfile)  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        """One, then the connection ends."""
        try:
            self.raw_requestline = self.rfile.readline(8192)
            if not self.raw_requestline:
                self.close_connection = True
                return None
            if len(self.raw_requestline) > 8190:
                self.requestline, self.request_version, self.command = "", "", ""
                return self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
            if not self.parse_request():
                return None
            self._answer()
        except (OSError, http.client.HTTPException):
            pass  # it went away, or was too slow: there is nobody to tell
        finally:
            self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses, in our form."""
        self._refuse(HTTPStatus(code))

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            return self._get(self._health)
        source = dict(self.server.listen.paths).get(path)
        if path != "/metrics" and source is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        if not self._authorized():
            return self._refuse(HTTPStatus.UNAUTHORIZED, ("WWW-Authenticate", 'Bearer realm="irkit"'))
        if source is None:
            return self._get(lambda: self._say(HTTPStatus.OK, self.server.metrics.text().encode(), CONTENT_TYPE))
        if self.command != "POST":
            return self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "POST"))
        if not self.server.bucket():
            return self._refuse(HTTPStatus.TOO_MANY_REQUESTS, ("Retry-After", "1"))
        body = self._body()
        return None if body is None else self._alert(source, body)

    def _health(self) -> None:
        if self.server.alive():
            return self._say(HTTPStatus.OK, b'{"status": "ok"}\n')
        return self._say(HTTPStatus.SERVICE_UNAVAILABLE, b'{"status": "it decides nothing any more"}\n')

    def _get(self, say: Callable[[], None]) -> None:
        if self.command not in ("GET", "HEAD"):
            return self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
        return say()

    def _authorized(self) -> bool:
        """The token as a bearer, or as Basic's password: Falco's http_output can only send what stands in its URL."""
        expected = self.server.listen.token
        if not expected:
            return True
        values = self.headers.get_all("Authorization") or []
        kind, _, said = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        if kind.lower() == "basic":
            try:
                said = base64.b64decode(said, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                said = ""
        elif kind.lower() != "bearer":
            said = ""
        # over digests, so that not even the length can be measured
        return hmac.compare_digest(_digest(said.strip()), _digest(expected))

    def _body(self) -> bytes | None:
        """The body, or ``None`` when it was refused."""
        refused = self._length() or self._kind()
        if refused is not None:
            self._refuse(refused)
            return None
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if len(body) != size:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        return body

    def _length(self) -> HTTPStatus | None:
        """Why a body of that length is not read."""
        lengths = self.headers.get_all("Content-Length") or []
        if (
            self.headers.get("Transfer-Encoding")
            or len(lengths) != 1
            or not (lengths[0].isascii() and lengths[0].isdigit())
        ):
            return HTTPStatus.LENGTH_REQUIRED
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if len(lengths[0]) > 9 or int(lengths[0]) > SIZE_LIMIT else None

    def _kind(self) -> HTTPStatus | None:
        good = (
            self.headers.get_content_type() in TYPES and self.headers.get("Content-Encoding", "identity") == "identity"
        )
        return None if good else HTTPStatus.UNSUPPORTED_MEDIA_TYPE

    def _alert(self, source: str, body: bytes) -> None:
        """Answered once it was decided on and the decision is on the disk; malformed bodies go to the journal too."""
        reply = Reply()
        if not self.server.inbox.offer(Received(source, body, time.time(), None, reply)):
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, ("Retry-After", "5"))
        decided = reply.event.wait(DECISION)
        if reply.decision == "malformed":
            return self._refuse(HTTPStatus.BAD_REQUEST)
        return self._say(HTTPStatus.OK if decided else HTTPStatus.ACCEPTED, b"{}\n")

    def _refuse(self, status: HTTPStatus, *headers: tuple[str, str]) -> None:
        self.server.metrics.count("irkit_watch_requests_refused_total", code=str(status.value))
        self._say(status, f'{{"error": "{status.phrase}"}}\n'.encode(), "application/json", *headers)

    def _say(self, status: HTTPStatus, body: bytes, kind: str = "application/json", *headers: tuple[str, str]) -> None:
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"
        self.send_response_only(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_expect_100(self) -> bool:
        """Not before it is known who asks, and how much it is: ``_body`` refuses, or the client sends after a second (RFC 9110, 10.1.1)."""
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what clients send is not printed."""


class Server(http.server.ThreadingHTTPServer):
    """Listens from when it is made; serves from ``run`` on."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self, listen: Listen, inbox: Inbox, metrics: Metrics, *, deadline: float = DEADLINE, alive: Callable[[], bool] = lambda: True
    ) -> None:  # fmt: skip
        listen.check()
        self.alive = alive
        self.listen, self.inbox, self.metrics, self._deadline = listen, inbox, metrics, deadline
        self._tls = self._context() if listen.cert else None
        self._open: dict[Any, tuple[socket.socket, float]] = {}
        self._lock = threading.Lock()
        self._tokens, self._filled = BURST, time.monotonic()
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        try:
            super().__init__((listen.host, listen.port), _Handler)
        except OSError as error:
            raise UsageProblem(f"can't listen on {listen.host}:{listen.port}: {error.strerror}") from error
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.name = self.url = f"{'https' if self._tls else 'http'}://{host}:{self.server_address[1]}"

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        assert self.listen.cert is not None  # noqa: S101 - for the type
        try:
            context.load_cert_chain(self.listen.cert, self.listen.key, password=lambda: b"")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise UsageProblem(f"can't use the certificate {self.listen.cert} with its key: {error}") from error

    def reload(self) -> None:
        """Take a renewed certificate.  Raises ``UsageProblem``; then the old one stays."""
        if self._tls is not None:
            self._tls = self._context()

    def server_bind(self) -> None:
        """Without the library's look-up of the host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.listen.host, self.server_address[1]

    def bucket(self) -> bool:
        """Whether another request is within the rate."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_SECOND)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread a connection, as many as there may be; one more is closed at once."""
        with self._lock:
            full = len(self._open) >= CONNECTIONS
            if not full:
                self._open[client_address] = request, time.monotonic() + self._deadline
        if full:
            self.metrics.count("irkit_watch_requests_refused_total", code="connections")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            with self._lock:
                self._open.pop(client_address, None)
            raise

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS within the connection's own thread: a slow handshake keeps nobody waiting."""
        request.settimeout(self._deadline)
        if self._tls is None:
            _Handler(request, client_address, self)
            return
        with self._tls.wrap_socket(
            request, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        ) as wrapped:
            with self._lock:  # it took over the descriptor: the reaper must shut this one
                self._open[client_address] = wrapped, self._open[client_address][1]
            wrapped.do_handshake()
            _Handler(wrapped, client_address, self)
            with contextlib.suppress(OSError):
                wrapped.shutdown(socket.SHUT_WR)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, whatever becomes of it."""
        try:
            self.finish_request(request, client_address)
        except (OSError, ValueError):
            pass  # the handshake failed, or it was cut off
        finally:
            with self._lock:
                self._open.pop(client_address, None)
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is printed about a client."""

    def run(self) -> None:
        """Serve until the watch ends."""
        threading.Thread(target=self._reap, daemon=True).start()
        threading.Thread(target=self._wait, daemon=True).start()
        self.serve_forever(LOOK)
        self.server_close()

    def _wait(self) -> None:
        self.inbox.stop.wait()
        self.shutdown()

    def _reap(self) -> None:
        """Cut off whoever takes longer than a connection may: a byte now and then resets no clock."""
        while not self.inbox.stop.wait(min(0.2, self._deadline / 4)):
            now = time.monotonic()
            with self._lock:
                late = [one for one, ends in self._open.values() if ends < now]
                for one in late:
                    with contextlib.suppress(OSError, ValueError):
                        socket.socket.shutdown(
                            one, socket.SHUT_RDWR
                        )  # not SSLSocket's, which forgets that there was TLS


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
