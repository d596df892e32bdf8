"""``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf`` as the engine would have written them, against what they hold.

What the engine writes follows from ``inspect`` (moby, libnetwork/etchosts and libnetwork/resolvconf): its own lines, the
container's names, ``--add-host``, ``--link``, ``--dns``, and what it copies from its host.  Every other line is the
container's doing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from irkit.compare.content import entries
from irkit.models import Change, FileFacts

HOSTS, HOSTNAME, RESOLVER = "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"
EMBEDDED_DNS = "127.0.0.11"
PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
LONGEST = 1024
"""Bytes of a line that the engine writes: of longer ones readers see only the beginning."""
_ID = re.compile(rb"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class EngineFile:
    """One of them that is not as the engine wrote it.  ``expected``: its lines without those that are nobody's of the engine."""

    change: Change
    data: bytes
    expected: bytes


def altered(row: Mapping[str, Any], data: bytes, container: Mapping[str, Any]) -> EngineFile | None:
    """A row of ``network/files.json`` and its bytes; ``None`` when the engine wrote all of it."""
    path = str(row["path"])
    facts = FileFacts.from_json(row["facts"])
    if path == RESOLVER and row.get("engine_sha256") == facts.sha256:
        return None
    shared = frozenset(str(one).encode() for one in row.get("same_as_host") or ())
    lines = data.split(b"\n")  # at line feeds alone, as the C library does
    mine = {HOSTS: _hosts, HOSTNAME: _hostname, RESOLVER: _resolver}[path](lines, container)
    expected = b"\n".join(
        line for line, one in zip(lines, mine, strict=True) if len(line) <= LONGEST and (one or line in shared)
    )
    if path == HOSTS:
        expected += _missing(lines, container)
    return None if expected == data else EngineFile(Change(path, "changed", None, facts, "mount"), data, expected)


def own_names(container: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that the engine gives the container in its ``/etc/hosts``; empty texts where it has none."""
    config = container.get("Config") or {}
    host, domain = str(config.get("Hostname") or ""), str(config.get("Domainname") or "")
    return (
        host, f"{host}.{domain}" if domain else "", str(container.get("Id") or "")[:12], str(container.get("Name") or "").lstrip("/"),
    )  # fmt: skip


def _hosts(lines: list[bytes], container: Mapping[str, Any]) -> Iterator[bool]:
    """Whatever is not known to be the engine's is not: a file may hold more lines than are read."""
    own = own_names(container)
    linked = _linked(container)
    extra = {(address, name) for name, address in _extra(container)}
    gateways = {name for name, address in _extra(container) if address == "host-gateway"}
    known = {
        entry.line
        for entry in entries(HOSTS, None, b"\n".join(lines), own=own)
        if entry.facts.get("engine") is True and entry.line
    }
    for number, line in enumerate(lines, 1):
        words = line.split(b"#", 1)[0].decode("ascii", "replace").split()
        if not words:
            yield not line.strip()
        elif number in known or (len(words) == 2 and (words[0], words[1]) in extra):
            yield True
        elif len(words) == 2 and words[1] in gateways:
            yield _private(words[0])
        else:
            links = bool(linked.intersection(words[1:])) and all(
                one in linked or _ID.fullmatch(one.encode()) for one in words[1:]
            )
            yield links and _private(words[0])


def _hostname(lines: list[bytes], container: Mapping[str, Any]) -> Iterator[bool]:
    host = container.get("HostConfig") or {}
    shared = "host" in (host.get("UTSMode"), host.get("NetworkMode"))
    own = {name.encode() for name in own_names(container) if name}
    return (shared or not line or line in own for line in lines)


def _resolver(lines: list[bytes], container: Mapping[str, Any]) -> Iterator[bool]:
    """Search domains and options come from the host, which is not known here; they name no server."""
    host = container.get("HostConfig") or {}
    networks = ((container.get("NetworkSettings") or {}).get("Networks") or {}).values()
    servers = {EMBEDDED_DNS, *map(str, host.get("Dns") or ())}
    servers |= {str(one.get("Gateway")) for one in networks if isinstance(one, Mapping) and one.get("Gateway")}
    for line in lines:
        words = line.decode("ascii", "replace").split()
        yield not words or words[0] != "nameserver" or (len(words) == 2 and words[1] in servers)


def _missing(lines: list[bytes], container: Mapping[str, Any]) -> bytes:
    """Lines of ``--add-host`` that are gone."""
    there = {tuple(line.decode("ascii", "replace").split()) for line in lines}
    return b"".join(
        f"{address}\t{name}\n".encode()
        for name, address in _extra(container)
        if address != "host-gateway" and (address, name) not in there
    )


def _extra(container: Mapping[str, Any]) -> list[tuple[str, str]]:
    """``HostConfig.ExtraHosts``: ``name:address``, of newer command lines ``name=address`` too."""
    rows = (container.get("HostConfig") or {}).get("ExtraHosts") or ()
    pairs = (re.split(r"[:=]", str(one), maxsplit=1) for one in rows)
    return [(pair[0], pair[1].strip("[]")) for pair in pairs if len(pair) == 2]


def _linked(container: Mapping[str, Any]) -> frozenset[str]:
    """Names of ``--link``: ``/db:/web/alias``."""
    rows = (container.get("HostConfig") or {}).get("Links") or ()
    return frozenset(name.rpartition("/")[2] for one in rows for name in str(one).split(":") if name)


def _private(text: str) -> bool:
    """Whether a network of the engine can have it: RFC 1918 and RFC 4193."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in one for one in PRIVATE)
