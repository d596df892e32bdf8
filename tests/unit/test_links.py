"""Which interfaces lead out of a namespace: as the kernel tells it, and whatever bytes it may tell."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.quarantine.links import Link, parse
from irkit.quarantine.netlink import attribute


def body(name: bytes, kind: bytes, *more: bytes, flags: int = 1) -> bytes:
    info = attribute(18 | 0x8000, attribute(1, kind)) if kind else b""
    return struct.pack("=BBHiII", 0, 0, 1, 7, flags, 0) + attribute(3, name + b"\0") + info + b"".join(more)


def test_parse() -> None:
    far = attribute(5, struct.pack("=i", 3)) + attribute(37, struct.pack("=i", 0)) + attribute(10, struct.pack("=i", 9))
    assert parse(body(b"vx0", b"vxlan\0", far)) == Link(7, "vx0", "vxlan", True, False, 3, 0, 9)
    assert parse(body(b"d0", b"dummy\0", flags=0)) == Link(7, "d0", "dummy", False, False)
    assert parse(b"short") is None


@pytest.mark.parametrize(
    ("kind", "space", "leaves"),
    [("vxlan", None, False), ("vxlan", 0, True), ("veth", 0, True), ("bridge", None, False), ("", None, True), ("tun", None, True), ("wireguard", None, True)],
)  # fmt: skip
def test_what_leads_out(kind: str, space: int | None, leaves: bool) -> None:
    assert Link(7, "x", kind, True, False, 0, space).leaves is leaves
    assert not Link(1, "lo", "", True, True).leaves


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    parse(data)


SCRIPT = """
import os, subprocess, sys
from irkit.quarantine.links import cables, links, switch
other = f"/proc/{sys.argv[1]}/ns/net"
there = {one.name: one for one in links(other)}
assert there["eth0"].kind == "veth" and there["eth0"].leaves and there["d0"].leaves is False and there["lo"].loopback, there
assert cables(other) == ["v0"], (cables(other), links())
assert cables(f"/proc/{sys.argv[2]}/ns/net") == []  # its pair has the same indexes, and is another's
switch(other, there["eth0"].number, False)
assert not {one.name: one.up for one in links(other)}["eth0"]
switch(other, there["eth0"].number, True)
assert {one.name: one.up for one in links(other)}["eth0"]
try:
    switch(other, 4711, True)
except OSError as error:
    assert error.errno == 19, error  # ENODEV
else:
    raise AssertionError
"""
SETUP = """
unshare --net sleep 60 & A=$!
unshare --net sleep 60 & B=$!
unshare --net sleep 60 & C=$!
trap 'kill $A $B $C' EXIT
until [ "$(readlink /proc/$A/ns/net)" != "$(readlink /proc/self/ns/net)" ] && [ "$(readlink /proc/$B/ns/net)" != "$(readlink /proc/self/ns/net)" ] \
  && [ "$(readlink /proc/$C/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add v0 index 500 type veth peer name eth0 index 501 netns $A
nsenter --net=/proc/$B/ns/net ip link add f0 index 501 type veth peer name f1 index 500 netns $C
nsenter --net=/proc/$A/ns/net sh -c 'ip link set eth0 up; ip link add d0 type bridge'
"$@" $A $B
"""


@pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")
def test_a_pair_is_known_by_its_namespace() -> None:
    subprocess.run(["unshare", "--net", "sh", "-ec", SETUP, "sh", sys.executable, "-c", SCRIPT], check=True, timeout=60)
