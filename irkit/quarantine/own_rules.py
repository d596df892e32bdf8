"""Rules that somebody put into the target's own network namespace: they may drop a probe and let other things pass.

A target with ``NET_ADMIN`` can do so.  Firewall rules are read by the host's nft(8) and iptables-legacy-save(8), which run
in the target's network namespace and in nothing else of it, while the probes are under way; routing rules by netlink.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from irkit.netns import in_netns
from irkit.quarantine.own_routes import own_routes
from irkit.text import printable

TIMEOUT = 5
LIMIT = 8 * 1024 * 1024
VERDICTS = frozenset({"drop", "reject", "queue"})
NAT = "nat"
"""The engine's own rules (names of its DNS) are in tables of this name, and in chains of the type ``nat``."""


class OwnRules(NamedTuple):
    """``foreign``: what may drop a probe, in words; ``unread``: why the rules could not be read; ``ruleset``: as they are."""

    foreign: tuple[str, ...] = ()
    unread: str = ""
    ruleset: Mapping[str, Any] = {}


class Reading:
    """The programs at work.  ``netns``: the path of the namespace; ``pid``: a process in it.

    ``former``: addresses that the target had and has no more.  Rules for them alone (a Swarm task has some of the
    engine's, for its ingress address) touch no probe.
    """

    def __init__(self, netns: str | None, pid: int, former: frozenset[str] = frozenset()) -> None:
        self._former = former
        self._routes: list[str] | OSError
        try:
            self._routes = in_netns(netns, own_routes)
        except OSError as error:
            self._routes = error
        self._nft = in_netns(netns, lambda: _start("nft", "-j", "list", "ruleset"))
        self._legacy = {}
        for program, tables in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
            for table in _tables(Path(f"/proc/{pid}/net/{tables}")):
                if table != NAT:
                    argv = (f"{program}-legacy-save", "-t", table)
                    self._legacy[f"{program} {table}"] = in_netns(netns, lambda argv=argv: _start(*argv))  # type: ignore[misc]

    def result(self) -> OwnRules:
        """Wait for them, and judge."""
        foreign: list[str] = []
        ruleset: dict[str, Any] = {}
        unread = []
        try:
            ruleset["nft"] = json.loads(_finish(self._nft) or "{}")
            foreign += _foreign(ruleset["nft"], self._former)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            unread.append(f"nft: {error or type(error).__name__}")
        for name, running in self._legacy.items():
            try:
                ruleset[name] = _finish(running).decode("utf-8", "backslashreplace")
                foreign += [f"{name}: {line}" for line in _legacy(ruleset[name], self._former)]
            except (OSError, subprocess.SubprocessError) as error:
                unread.append(f"{name}: {error or type(error).__name__}")
                foreign.append(f"{name}: there is such a table, and it can't be read")
        if isinstance(self._routes, OSError):
            unread.append(f"routing rules: {self._routes.strerror or self._routes}")
        else:
            foreign += self._routes
            ruleset["routing"] = self._routes
        words = tuple(dict.fromkeys(printable(one, 200) for one in foreign))
        return OwnRules(words, "; ".join(unread), ruleset)


def _tables(path: Path) -> list[str]:
    try:
        names = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
    return [one for one in names if re.fullmatch(r"[a-z]{1,16}", one)]


def _start(*argv: str) -> subprocess.Popen[bytes] | OSError:
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        )  # fmt: skip
    except OSError as error:
        return error


def _finish(running: subprocess.Popen[bytes] | OSError) -> bytes:
    """What it printed.  Raises ``OSError`` and ``SubprocessError``."""
    if isinstance(running, OSError):
        raise running
    try:
        out, _ = running.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        raise
    if running.returncode:
        raise OSError(f"exit {running.returncode}")
    if len(out) > LIMIT:
        raise OSError(f"more than {LIMIT} bytes of rules")
    return out


def _foreign(document: Any, former: frozenset[str] = frozenset()) -> Iterator[str]:
    """What of nft's JSON (libnftables-json(5)) may drop: chains with the policy drop, rules of filter chains, verdicts."""
    rows = document.get("nftables", []) if isinstance(document, Mapping) else []
    kinds: dict[tuple[str, ...], str] = {}
    for row in rows if isinstance(rows, list) else []:
        chain, rule = (row.get("chain"), row.get("rule")) if isinstance(row, Mapping) else (None, None)
        if isinstance(chain, Mapping):
            name = _place(chain, "name")
            kinds[name] = str(chain.get("type", ""))
            if chain.get("policy") == "drop":
                yield f"{' '.join(name)}: policy drop"
        elif isinstance(rule, Mapping) and not _only_for(rule, former):
            name = _place(rule, "chain")
            text = json.dumps(rule.get("expr", ""))
            verdict = next((one for one in VERDICTS if f'"{one}"' in text), "")
            if verdict or kinds.get(name) not in ("nat", "", None):
                yield f"{' '.join(name)}: {verdict or 'a rule in a ' + kinds[name] + ' chain'}"
        elif isinstance(row, Mapping) and isinstance(row.get("flowtable"), Mapping):
            yield "a flowtable"


def _only_for(rule: Mapping[str, Any], addresses: frozenset[str]) -> bool:
    """Whether it matches nothing but packets from or to one of the addresses."""
    expressions = rule.get("expr")
    for one in expressions if isinstance(expressions, list) else []:
        match = one.get("match") if isinstance(one, Mapping) else None
        if not isinstance(match, Mapping) or match.get("op") != "==":
            continue
        left = match.get("left")
        payload = left.get("payload") if isinstance(left, Mapping) else None
        field = payload.get("field") if isinstance(payload, Mapping) else None
        if field in ("saddr", "daddr") and isinstance(match.get("right"), str) and match["right"] in addresses:
            return True
    return False


def _place(row: Mapping[str, Any], last: str) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in ("family", "table", last))


def _legacy(text: str, former: frozenset[str] = frozenset()) -> Iterator[str]:
    """Lines of iptables-save that may drop: any rule, and the policy of a built-in chain."""
    for line in text.splitlines():
        only = re.search(r" -[sd] (\S+)/(?:32|128) ", line)
        if only and only.group(1) in former and f"! -{only.group(0)[2]}" not in line:
            continue
        if line.startswith("-A ") or re.match(r":\S+ DROP\b", line):
            yield line
