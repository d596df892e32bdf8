"""The kernel's neighbour table: messages out, messages in, and no trust in their form."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.quarantine.neighbours import RTM_DELNEIGH, RTM_NEWNEIGH, parse, request
from irkit.quarantine.netlink import ACK, REQUEST, attributes, message, messages


def row(family: int, index: int, state: int, address: bytes, kind: int = RTM_NEWNEIGH) -> bytes:
    body = struct.pack("=BBHiHBB", family, 0, 0, index, state, 0, 0) + struct.pack("=HH", 8, 2) + b"xxxx"
    body += struct.pack("=HH", 4 + len(address), 1) + address
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def test_request() -> None:
    made = message(RTM_DELNEIGH, REQUEST | ACK, 3, request(socket.AF_INET6, 7, "fe80::1"))
    length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", made)
    assert (length, kind, flags, sequence) == (len(made), 29, 5, 3)
    assert made[-16:] == socket.inet_pton(socket.AF_INET6, "fe80::1")


def test_parse() -> None:
    data = row(socket.AF_INET, 2, 1, bytes([10, 0, 0, 1])) + row(socket.AF_INET6, 3, 2, b"\xfe\x80" + bytes(13) + b"\1")
    assert [parse(one.body) for one in messages(data)] == [(2, "10.0.0.1", 1), (3, "fe80::1", 2)]
    assert parse(struct.pack("=BBHiHBB", 99, 0, 0, 1, 0, 0, 0)) is None


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    assert sum(16 + len(one.body) for one in messages(data)) <= len(data)
    for one in (data, *(one.body for one in messages(data))):
        parse(one)
        assert sum(4 + len(value) for _, value in attributes(one)) <= len(one)


SCRIPT = """
import socket
from irkit.quarantine.neighbours import forget, neighbours
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.sendto(b'x', ('192.0.2.9', 9))
assert [(one.address, one.interface, one.answered) for one in neighbours() if one.interface == 'v0' and '.' in one.address] == [('192.0.2.9', 'v0', False)]
forget(['192.0.2.9'])
assert not [one for one in neighbours() if one.interface == 'v0' and '.' in one.address], neighbours()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="makes a network namespace")
def test_forgets_who_did_not_answer() -> None:
    setup = "ip link add v0 type veth peer name v1 && ip addr add 192.0.2.1/24 dev v0 && ip link set v0 up && ip link set v1 up"
    subprocess.run(
        ["unshare", "--net", "sh", "-ec", f'{setup}; exec "$@"', "sh", sys.executable, "-c", SCRIPT], check=True
    )
