"""The few calls before and during isolation, over the unix socket without the SDK.

``import docker`` takes 100 ms and more (requests, urllib3); until the target is frozen and sealed off every
millisecond counts (docs/adr/0002).  HTTP/1.0, so that the engine closes the connection and never sends chunks.
"""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.parse
from typing import Any

from irkit.clock import rfc3339
from irkit.engine.interface import Call
from irkit.engine.recording import CallLog
from irkit.errors import Conflict, EngineError, EnginePermission, EngineUnreachable, NotFound

API_VERSION = "1.41"
TIMEOUT = 60.0
NOT_FOUND = re.compile(r"no such (container|image|network|volume)|network not found", re.IGNORECASE)
"""Podman answers 500 where Docker answers 404, and where it is in the wrong state ("container state improper")."""
LIMIT = 64 * 1024 * 1024


class Wire:
    """A recording HTTP client for one unix socket."""

    def __init__(self, path: str, calls: CallLog) -> None:
        self.path = path
        self.version = API_VERSION
        self._calls = calls

    def call(self, method: str, path: str, body: object | None = None, *, api: str = "", **query: str) -> Any:
        """One call; the decoded JSON answer or ``None``.  ``api``: its version, if not the usual one.

        Raises the ``EngineError`` family.
        """
        if api:
            return self._call_once(method, path, body, query, api)
        try:
            return self._call_once(method, path, body, query)
        except EngineError as error:
            minimum = minimum_version(error)
            if minimum is None or minimum == self.version:
                raise
            self.version = minimum
            return self._call_once(method, path, body, query)

    def _call_once(self, method: str, path: str, body: object | None, query: dict[str, str], api: str = "") -> Any:
        target = f"/v{api or self.version}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        started = time.time()
        status = 0
        try:
            status, payload = self._exchange(method, target, body)
        finally:
            self._calls.append(Call(method, target, status, rfc3339(started), round((time.time() - started) * 1000, 3)))
        if status >= 300:
            raise error_for(status, _message(payload))
        return decoded(payload, method)

    def _exchange(self, method: str, target: str, body: object | None) -> tuple[int, bytes]:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(TIMEOUT)
            try:
                link.connect(self.path)
            except OSError as error:
                raise connect_error(self.path, error) from error
            try:
                link.sendall(head.encode() + data)
                answer = _read_all(link)
            except OSError as error:
                raise EngineUnreachable(
                    f"the engine at {self.path} broke off during {method} {target}: {error}"
                ) from error
        return _split(answer, self.path)


def _read_all(link: socket.socket) -> bytes:
    parts = bytearray()
    while chunk := link.recv(65536):
        parts += chunk
        if len(parts) > LIMIT:
            raise OSError("the answer is too large")
    return bytes(parts)


def _split(answer: bytes, path: str) -> tuple[int, bytes]:
    head, separator, payload = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if not separator or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise EngineError(f"what answers at {path} does not speak the Docker API")
    return int(words[1]), payload


def _message(payload: bytes) -> str:
    try:
        return str(json.loads(payload)["message"])
    except (ValueError, KeyError, TypeError):
        return payload[:200].decode("utf-8", "replace").strip() or "no reason given"


def decoded(payload: bytes, method: str) -> Any:
    """The answer's JSON.  A plain word after a change (Podman says ``OK``) is as good as none."""
    try:
        return json.loads(payload) if payload.strip() else None
    except ValueError as error:
        if method == "GET":
            raise EngineError("the engine's answer is not JSON") from error
        return None


def error_for(status: int, message: str) -> EngineError:
    """The error of the tree that fits an HTTP status of the Docker API."""
    if status == 404 or (status == 500 and NOT_FOUND.search(message)):
        return NotFound(
            message,
            status=status,
            hint=None if message.startswith("No such container") else "`irkit doctor` shows what this engine has",
        )
    if status in (304, 409) or (status == 500 and "state improper" in message):
        return Conflict(message, status=status)
    return EngineError(message, status=status)


def minimum_version(error: EngineError) -> str | None:
    """The API version that a newer engine asks for ("Minimum supported API version is 1.44"), if that is what it says."""
    found = re.search(r"[Mm]inimum supported API version is (\d+\.\d+)", error.message)
    return found.group(1) if error.status == 400 and found else None


def connect_error(path: str, error: OSError) -> EngineError:
    """Why the socket could not be opened, in words."""
    if isinstance(error, PermissionError):
        return EnginePermission(f"no right to talk to the engine at unix://{path}")
    if isinstance(error, FileNotFoundError):
        return EngineUnreachable(f"no engine at unix://{path}: there is no such socket")
    if isinstance(error, ConnectionRefusedError):
        return EngineUnreachable(f"no engine at unix://{path}: the socket is there, but nobody listens")
    return EngineUnreachable(f"no engine at unix://{path}: {error}")
