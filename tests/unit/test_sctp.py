"""SCTP's INIT: its form, its checksum, and that it is heard in a namespace whose kernel knows no SCTP."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.quarantine.sctp import InitEar, crc32c, init


def test_crc32c() -> None:
    """The check value of CRC-32C, and the first two vectors of RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert struct.pack("<I", crc32c(bytes(32))).hex() == "aa36918a"
    assert struct.pack("<I", crc32c(b"\xff" * 32)).hex() == "43aba862"


@given(st.binary(min_size=1, max_size=40), st.integers(1, 65535))
def test_init(mark: bytes, port: int) -> None:
    packet = init(port, mark)
    assert struct.unpack(">HH", packet[2:4] + packet[12:14]) == (port, 0x0100)  # INIT, no flags
    assert struct.unpack("<I", packet[8:12])[0] == crc32c(packet[:8] + bytes(4) + packet[12:])
    assert struct.unpack(">I", packet[4:8])[0] == 0  # an INIT's verification tag (RFC 9260, 8.5.1)
    assert struct.unpack(">H", packet[14:16])[0] == len(packet) - 12 and len(packet) % 4 == 0 and mark in packet
    assert struct.unpack(">I", packet[16:20])[0] != 0  # the initiate tag must not be 0 (3.3.2)


SCRIPT = """
import socket, time
from irkit.quarantine.sctp import InitEar, init, sender
ear = InitEar()
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    sender(family, "lo").sendto(init(ear.port, ear.mark(family)), (address, 0))
sender(socket.AF_INET, "").sendto(init(ear.port, InitEar().mark(99)), ("127.0.0.1", 0))
time.sleep(0.2)
assert ear.heard() == {socket.AF_INET, socket.AF_INET6}
"""


@pytest.mark.skipif(os.getuid() != 0, reason="makes a network namespace")
def test_an_ear_hears_its_own() -> None:
    subprocess.run(
        ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh", sys.executable, "-c", SCRIPT],
        check=True,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="raw sockets")
@given(st.binary(max_size=60))
def test_any_packet_is_somebody_elses(data: bytes) -> None:
    ear = InitEar()
    for one in ear.socks:
        one.close()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        ear.socks = [near]
        far.send(data)
        assert ear.heard() == set()
