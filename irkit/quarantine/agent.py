"""What runs in a helper container: sockets and small files of ``/proc``, and no judgement.

irkit hands this file's text to ``python3 -I -S -c`` of a trusted image, so it needs Python 3.7 and nothing of irkit.
``serve`` listens in the namespace that the helper shares and notes the tokens that come; ``facts`` reads what the
namespace looks like; ``probe`` makes tries.  Requests and answers are JSON (:mod:`irkit.quarantine.helpers`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import socket
import struct
import sys
import time

STATE = "/dev/shm/irkit.json"  # noqa: S108 - a file system of the helper's own
TOKEN = re.compile(rb"irkit-[0-9a-f]{32}")
SEEN, CONNECTIONS, TEXT = 4096, 256, 1048576
SHORT = 64
"""Bytes that are answered at most: an answer is longer, so that two listeners never answer each other."""
FILES = ("fib_trie", "if_inet6", "dev", "route", "ipv6_route", "tcp", "tcp6", "udp", "udp6")
OUTGOING = 4
"""``PACKET_OUTGOING`` of packet(7): what leaves by the interface is not what came."""
BIND_TO_DEVICE = 25
READY = 5.0


# -- listening ----------------------------------------------------------------------------------------------------


def bound(kind: int) -> socket.socket:
    """A socket on every address of the namespace, both families where there are two."""
    try:
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", 0))
    except OSError:
        made = socket.socket(socket.AF_INET, kind)
        made.bind(("0.0.0.0", 0))  # noqa: S104 - the point is to be reachable on every address, for a moment
    made.setblocking(False)
    return made


def ears(sniff: bool) -> list[socket.socket]:
    """ICMP in both families, and with ``sniff`` every frame that comes in."""
    wanted = [
        (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    ]
    if sniff:
        wanted.append((socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    made = []
    for family, kind, protocol in wanted:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            continue
        sock.setblocking(False)
        made.append(sock)
    return made


def serve(seconds: float, sniff: bool, state: str = STATE) -> None:
    """Answer TCP and UDP with a nonce, and note every token that comes, for so many seconds."""
    nonce = b"irkit-" + os.urandom(16).hex().encode()
    tcp, udp, raw = bound(socket.SOCK_STREAM), bound(socket.SOCK_DGRAM), ears(sniff)
    tcp.listen(CONNECTIONS)
    seen: set[str] = set()
    links: list[socket.socket] = []
    note = {
        "nonce": nonce.decode(), "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1],
        "sniffs": any(one.family == socket.AF_PACKET for one in raw), "seen": [],
    }  # fmt: skip
    save(state, note)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ready, _, _ = select.select([tcp, udp, *raw, *links], [], [], max(0.0, end - time.monotonic()))
        before = len(seen)
        for sock in ready:
            data = welcome(tcp, links, nonce) if sock is tcp else hear(sock, nonce if sock is udp else b"")
            if sock in links and not data:
                links.remove(sock)
                sock.close()
            while len(links) > CONNECTIONS:
                links.pop(0).close()
            if len(seen) < SEEN:
                seen.update(one.decode() for one in TOKEN.findall(data))
        if len(seen) != before:
            note["seen"] = sorted(seen)
            save(state, note)


def welcome(tcp: socket.socket, links: list[socket.socket], nonce: bytes) -> bytes:
    """Take a connection and send the nonce; what the other side says comes later."""
    with contextlib.suppress(OSError):
        link, _ = tcp.accept()
        link.setblocking(False)
        links.append(link)
        link.send(nonce + b"\n")
    return b""


def hear(sock: socket.socket, nonce: bytes) -> bytes:
    """What came, answered if there is a nonce.  That an answer can't be sent makes what came no less true."""
    try:
        data, sender = sock.recvfrom(65536)
    except OSError:
        return b""
    if sock.family == socket.AF_PACKET and sender[2] == OUTGOING:
        return b""
    if nonce and len(data) <= SHORT:
        with contextlib.suppress(OSError):
            sock.sendto(nonce + b" " + data, sender)
    return data


def save(path: str, note: object) -> None:
    """Whole or not at all."""
    with open(path + ".new", "w") as file:  # noqa: PTH123
        json.dump(note, file)
    os.rename(path + ".new", path)  # noqa: PTH104


