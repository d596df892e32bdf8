"""Observing a target: the capture file, the questions, the rules; nothing here needs root."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.errors import EngineError
from irkit.observe import diversion, dns, pcap
from irkit.observe.sinkhole import Sinkhole
from irkit.observe.sockets import original


def read_back(data: bytes) -> list[tuple[int, int, bytes, int]]:
    magic, major, minor, zone, figures, snaplen, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, zone, figures, link) == (0xA1B23C4D, 2, 4, 0, 0, 1)
    found, at = [], 24
    while at < len(data):
        seconds, fraction, kept, length = struct.unpack_from("<IIII", data, at)
        assert kept <= snaplen and kept <= length and fraction < 1_000_000_000
        at += 16
        found.append((seconds, fraction, data[at : at + kept], length))
        at += kept
    assert at == len(data)
    return found


class FakeCapture:
    """As much of a packet socket as the recorder asks for."""

    def __init__(self, frames: list[tuple[bytes, tuple[str, int, int, int]]], details: list[tuple[int, int, bytes]]):
        self.frames, self.details = list(frames), details
        self.mine, self.other = socket.socketpair()

    def fileno(self) -> int:
        return self.mine.fileno()

    def __enter__(self) -> FakeCapture:
        return self

    def __exit__(self, *_: object) -> None:
        self.mine.close()
        self.other.close()

    def recvmsg_into(self, rooms, _details, _flags):
        if not self.frames:
            raise BlockingIOError
        frame, address = self.frames.pop(0)
        kept = frame[: len(rooms[0])]
        rooms[0][: len(kept)] = kept
        return len(frame), self.details, 0, address

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("@II", 9, 3) if self.frames else struct.pack("@II", 0, 1)


ETH = ("eth0", 0x0800, 0, 1)
STAMP = (socket.SOL_SOCKET, pcap.SO_TIMESTAMPNS, struct.pack("@ll", 1_700_000_000, 123_456_789))


def taken(monkeypatch: pytest.MonkeyPatch, frames, details=(STAMP,), **options):
    capture = FakeCapture(frames, list(details))
    monkeypatch.setattr(pcap, "open_capture", lambda *_: capture)
    out = bytearray()
    recorder = pcap.Recorder(None, out.extend, **{"limit_bytes": 1 << 20, "limit_seconds": 5.0, **options})
    recorder.start()
    return recorder.stop(), bytes(out)


def test_records_are_read_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frames = [(bytes(range(60)), ETH), (b"x" * 300, ETH), (b"l" * 60, ("lo", 0x0800, 0, 772))]
    recording, data = taken(monkeypatch, frames, snaplen=100)
    assert read_back(data) == [
        (1_700_000_000, 123_456_789, bytes(range(60)), 60),
        (1_700_000_000, 123_456_789, b"x" * 100, 300),
    ]
    assert (recording.packets, recording.bytes, recording.truncated) == (2, len(data), 1)
    assert recording.ended == "stopped" and recording.dropped >= 1 and recording.started <= recording.finished
    tcpdump_reads(tmp_path, data, 2)


def tcpdump_reads(folder: Path, data: bytes, packets: int) -> None:
    (folder / "x.pcap").write_bytes(data)
    try:
        done = subprocess.run(
            ["tcpdump", "-nr", str(folder / "x.pcap")], capture_output=True, text=True, timeout=30, check=False
        )
    except FileNotFoundError:
        return
    heads = [line for line in done.stdout.splitlines() if not line.startswith("\t")]
    assert done.returncode == 0 and len(heads) == packets, done.stderr


def test_the_loopback_is_kept_once_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(b"a" * 60, ("lo", 0x0800, 4, 772)), (b"b" * 60, ("lo", 0x0800, 0, 772))]
    _, data = taken(monkeypatch, frames, loopback=True)
    assert [one[2] for one in read_back(data)] == [b"b" * 60]


def test_tunnels_get_a_header_and_strange_links_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(b"ip", ("tun0", 0x86DD, 4, 65534)), (b"??", ("wlan0", 0, 0, 801))]
    recording, data = taken(monkeypatch, frames)
    assert [one[2:] for one in read_back(data)] == [(bytes(12) + b"\x86\xddip", 16)]
    assert (recording.headerless, recording.skipped) == (1, 1)


def test_a_vlan_tag_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    aux = (
        pcap.SOL_PACKET,
        pcap.PACKET_AUXDATA,
        struct.pack("@IIIHHHH", pcap.VLAN_VALID | pcap.VLAN_TPID_VALID, 60, 60, 0, 14, 42, 0x88A8),
    )
    _, data = taken(monkeypatch, [(bytes(60), ETH)], (STAMP, aux))
    ((_, _, frame, length),) = read_back(data)
    assert length == 64 and frame == bytes(12) + b"\x88\xa8\x00\x2a" + bytes(48)


def test_the_size_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    recording, data = taken(monkeypatch, [(bytes(60), ETH)] * 10, limit_bytes=24 + 3 * 76 + 75)
    assert recording.ended == "limit_bytes" and len(read_back(data)) == 3
    assert recording.unread == 2  # the kernel says 9 with 3 dropped, 4 were read


def test_the_time_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture([], [])
    monkeypatch.setattr(pcap, "open_capture", lambda *_: capture)
    recorder = pcap.Recorder(None, lambda _: None, limit_bytes=1000, limit_seconds=0.05)
    recorder.start()
    assert recorder.wait(5) and recorder.stop().ended == "limit_seconds"


def test_a_failing_sink_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "open_capture", lambda *_: FakeCapture([(bytes(60), ETH)], [STAMP]))

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    recorder = pcap.Recorder(None, full, limit_bytes=1000, limit_seconds=5)
    recorder.start()
    with pytest.raises(OSError, match="No space"):
        recorder.stop()
    assert recorder.recording.ended == "failed" and "No space" in recorder.recording.failure


def test_a_namespace_that_is_not_there_is_said() -> None:
    with pytest.raises(EngineError, match="record"):
        pcap.Recorder("/nowhere/net", lambda _: None, limit_bytes=1, limit_seconds=1).start()
    with pytest.raises(EngineError, match="listen"):
        Sinkhole("/nowhere/net", lambda _: None).start()


labels = st.lists(st.binary(min_size=1, max_size=63), max_size=8).filter(lambda all_: sum(map(len, all_)) < 240)


def query(names: list[bytes], kind: int, number: int = 7, flags: int = 0x0100) -> bytes:
    name = b"".join(bytes([len(label)]) + label for label in names) + b"\0"
    return struct.pack("!HHHHHH", number, flags, 1, 0, 0, 0) + name + struct.pack("!HH", kind, 1)


@given(st.binary(max_size=600))
def test_no_bytes_raise(data: bytes) -> None:
    for message in (data, struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + data):
        question = dns.parse(message)
        if question is not None:
            reply, _ = dns.answer(question, "198.51.100.7")
            assert question.name.isascii() and question.name.isprintable() and len(reply) <= 12 + 255 + 4 + 16


@given(labels, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=40))
def test_a_question_is_read_and_answered(names: list[bytes], kind: int, number: int, extra: bytes) -> None:
    question = dns.parse(query(names, kind, number) + extra)
    assert question is not None and list(question.labels) == names
    assert (question.id, question.type, question.recursion) == (number, kind, True)
    reply, address = dns.answer(question, "198.51.100.7")
    ident, flags, asked, answers, authority, additional = struct.unpack_from("!HHHHHH", reply)
    assert (ident, flags, asked, authority, additional) == (number, 0x8180, 1, 0, 0)
    assert reply[12:].startswith(query(names, kind)[12:])
    assert answers == (kind in {1, 255}) == bool(address)
    assert not answers or reply.endswith(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + bytes([198, 51, 100, 7]))


@given(labels, st.data())
def test_a_cut_question_is_none(names: list[bytes], data: st.DataObject) -> None:
    whole = query(names, 1)
    assert dns.parse(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@pytest.mark.parametrize(
    "message",
    [
        query([b"a"], 1, flags=0x8180),  # a reply
        query([b"a"], 1, flags=0x2800),  # an update
        query([b"a"], 1)[:4] + b"\0\2" + query([b"a"], 1)[6:],
        struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",  # a pointer to itself
        query([b"a" * 63] * 4, 1),  # longer than 255
    ],
)
def test_what_is_no_plain_question(message: bytes) -> None:
    assert dns.parse(message) is None


def test_names_lose_nothing() -> None:
    question = dns.parse(query([b"a.b\\", b"\x1b[31m\xff", b"Net"], 731))
    assert question is not None
    assert question.name == r"a\046b\092.\027\09131m\255.Net" and question.type_name == "TYPE731"


def test_the_rules_know_both_families() -> None:
    only4 = diversion.rules(diversion.Ports(1, 2))
    assert "tproxy ip6" not in only4 and "ip daddr 127.0.0.11 udp dport 53 tproxy ip to 127.0.0.1:2 accept" in only4
    both = diversion.rules(diversion.Ports(1, 2, 3, 4), ("127.0.0.11", "::1"), ["2001:db8::5"])
    assert "ip6 daddr ::1 udp dport 53 tproxy ip6 to [::1]:4 accept" in both and "2001:db8::5 } accept" in both
    with pytest.raises(ValueError):
        diversion.rules(diversion.Ports(1, 2), ("127.0.0.11 accept; drop",))


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversion.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(diversion, "in_netns", lambda _, make: make())
    with pytest.raises(EngineError, match="is not installed") as caught:
        diversion.left("/proc/self/ns/net")
    assert caught.value.hint == "install the package nftables"


def test_where_a_datagram_was_meant_to_go() -> None:
    four = struct.pack("=H", 2) + struct.pack("!H", 53) + bytes([8, 8, 4, 4]) + bytes(8)
    assert original([(0, 20, four)]) == ("8.8.4.4", 53)
    six = struct.pack("=H", 10) + struct.pack("!HI", 443, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert original([(41, 74, six + bytes(4))]) == ("2001:db8::1", 443)
    assert original([(0, 20, b""), (1, 2, b"x")]) is None


@given(st.binary(max_size=300))
def test_bytes_are_kept_exactly(data: bytes) -> None:
    from irkit.observe.sinkhole import _bytes

    fields = _bytes(data)
    assert base64.b64decode(fields["first_b64"]) == data and "\x1b" not in fields["first"]
