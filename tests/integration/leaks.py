"""A victim with real listeners and connections, places around it, and every road between them, tried without irkit's code."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from irkit.netns import in_netns
from irkit.quarantine import sctp

from .conftest import Lab

WAIT = 0.5
UPLINK, OUTSIDE, METADATA = "10.231.79.1", "10.231.79.2", "169.254.169.254"
SUBNET, SUBNET6, VICTIM, PEER = "10.231.93.0/24", "fd93::/64", "10.231.93.10", "10.231.93.20"
OTHERS = {132: "sctp", 253: "protocol 253"}
NAME = b"\x0birkit-probe\x07example\x03com\x00"


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


class Place:
    """Listeners in a namespace: TCP says ``here``, UDP notes what came, and what TCP connections sent."""

    def __init__(self, netns: str | None, udp_port: int = 0) -> None:
        self.netns = netns
        self.seen: set[bytes] = set()
        self.ticks = 0
        self.tcp = in_netns(netns, lambda: self._bind(socket.SOCK_STREAM, 0))
        self.udp = in_netns(netns, lambda: self._bind(socket.SOCK_DGRAM, udp_port))
        self.raw = [one for number in OTHERS for one in in_netns(netns, lambda number=number: self._raw(number))]
        self.tcp.listen(64)
        self.tcp_port, self.udp_port = self.tcp.getsockname()[1], self.udp.getsockname()[1]
        for work in (self._accept, self._receive, *(partial(self._hear, one) for one in self.raw)):
            threading.Thread(target=work, daemon=True).start()

    @staticmethod
    def _bind(kind: socket.SocketKind, port: int) -> socket.socket:
        try:
            made = socket.socket(socket.AF_INET6, kind)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind(("::", port))
        except OSError:
            made = socket.socket(socket.AF_INET, kind)
            made.bind(("0.0.0.0", port))
        return made

    @staticmethod
    def _raw(number: int) -> list[socket.socket]:
        made = [socket.socket(socket.AF_INET, socket.SOCK_RAW, number)]
        with contextlib.suppress(OSError):
            made.append(socket.socket(socket.AF_INET6, socket.SOCK_RAW, number))
        return made

    def _hear(self, sock: socket.socket) -> None:
        """Packets of a protocol that the kernel has nobody for."""
        with contextlib.suppress(OSError):
            while data := sock.recv(2048):
                self.seen.add(data[-12:])

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            peer.sendall(b"here")
            while peer.recv(4096):
                self.ticks += 1

    def _receive(self) -> None:
        while True:
            try:
                data, sender = self.udp.recvfrom(2048)
            except OSError:
                return
            self.seen.add(data)
            if data[12:].startswith(NAME):  # a DNS question: a minimal answer, so that it counts as resolved
                with contextlib.suppress(OSError):
                    answer = (
                        data[:2] + b"\x81\x80" + data[4:6] + b"\x00\x01\x00\x00\x00\x00" + data[12 : 16 + len(NAME)]
                    )
                    self.udp.sendto(
                        answer + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc6\x33\x64\x07", sender
                    )

    def close(self) -> None:
        for sock in (self.tcp, self.udp, *self.raw):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def _socket(address: str, kind: int, device: str, protocol: int = 0) -> tuple[socket.socket, Callable[[int], Any]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind, protocol)
    sock.settimeout(WAIT)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    scope = socket.if_nametoindex(device) if device and address.startswith("fe80:") else 0
    return sock, lambda port: (address, port, 0, scope) if family == socket.AF_INET6 else (address, port)


def tcp(start: str | None, address: str, port: int, device: str = "", say: bytes = b"") -> bool:
    """Whether something there answers with words."""

    def attempt() -> bool:
        sock, where = _socket(address, socket.SOCK_STREAM, device)
        with sock, contextlib.suppress(OSError):
            sock.connect(where(port))
            sock.sendall(say)
            return bool(sock.recv(64))
        return False

    return _tried(start, attempt)


def udp(start: str | None, place: Place, address: str, port: int, device: str = "") -> bool:
    """Whether a datagram arrives."""
    nonce = secrets.token_bytes(12)

    def attempt() -> bool:
        sock, where = _socket(address, socket.SOCK_DGRAM, device)
        with sock:
            for _ in range(2):
                with contextlib.suppress(OSError):
                    sock.sendto(nonce, where(port))
                time.sleep(WAIT / 2)
        return nonce in place.seen

    return _tried(start, attempt)


def other(start: str | None, place: Place, address: str, number: int, device: str = "") -> bool:
    """Whether a packet of another IP protocol arrives: SCTP's INIT, or what no kernel knows (RFC 3692)."""
    nonce = secrets.token_bytes(12)

    def attempt() -> bool:
        sock, where = _socket(address, socket.SOCK_RAW, device, number)
        with sock:
            for _ in range(2):
                with contextlib.suppress(OSError):
                    sock.sendto(sctp.init(9899, nonce) if number == sctp.SCTP else nonce, where(0))
                time.sleep(WAIT / 2)
        return nonce in place.seen

    return _tried(start, attempt)


