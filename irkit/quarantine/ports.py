"""The ports that were published: nobody on the host may listen there any more, and no datagram come through."""

from __future__ import annotations

import contextlib
import errno
import socket

from irkit.clock import now
from irkit.engine.interface import PortBinding
from irkit.home import random_name
from irkit.models import Probe
from irkit.netns import in_netns, local_ipv4, local_ipv6
from irkit.quarantine.procfs import read
from irkit.quarantine.scene import Scene, shown
from irkit.quarantine.tries import Try

INSIDE_SECONDS = 0.2


def port_tries(scene: Scene) -> list[Try]:
    """From the host to every TCP port that was published."""
    return [
        Try(
            f"published port {shown(address, port.host_port)}/tcp",
            "in",
            address,
            port.host_port,
            refused="blocked",
            silent=lambda port=port: _answers_inside(scene, port),  # type: ignore[misc]
        )
        for port in scene.ports
        if port.protocol == "tcp"
        for address in listening(port)
    ]


def _answers_inside(scene: Scene, port: PortBinding) -> str:
    """Silence from outside is a proof when the same port does answer inside: its kernel, even while it is frozen."""

    def attempt() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(INSIDE_SECONDS)
            number = sock.connect_ex(("127.0.0.1", port.container_port))
        return {0: "connected", errno.ECONNREFUSED: "refused"}.get(number, "")

    try:
        outcome = in_netns(scene.victim, attempt)
    except OSError:
        return ""
    return f"inside the namespace port {port.container_port} answers: {outcome}" if outcome else ""


def listening(port: PortBinding) -> list[str]:
    """The host's addresses on which a port was published."""
    if port.host_ip in ("", "0.0.0.0"):  # noqa: S104
        return ["127.0.0.1", *local_ipv4(read("/proc/thread-self/net/fib_trie"))]
    if port.host_ip == "::":
        own = [address for address, _ in local_ipv6(read("/proc/thread-self/net/if_inet6"))]
        return ["::1", *(address for address in own if not address.startswith("fe80:"))]
    return [port.host_ip]


class UdpPorts:
    """UDP has no handshake: datagrams go to the published ports, and a packet socket inside watches for their nonce."""

    def __init__(self, scene: Scene) -> None:
        self.ports = [port for port in scene.ports if port.protocol == "udp"]
        self.nonce = b"irkit " + random_name(16).encode()
        self.begun = now()
        self.error = ""
        self.sniffer: socket.socket | None = None
        if self.ports:
            try:
                self.sniffer = in_netns(
                    scene.victim,
                    lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3)),
                )
            except OSError as error:
                self.error = error.strerror or str(error)

    def send(self) -> None:
        """One datagram to every address that a port was published on."""
        for number, port in enumerate(self.ports):
            for address in listening(port):
                with (
                    contextlib.suppress(OSError),
                    socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock,
                ):
                    sock.sendto(self._mark(number), (address, port.host_port))

    def _mark(self, number: int) -> bytes:
        return self.nonce + b" %d." % number

    def probes(self) -> list[Probe]:
        """One probe a port."""
        seen = self._drain()
        found = []
        for number, port in enumerate(self.ports):
            result, detail = ("blocked", "no datagram came through")
            if self.error:
                result, detail = "unknown", f"no packet socket could be opened: {self.error}"
            elif self._mark(number) in seen:
                result, detail = "reached", "a datagram came through"
            found.append(Probe(f"published port {port.host_port}/udp", "in", result, detail, self.begun))
        return found

    def _drain(self) -> bytes:
        frames = b""
        while self.sniffer is not None:
            try:
                frames += self.sniffer.recv(65536)
            except OSError:
                break
        return frames

    def close(self) -> None:
        """Close the packet socket."""
        if self.sniffer is not None:
            self.sniffer.close()
