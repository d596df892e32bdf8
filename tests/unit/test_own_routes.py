"""Routing of the target's own that could refuse irkit's probes alone: each kind, made in a namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.quarantine.own_routes import dead_end, rule

SCRIPT = "from irkit.quarantine.own_routes import own_routes; print('|'.join(own_routes()))"
SETUP = 'ip link set lo up; ip link add v0 type veth peer name v1; ip addr add 10.9.0.1/24 dev v0; ip link set v0 up; ip route add default via 10.9.0.2; {}; "$@"'


def told(change: str) -> str:
    words = ["unshare", "--net", "sh", "-ec", SETUP.format(change), "sh", sys.executable, "-c", SCRIPT]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("true", ""),
        ("ip rule add not fwmark 7 blackhole", "a routing rule of its own (IPv4, priority 32765)"),
        ("ip rule del priority 0; ip rule add priority 0 fwmark 7 table local", "a routing rule of its own (IPv4, priority 0)"),
        ("ip rule add priority 32766 table main suppress_prefixlength 0", "a routing rule of its own (IPv4, priority 32766)"),
        ("ip route add blackhole 198.51.100.0/24", "a route of its own that may drop (IPv4, blackhole)"),
        ("ip route add prohibit 198.51.100.0/24 table local", "a route of its own that may drop (IPv4, prohibit)"),
        ("ip nexthop add id 4 blackhole; ip route add 198.51.100.0/24 nhid 4", "a route of its own that may drop (IPv4, blackhole)"),
        ("ip xfrm policy add src 0.0.0.0/0 dst 198.51.100.0/24 dir out action block", "an IPsec policy of its own"),
    ],
)  # fmt: skip
def test_what_is_told(change: str, words: str) -> None:
    assert told(change) == words


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    rule(data)
    dead_end(data)
