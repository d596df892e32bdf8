"""New connections to published TCP ports, diverted to a relay on this host: an nftables table that lapses by itself.

The rules match elements of sets, and these have a timeout: when whoever keeps them there dies, the kernel forgets them within
seconds, and the ports are the engine's again.  Only the first packet of a connection meets NAT, so what is established is
neither touched nor passed on.  nft(8), "NAT statements", "Sets".
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from irkit.engine.interface import PortBinding
from irkit.errors import EngineError
from irkit.quarantine import firewall
from irkit.quarantine.firewall import PREFIX, Table, relay_table, tables

LAPSE = 5
"""Seconds after which the kernel drops what was not refreshed."""
KEPT, KEPT_FOR = "kept", 15
"""A set that no rule uses, and the seconds for which its one element says that a run looks after the table."""
PRIORITY = -110
"""Before the engine's own destination NAT (-100, ``NF_IP_PRI_NAT_DST``), after connection tracking (-200)."""
ANY = ("", "0.0.0.0", "::")  # noqa: S104 - what an engine answers
FAMILY = "inet"
IPV4, IPV6 = "ipv4", "ipv6"


def rules(case_id: str, doors: Mapping[int, int], near: bool) -> str:
    """The table, with empty sets.  ``doors``: the relay's port for each address family; ``near``: not for other hosts."""
    name = relay_table(case_id)
    kinds = [(IPV6 if family == socket.AF_INET6 else IPV4, port) for family, port in sorted(doors.items())]
    sets, steps = f"  set {KEPT} {{ type inet_service; flags timeout; }}\n", ""
    for kind, port in kinds:
        sets += f"  set any_{kind} {{ type inet_service; flags timeout; }}\n"
        sets += f"  set one_{kind} {{ type {kind}_addr . inet_service; flags timeout; }}\n"
        address = "ip6" if kind == IPV6 else "ip"
        steps += f" meta nfproto {kind} {address} daddr . tcp dport @one_{kind} counter redirect to :{port};"
        steps += f" meta nfproto {kind} fib daddr type local tcp dport @any_{kind} counter redirect to :{port};"
    hooks = ("output",) if near else ("prerouting", "output")
    chains = "".join(f"  chain {one} {{ type nat hook {one} priority {PRIORITY};{steps} }}\n" for one in hooks)
    return f'table {FAMILY} {name} {{ comment "irkit case {case_id}";\n{sets}{chains}}}\n'


def elements(case_id: str, ports: Iterable[PortBinding], doors: Iterable[int]) -> str:
    """Fill the sets anew, in one transaction with what goes before."""
    name, found = relay_table(case_id), _kept(case_id)
    for family in sorted(doors):
        kind = IPV6 if family == socket.AF_INET6 else IPV4
        mine = [one for one in ports if (":" in one.host_ip) == (kind == IPV6)]
        rows = {
            f"any_{kind}": {str(one.host_port) for one in mine if one.host_ip in ANY},
            f"one_{kind}": {f"{one.host_ip} . {one.host_port}" for one in mine if one.host_ip not in ANY},
        }
        for which, entries in rows.items():
            found += f"flush set {FAMILY} {name} {which}\n"
            if entries:
                listed = ", ".join(f"{one} timeout {LAPSE}s" for one in sorted(entries))
                found += f"add element {FAMILY} {name} {which} {{ {listed} }}\n"
    return found


def _kept(case_id: str) -> str:
    name = relay_table(case_id)
    return f"flush set {FAMILY} {name} {KEPT}\nadd element {FAMILY} {name} {KEPT} {{ 1 timeout {KEPT_FOR}s }}\n"


def put_up(case_id: str, ports: tuple[PortBinding, ...], doors: Mapping[int, int], near: bool) -> None:
    """Divert from now on, instead of what a killed run of the case has left.  Raises ``EngineError``."""
    name = relay_table(case_id)
    fresh = f"add table {FAMILY} {name}\ndelete table {FAMILY} {name}\n"
    firewall.nft(["-f", "-"], fresh + rules(case_id, doors, near) + elements(case_id, ports, doors))


def keep_up(case_id: str, ports: tuple[PortBinding, ...], doors: Iterable[int]) -> None:
    """For :data:`LAPSE` seconds more.  Raises ``EngineError``."""
    firewall.nft(["-f", "-"], elements(case_id, ports, doors))


def empty(case_id: str, doors: Iterable[int]) -> None:
    """The ports are the engine's again; connections that were diverted go on.  Raises ``EngineError``.

    The table stays: with a family's last NAT chain the kernel takes its hooks away, and then translates no packet of the
    connections that are open (measured on Linux 6.1: they are reset).
    """
    firewall.nft(["-f", "-"], elements(case_id, (), doors))


def hold(case_id: str) -> None:
    """Say for :data:`KEPT_FOR` seconds more that an emptied table still has open connections.  Raises ``EngineError``."""
    firewall.nft(["-f", "-"], _kept(case_id))


def take_down(case_id: str) -> bool:
    """Remove all of it, which may break what was diverted; whether there was anything to remove.  Raises ``EngineError``."""
    name = relay_table(case_id)
    if Table(FAMILY, name) not in tables():
        return False
    firewall.nft(["delete", "table", FAMILY, name])
    return True


def is_relay(table: Table) -> bool:
    """Whether it is the table of a relay, of whatever case."""
    return table.name.startswith(f"{PREFIX}relay_")


class Relays(NamedTuple):
    """Tables of relays: those that a run looks after, and those that nobody does any more."""

    kept: list[Table]
    lapsed: list[Table]


def relays() -> Relays:
    """All that there are in this network namespace.  Raises ``EngineError``."""
    found = Relays([], [])
    for table in tables():
        if is_relay(table):
            try:
                listed = json.loads(firewall.nft(["-j", "list", "table", *table])).get("nftables", ())
            except EngineError:
                continue  # its run has just removed it
            kept = any((item.get("set") or {}).get("elem") for item in listed)
            (found.kept if kept else found.lapsed).append(table)
    return found


def input_filter() -> str:
    """What may drop a diverted connection from another host, as it is one to this host now; empty where nothing does.

    A published port's traffic is forwarded; that to a relay is not, so that other rules hold for it.  No other table can
    undo a drop (nft(8)).  Raises ``EngineError``.
    """
    for item in json.loads(firewall.nft(["-j", "list", "chains"])).get("nftables", ()):
        row: dict[str, Any] = item.get("chain") or {}
        if row.get("hook") != "input" or row.get("family") not in ("ip", "ip6", "inet"):
            continue
        if str(row.get("table", "")).startswith(PREFIX):
            continue
        where = f"the chain {row['name']} of the table {row['family']} {row['table']}"
        if row.get("policy") == "drop":
            return where
        listed = json.loads(firewall.nft(["-j", "list", "chain", row["family"], row["table"], row["name"]]))
        if any("rule" in one for one in listed.get("nftables", ())):
            return where
    return next(filter(None, map(_legacy, ("ip", "ip6"))), "")


def _legacy(family: str) -> str:
    """The older rules, which nft does not know: there are some where the kernel has their table."""
    if "filter" not in _read(f"/proc/net/{family}_tables_names").split():
        return ""
    where = f"the chain INPUT of {family}tables-legacy"
    try:
        done = subprocess.run(
            [f"{family}tables-legacy", "-S", "INPUT"], capture_output=True, text=True, timeout=firewall.TIMEOUT, check=False
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return where
    return "" if done.returncode == 0 and done.stdout.split("\n")[:-1] == ["-P INPUT ACCEPT"] else where


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace")
    except OSError:
        return ""
