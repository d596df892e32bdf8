"""The second wall: nftables rules on the engine's host, in tables of irkit's own that a release removes.

All ARP and IP that enters the host from the quarantine bridge, or leaves for it, is dropped at the first hook, so that
not even a raw frame gets an answer.  For a container on the host's own network, its cgroup's sockets (cgroup v2) are dropped.
nft(8); a table's comment names the case.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from irkit.errors import EngineError

PREFIX = "irkit_"
TIMEOUT = 10.0
FAMILIES = ("inet", "arp", "bridge")
_waiting: list[tuple[str, str]] = []
_waiting_lock, _loading = threading.Lock(), threading.Lock()


class Table(NamedTuple):
    """A table of irkit's own that is loaded in this network namespace."""

    family: str
    name: str


def available() -> bool:
    """Whether ``nft`` is installed."""
    return any(os.access(f"{folder}/nft", os.X_OK) for folder in os.get_exec_path())


def table_name(case_id: str) -> str:
    """The tables' name of a case: a case id may be longer than nft allows."""
    return PREFIX + hashlib.sha256(case_id.encode()).hexdigest()[:12]


def relay_table(case_id: str) -> str:
    """The name of the table that diverts connections while a replacement takes over (``irkit.quarantine.diversion``)."""
    return f"{PREFIX}relay_{table_name(case_id).removeprefix(PREFIX)}"


def bridge_rules(case_id: str, bridge: str, cables: Sequence[str] = ()) -> str:
    """Rules that let nothing pass between the host and ``bridge``, nor through it: before routing, NAT and other tables.

    By the interface's name, so that they hold for a bridge that the engine makes later.  ``cables``: the host's ends of
    the target's own cables; nothing enters or leaves by them either, whatever bridge they are plugged into.
    """
    name, comment = table_name(case_id), f'comment "irkit case {case_id}";'
    doors = "{ " + ", ".join(f'"{one}"' for one in (bridge, *cables) if one) + " }"
    rules = f"""
table inet {name} {{ {comment}
  chain prerouting {{ type filter hook prerouting priority -500; iifname {doors} counter drop; }}
  chain output {{ type filter hook output priority -500; oifname {doors} counter drop; }}
  chain forward {{ type filter hook forward priority -500; oifname {doors} counter drop; iifname {doors} counter drop; }}
}}
table arp {name} {{ {comment}
  chain input {{ type filter hook input priority -500; iifname {doors} counter drop; }}
  chain output {{ type filter hook output priority -500; oifname {doors} counter drop; }}
}}
"""
    if cables:
        ends = "{ " + ", ".join(f'"{one}"' for one in cables) + " }"
        rules += f"""
table bridge {name} {{ {comment}
  chain prerouting {{ type filter hook prerouting priority -500; iifname {ends} counter drop; }}
  chain postrouting {{ type filter hook postrouting priority 500; oifname {ends} counter drop; }}
}}
"""
    return rules


def cgroup_rules(case_id: str, cgroup: str, level: int) -> str:
    """Rules that drop all traffic of the sockets of a cgroup.

    ``cgroup`` is a path beneath ``/sys/fs/cgroup``, by which nft finds it; ``level`` is its depth in the cgroup v2
    hierarchy, which is another one where that is mounted deeper.
    """
    match = f'socket cgroupv2 level {level} "{cgroup}"'
    return f"""
table inet {table_name(case_id)} {{ comment "irkit case {case_id}";
  chain output {{ type filter hook output priority -500; {match} counter drop; }}
  chain input {{ type filter hook input priority -500; {match} counter drop; }}
}}
"""


def load(case_id: str, rules: str) -> None:
    """Put the rules in place of those that the case had, in one transaction.  Raises ``EngineError``.

    nft reads all tables that there are each time: what several threads want at once is loaded by one call of it.
    """
    mine = (case_id, rules)
    with _waiting_lock:
        _waiting.append(mine)
    with _loading:
        with _waiting_lock:
            if mine not in _waiting:
                return  # another thread has loaded it
            together = list(_waiting)
            _waiting.clear()
        try:
            nft(["-f", "-"], "".join(_created(*one) for one in together))
        except EngineError:  # some are there already, or something is wrong that comes up again
            with _waiting_lock:
                _waiting.extend(one for one in together if one != mine)
            fresh = "".join(
                f"add table {one} {table_name(case_id)}\ndelete table {one} {table_name(case_id)}\n" for one in FAMILIES
            )
            nft(["-f", "-"], fresh + rules)


def _created(case_id: str, rules: str) -> str:
    made = f'{{ comment "irkit case {case_id}"; }}'
    return "".join(f"create table {family} {table_name(case_id)} {made}\n" for family in FAMILIES) + rules


def belongs(table: Table, case_id: str) -> bool:
    """Whether a table is that case's."""
    return table.name in (case_id, table_name(case_id), relay_table(case_id))


def drop(table: Table) -> None:
    """Remove a table.  Raises ``EngineError``."""
    nft(["delete", "table", table.family, table.name])


def tables() -> list[Table]:
    """irkit's tables in this network namespace.  Raises ``EngineError`` when ``nft`` can't tell."""
    if not available():
        return []
    found = []
    for item in json.loads(nft(["-j", "list", "tables"])).get("nftables", ()):
        row: dict[str, Any] = item.get("table") or {}
        if str(row.get("name", "")).startswith(PREFIX) and row.get("family") in FAMILIES:
            found.append(Table(row["family"], row["name"]))
    return found


def cases_of(found: list[Table]) -> set[str]:
    """The cases that tables say they belong to, or a table's own name where it says nothing.

    nft prints a table's comment as text only.  Raises ``EngineError``.
    """
    names: dict[str, str] = {}
    for one in found:
        if names.get(one.name, one.name) == one.name:
            _, _, rest = nft(["list", "table", one.family, one.name]).partition('comment "irkit case ')
            names[one.name] = rest.partition('"')[0] or one.name
    return set(names.values())


def nft(arguments: list[str], rules: str = "") -> str:
    """What ``nft`` answers.  Raises ``EngineError``."""
    try:
        done = subprocess.run(
            ["nft", *arguments], input=rules, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"nft could not be run: {error}", hint="install the package nftables") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise EngineError(f"nft refused: {reason[0] if reason else done.returncode}", hint="run irkit as root")
    return done.stdout