def listening(path: str = STATE) -> dict:  # type: ignore[type-arg]
    """What ``serve`` has noted so far; waits for it to have begun."""
    end = time.monotonic() + READY
    while True:
        try:
            with open(path) as file:  # noqa: PTH123
                return json.load(file)  # type: ignore[no-any-return]
        except (OSError, ValueError):
            if time.monotonic() > end:
                return {}
            time.sleep(0.02)


# -- looking ------------------------------------------------------------------------------------------------------


def facts() -> dict:  # type: ignore[type-arg]
    """The namespace's own tables as the kernel prints them, its hardware addresses, and who listens for irkit."""
    names = [name for _, name in socket.if_nameindex()]
    return {
        "net": {name: text("/proc/self/net/" + name) for name in FILES},
        "macs": {name: text(f"/sys/class/net/{name}/address").strip() for name in names},
        "resolv": text("/etc/resolv.conf"), "tables": text("/proc/self/net/ip_tables_names") + text("/proc/self/net/ip6_tables_names"),
        "server": listening(), "order": sys.byteorder,
    }  # fmt: skip


def text(path: str) -> str:
    """The beginning of a file; empty when it can't be read."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123
            return file.read(TEXT)
    except OSError:
        return ""


def neighbours() -> list:  # type: ignore[type-arg]
    """``[interface, address, state]`` of each row of the kernel's ARP and NDP tables (rtnetlink(7))."""
    names, rows = dict(socket.if_nameindex()), []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            link.settimeout(0.5)
            link.send(struct.pack("=IHHIIBBHiHBB", 28, 30, 0x301, 1, 0, family, 0, 0, 0, 0, 0, 0))
            done = False
            while not done:
                data, at = link.recv(1 << 20), 0
                while at + 16 <= len(data):
                    length, kind = struct.unpack_from("=IH", data, at)
                    if length < 16 or kind == 3:
                        done = True
                        break
                    if kind == 28 and length >= 28:
                        rows += row(data[at : at + length], family, names)
                    at += (length + 3) & ~3
            link.close()
        except OSError:
            continue
    return rows


def row(message: bytes, family: int, names: dict) -> list:  # type: ignore[type-arg]
    """One ``RTM_NEWNEIGH`` message: its address is the attribute ``NDA_DST``."""
    _, _, _, index, state, _, _ = struct.unpack_from("=BBHiHBB", message, 16)
    at = 28
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4:
            break
        if kind == 1 and length - 4 == (4 if family == socket.AF_INET else 16):
            return [[names.get(index, ""), socket.inet_ntop(family, message[at + 4 : at + length]), state]]
        at += (length + 3) & ~3
    return []


# -- trying -------------------------------------------------------------------------------------------------------


