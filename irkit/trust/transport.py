"""HTTP for talking to registries that may lie: every answer has a size limit, all of them together have a deadline.

Nothing is followed, retried or decoded by itself.  A watchdog closes the socket when the time is up, because a timeout
alone can be stretched byte by byte.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from irkit import __version__
from irkit.errors import KeyProblem, RegistryProblem
from irkit.text import printable

IDLE = 15.0
BLOCK = 64 * 1024
URL_LIMIT = 8192


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.  ``headers`` in lower case; of a header that came twice the values are joined by ``, ``."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Deadline:
    """A time by which everything must be done, on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, what: str) -> float:
        """Seconds left.  Raises ``RegistryProblem`` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise RegistryProblem(f"{what}: no answer within {self.seconds:.0f} s in all")
        return left


class Web:
    """Requests under one deadline.  ``ca``: trusted in place of the system's authorities."""

    def __init__(self, deadline: Deadline, ca: Path | None = None) -> None:
        self.deadline = deadline
        # The system's authorities take 50 ms to read: only when TLS is spoken. Files that a user names are told of at once.
        self._tls = _context(ca) if ca else None

    def get(self, url: str, headers: Mapping[str, str], limit: int, *, loopback_only: bool = False) -> Answer:
        """One GET: :meth:`send`."""
        return self.send("GET", url, headers, limit, loopback_only=loopback_only)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], limit: int, *, body: bytes | None = None,
        loopback_only: bool = False,
    ) -> Answer:  # fmt: skip
        """One request.  Raises ``RegistryProblem`` when nobody answers, or with more than ``limit`` bytes.

        ``loopback_only``: refuse when the name leads to an address of another machine.
        """
        parts = _parse(url)
        what = f"{parts.hostname}:{_port(parts)}"
        connection = self._connection(parts, min(IDLE, self.deadline.left(what)))
        watchdog = threading.Timer(self.deadline.left(what), _shut, (connection,))
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.connect()
            if loopback_only and not _is_loopback(connection.sock):
                raise RegistryProblem(f"{what} is no address of this machine: without TLS nothing is asked there")
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, path or "/", body, headers={**_OWN, **headers})
            response = connection.getresponse()
            found = self._read(response, limit, what)
            self.deadline.left(what)  # what the watchdog cut off looks like an end
            return Answer(response.status, _joined(response), found, url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.deadline.left(what)
            raise RegistryProblem(f"{what} does not answer as it should: {_why(error)}") from error
        finally:
            watchdog.cancel()
            connection.close()

    def _connection(self, parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", _port(parts)
        if parts.scheme == "https":
            self._tls = self._tls or _context(None)
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _read(self, response: http.client.HTTPResponse, limit: int, what: str) -> bytes:
        if response.length is not None and response.length > limit:
            raise RegistryProblem(f"{what}: its answer has {response.length} bytes, {limit} are the limit")
        body = bytearray()
        while chunk := response.read(BLOCK):
            self.deadline.left(what)
            body += chunk
            if len(body) > limit:
                raise RegistryProblem(f"{what}: its answer has more than {limit} bytes")
        if response.length:  # what was announced did not come
            raise RegistryProblem(f"{what}: its answer broke off")
        return bytes(body)


def _context(ca: Path | None) -> ssl.SSLContext:
    """What TLS trusts: the authorities in ``ca``, or the system's.  Raises ``KeyProblem`` when they can't be read."""
    try:
        made = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as error:
        raise KeyProblem(f"the certificates in {ca or 'the system'} can't be read: {error}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


_OWN = {"User-Agent": f"irkit/{__version__}", "Connection": "close", "Accept-Encoding": "identity"}


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a redirect must not leave, and credentials belong to.  Raises ``RegistryProblem``."""
    parts = _parse(url)
    return parts.scheme, parts.hostname or "", _port(parts)


def is_loopback_name(host: str) -> bool:
    """Whether a host's name or address is this machine's own, by the name alone."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username and _port(parts)
    except ValueError:
        good = False
    if not good or len(url) > URL_LIMIT or not url.isascii() or not url.isprintable() or " " in url:
        raise RegistryProblem(f"not an address to be asked: {printable(url, 200)}")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _is_loopback(sock: socket.socket) -> bool:
    return is_loopback_name(str(sock.getpeername()[0]))


def _joined(response: http.client.HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return found


def _shut(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {IDLE:.0f} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    reason = error.strerror if isinstance(error, OSError) else None
    return printable(str(reason or error or type(error).__name__), 200)
