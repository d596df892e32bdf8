"""How a notification reaches people: webhook, mail (RFC 5322, by SMTP), syslog (RFC 5424); and plain HTTP requests."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from irkit.clock import now
from irkit.config import Channel
from irkit.errors import EngineUnreachable, IrkitError, KeyProblem
from irkit.text import printable

TIMEOUT = 10.0
BODY_LIMIT = 1024 * 1024
FACILITY = 13
"""RFC 5424, table 1: log audit."""
SEVERITIES = {"info": 6, "notice": 5, "warning": 4, "critical": 2}


class Unreachable(EngineUnreachable):
    """Nobody answers at a channel or an address; it may pass, so a step's ``retry`` tries it again."""

    hint = "is the address right, and does it answer from this host?"


def send(channel: Channel, message: str, severity: str, about: Mapping[str, Any]) -> None:
    """Send by a channel's way.  Raises ``Unreachable`` and ``IrkitError``."""
    {"webhook": _webhook, "smtp": _mail, "syslog": _syslog}[channel.type](channel, message, severity, about)


def request(method: str, url: str, body: Mapping[str, Any] | None, token: str = "") -> tuple[int, str]:
    """Status and the first mebibyte of the answer as text.  Follows no redirect.  Raises ``Unreachable``."""
    import requests

    headers = {"User-Agent": "irkit", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with requests.request(
            method, url, json=body, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True
        ) as answer:
            data = answer.raw.read(BODY_LIMIT, decode_content=True)
            return answer.status_code, data.decode("utf-8", "replace")
    except requests.exceptions.InvalidURL as error:
        raise IrkitError(f"{printable(url, 200)} is no address") from error
    except (requests.RequestException, OSError) as error:
        raise Unreachable(f"{printable(url, 200)}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return printable(str(error).rpartition(": ")[2] or type(error).__name__, 200).rstrip("')>")


def _secret(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").partition("\n")[0].strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise KeyProblem(f"can't read the secret in {path}") from error


def _webhook(channel: Channel, message: str, severity: str, about: Mapping[str, Any]) -> None:
    """``text`` is what Slack, Mattermost and Teams' workflows show; the rest is for programs."""
    body = {**about, "time": now(), "severity": severity, "message": message, "text": _sentence(message, about)}
    status, answer = request("POST", channel.url, body, _secret(channel.token_file))
    if not 200 <= status < 300:
        kind = Unreachable if status == 429 or status >= 500 else IrkitError
        raise kind(f"the webhook {channel.name} answered {status}: {printable(answer, 200)}")


def _sentence(message: str, about: Mapping[str, Any]) -> str:
    target = about["target"]
    state = about["quarantine"] or "none"
    return printable(f"{message} (target {target['name']}, case {about['case']}, quarantine: {state})", 1000)


def _mail(channel: Channel, message: str, severity: str, about: Mapping[str, Any]) -> None:
    import smtplib
    import ssl

    mail = EmailMessage()
    mail["From"], mail["To"] = channel.sender, ", ".join(channel.to)
    mail["Subject"] = f"[irkit] {severity}: {printable(message, 150)}"
    mail["X-Irkit-Case"] = about["case"]
    mail.set_content(f"{_sentence(message, about)}\n\n{json.dumps(about, indent=1)}\n")
    try:
        secure = ssl.create_default_context()
        server = (
            smtplib.SMTP_SSL(channel.host, channel.port, timeout=TIMEOUT, context=secure)
            if channel.security == "tls"
            else smtplib.SMTP(channel.host, channel.port, timeout=TIMEOUT)
        )
        with server:
            if channel.security == "starttls":
                server.starttls(context=secure)
            if channel.user:
                server.login(channel.user, _secret(channel.password_file))
            server.send_message(mail)
    except smtplib.SMTPConnectError as error:
        raise Unreachable(f"{channel.host}: {_reason(error)}") from error
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
        raise IrkitError(f"{channel.host} did not take the mail: {error.smtp_code} {printable(said, 200)}") from error
    except smtplib.SMTPException as error:
        raise IrkitError(f"{channel.host} did not take the mail: {_reason(error)}") from error
    except OSError as error:
        raise Unreachable(f"{channel.host}:{channel.port}: {_reason(error)}") from error


def _syslog(channel: Channel, message: str, severity: str, about: Mapping[str, Any]) -> None:
    """One message of RFC 5424; over TCP with its length before it (RFC 6587, 3.4.1)."""
    data = _element({"case": about["case"], "run": about["run"], "target": about["target"]["id"]})
    host = printable(socket.gethostname(), 255) or "-"
    line = f"<{FACILITY * 8 + SEVERITIES[severity]}>1 {now()} {host} irkit {os.getpid()} - {data} {_sentence(message, about)}"
    payload = line.encode("utf-8")
    try:
        if channel.transport == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.settimeout(TIMEOUT)
                link.connect(channel.path)
                link.send(payload)
        elif channel.transport == "tcp":
            with socket.create_connection((channel.host, channel.port), TIMEOUT) as link:
                link.sendall(str(len(payload)).encode() + b" " + payload)
        else:
            family, kind, _, _, address = socket.getaddrinfo(channel.host, channel.port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as link:
                link.connect(address)
                link.send(payload)
    except OSError as error:
        where = channel.path if channel.transport == "unix" else f"{channel.host}:{channel.port}"
        raise Unreachable(f"{where}: {error.strerror or error}") from error


def _element(facts: Mapping[str, str]) -> str:
    """A structured data element; 32473 is the enterprise number for examples (RFC 5612), as irkit has none."""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]") for name, value in facts.items()
    }
    return "[irkit@32473 " + " ".join(f'{name}="{printable(value, 200)}"' for name, value in escaped.items()) + "]"
