"""What the kernel writes into /proc, parsed."""

from __future__ import annotations

import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.acquire.host import parse_mountinfo
from irkit.acquire.netstate import owners, parse_address, parse_table, parse_unix
from irkit.netns import default_gateways, interfaces, local_ipv4, local_ipv6

little = pytest.mark.skipif(sys.byteorder != "little", reason="samples are from a little-endian host")

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4711 1 0000000000000000 100 0 0 10 0
   1: 020011AC:0016 0A0011AC:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 100 0 0 10 0
   2: short
   3: ZZ00007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4713
"""


@little
@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("0100007F:1F90", ("127.0.0.1", 8080)),
        ("00000000:0000", ("0.0.0.0", 0)),
        ("00000000000000000000000001000000:0050", ("::1", 80)),
        ("B80D0120000000000000000001000000:FFFF", ("2001:db8::1", 65535)),
        ("0000000000000000FFFF0000020011AC:0016", ("::ffff:172.17.0.2", 22)),
    ],
)
def test_parse_address(field: str, address: tuple[str, int]) -> None:
    assert parse_address(field) == address


@pytest.mark.parametrize("field", ["", ":", "0100007F", "0100007F:", "01:0050", "xx:0050", "0100007F01:0050"])
def test_parse_address_refuses(field: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(field)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_parse_address_as_the_kernel_writes_it(address: object, port: int) -> None:
    family = socket.AF_INET if "." in str(address) and ":" not in str(address) else socket.AF_INET6
    packed = socket.inet_pton(family, str(address))
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    field = "".join(f"{word:08X}" for word in words) + f":{port:04X}"
    assert parse_address(field) == (socket.inet_ntop(family, packed), port)


@little
def test_parse_table() -> None:
    assert parse_table("tcp", TCP) == [
        {"protocol": "tcp", "local": "127.0.0.1", "local_port": 8080, "remote": "0.0.0.0", "remote_port": 0, "state": "listen", "uid": 101, "inode": 4711},
        {"protocol": "tcp", "local": "172.17.0.2", "local_port": 22, "remote": "172.17.0.10", "remote_port": 50000, "state": "established", "uid": 0, "inode": 4712},
    ]  # fmt: skip


def test_udp_states() -> None:
    assert [row["state"] for row in parse_table("udp", TCP.replace(" 0A ", " 07 "))] == ["unconnected", "established"]
    assert parse_table("tcp", TCP.replace(" 0A ", " 63 "))[0]["state"] == "99"


@given(st.text())
def test_tables_never_raise(text: str) -> None:
    for parse in (lambda one: parse_table("tcp", one), parse_unix, parse_mountinfo, interfaces, local_ipv4):
        parse("header\n" + text)  # type: ignore[operator]


def test_parse_unix() -> None:
    text = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 99 /run/a b.sock\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 100\n"
        "junk\n"
    )
    assert [(row["inode"], row["path"]) for row in parse_unix(text)] == [(99, "/run/a b.sock"), (100, "")]


def test_owners() -> None:
    processes = [
        {"pid": 1, "fds": [{"target": "socket:[7]"}, {"target": "socket:[7]"}, {"target": "/x"}, {}]},
        {"pid": 2, "fds": [{"target": "socket:[7]"}, {"target": "socket:[8]x"}]},
    ]
    assert owners(processes) == {7: [1, 2]}


FIB = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.2
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
Local:
        |-- 172.17.0.2
           /32 host LOCAL
"""


def test_local_ipv4() -> None:
    assert local_ipv4(FIB) == ["172.17.0.2"]
    assert local_ipv4("") == []


def test_local_ipv6() -> None:
    text = (
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe80000000000000004211fffe110002 05 40 20 80     eth0\n"
        "20010db8000000000000000000000001 05 40 00 80     eth0\n"
        "short\n"
    )
    assert local_ipv6(text) == [("fe80::42:11ff:fe11:2", "eth0"), ("2001:db8::1", "eth0")]


def test_interfaces() -> None:
    text = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 1 2\neth1:123 4\n"
    assert interfaces(text) == ["eth0", "eth1"]


@little
def test_default_gateways() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert default_gateways(text) == {("172.17.0.1", "eth0")}


def test_mountinfo() -> None:
    text = (
        "36 35 98:0 /mnt1 /mnt\\0402\\011a\\134b rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
        "40 35 0:50 / / rw - overlay overlay rw,lowerdir=/l/a:/l/b,upperdir=/u,workdir=/w\n"
        "junk\n41 35 0:5 / /x rw\n42 35 0:6 / /y rw - tmpfs\n"
        "43 35 0:7 / /dev/shm rw - tmpfs shm rw,size=65536k\n"
    )
    first, overlay, shm = parse_mountinfo(text)
    assert (first.point, first.root, first.fstype) == ("/mnt 2\ta\\b", "/mnt1", "ext3")
    assert (overlay.point, overlay.options["lowerdir"], overlay.options["upperdir"]) == ("/", "/l/a:/l/b", "/u")
    assert (shm.point, shm.fstype, shm.options["rw"]) == ("/dev/shm", "tmpfs", "")


def test_mountinfo_escape_of_an_escape() -> None:
    (mount,) = parse_mountinfo("1 1 0:1 / /a\\134040b rw - tmpfs x rw\n")
    assert mount.point == "/a\\040b"
