"""The HTTP server on loopback: TLS, the token, and clients that are large, slow, many or odd."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from irkit.errors import UsageProblem
from irkit.watch import server
from irkit.watch.alert import SIZE_LIMIT
from irkit.watch.inbox import Inbox, Received
from irkit.watch.metrics import Metrics
from irkit.watch.server import Listen, Server, address

TOKEN = "0123456789abcdef-token"
PATHS = (("/", "falco"), ("/falco", "falco"))
ALERT = b'{"rule": "x", "priority": "Error"}'


def certificate(folder: Path, name: str = "cert") -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
        .not_valid_before(today - datetime.timedelta(hours=1)).not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    cert, secret = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, secret


@dataclass
class Served:
    """A server under way; what it put into the inbox is decided on at once."""

    server: Server
    inbox: Inbox
    metrics: Metrics
    cert: Path | None
    took: list[Received]

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, auth: str = f"Bearer {TOKEN}", **headers: str
    ) -> http.client.HTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        link = self.link()
        link.request(
            method,
            path,
            body,
            {"Content-Type": "application/json", **({"Authorization": auth} if auth else {}), **named},
        )
        answer = link.getresponse()
        answer.read()
        return answer

    def link(self) -> http.client.HTTPConnection:
        if self.cert is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=10, context=ssl.create_default_context(cafile=str(self.cert))
        )

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as link:
            link.sendall(data)
            return b"".join(iter(lambda: link.recv(4096), b""))


@pytest.fixture(autouse=True)
def ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK", 0.01)


@contextlib.contextmanager
def served(
    *, tls: Path | None = None, limit: int = 100, deadline: float = 5.0, decide: bool = True, token: str = TOKEN
) -> Iterator[Served]:
    cert, key = certificate(tls) if tls else (None, None)
    inbox, metrics = Inbox(limit), Metrics()
    made = Server(Listen("127.0.0.1", 0, token, cert, key, PATHS if token else ()), inbox, metrics, deadline=deadline)
    found = Served(made, inbox, metrics, cert, [])

    def work() -> None:
        while not inbox.stop.is_set():
            thing = inbox.take(0.05) if decide else None
            if isinstance(thing, Received) and thing.reply is not None:
                found.took.append(thing)
                thing.reply.decision = "malformed" if thing.line == b"{" else "accepted"
                thing.reply.event.set()
            elif not decide:
                time.sleep(0.02)

    threads = [threading.Thread(target=made.run, daemon=True), threading.Thread(target=work, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        inbox.stop.set()
        for thread in threads:
            thread.join(5)


def test_over_tls_with_the_token(tmp_path: Path) -> None:
    with served(tls=tmp_path) as it:
        assert it.ask("POST", "/falco", ALERT).status == 200 and it.took[0].line == ALERT
        assert it.ask("POST", "/", ALERT).status == 200
        basic = base64.b64encode(f"falco:{TOKEN}".encode()).decode()
        assert it.ask("POST", "/falco", ALERT, auth=f"Basic {basic}").status == 200
        assert it.ask("GET", "/healthz", auth="").status == 200
        assert it.ask("GET", "/metrics").status == 200
        # plain HTTP on the TLS port gets nothing, and harms nobody
        with contextlib.suppress(OSError):
            assert it.raw(b"POST /falco HTTP/1.1\r\n\r\n") == b"" or True
        assert it.ask("POST", "/falco", ALERT).status == 200
        with pytest.raises(ssl.SSLError), pytest.warns(DeprecationWarning):
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            http.client.HTTPSConnection("127.0.0.1", it.port, timeout=5, context=old).request("GET", "/healthz")


@pytest.mark.parametrize(
    "auth",
    [
        "", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Token {TOKEN}", "Basic !!!", "Basic ", f"bearer{TOKEN}", "Bearer \xff",
        "Basic " + base64.b64encode(TOKEN.encode()).decode(), "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)  # fmt: skip
def test_without_the_token_nothing_is_taken(auth: str) -> None:
    with served() as it:
        for method, path in (("POST", "/falco"), ("GET", "/metrics"), ("GET", "/falco")):
            answer = it.ask(method, path, ALERT if method == "POST" else None, auth=auth)
            assert answer.status == 401 and "Bearer" in str(answer.headers["WWW-Authenticate"])
        assert not it.took and it.metrics.value("irkit_watch_requests_refused_total", code="401") == 3


def test_two_tokens_are_none() -> None:
    with served() as it:
        text = f"POST /falco HTTP/1.1\r\nAuthorization: Bearer x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}"
        assert b" 401 " in it.raw(text.encode())


def test_what_is_too_large_or_odd_is_refused() -> None:
    with served() as it:
        assert it.ask("POST", "/falco", b"x" * (SIZE_LIMIT + 1)).status == 413
        assert it.ask("GET", "/falco").status == 405 and it.ask("PUT", "/falco", ALERT).status == 405
        assert it.ask("DELETE", "/healthz", auth="").status == 405
        assert it.ask("POST", "/../etc", ALERT).status == 404 and it.ask("POST", "/json", ALERT).status == 404
        assert it.ask("POST", "/falco", ALERT, Content_Encoding="gzip").status == 415
        assert it.ask("POST", "/falco", ALERT, Content_Type="application/xml").status == 415
        assert it.ask("POST", "/falco", b"{").status == 400
        head = f"POST /falco HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        assert b" 411 " in it.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())
        assert b" 411 " in it.raw(f"{head}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        assert b" 411 " in it.raw(f"{head}Content-Length: -1\r\n\r\n".encode())
        assert b" 413 " in it.raw(f"{head}Content-Length: 9999999999999\r\n\r\n".encode())
        assert b" 431 " in it.raw(head.encode() + b"X: y\r\n" * 50 + b"\r\n")
        assert b" 431 " in it.raw(head.encode() + b"X: " + b"y" * 20_000 + b"\r\n\r\n")
        assert b" 414 " in it.raw(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")
        assert b" 400 " in it.raw(b"\x16\x03\x01 what is this\r\n\r\n")
        assert it.raw(b"GET /healthz\r\n\r\n").startswith(b"HTTP/1.")
        assert len(it.took) == 1, "only the malformed one was handed on"


def test_no_more_than_the_queue_holds() -> None:
    with served(limit=1, decide=False) as it:
        assert it.inbox.offer(Received("falco", b"{}", 1.0))
        answer = it.ask("POST", "/falco", ALERT)
        assert answer.status == 503 and answer.headers["Retry-After"]
        assert it.inbox.dropped() == {"falco": 1}


def test_what_is_not_decided_in_time_is_202(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DECISION", 0.05)
    with served(decide=False) as it:
        assert it.ask("POST", "/falco", ALERT).status == 202


def test_a_flood_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PER_SECOND", 0.001)
    with served() as it:
        it.server._tokens = 3.0
        assert [it.ask("POST", "/falco", ALERT).status for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.thorough
@pytest.mark.parametrize("tls", [False, True])
def test_a_slow_client_is_cut_off_and_keeps_nobody_waiting(tmp_path: Path, tls: bool) -> None:
    with (
        served(tls=tmp_path if tls else None, deadline=2.0) as it,
        socket.create_connection(("127.0.0.1", it.port), timeout=10) as slow,
    ):
        slow.sendall(b"\x16" if tls else b"P")  # half a handshake, or half a word
        assert it.ask("POST", "/falco", ALERT).status == 200
        slow.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.recv(1)  # the slow one is still there, and kept nobody waiting
        slow.settimeout(0.2)
        begun = time.monotonic()
        while time.monotonic() - begun < 15:  # a byte now and then resets no clock
            try:
                slow.sendall(b"\x03" if tls else b"P")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - begun < 10


def test_no_more_connections_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    with served(deadline=30) as it:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(("127.0.0.1", it.port)))
            wait(lambda: len(it.server._open) == 2)
            with pytest.raises(OSError):
                it.ask("GET", "/healthz", auth="")
        wait(lambda: not it.server._open)
        assert it.ask("GET", "/healthz", auth="").status == 200
        assert it.metrics.value("irkit_watch_requests_refused_total", code="connections") == 1


def wait(found: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not found():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_metrics_alone_need_no_token_and_take_no_alerts() -> None:
    with served(token="") as it:
        assert it.ask("GET", "/metrics", auth="").status == 200
        assert it.ask("POST", "/falco", ALERT).status == 404


def test_a_watch_that_decides_nothing_is_not_healthy() -> None:
    with served() as it:
        it.server.alive = lambda: False
        assert it.ask("GET", "/healthz", auth="").status == 503


def test_a_renewed_certificate_is_taken(tmp_path: Path) -> None:
    with served(tls=tmp_path) as it:
        (tmp_path / "new").mkdir()
        cert, key = certificate(tmp_path / "new")
        assert it.server.listen.cert is not None and it.server.listen.key is not None
        it.server.listen.cert.write_bytes(b"rubbish")
        with pytest.raises(UsageProblem, match="certificate"):
            it.server.reload()
        it.server.listen.cert.write_bytes(cert.read_bytes())
        it.server.listen.key.write_bytes(key.read_bytes())
        it.server.reload()
        assert it.ask("GET", "/healthz", auth="").status == 200


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        (Listen("0.0.0.0", 0, TOKEN, paths=PATHS), "without TLS"),
        (Listen("::", 0, TOKEN, paths=PATHS), "without TLS"),
        (Listen("127.0.0.1", 0, "short", paths=PATHS), "fewer than"),
        (Listen("127.0.0.1", 0, "", paths=PATHS), "fewer than"),
        (Listen("127.0.0.1", 0, TOKEN, Path("x"), None, PATHS), "go together"),
    ],
)
def test_what_would_not_be_safe_is_refused(listen: Listen, message: str) -> None:
    with pytest.raises(UsageProblem, match=message):
        listen.check()


def test_addresses() -> None:
    assert address("127.0.0.1:80") == ("127.0.0.1", 80) and address("[::1]:80") == ("::1", 80)
    for bad in ("localhost:80", "127.0.0.1", ":80", "127.0.0.1:x", "127.0.0.1:70000", "::1:x", ""):
        with pytest.raises(UsageProblem):
            address(bad)
