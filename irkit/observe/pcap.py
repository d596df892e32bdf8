"""A target's traffic as a capture file, taken by the host: nothing runs in the container.

The file is a classic pcap with nanoseconds (draft-ietf-opsawg-pcap: magic 0xa1b23c4d, version 2.4, little-endian,
LINKTYPE_ETHERNET).  Times are the kernel's own (``SO_TIMESTAMPNS``, socket(7)); frames come from a packet socket
(packet(7)) that was opened in the target's network namespace.

What to know when reading one: checksums of outgoing packets may be unset and packets longer than the MTU, because the
kernel puts both right only on a real network card; on the loopback each frame is kept once, with MAC addresses of zero.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from irkit.clock import now
from irkit.errors import EngineError
from irkit.netns import in_netns

MAGIC_NS = 0xA1B23C4D
LINKTYPE_ETHERNET = 1
FILE_HEADER = struct.Struct("<IHHiIII")
RECORD_HEADER = struct.Struct("<IIII")
SNAPLEN = 65535
BUFFER = 64 * 1024 * 1024
BATCH = 256 * 1024
DRAIN_SECONDS = 5.0

ETH_P_ALL = 0x0003
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
PACKET_OUTGOING = 4
VLAN_VALID, VLAN_TPID_VALID = 1 << 4, 1 << 6  # TP_STATUS_*, linux/if_packet.h
ETHERNET_LIKE = frozenset({1, 772})  # ARPHRD_ETHER, ARPHRD_LOOPBACK: the frame begins with an Ethernet header
BARE_IP = frozenset({519, 768, 769, 776, 65534})  # ARPHRD_RAWIP, tunnels, TUN: the frame begins with the IP header
_TIME = struct.Struct("@ll")
_AUX = struct.Struct("@IIIHHHH")
_COUNTS = struct.Struct("@II")
_DETAILS = socket.CMSG_SPACE(_TIME.size) + socket.CMSG_SPACE(_AUX.size)


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded so far.

    ``packets`` and ``bytes`` (the file's size, headers included) went to the sink; ``dropped`` packets were lost by the
    kernel because the recorder was too slow, ``truncated`` ones were cut at the snap length, ``headerless`` ones came
    from a tunnel and got an Ethernet header of zeros, ``skipped`` ones have another kind of link layer and are not in
    the file; ``unread`` ones the kernel still held when a limit, a failure or the time to catch up ended the recording
    (the loopback's copies included).  ``ended``: empty while running, then ``stopped``, ``limit_bytes``, ``limit_seconds`` or ``failed``.
    """

    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    truncated: int = 0
    headerless: int = 0
    skipped: int = 0
    unread: int = 0
    started: str = ""
    finished: str = ""
    ended: str = ""
    failure: str = ""


def file_header(snaplen: int) -> bytes:
    """The first 24 bytes of a capture file."""
    return FILE_HEADER.pack(MAGIC_NS, 2, 4, 0, 0, snaplen, LINKTYPE_ETHERNET)


def record(seconds: int, nanoseconds: int, frame: bytes | bytearray | memoryview, length: int) -> bytes:
    """One packet: its header and as much of it as was kept; ``length`` is what it had on the wire."""
    head = RECORD_HEADER.pack(seconds & 0xFFFFFFFF, nanoseconds, len(frame), length & 0xFFFFFFFF)
    return head + frame


