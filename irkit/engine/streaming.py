"""A long answer over the unix socket: HTTP/1.1, so that an end that comes too early is told from the real one.

With HTTP/1.0 (:mod:`irkit.engine.wire`) an engine that dies between two lines looks as if it had finished.  Here the
chunked coding's last chunk (RFC 9112, section 7.1) must arrive.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator

from irkit.clock import rfc3339
from irkit.engine.interface import Call
from irkit.engine.recording import CallLog
from irkit.engine.wire import connect_error, error_for
from irkit.errors import EngineError, EngineUnreachable

READ = 256 * 1024


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, idle: float) -> None:
        super().__init__("docker", timeout=idle)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def open_stream(path: str, target: str, calls: CallLog, idle: float) -> Iterator[bytes]:
    """``GET target`` at the socket ``path``: the body as it comes.  The call is recorded when the engine answers.

    Raises the ``EngineError`` family at once for an answer that is an error; while reading, when the engine breaks off
    or sends nothing for ``idle`` seconds (the socket is shut then).
    """
    link = _UnixConnection(path, idle)
    started, status = time.time(), 0
    try:
        try:
            link.connect()
        except OSError as error:
            raise connect_error(path, error) from error
        try:
            link.request("GET", target, headers={"Connection": "close"})
            answer = link.getresponse()
            status = answer.status
            if status >= 300:
                raise error_for(status, _message(answer.read(65536)))
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(f"the engine at {path} broke off: {_said(error, idle)}") from error
    except BaseException:
        link.close()
        raise
    finally:
        calls.append(Call("GET", target, status, rfc3339(started), round((time.time() - started) * 1000, 3)))
    return _body(link, answer, target.partition("?")[0], idle)


def _body(link: _UnixConnection, answer: http.client.HTTPResponse, what: str, idle: float) -> Iterator[bytes]:
    try:
        while data := answer.read1(READ):
            yield data
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(f"the engine broke off while sending {what}: {_said(error, idle)}") from error
    finally:
        answer.close()
        link.close()


def _said(error: Exception, idle: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {idle:g} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the answer did"
    return str(error) or type(error).__name__


def _message(payload: bytes) -> str:
    try:
        return str(json.loads(payload)["message"])
    except (ValueError, KeyError, TypeError):
        return payload[:200].decode("utf-8", "replace").strip() or "no reason given"
