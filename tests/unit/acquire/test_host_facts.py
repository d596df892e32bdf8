"""What the host is, and what ip(8) tells of a network namespace."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.acquire import iproute
from irkit.acquire.host import HostView
from irkit.acquire.host_facts import acquire_host, clock_quality, modules, taints
from irkit.acquire.netstate import parse_packet
from irkit.evidence.writer import BundleWriter

MODULES = """\
overlay 217088 12 - Live 0x0000000000000000
nf_nat 61440 3 xt_MASQUERADE,nft_chain_nat, Live 0x0000000000000000
rootkit 16384 0 - Live 0x0000000000000000 (OE)
junk
"""


def test_modules() -> None:
    first, second, third = modules(MODULES)
    assert first == {"name": "overlay", "size": 217088, "used_by": [], "state": "Live", "taint": ""}
    assert second["used_by"] == ["xt_MASQUERADE", "nft_chain_nat"] and third["taint"] == "OE"


@given(st.text())
def test_tables_never_raise(text: str) -> None:
    modules(text)
    parse_packet("header\n" + text)


def test_taints() -> None:
    assert taints(0) == [] and taints((1 << 12) | (1 << 13)) == ["out-of-tree module", "unsigned module"]


def test_the_clock_says_how_good_it_is() -> None:
    quality = clock_quality()
    assert isinstance(quality["synchronised"], bool) and quality["max_error_us"] >= 0


def test_facts_of_this_host(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    acquire_host(writer)
    facts = json.loads((tmp_path / "b/data/host/facts.json").read_bytes())
    assert facts["kernel"] == os.uname().release and facts["booted"] < facts["read_at"]
    assert facts["sysctl"]["kernel.core_pattern"] and not writer.gaps


def test_packet_sockets() -> None:
    text = "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n0000000000000000 3 3 0003 2 1 0 0 4242\n0 3 3 0003 2 1 0 0\n"
    assert parse_packet(text) == [{"protocol": "packet", "type": "3", "state": "0003", "inode": 4242}]


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process in a network namespace of its own, with an address, a route, a rule and a queue."""
    script = (
        "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d1 up; ip addr add 192.0.2.7/24 dev d0; ip link set d0 up; "
        "ip route add 198.51.100.0/24 via 192.0.2.1 table 77; ip rule add from 192.0.2.7 table 77; "
        "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev d0; tc qdisc add dev d0 root pfifo limit 7; echo up; exec sleep 60"
    )
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    yield process.pid
    process.kill()
    process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_ip_of_another_namespace(stranger: int) -> None:
    found, missing = iproute.collect_ip(HostView("x", stranger))
    assert not missing
    assert {link["ifname"] for link in found["links"]} == {"lo", "d0", "d1"}
    assert any(row["dst"] == "198.51.100.0/24" and row["table"] == "77" for row in found["routes"])
    assert any(row.get("table") == "77" for row in found["rules"])
    assert [row["lladdr"] for row in found["neighbours"] if row["dst"] == "192.0.2.9"] == ["02:00:00:00:00:09"]
    assert any(row["kind"] == "pfifo" for row in found["qdiscs"])


def test_without_the_programs_it_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iproute, "in_netns", lambda _, make: make())
    monkeypatch.setattr(
        iproute, "BATCHES", {("irkit-no-such-program",): {"links": "link show"}, ("false",): {"x": "y"}}
    )
    found, missing = iproute.collect_ip(HostView("x", os.getpid()))
    assert not found and [what for what, _ in missing] == ["links", "x"]
    assert missing[0][1].startswith("irkit-no-such-program: ") and missing[1][1] == "false: exit 1"
