"""Rules in a namespace of one's own, made by the real nft there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.quarantine.own_rules import OwnRules, Reading, _foreign, _legacy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ENGINE = """table ip nat {
 chain OUTPUT { type nat hook output priority -100; policy accept; ip daddr 127.0.0.11 jump DOCKER_OUTPUT; }
 chain DOCKER_OUTPUT { ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:4321; }
}"""


@pytest.fixture
def netns() -> Iterator[int]:
    """A process in a network namespace of its own."""
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.wait()


def rules(pid: int, text: str = "") -> OwnRules:
    if text:
        subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "-f", "-"], input=text, text=True, check=True)
    return Reading(f"/proc/{pid}/ns/net", pid).result()


def test_none(netns: int) -> None:
    found = rules(netns)
    assert found.foreign == () and found.unread == ""


def test_the_engine_s_own_are_none(netns: int) -> None:
    found = rules(netns, ENGINE)
    assert found.foreign == () and "DOCKER_OUTPUT" in str(found.ruleset)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "table inet x { chain o { type filter hook output priority 0; policy accept; tcp dport 80 drop; }; }",
            "inet x o: drop",
        ),
        ("table ip x { chain o { type filter hook output priority 0; policy drop; }; }", "policy drop"),
        (
            "table ip x { chain i { type filter hook input priority 0; meta mark 7 accept; }; }",
            "a rule in a filter chain",
        ),
        (ENGINE + "\ntable ip nat { chain OUTPUT { udp dport 9 drop; }; }", "ip nat OUTPUT: drop"),
        ("table arp x { chain o { type filter hook output priority 0; policy accept; drop; }; }", "arp x o: drop"),
        (
            "table ip x { chain r { type route hook output priority 0; policy accept; meta mark set 1; }; }",
            "a rule in a route chain",
        ),
    ],
)
def test_foreign_ones(netns: int, text: str, said: str) -> None:
    assert any(said in one for one in rules(netns, text).foreign)


INGRESS = """table ip filter { chain INPUT { type filter hook input priority 0; policy accept;
 ip daddr 10.0.0.3 tcp dport 80 accept; ip daddr 10.0.0.3 drop; }; }"""


@pytest.mark.parametrize(("former", "clean"), [({"10.0.0.3"}, True), ({"10.0.0.4"}, False), (set(), False)])
def test_rules_for_an_address_that_it_has_no_more(netns: int, former: set[str], clean: bool) -> None:
    rules(netns, INGRESS)
    assert (Reading(f"/proc/{netns}/ns/net", netns, frozenset(former)).result().foreign == ()) is clean


def test_a_rule_for_all_but_that_address_is_foreign(netns: int) -> None:
    rules(netns, INGRESS.replace("ip daddr 10.0.0.3 drop", "ip daddr != 10.0.0.3 drop"))
    assert Reading(f"/proc/{netns}/ns/net", netns, frozenset({"10.0.0.3"})).result().foreign


def test_legacy_rules_for_an_address_that_it_has_no_more() -> None:
    former = frozenset({"10.0.0.3"})
    assert list(_legacy("-A INPUT -d 10.0.0.3/32 -p tcp -j DROP\n", former)) == []
    assert list(_legacy("-A INPUT ! -d 10.0.0.3/32 -j DROP\n", former))
    assert list(_legacy("-A INPUT -d 10.0.0.0/24 -j DROP\n", former))


def test_what_iptables_save_says() -> None:
    text = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n-A INPUT -s 10.0.0.1 -j DROP\nCOMMIT\n"
    assert list(_legacy(text)) == [":OUTPUT DROP [0:0]", "-A INPUT -s 10.0.0.1 -j DROP"]


JSON = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["nftables", "rule", "chain", "expr", "a"]), x),
)


@given(JSON)
def test_any_document(document: Any) -> None:
    assert all(isinstance(one, str) for one in _foreign(document))
