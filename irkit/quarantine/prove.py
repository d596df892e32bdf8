"""The proof: tries to get out of the quarantine and into it, from the host, with nothing run in the container."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from irkit.clock import now
from irkit.engine.interface import PortBinding
from irkit.models import Probe
from irkit.quarantine.netns import default_gateways, in_netns, interfaces, local_ipv4, local_ipv6
from irkit.quarantine.tries import Answerer, Try, run_tries

METADATA = "169.254.169.254"
OUTSIDE = "198.51.100.1"
"""TEST-NET-2 (RFC 5737): nobody is there, so the probe can show the lack of a route, and never disturbs anyone."""
TIMEOUT = 1.0
DNS_SERVER = "127.0.0.11"
OUTSIDE_NAME = "irkit-probe.example.com"


@dataclass(frozen=True, slots=True)
class Peer:
    """A container that shared a network with the target."""

    name: str
    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the probes need to know.

    ``old``: the target's former addresses with the bridge they were on; ``bridge``: the quarantine's; ``addresses``:
    the target's addresses on it.
    """

    pid: int
    bridge: str
    addresses: tuple[str, ...]
    old: tuple[tuple[str, str], ...] = ()
    gateways: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    outside: str = OUTSIDE
    outside_port: int = 443


@dataclass(frozen=True, slots=True)
class Proof:
    """``state``: proven, unproven, frozen-only or open."""

    state: str
    probes: tuple[Probe, ...]


def judge(probes: Iterable[Probe]) -> str:
    """``open`` when one was reached, ``unproven`` when one is unknown or there are none, else ``proven``."""
    results = [probe.result for probe in probes]
    if "reached" in results:
        return "open"
    return "proven" if results and set(results) == {"blocked"} else "unproven"


def prove(scene: Scene, timeout: float = TIMEOUT) -> Proof:
    """Try everything at once.  Takes a tenth of a second, ``timeout`` at most; what can't be tried is ``unknown``."""
    try:
        return _prove(scene, timeout)
    except OSError as error:
        detail = f"the probes could not run: {error.strerror or error}"
        return Proof("unproven", (Probe("network namespace of the target", "out", "unknown", detail, now()),))


def _prove(scene: Scene, timeout: float) -> Proof:
    victim = f"/proc/{scene.pid}/ns/net"
    with contextlib.ExitStack() as stack:

        def answerer(netns: str | None) -> Answerer:
            made = Answerer(netns)
            stack.callback(made.close)
            return made

        host, inside = answerer(None), answerer(victim)
        tries = [
            *_host_tries(scene, victim, host),
            *_nowhere_tries(scene, victim),
            *_inward_tries(scene, victim, inside),
            *_port_tries(scene),
        ]
        answerers, lost = [host, inside], []
        for peer in scene.peers:
            try:
                theirs = answerer(f"/proc/{peer.pid}/ns/net")
            except OSError as error:
                lost.append(
                    Probe(
                        f"old peer {peer.name}",
                        "out",
                        "unknown",
                        f"its network namespace can't be entered: {error.strerror}",
                        now(),
                    )
                )
                continue
            answerers.append(theirs)
            tries += _peer_tries(scene, victim, peer, theirs, inside)
        sniffed = _UdpProbe(scene, victim)
        stack.callback(sniffed.close)
        sniffed.send()
        dns = _DnsProbe(victim)
        stack.callback(dns.close)
        run_tries(tries, answerers, timeout)
        probes = [one.probe() for one in tries if one.direction != "control"]
        probes += [*_same_host(scene), *lost, *sniffed.probes(), *dns.probes()]
    return Proof(judge(probes), tuple(probes))


def _devices(scene: Scene) -> list[str]:
    """Unbound, as an attacker without privileges would; and bound to each interface, as one with NET_RAW could."""
    return ["", *interfaces(_read(f"/proc/{scene.pid}/net/dev"))]


def _control(netns: str | None, own: Answerer, address: str = "127.0.0.1") -> Try:
    return Try("control", "control", address, own.port, netns=netns, expect=own.nonce)


def _host_tries(scene: Scene, victim: str, host: Answerer) -> list[Try]:
    """To every address of the host, the gateways among them, where irkit itself listens."""
    control = _control(None, host)
    tries = [control]
    own = local_ipv4(_read("/proc/thread-self/net/fib_trie"))
    targets = [(f"host address {address}", address, "") for address in own]
    targets += [(f"gateway {address}", address, "") for address in scene.gateways if address not in own]
    for address, interface in local_ipv6(_read("/proc/thread-self/net/if_inet6")):
        if not address.startswith("fe80:"):
            targets.append((f"host address {address}", address, ""))
        elif interface == scene.bridge:
            targets.append((f"bridge link-local {address}", address, "link"))
    for device in _devices(scene):
        for label, address, scope in targets:
            if not (scope and not device):
                tries.append(_out(label, address, host, victim, device, control, scope=device if scope else ""))
    return tries


def _out(label: str, address: str, to: Answerer, victim: str, device: str, control: Try, scope: str = "") -> Try:
    path = f"{label} by {device}" if device else label
    return Try(
        path,
        "out",
        address,
        to.port,
        netns=victim,
        device=device,
        scope=scope,
        expect=to.nonce,
        control=control,
    )