def open_capture(netns_path: str | None, buffer: int = BUFFER) -> socket.socket:
    """A packet socket that hears every interface of the namespace.  Raises ``EngineError``."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETH_P_ALL))
        try:
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            with contextlib.suppress(PermissionError):  # a smaller buffer loses more, and the losses are counted
                made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made

    try:
        return in_netns(netns_path, make)
    except OSError as error:
        raise EngineError(
            f"can't record in the target's network namespace: {error.strerror or error}",
            hint="run irkit as root on the engine's own host; the target must be running",
        ) from error


class Recorder:
    """Records from :meth:`start` to :meth:`stop` (or a limit), in a thread of its own.

    ``sink`` gets the file's bytes in order, from that thread; what it raises ends the recording and is raised again by
    :meth:`stop`.  ``loopback``: keep what goes over ``lo`` as well; a sinkhole's traffic does
    (:mod:`irkit.observe.diversion`).  Memory does not grow with the recording.
    """

    def __init__(
        self,
        netns_path: str | None,
        sink: Callable[[bytes], object],
        *,
        limit_bytes: int,
        limit_seconds: float,
        snaplen: int = SNAPLEN,
        loopback: bool = False,
        buffer: int = BUFFER,
    ) -> None:
        if not 64 <= snaplen <= 262144:
            raise ValueError(f"snaplen {snaplen} is not within 64..262144")
        self._path, self._sink, self._snaplen, self._loopback = netns_path, sink, snaplen, loopback
        self._limit_bytes, self._limit_seconds, self._buffer = limit_bytes, limit_seconds, buffer
        self._pending = bytearray()
        self._packets = self._bytes = self._dropped = self._truncated = self._headerless = self._skipped = 0
        self._read = self._accepted = 0
        self._emptied = False
        self._state = Recording()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._wake = -1
        self._cut: tuple[int, float, str] | None = None

    def start(self) -> None:
        """Open the socket and begin.  Raises ``EngineError`` when the namespace can't be listened to."""
        if self._thread is not None:
            raise RuntimeError("a recorder records once")
        capture = open_capture(self._path, self._buffer)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._state = Recording(started=now())
        self._thread = threading.Thread(target=self._run, args=(capture,), name="irkit-record", daemon=True)
        self._thread.start()

    def stop(self) -> Recording:
        """End the recording, once everything that came before this moment is in the sink.

        Can be repeated.  Raises what reading or the sink raised (``OSError``, ``StorageError``, ``Interrupted``);
        :attr:`recording` tells even then what there is.
        """
        if self._thread is None:
            return self._state
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            os.close(self._wake)
            self._wake = -1
        if self._failure is not None:
            raise self._failure
        return self._state

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a limit or a failure has ended the recording; whether one has."""
        if self._thread is None:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def recording(self) -> Recording:
        """The state at this moment; never raises."""
        return replace(
            self._state, packets=self._packets, bytes=self._bytes, dropped=self._dropped, truncated=self._truncated,
            headerless=self._headerless, skipped=self._skipped,
        )  # fmt: skip

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, capture: socket.socket) -> None:
        ended, failure = "failed", ""
        try:
            with capture:
                self._put(file_header(self._snaplen))
                ended = self._pump(capture)
                self._count(capture)
                self._flush()
        except BaseException as error:  # kept for the caller of stop()
            ended, failure = "failed", str(error) or type(error).__name__
            self._failure = error
        unread = 0 if self._emptied else max(0, self._accepted - self._read)
        self._state = replace(self.recording, unread=unread, finished=now(), ended=ended, failure=failure)

    def _pump(self, capture: socket.socket) -> str:
        """Read until told to stop; why it ended."""
        room = bytearray(self._snaplen)
        frame = memoryview(room)
        deadline = time.monotonic() + self._limit_seconds
        poll = select.poll()
        poll.register(capture, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        turn = 0
        while True:
            turn += 1
            if self._cut is None and (turn & 0x3F) == 0:
                self._look(poll, deadline, 0.0)
            try:
                size, details, _, address = capture.recvmsg_into([room], _DETAILS, socket.MSG_TRUNC)
            except BlockingIOError:
                self._count(capture)
                self._flush()
                if self._cut is not None:
                    self._emptied = True
                    return self._cut[2]
                self._look(poll, deadline, 1.0)
                continue
            self._read += 1
            if not self._keep(frame, size, details, address):
                return "limit_bytes"
            if self._cut is not None and time.monotonic() > self._cut[1]:
                return self._cut[2]

    def _look(self, poll: select.poll, deadline: float, patience: float) -> None:
        """Wait for a packet, and see whether the end has come."""
        left = deadline - time.monotonic()
        ready = poll.poll(max(0.0, min(patience, left)) * 1000)
        why = "stopped" if any(descriptor == self._wake for descriptor, _ in ready) else ""
        if not why and left <= 0:
            why = "limit_seconds"
        if why:
            self._cut = time.time_ns(), time.monotonic() + DRAIN_SECONDS, why

    def _keep(
        self, frame: memoryview, size: int, details: list[tuple[int, int, bytes]], address: tuple[str, int, int, int]
    ) -> bool:
        """Add one packet; false when it would go beyond the limit."""
        link = address[3]
        if link == 772 and (not self._loopback or address[2] == PACKET_OUTGOING):
            return True
        seconds, nanoseconds, tag = _details(details)
        if self._cut is not None and seconds * 1_000_000_000 + nanoseconds > self._cut[0]:
            return True  # after the end
        kept: memoryview | bytes = frame[: min(size, self._snaplen)]
        if link not in ETHERNET_LIKE:
            if link not in BARE_IP:
                self._skipped += 1
                return True
            self._headerless += 1
            kept, size = bytes(12) + struct.pack("!H", address[1]) + kept, size + 14
        if tag:
            kept, size = bytes(kept[:12]) + tag + kept[12:], size + len(tag)
        kept = kept[: self._snaplen]
        if self._bytes + len(self._pending) + RECORD_HEADER.size + len(kept) > self._limit_bytes:
            return False
        self._truncated += size > len(kept)
        self._pending += record(seconds, nanoseconds, kept, size)
        self._packets += 1
        if len(self._pending) >= BATCH:
            self._flush()
        return True

    def _flush(self) -> None:
        if self._pending:
            chunk, self._pending = bytes(self._pending), bytearray()
            self._put(chunk)

    def _put(self, data: bytes) -> None:
        self._sink(data)
        self._bytes += len(data)

    def _count(self, capture: socket.socket) -> None:
        """The kernel forgets its counts when asked."""
        packets, drops = _COUNTS.unpack(capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, _COUNTS.size))
        self._dropped += drops
        self._accepted += packets - drops


def _details(details: list[tuple[int, int, bytes]]) -> tuple[int, int, bytes]:
    """Seconds, nanoseconds, and the VLAN tag that the kernel took off the frame, if it did."""
    seconds, nanoseconds, tag = -1, 0, b""
    for level, kind, data in details:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) == _TIME.size:
            seconds, nanoseconds = _TIME.unpack(data)
        elif level == SOL_PACKET and kind == PACKET_AUXDATA and len(data) == _AUX.size:
            status, _, _, _, _, control, protocol = _AUX.unpack(data)
            if status & VLAN_VALID:
                tag = struct.pack("!HH", protocol if status & VLAN_TPID_VALID else 0x8100, control)
    if seconds < 0:
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return seconds, nanoseconds, tag
