"""Mail over TLS with a log-in, to a real SMTP server: and what is not sent when the server is not who it should be."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from irkit.actions import channels
from irkit.config import Channel, read_config
from irkit.documents import parse
from irkit.errors import IrkitError, PlaybookInvalid, transient

ABOUT = {"case": "c-1", "run": "r-1", "target": {"name": "web-1", "id": "i"}, "quarantine": "proven"}
PASSWORD = "correct horse"


def certificate(folder: Path) -> tuple[Path, Path]:
    """For ``localhost``, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(today - datetime.timedelta(hours=1)).not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, secret


class Box:
    """Takes mail, and remembers who logged in with what."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        assert server.transport.get_extra_info("sslcontext") is not None and session.authenticated
        self.mails.append(envelope.content)
        return "250 taken"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Box, Channel]]]:
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def start(security: str, offer: str = "") -> tuple[Box, Channel]:
        box, offered = Box(), offer or security

        def session() -> SMTP:
            return SMTP(
                box, hostname="localhost", authenticator=box.authenticate, auth_require_tls=offered == "starttls", loop=loop,
                tls_context=context if offered == "starttls" else None, require_starttls=offered == "starttls",
            )  # fmt: skip

        serving = loop.create_server(
            session, "localhost", 0, family=socket.AF_INET, ssl=context if offered == "tls" else None
        )
        server = asyncio.run_coroutine_threadsafe(serving, loop).result(10)
        port = server.sockets[0].getsockname()[1]
        channel = Channel(
            "mail", "smtp", host="localhost", port=port, security=security, sender="ir@x.example", to=("ops@x.example",), user="ir",
            password_file=str(tmp_path / "password"),
        )  # fmt: skip
        return box, channel

    yield start
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_over_tls_with_a_log_in(post: Callable[..., tuple[Box, Channel]], security: str) -> None:
    box, channel = post(security)
    channels.send(channel, "contained", "critical", ABOUT)
    assert box.logins == [(b"ir", PASSWORD.encode())]
    assert b"Subject: [irkit] critical: contained" in box.mails[0] and b"X-Irkit-Case: c-1" in box.mails[0]


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_server_that_nobody_vouches_for_gets_no_password(
    post: Callable[..., tuple[Box, Channel]], security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, channel = post(security)
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(IrkitError, match=r"(?i)certificate"):
        channels.send(channel, "contained", "critical", ABOUT)
    assert not box.logins and not box.mails


def test_a_server_without_starttls_gets_no_password(post: Callable[..., tuple[Box, Channel]]) -> None:
    box, channel = post("starttls", offer="none")
    with pytest.raises(IrkitError, match="STARTTLS") as caught:
        channels.send(channel, "contained", "critical", ABOUT)
    assert not transient(caught.value) and not box.logins and not box.mails


def test_a_wrong_password_is_said(post: Callable[..., tuple[Box, Channel]]) -> None:
    box, channel = post("tls")
    Path(channel.password_file).write_text("wrong")
    with pytest.raises(IrkitError, match="did not take the mail") as caught:
        channels.send(channel, "contained", "critical", ABOUT)
    assert "535 5.7.8" in caught.value.message and "wrong" not in caught.value.message and not box.mails


def test_a_password_is_never_sent_in_plain() -> None:
    text = "apiVersion: irkit/v1\nkind: Config\nnotify: {m: {type: smtp, host: h, from: a@b, to: [c@d], security: none, user: ir}}\n"
    with pytest.raises(PlaybookInvalid, match="in plain"):
        read_config(parse(text.encode(), "c"))