class Attempt:
    """One try.  ``outcome``: pending, connected, answered, refused, silent, sent, bound, error (``at`` setup or send)."""

    def __init__(self, asked: dict) -> None:  # type: ignore[type-arg]
        self.kind, self.address, self.port = asked["kind"], asked.get("address", ""), asked.get("port", 0)
        self.device, self.token = asked.get("device", ""), asked.get("token", "").encode()
        self.data = bytes.fromhex(asked.get("data", "")) or self.token
        self.expect = asked.get("expect", "").encode()
        self.outcome, self.name, self.at, self.answer = "pending", "", "", b""
        self.sock: socket.socket | None = None
        self.started, self.ended = time.monotonic(), 0.0
        self.connecting = False
        self.six = ":" in self.address
        self.begin()

    def begin(self) -> None:
        """Make the socket, and send or connect."""
        stage = "setup"
        try:
            self.sock = sock = self.make()
            sock.setblocking(False)
            if self.device and self.kind != "frame":
                sock.setsockopt(socket.SOL_SOCKET, BIND_TO_DEVICE, self.device.encode() + b"\0")
            where = self.where()
            stage = "send"
            if self.kind == "bind":
                sock.bind(where)
                self.end("bound")
            elif self.kind == "frame":
                sock.bind((self.device, 0))
                sock.send(self.data)
                self.end("sent")
            elif self.kind == "tcp":
                number = sock.connect_ex(where)
                self.connecting = True
                if number not in (0, errno.EINPROGRESS):
                    raise OSError(number, "")
            else:
                sock.connect(where)
                sock.send(self.echo() if self.kind == "icmp" else self.data)
        except OSError as error:
            self.fail(error, stage)

    def make(self) -> socket.socket:
        """A socket of its kind."""
        family = socket.AF_INET6 if self.six else socket.AF_INET
        if self.kind == "icmp":
            return socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if self.six else socket.IPPROTO_ICMP)
        if self.kind == "frame":
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        return socket.socket(family, socket.SOCK_STREAM if self.kind == "tcp" else socket.SOCK_DGRAM)

    def where(self) -> tuple:  # type: ignore[type-arg]
        """The socket address; a link-local one belongs to the interface."""
        port = 0 if self.kind == "icmp" else self.port
        scope = socket.if_nametoindex(self.device) if self.address.startswith("fe80:") and self.device else 0
        return (self.address, port, 0, scope) if self.six else (self.address, port)

    def echo(self) -> bytes:
        """An echo request (RFC 792, RFC 4443) that carries the token."""
        body: bytes = struct.pack(">HH", os.getpid() & 0xFFFF, 1) + self.token + b"\0" * (len(self.token) % 2)
        if self.six:
            return bytes((128, 0, 0, 0)) + body
        message: bytes = struct.pack(">BBH", 8, 0, 0) + body
        total = sum(struct.unpack(f">{len(message) // 2}H", message))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        return message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]

    def ready(self) -> None:
        """The socket has something to say."""
        sock = self.sock
        if sock is None:
            return
        try:
            if self.connecting:
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, "")
                self.connecting = False
                sock.send(self.token)
                if not self.expect:
                    self.end("connected")
                return
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error, "answer")
            return
        if self.kind == "tcp":
            self.answer += data[:256]
            if not data or self.expect in self.answer or len(self.answer) > 256:
                self.end("connected")
        elif self.kind == "udp" or self.replied(data):
            self.answer = data[:512]
            self.end("answered")

    def replied(self, data: bytes) -> bool:
        """Whether an ICMP message is the echo reply to this try."""
        if not self.six:
            data = data[(data[0] & 15) * 4 :] if data else b""
        return data[:1] == (b"\x81" if self.six else b"\x00") and self.token in data

    def fail(self, error: OSError, stage: str) -> None:
        """An error of the kernel's, by name."""
        self.name, self.at = errno.errorcode.get(error.errno or 0, str(error)), stage
        timed_out = error.errno == errno.ETIMEDOUT
        self.end("refused" if error.errno == errno.ECONNREFUSED else "silent" if timed_out else "error")

    def end(self, outcome: str) -> None:
        """It is over."""
        self.outcome, self.ended = outcome, time.monotonic()
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def told(self) -> dict:  # type: ignore[type-arg]
        """As JSON."""
        return {
            "outcome": self.outcome, "errno": self.name, "at": self.at, "answer": self.answer.hex(),
            "ms": round((self.ended - self.started) * 1000, 3),
        }  # fmt: skip


def probe(request: dict) -> dict:  # type: ignore[type-arg]
    """Make all tries at once, wait for answers, and look whom the kernel has asked in vain."""
    attempts = [Attempt(one) for one in request["tries"]]
    end = time.monotonic() + request["wait"]
    while time.monotonic() < end:
        waiting = {one.sock: one for one in attempts if one.sock is not None}
        if not waiting:
            break
        poll = select.poll()
        numbers = {}
        for sock, one in waiting.items():
            numbers[sock.fileno()] = one
            poll.register(sock, select.POLLOUT if one.connecting else select.POLLIN)
        for number, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000):
            numbers[number].ready()
    rows = neighbours()
    for one in attempts:
        if one.outcome == "pending":
            one.end("connected" if one.kind == "tcp" and not one.connecting else "silent")
    return {"tries": [one.told() for one in attempts], "neighbours": rows}


def main(argv: list[str]) -> None:
    """``serve SECONDS SNIFF``, ``facts``, ``seen`` or ``probe REQUEST``."""
    if argv[0] == "serve":
        serve(float(argv[1]), argv[2] == "1")
    elif argv[0] == "probe":
        print(json.dumps(probe(json.loads(argv[1]))))  # noqa: T201 - this is how it answers
    else:
        print(json.dumps(facts() if argv[0] == "facts" else listening()))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
