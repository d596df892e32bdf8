"""A web server on loopback that says what it is told to say."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from irkit.trust.policy import RegistrySettings
from irkit.trust.reference import Reference
from irkit.trust.registry import Registry

Answer = tuple[int, dict[str, str], bytes]


class Asked:
    """What the server was asked, and who by."""

    def __init__(self, port: int, answer: Callable[[str, dict[str, str]], Answer]) -> None:
        self.port, self.answer, self.rows = port, answer, list[tuple[str, str]]()

    def registry(self, **settings: object) -> Registry:
        name = f"127.0.0.1:{self.port}"
        return Registry(Reference(name, "team/web", "1"), RegistrySettings(name, **settings), 10)  # type: ignore[arg-type]


@contextlib.contextmanager
def server(answer: Callable[[str, dict[str, str]], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Asked]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.rows.append((self.path, self.headers.get("Authorization", "")))
            status, headers, body = asked.answer(self.path, {k.lower(): v for k, v in self.headers.items()})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        made.socket = tls.wrap_socket(made.socket, server_side=True)
    asked = Asked(made.server_address[1], answer)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield asked
    finally:
        made.shutdown()
        made.server_close()