def _nowhere_tries(scene: Scene, victim: str) -> list[Try]:
    """To the metadata service and an outside address: silence counts only when nobody even answered ARP."""
    found = []
    for device in _devices(scene):
        for label, address, port in (
            ("metadata service", METADATA, 80),
            ("outside", scene.outside, scene.outside_port),
        ):
            path = f"{label} {address}" + (f" by {device}" if device else "")
            found.append(
                Try(
                    path,
                    "out",
                    address,
                    port,
                    netns=victim,
                    device=device,
                    silent=_nobody_home(scene.pid, address, device),
                )
            )
    return found


def _nobody_home(pid: int, address: str, device: str) -> Callable[[], str]:
    """Silence is a proof when the next hop, the address itself or the default gateway, did not even answer ARP."""

    def explain() -> str:
        gateways = default_gateways(_read(f"/proc/{pid}/net/route"))
        for line in _read(f"/proc/{pid}/net/arp").splitlines()[1:]:
            fields = line.split()
            if len(fields) != 6 or fields[2] != "0x0" or (device and fields[5] != device):
                continue
            if (fields[0], fields[5]) in gateways:
                return f"the way out is by {fields[0]} on {fields[5]}, and nobody answers ARP for it"
            if fields[0] == address:
                return f"nobody on {fields[5]} answers ARP for it"
        return ""

    return explain


def _inward_tries(scene: Scene, victim: str, inside: Answerer) -> list[Try]:
    """From the host to the target's addresses, old and new, where irkit listens inside its namespace."""
    control = _control(victim, inside)
    tries = [control]
    routes = [(address, scene.bridge) for address in scene.addresses] + list(scene.old)
    for address, bridge in routes:
        if address and _exists(bridge):
            tries.append(
                Try(
                    f"host to {address} by {bridge}",
                    "in",
                    address,
                    inside.port,
                    device=bridge,
                    expect=inside.nonce,
                    control=control,
                )
            )
    return tries


def _peer_tries(scene: Scene, victim: str, peer: Peer, theirs: Answerer, inside: Answerer) -> list[Try]:
    """To an old peer and from it, with irkit's own listeners at both ends."""
    netns = f"/proc/{peer.pid}/ns/net"
    alive, here = _control(netns, theirs), _control(victim, inside)
    tries = [alive, here]
    for device in _devices(scene):
        tries.append(_out(f"old peer {peer.name} {peer.address}", peer.address, theirs, victim, device, alive))
    for address, _ in scene.old:
        if address:
            path = f"old peer {peer.name} to {address}"
            tries.append(Try(path, "in", address, inside.port, netns=netns, expect=inside.nonce, control=here))
    return tries


def _port_tries(scene: Scene) -> list[Try]:
    """From the host to every port that was published: nobody may listen there any more."""
    tries = []
    own = local_ipv4(_read("/proc/thread-self/net/fib_trie"))
    for port in scene.ports:
        if port.protocol != "tcp":
            continue
        for address in _listening(port, own):
            tries.append(
                Try(
                    f"published port {_shown(address, port.host_port)}/tcp",
                    "in",
                    address,
                    port.host_port,
                    refused="blocked",
                )
            )
    return tries


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _listening(port: PortBinding, own: list[str]) -> list[str]:
    if port.host_ip in ("", "0.0.0.0"):  # noqa: S104
        return ["127.0.0.1", *own]
    return ["::1"] if port.host_ip == "::" else [port.host_ip]


def _same_host(scene: Scene) -> list[Probe]:
    """Probes "from the host" mean something only in the namespace where the engine's bridges are."""
    if not scene.bridge or _exists(scene.bridge):
        return []
    detail = f"the bridge {scene.bridge} is not in irkit's network namespace: run irkit where the engine runs"
    return [Probe("irkit and the engine share a network", "in", "unknown", detail, now())]


def _exists(interface: str) -> bool:
    try:
        return bool(interface) and socket.if_nametoindex(interface) > 0
    except OSError:
        return False


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


class _UdpProbe:
    """UDP has no handshake: datagrams go to the published ports, and a packet socket inside watches for their nonce."""

    def __init__(self, scene: Scene, victim: str) -> None:
        self.ports = [port for port in scene.ports if port.protocol == "udp"]
        self.nonce = b"irkit " + secrets.token_hex(16).encode()
        self.begun = now()
        self.error = ""
        self.sniffer: socket.socket | None = None
        if self.ports:
            try:
                self.sniffer = in_netns(
                    victim,
                    lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3)),
                )
            except OSError as error:
                self.error = error.strerror or str(error)

    def send(self) -> None:
        """One datagram to every address that a port was published on."""
        own = local_ipv4(_read("/proc/thread-self/net/fib_trie"))
        for number, port in enumerate(self.ports):
            for address in _listening(port, own):
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


class _DnsProbe:
    """The engine's own DNS server can forward names to the outside even from an internal network (CVE-2024-29018)."""

    def __init__(self, victim: str) -> None:
        self.begun, self.started = now(), time.monotonic()
        self.query_id = secrets.randbits(16)
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
