"""The engine's DNS: it can forward names to the outside even from an internal network (CVE-2024-29018)."""

from __future__ import annotations

import os
import re
import socket
import struct
import time

from irkit.clock import now
from irkit.models import Probe
from irkit.netns import in_netns

DNS_SERVER = "127.0.0.11"
OUTSIDE_NAME = "irkit-probe.example.com"
NAMESERVER = re.compile(r"^nameserver[ \t]+([0-9A-Fa-f.:]{2,39})[ \t]*$", re.MULTILINE)
LIMIT = 4


def nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The first addresses of a ``resolv.conf``, which the container may have written; the engine's own is left out."""
    found: list[str] = []
    for text in NAMESERVER.findall(resolv_conf):
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        try:
            address = socket.inet_ntop(family, socket.inet_pton(family, text))
        except OSError:
            continue
        if not address.startswith("127.") and address != "::1" and address not in found:
            found.append(address)
    return tuple(found[:LIMIT])


class EngineDns:
    """One question for a name outside, asked inside the target's namespace."""

    def __init__(self, victim: str) -> None:
        self.begun, self.started = now(), time.monotonic()
        self.query_id = int.from_bytes(os.urandom(2))
        self.error = ""
        self.sock: socket.socket | None = None
        try:
            self.sock = in_netns(victim, self._ask)
        except ConnectionRefusedError:
            self.error = "refused"
        except OSError as error:
            self.error = error.strerror or str(error)

    def _ask(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((DNS_SERVER, 53))
        name = b"".join(bytes([len(part)]) + part.encode() for part in OUTSIDE_NAME.split("."))
        sock.send(struct.pack(">6H", self.query_id, 0x0100, 1, 0, 0, 0) + name + b"\0" + struct.pack(">2H", 1, 1))
        return sock

    def probes(self) -> list[Probe]:
        """One probe.  Called when the other tries are over, so that an answer had time to come."""
        result, detail = self._verdict()
        spent = (time.monotonic() - self.started) * 1000
        return [Probe(f"outside name {OUTSIDE_NAME} by the engine's DNS", "out", result, detail, self.begun, spent)]

    def _verdict(self) -> tuple[str, str]:
        if self.error:
            return ("blocked", "nobody listens there") if self.error == "refused" else ("unknown", self.error)
        try:
            assert self.sock is not None  # noqa: S101 - set whenever there is no error
            answer = self.sock.recv(2048)
        except ConnectionRefusedError:
            return "blocked", "nobody listens there"
        except BlockingIOError:
            return "blocked", "the engine's DNS has no answer for it"
        except OSError as error:
            return "unknown", error.strerror or str(error)
        code = answer[3] & 15 if len(answer) >= 4 else -1
        if code in (2, 5):
            return (
                "blocked",
                f"the engine's DNS says {'SERVFAIL' if code == 2 else 'REFUSED'}: it did not ask anybody outside",
            )
        return "reached", f"an answer from outside came back (response code {code})"

    def close(self) -> None:
        """Close the socket."""
        if self.sock is not None:
            self.sock.close()
