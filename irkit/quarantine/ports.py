"""The ports that were published: nobody on the host may listen there any more, and no datagram come through."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from irkit.clock import now
from irkit.engine.interface import PortBinding
from irkit.home import random_name
from irkit.models import Probe
from irkit.netns import in_netns, local_ipv4, local_ipv6
from irkit.quarantine.procfs import read
from irkit.quarantine.scene import Scene, shown
from irkit.quarantine.sctp import init, sender
from irkit.quarantine.tries import Try

INSIDE_SECONDS = 0.2
SOL_PACKET, PACKET_STATISTICS = 263, 6


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
        if port.protocol == "tcp" and port not in scene.taken
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
    """UDP and SCTP: datagrams and INITs go to the published ports, and a packet socket inside watches for their nonce."""

    def __init__(self, scene: Scene) -> None:
        self.ports = [port for port in scene.ports if port.protocol in ("udp", "sctp")]
        self.nonce = b"irkit " + random_name(16).encode()
        self.begun = now()
        self.error = ""
        self.sniffer: socket.socket | None = None
        if self.ports:
            try:
                self.sniffer = in_netns(scene.victim, _sniffer)
            except OSError as error:
                self.error = error.strerror or str(error)

    def send(self) -> None:
        """One packet to every address that a port was published on."""
        for number, port in enumerate(self.ports):
            for address in listening(port):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with contextlib.suppress(OSError):
                    if port.protocol == "sctp":
                        with sender(family, "") as sock:
                            sock.sendto(init(port.host_port, self._mark(number)), (address, 0))
                        continue
                    with socket.socket(family, socket.SOCK_DGRAM) as sock:
                        sock.sendto(self._mark(number), (address, port.host_port))

    def _mark(self, number: int) -> bytes:
        return self.nonce + b" %d." % number

    def probes(self) -> list[Probe]:
        """One probe a port."""
        seen = self._drain()
        lost = lost_frames(self.sniffer) if self.sniffer is not None else 0
        found = []
        for number, port in enumerate(self.ports):
            result, detail = ("blocked", "no datagram came through")
            if self.error:
                result, detail = "unknown", f"no packet socket could be opened: {self.error}"
            elif self._mark(number) in seen:
                result, detail = "reached", "a datagram came through"
            elif lost:
                result, detail = "unknown", f"{lost} frames in the namespace were lost before they were looked at"
            found.append(Probe(f"published port {port.host_port}/{port.protocol}", "in", result, detail, self.begun))
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


class TakenPorts:
    """TCP ports that another container has now: it may answer, but nothing of it may arrive in the target's namespace."""

    def __init__(self, scene: Scene) -> None:
        self.ports = [port for port in scene.taken if port.protocol == "tcp"]
        self.heir = scene.heir
        self.begun = now()
        self.error = ""
        self.answers: dict[PortBinding, int] = {}
        self.lost = 0
        self.sniffer: socket.socket | None = None
        if self.ports:
            try:
                self.sniffer = in_netns(scene.victim, _sniffer)
            except OSError as error:
                self.error = error.strerror or str(error)

    def send(self) -> None:
        """One connection to every address that a port is published on."""
        for port in self.ports:
            for address in listening(port):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as sock:
                    sock.settimeout(INSIDE_SECONDS)
                    if sock.connect_ex((address, port.host_port)) == 0:
                        self.answers[port] = self.answers.get(port, 0) + 1

    def probes(self) -> list[Probe]:
        """One probe a port."""
        arrived = self._arrived()
        return [
            Probe(
                f"published port {port.host_port}/tcp, now of {self.heir}",
                "in",
                *self._verdict(port, arrived),
                self.begun,
            )
            for port in self.ports
        ]

    def _verdict(self, port: PortBinding, arrived: set[int]) -> tuple[str, str]:
        if self.error:
            return "unknown", f"no packet socket could be opened: {self.error}"
        if port.container_port in arrived:
            return "reached", "a connection to it arrived in the target's namespace"
        if self.lost:
            return "unknown", f"{self.lost} frames in the target's namespace were lost before they were looked at"
        answered = f"{self.answers[port]} connections were answered" if port in self.answers else "nobody answered"
        return "blocked", f"{answered}, and none of them arrived in the target's namespace"

    def _arrived(self) -> set[int]:
        """The ports that segments arrived for by any interface but the loopback."""
        found: set[int] = set()
        while self.sniffer is not None:
            try:
                frame, where = self.sniffer.recvfrom(256)
            except OSError:
                break
            if where[0] != "lo":
                found |= tcp_port(frame)
        self.lost = lost_frames(self.sniffer) if self.sniffer is not None else 0
        return found

    def close(self) -> None:
        """Close the packet socket."""
        if self.sniffer is not None:
            self.sniffer.close()


def lost_frames(sniffer: socket.socket) -> int:
    """How many frames a packet socket dropped as its buffer was full: a flood would hide what matters (packet(7), ``PACKET_STATISTICS``)."""
    _, dropped = struct.unpack("II", sniffer.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return int(dropped)


def _sniffer() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))


def tcp_port(frame: bytes) -> set[int]:
    """The destination port of an Ethernet frame's TCP segment (IPv4, RFC 791; IPv6 without extensions, RFC 8200), if it is one."""
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and len(packet) >= 20 and packet[9] == socket.IPPROTO_TCP:
        segment = packet[(packet[0] & 15) * 4 :]
    elif kind == b"\x86\xdd" and len(packet) >= 40 and packet[6] == socket.IPPROTO_TCP:
        segment = packet[40:]
    else:
        return set()
    return {int.from_bytes(segment[2:4], "big")} if len(segment) >= 4 else set()