def icmp(start: str | None, address: str, device: str = "") -> bool:
    """Whether an echo comes back."""
    six = ":" in address
    body = struct.pack(">HH", secrets.randbits(16), 1) + secrets.token_bytes(16)
    data = struct.pack(">BBH", 128 if six else 8, 0, 0) + body
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    data = data[:2] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + data[4:]

    def attempt() -> bool:
        protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        sock, where = _socket(address, socket.SOCK_RAW, device, protocol)
        with sock, contextlib.suppress(OSError):
            sock.sendto(data, where(0))
            end = time.monotonic() + WAIT
            while time.monotonic() < end:
                packet = sock.recv(2048)
                if packet.endswith(body) and packet[0 if six else 20] in (0, 129):
                    return True
        return False

    return _tried(start, attempt)


def frame(start: str, place: Place, address: str, bridge: str, device: str) -> bool:
    """Whether a hand-made frame to the bridge's own hardware address comes through."""
    nonce, target = secrets.token_bytes(12), _mac(bridge)

    def attempt() -> bool:
        data = struct.pack(">HHHH", 5353, place.udp_port, 8 + len(nonce), 0) + nonce
        head = (
            struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, 17, 0)
            + socket.inet_aton("10.255.255.9")
            + socket.inet_aton(address)
        )
        total = sum(struct.unpack(">10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:]
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((device, 0))
            sock.send(target + _mac(device) + b"\x08\x00" + head + data)
        time.sleep(WAIT)
        return nonce in place.seen

    return _tried(start, attempt)


def arp(start: str, address: str, device: str) -> bool:
    """Whether anybody answers ARP for an address."""

    def attempt() -> bool:
        mine = _mac(device)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as sock:
            sock.bind((device, 0x0806))
            sock.settimeout(WAIT)
            body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mine + bytes(4) + bytes(6) + socket.inet_aton(address)
            sock.send(b"\xff" * 6 + mine + b"\x08\x06" + body)
            with contextlib.suppress(OSError):
                while True:
                    data = sock.recv(128)
                    if data[20:22] == b"\x00\x02" and data[28:32] == socket.inet_aton(address):
                        return True
        return False

    return _tried(start, attempt)


def name(start: str, server: str) -> bool:
    """Whether an outside name is resolved."""
    question = secrets.token_bytes(2) + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + NAME + b"\x00\x01\x00\x01"

    def attempt() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.settimeout(WAIT * 2)
            sock.connect((server, 53))
            sock.send(question)
            answer = sock.recv(2048)
            return answer[:2] == question[:2] and answer[3] & 15 == 0 and answer[7] > 0
        return False

    return _tried(start, attempt)


def _mac(interface: str) -> bytes:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return fcntl.ioctl(sock, 0x8927, struct.pack("256s", interface.encode()))[18:24]


def _tried(start: str | None, attempt: Callable[[], bool]) -> bool:
    try:
        return in_netns(start, attempt)
    except OSError:
        return False


@dataclass
class World:
    """The victim ``name`` and its surroundings; ``pid`` its first process."""

    lab: Lab
    name: str
    pid: int
    port: int
    outside_netns: str
    places: dict[str, Place] = field(default_factory=dict)
    held: list[socket.socket] = field(default_factory=list)
    network: str = ""
    neighbour: str = ""
    neighbour_pid: int = 0

    @property
    def netns(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def inspect(self, kind: str, what: str) -> Any:
        return json.loads(self.lab.docker(kind, "inspect", what))[0]

    def device(self) -> str:
        """The victim's interface."""
        names = in_netns(self.netns, socket.if_nameindex)
        return next((one for _, one in names if one != "lo"), "lo")

    def here(self) -> tuple[str, str]:
        """The victim's address in the quarantine, and the bridge."""
        mine = self.inspect("container", self.name)["NetworkSettings"]["Networks"].get(self.network) or {}
        options = self.inspect("network", self.network)["Options"] if self.network else {}
        return mine.get("IPAddress") or "", options.get("com.docker.network.bridge.name", "")

    def join_neighbour(self) -> None:
        """Another container on the quarantine network."""
        self.neighbour = self.lab.run("neighbour", image="irkit-dev/busybox:1", command=("sleep", "600"))
        self.lab.docker("network", "connect", self.network, self.neighbour)
        self.neighbour_pid = int(self.lab.docker("inspect", "-f", "{{.State.Pid}}", self.neighbour))
        self.places["neighbour"] = Place(f"/proc/{self.neighbour_pid}/ns/net")

    def roads(self) -> dict[str, Callable[[], bool]]:
        """Every path by its name; each tells whether it is open."""
        places, inside, device = self.places, self.netns, self.device()
        host, outside, peer, victim = places["host"], places["outside"], places["peer"], places["victim"]
        found: dict[str, Callable[[], bool]] = {}

        def three(label: str, start: str | None, place: Place, address: str, by: str = "") -> None:
            found[f"{label}, tcp"] = lambda: tcp(start, address, place.tcp_port, by)
            found[f"{label}, udp"] = lambda: udp(start, place, address, place.udp_port, by)
            found[f"{label}, icmp"] = lambda: icmp(start, address, by)
            for number, called in OTHERS.items():
                found[f"{label}, {called}"] = lambda number=number: other(start, place, address, number, by)

        for label, address in (("gateway", "10.231.93.1"), ("host uplink", UPLINK), ("gateway v6", "fd93::1")):
            three(f"out: {label}", inside, host, address)
            three(f"out: {label} by {device}", inside, host, address, device)
        three("out: old peer", inside, peer, PEER)
        three("out: outside", inside, outside, OUTSIDE)
        three("out: metadata", inside, outside, METADATA)
        found["out: name by the engine's DNS"] = lambda: name(inside, "127.0.0.11")
        found["out: name by an outside server"] = lambda: name(inside, OUTSIDE)
        found["in: published tcp"] = lambda: tcp(None, "127.0.0.1", self.port, say=b"GET / HTTP/1.0\r\n\r\n")
        found["in: published tcp from outside"] = lambda: tcp(
            self.outside_netns, UPLINK, self.port, say=b"GET / HTTP/1.0\r\n\r\n"
        )
        found["in: published udp"] = lambda: udp(None, victim, "127.0.0.1", self.port)
        found["in: published udp from outside"] = lambda: udp(self.outside_netns, victim, UPLINK, self.port)
        three("in: host to old address", None, victim, VICTIM)
        three("in: old peer to old address", peer.netns, victim, VICTIM)
        three("in: outside to old address", self.outside_netns, victim, VICTIM)
        found["held: victim to peer"] = lambda: self._ticking(peer)
        found["held: victim to outside"] = lambda: self._ticking(outside)
        found["held: outside to published port"] = self._still_served
        if self.network:
            address, bridge = self.here()
            if address:
                three("in: host to quarantine address", None, victim, address, bridge)
                three("in: old peer to quarantine address", peer.netns, victim, address)
            for own in ("10.231.93.1", UPLINK):
                found[f"out: raw frame to {own}"] = lambda own=own: frame(inside, host, own, bridge, device)
                found[f"out: arp for {own}"] = lambda own=own: arp(inside, own, device)
            gateway = self.inspect("network", self.network)["IPAM"]["Config"][0].get("Gateway")
            if gateway:
                three("out: quarantine gateway", inside, host, gateway)
            local = self._link_local(bridge)
            if local:
                three("out: bridge link-local", inside, host, local, device)
        if self.neighbour:
            theirs = self.inspect("container", self.neighbour)["NetworkSettings"]["Networks"][self.network]["IPAddress"]
            three("out: quarantined neighbour", inside, places["neighbour"], theirs)
            three("in: quarantined neighbour", places["neighbour"].netns, victim, self.here()[0])
        return found

    def _ticking(self, place: Place) -> bool:
        before = place.ticks
        time.sleep(WAIT * 2)
        return place.ticks > before

    def _still_served(self) -> bool:
        sock = self.held.pop(0)  # the server closes each after its answer
        with contextlib.suppress(OSError):
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(sock.recv(64))
        return False

    @staticmethod
    def _link_local(bridge: str) -> str:
        for line in open("/proc/net/if_inet6").read().splitlines():  # noqa: SIM115
            fields = line.split()
            if fields[5] == bridge and fields[0].startswith("fe80"):
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
        return ""

    def opened(self, *wanted: str) -> set[str]:
        """The names of all paths that are open now; those that should be are tried again, as a busy machine is slow."""
        found = self.open_roads()
        roads = self.roads()
        for _ in range(5):
            found |= {label for label in wanted if label not in found and roads[label]()}
        return found

    def open_roads(self) -> set[str]:
        """The names of all paths that are open now."""
        roads = self.roads()
        with ThreadPoolExecutor(24) as pool:
            outcomes = dict(zip(roads, pool.map(lambda try_: try_(), roads.values()), strict=True))
        return {label for label, reached in outcomes.items() if reached}


@contextlib.contextmanager
def world(lab: Lab) -> Iterator[World]:
    """The victim on an IPv4 and IPv6 network, ports published, with a peer, an outside host and connections to both."""
    space, cable = f"out-{lab.token}", f"u{lab.token[:6]}"
    with contextlib.ExitStack() as stack:
        sh("ip", "netns", "add", space)
        stack.callback(subprocess.run, ["ip", "netns", "del", space], check=False)
        stack.callback(subprocess.run, ["ip", "link", "del", cable], check=False)  # open sockets keep a namespace alive
        for words in (
            f"ip link add {cable} type veth peer name eth9 netns {space}", f"ip addr add {UPLINK}/24 dev {cable}", f"ip link set {cable} up",
            f"ip -n {space} addr add {OUTSIDE}/24 dev eth9", f"ip -n {space} addr add {METADATA}/32 dev eth9", f"ip -n {space} link set eth9 up",
            f"ip -n {space} link set lo up", f"ip -n {space} route add default via {UPLINK}", f"ip route replace {METADATA} via {OUTSIDE}",
        ):  # fmt: skip
            sh(*words.split())
        stack.callback(subprocess.run, ["ip", "route", "del", METADATA], check=False, stderr=subprocess.DEVNULL)
        net = lab.network("app", "--subnet", SUBNET, "--ipv6", "--subnet", SUBNET6)
        places = {"host": Place(None), "outside": Place(f"/run/netns/{space}")}
        dns = Place(f"/run/netns/{space}", 53)
        peer = lab.run("peer", "--network", net, "--ip", PEER, image="irkit-dev/busybox:1", command=("sleep", "600"))
        places["peer"] = Place(f"/proc/{lab.docker('inspect', '-f', '{{.State.Pid}}', peer)}/ns/net")
        port = _free()
        command = (
            f"while :; do echo tick; sleep 0.1; done | busybox nc {PEER} {places['peer'].tcp_port} >/dev/null & "
            f"while :; do echo tick; sleep 0.1; done | busybox nc {OUTSIDE} {places['outside'].tcp_port} >/dev/null & "
            "exec busybox httpd -f -p 8080 -h /srv/www"
        )
        victim = lab.run(
            "victim", "--network", net, "--ip", VICTIM, "--dns", OUTSIDE, "-p", f"{port}:8080/tcp", "-p", f"{port}:9999/udp", "--cap-add", "NET_RAW",
            command=("sh", "-c", command),
        )  # fmt: skip
        made = World(
            lab, victim, int(lab.docker("inspect", "-f", "{{.State.Pid}}", victim)), port, f"/run/netns/{space}", places
        )
        places["victim"] = Place(made.netns, 9999)
        for place in (*places.values(), dns):
            stack.callback(place.close)
        stack.callback(lambda: made.places["neighbour"].close() if "neighbour" in made.places else None)
        made.held += [_held(made), _held(made)]
        for _ in range(8):  # duplicate address detection takes a second or two (RFC 4862)
            if tcp(made.netns, "fd93::1", places["host"].tcp_port):
                break
        for sock in made.held:
            stack.callback(sock.close)
        yield made


def _held(made: World) -> socket.socket:
    """A connection from outside to the published port, open and idle."""
    for _ in range(50):
        try:
            sock = in_netns(made.outside_netns, lambda: socket.create_connection((UPLINK, made.port), WAIT))
        except OSError:
            time.sleep(0.1)
            continue
        return sock
    raise AssertionError("the victim's published port does not answer")


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_root() -> bool:
    return os.geteuid() == 0
