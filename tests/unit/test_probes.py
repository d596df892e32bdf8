"""The pieces of a proof and of its walls: packets, names, rules, verdicts; nothing in them trusts what comes in."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.cli.fleet import groups, worst
from irkit.engine.interface import Container
from irkit.models import Probe
from irkit.netns import default_gateways6
from irkit.quarantine import firewall
from irkit.quarantine.datagrams import Echoes, Shot, Volley
from irkit.quarantine.frames import checksum, udp_frame
from irkit.quarantine.resolver import nameservers
from irkit.quarantine.scene import judge, shown
from irkit.quarantine.seal import bridge_name


def probe(result: str) -> Probe:
    return Probe("somewhere", "out", result, "", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("results", "state"),
    [((), "unproven"), (("blocked",), "proven"), (("blocked", "unknown"), "unproven"), (("unknown", "reached", "blocked"), "open")],
)  # fmt: skip
def test_judge(results: tuple[str, ...], state: str) -> None:
    assert judge(map(probe, results)) == state


@given(st.binary(max_size=200))
def test_checksum_makes_the_whole_sum_up(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    assert checksum(padded + struct.pack(">H", checksum(padded))) == 0


def test_udp_frame() -> None:
    frame = udp_frame(b"\2" * 6, b"\4" * 6, "10.0.0.2", "10.0.0.1", 5353, b"nonce")
    assert (frame[:6], frame[6:12], frame[12:14]) == (b"\4" * 6, b"\2" * 6, b"\x08\x00")
    assert checksum(frame[14:34]) == 0 and frame[26:34] == socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
    assert struct.unpack(">HHH", frame[34:40])[1:] == (5353, 8 + 5) and frame[42:] == b"nonce"


def test_an_echo_is_known_by_its_nonce() -> None:
    mine, other = Echoes(), Echoes()
    for family, reply, head in ((socket.AF_INET, 0, b"\x45" + bytes(19)), (socket.AF_INET6, 129, b"")):
        request = mine.request(family, 70_001)
        packet = head + bytes([reply]) + request[1:]
        assert mine.number(family, packet) == 70_001
        assert other.number(family, packet) is None and mine.number(family, head + request) is None


@given(st.binary(max_size=80))
def test_any_packet_is_somebody_elses(data: bytes) -> None:
    echoes = Echoes()
    assert echoes.number(socket.AF_INET, data) is None and echoes.number(socket.AF_INET6, data) is None


def test_silence_needs_a_reason() -> None:
    volley = Volley()
    control = volley.add(Shot("control", "control", "127.0.0.1", None, outcome="arrived"))
    for control_of, silent, result in (
        (control, None, "blocked"),
        (None, lambda: "nobody answers", "blocked"),
        (None, lambda: "", "unknown"),
    ):
        volley.add(
            Shot("road", "out", "10.0.0.1", None, control=control_of, silent=silent, outcome="silent")
        ).detail = result
    assert [(one.result, shot.detail) for one, shot in zip(volley.probes(), volley.shots[1:], strict=True)] == [
        ("blocked", "blocked"), ("blocked", "blocked"), ("unknown", "unknown"),
    ]  # fmt: skip
    control.outcome = "silent"
    assert volley.probes()[0].result == "unknown"


def test_nameservers() -> None:
    text = "search x\nnameserver 10.0.0.53\nnameserver\t2001:db8::53 \n#nameserver 1.1.1.1\nnameserver 127.0.0.11\nnameserver 10.0.0.53\nnameserver 999.1.1.1\nnameserver ::1\n"
    assert nameservers(text) == ("10.0.0.53", "2001:db8::53")
    assert len(nameservers("".join(f"nameserver 10.0.0.{number}\n" for number in range(99)))) == 4


@given(st.text(max_size=300))
def test_any_resolv_conf(text: str) -> None:
    for address in nameservers(text):
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def test_default_gateways6() -> None:
    zero = "0" * 32
    route = f"{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0\nbad line\n{zero} 00 {zero} 00 {zero} ff 1 0 00200200 lo\n"
    assert default_gateways6(route) == {("fe80::1", "eth0")}


def test_rules_name_the_case_its_bridge_and_its_cables() -> None:
    case = "2026-01-01-web-1-abcd"
    bridge = bridge_name(case)
    assert len(bridge) <= 15 and bridge != bridge_name("another")
    plain, cut = firewall.bridge_rules(case, bridge), firewall.bridge_rules(case, bridge, ["veth1"])
    assert f'comment "irkit case {case}"' in plain and "table bridge" not in plain
    assert f'"{bridge}", "veth1"' in cut and f"table bridge {firewall.table_name(case)}" in cut
    assert firewall.belongs(firewall.Table("inet", firewall.table_name(case)), case)
    assert not firewall.belongs(firewall.Table("inet", firewall.table_name("another")), case)


def test_shown() -> None:
    assert (shown("10.0.0.1", 80), shown("::1", 80)) == ("10.0.0.1:80", "[::1]:80")


def container(identity: str, mode: str = "bridge") -> Container:
    raw: dict[str, Any] = {
        "Id": identity,
        "Name": f"/{identity}",
        "HostConfig": {"NetworkMode": mode},
        "Config": {},
        "State": {},
    }
    return Container(raw)


def test_sharers_of_a_namespace_follow_one_another() -> None:
    found = groups([container("b", "container:a"), container("c"), container("a")])
    assert [[one.id for one in group] for group in found] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((0, 4), 4), ((4, 5), 5), ((5, 3, 0), 3), ((3, 6), 6), ((), 0)]
)
def test_the_worst_code_counts(codes: tuple[int, ...], code: int) -> None:
    assert worst(codes) == code
