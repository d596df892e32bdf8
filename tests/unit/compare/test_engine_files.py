"""The files that the engine writes: what is the engine's, and what is not."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.compare.engine_files import HOSTNAME, HOSTS, LONGEST, RESOLVER, EngineFile, altered
from irkit.models import FileFacts

ID = "3f5a0b1c2d3e" + "0" * 52
BASE = (
    b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\n"
)
OWN = b"172.17.0.2\t3f5a0b1c2d3e\n"


def inspect(**host: Any) -> dict[str, Any]:
    networks = {"bridge": {"Gateway": "172.17.0.1", "IPAddress": "172.17.0.2"}}
    config = {"Hostname": ID[:12], "Domainname": ""}
    return {"Id": ID, "Name": "/web-1", "Config": config, "HostConfig": host, "NetworkSettings": {"Networks": networks}}


def held(path: str, data: bytes, container: dict[str, Any] | None = None, **row: Any) -> EngineFile | None:
    facts = FileFacts("file", 0o644, 0, 0, len(data), sha256=hashlib.sha256(data).hexdigest())
    return altered({"path": path, "facts": facts.to_json(), **row}, data, container or inspect())


def expected(path: str, data: bytes, container: dict[str, Any] | None = None) -> bytes:
    found = held(path, data, container)
    assert found is not None and found.data == data and found.change.origin == "mount"
    return found.expected


def test_what_the_engine_writes_is_no_change() -> None:
    assert held(HOSTS, BASE + OWN) is None
    assert held(HOSTS, BASE) is None, "of a container without a network"
    assert held(HOSTNAME, b"3f5a0b1c2d3e\n") is None
    assert held(RESOLVER, b"nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n") is None


def test_an_added_name_is() -> None:
    assert expected(HOSTS, BASE + b"203.0.113.9\tdeb.debian.org\n" + OWN) == BASE + OWN
    assert expected(HOSTS, BASE + OWN + b"203.0.113.9 deb.debian.org") == BASE + OWN[:-1]
    assert expected(HOSTS, BASE + b"127.0.0.1 updates.example\n") == BASE


def test_options_of_the_container_are_the_engine_s() -> None:
    given = inspect(ExtraHosts=["db:10.0.0.7", "six=[2001:db8::7]", "host.docker.internal:host-gateway"])
    lines = b"10.0.0.7\tdb\n2001:db8::7\tsix\n172.17.0.1\thost.docker.internal\n"
    assert held(HOSTS, BASE + lines + OWN, given) is None
    assert expected(HOSTS, BASE + lines + b"203.0.113.9\tdb\n", given) == BASE + lines, "another address for it"
    assert expected(HOSTS, BASE + OWN, inspect(ExtraHosts=["db:10.0.0.7"])) == BASE + OWN + b"10.0.0.7\tdb\n", "removed"
    linked = inspect(Links=["/store:/web-1/db"])
    assert held(HOSTS, BASE + b"172.17.0.3\tdb 0123456789ab store\n", linked) is None
    assert expected(HOSTS, BASE + b"203.0.113.9\tdb 0123456789ab store\n", linked) == BASE, (
        "not on a network of the engine"
    )
    assert held(RESOLVER, b"nameserver 9.9.9.9\n", inspect(Dns=["9.9.9.9"])) is None


def test_a_resolver_is_known_by_the_engine_s_own_digest() -> None:
    data = b"nameserver 10.1.1.1\n"
    assert held(RESOLVER, data, engine_sha256=hashlib.sha256(data).hexdigest()) is None
    assert held(RESOLVER, data, engine_sha256="0" * 64) is not None
    assert held(RESOLVER, data, same_as_host=["nameserver 10.1.1.1"]) is None
    assert held(HOSTS, data, engine_sha256=hashlib.sha256(data).hexdigest()) is not None, "of the resolver alone"


@pytest.mark.parametrize(
    "line",
    [
        b"127.0.0.1 localhost" + b" " * LONGEST + b"deb.debian.org",
        b"127.0.0.1 localhost\r203.0.113.9 deb.debian.org",
        b"203.0.113.9 deb.debian.org 3f5a0b1c2d3e",
        b"203.0.113.9 \xff\xfe",
        b"# a comment",
    ],
)  # fmt: skip
def test_a_line_does_not_pass_as_the_engine_s(line: bytes) -> None:
    assert expected(HOSTS, BASE + line + b"\n" + OWN) == BASE + OWN


@pytest.mark.thorough
def test_what_comes_after_the_lines_that_are_read_is_shown() -> None:
    many = b"127.0.0.1\tlocalhost\n" * 25_000
    found = held(HOSTS, many + b"203.0.113.9\tdeb.debian.org\n")
    assert found is not None and b"deb.debian.org" not in found.expected


@given(st.binary(max_size=300))
def test_only_lines_are_taken_away(data: bytes) -> None:
    for path in (HOSTS, HOSTNAME, RESOLVER):
        found = held(path, data)
        if found is not None:
            left = data.split(b"\n")
            assert all(line in left for line in found.expected.split(b"\n") if line)
