"""Turning all that leaves a target back to the host's own sockets in the target's network namespace.

1. A policy route makes every foreign address local (``ip rule … iif lo``, ``local default dev lo`` in a table of
   irkit's own), so that no packet of an ordinary socket gets as far as the target's interface.
2. nftables hands each of these packets to a listener by ``tproxy``: no address is translated, so the recording shows
   the addresses and ports that the target meant, and so do ``getsockname`` and ``IP_ORIGDSTADDR``.
3. The engine's resolver (127.0.0.11) is translated by the engine's own rules; its packets skip these (``notrack``).

What goes to the namespace's own addresses is left alone.  A socket bound to a device (``SO_BINDTODEVICE``) or a packet
socket passes by, to the quarantine bridge, as without a diversion.  Other protocols (a ping) end in the
namespace: recorded, not answered.

Sources: ip-rule(8), ip-route(8), nft(8), Documentation/networking/tproxy.rst of Linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from irkit.errors import EngineError
from irkit.netns import in_netns, local_ipv4, local_ipv6

Result = TypeVar("Result")
TABLE = "irkit_sink"
ROUTES = "52913"
PREFERENCE = "10"
RESOLVERS = ("127.0.0.11",)
TIMEOUT = 10.0
PACKAGES = {"nft": "nftables", "ip": "iproute2"}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the listeners are, on 127.0.0.1 and, where there is IPv6, on ``::1`` (0: no IPv6)."""

    tcp4: int
    udp4: int
    tcp6: int = 0
    udp6: int = 0


def rules(ports: Ports, resolvers: Sequence[str] = RESOLVERS, own6: Sequence[str] = ()) -> str:
    """The table, in place of one that may be there.  ``resolvers``: loopback addresses that are asked for names.

    ``own6``: the namespace's own IPv6 addresses; ``fib`` can't tell them from those that the policy route made local.
    """
    notrack, pick = [], []
    for resolver in resolvers:
        family = "ip" if ip_address(resolver).version == 4 else "ip6"
        for protocol in ("udp", "tcp"):
            notrack += [
                f"{family} daddr {resolver} {protocol} dport 53 notrack",
                f"{family} saddr {resolver} {protocol} sport 53 notrack",
            ]
            if family == "ip" or ports.tcp6:
                pick.append(f"{family} daddr {resolver} {protocol} dport 53 {_to(ports, family, protocol)}")
    pick.append("meta nfproto ipv4 fib daddr type != unicast accept")
    pick.append(f"ip6 daddr {{ {', '.join(['::1', 'fe80::/10', 'ff00::/8', *own6])} }} accept")
    for family in ("ip", "ip6") if ports.tcp6 else ("ip",):
        nfproto = "ipv4" if family == "ip" else "ipv6"
        pick += [
            f"meta nfproto {nfproto} meta l4proto {protocol} {_to(ports, family, protocol)}"
            for protocol in ("tcp", "udp")
        ]
    lines = "\n    ".join
    return f"""
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain raw {{ type filter hook output priority raw; policy accept;
    {lines(notrack)}
  }}
  chain divert {{ type filter hook prerouting priority mangle; policy accept;
    iif != "lo" accept
    {lines(pick)}
  }}
}}
"""


def _to(ports: Ports, family: str, protocol: str) -> str:
    port = {"iptcp": ports.tcp4, "ipudp": ports.udp4, "ip6tcp": ports.tcp6, "ip6udp": ports.udp6}[family + protocol]
    return f"tproxy {family} to {'127.0.0.1' if family == 'ip' else '[::1]'}:{port} accept"


def divert(netns_path: str, ports: Ports, resolvers: Sequence[str] = RESOLVERS) -> None:
    """Turn the target's traffic to ``ports``; instead of what a killed run may have left.

    Raises ``EngineError``; then nothing of it is left, unless the error says so.
    """

    def change() -> None:
        own6 = [one for one, _ in local_ipv6(_proc("if_inet6")) if not one.startswith("fe80")]
        _run(["nft", "-f", "-"], rules(ports, resolvers, own6))
        _route("-4", local_ipv4(_proc("fib_trie")), "127.0.0.1")
        if ports.tcp6:
            _route("-6", own6, "::1")

    undo(netns_path)
    try:
        _inside(netns_path, change)
    except EngineError:
        undo(netns_path)
        raise


def undo(netns_path: str) -> None:
    """Take it all back.  Can be repeated.  Raises ``EngineError`` when something of it is still there."""

    def change() -> list[str]:
        for family in ("-4", "-6"):
            for _ in range(8):
                if _run(["ip", family, "rule", "del", *_rule()], check=False).returncode:
                    break
            _run(["ip", family, "route", "flush", "table", ROUTES], check=False)
        _run(["nft", "-f", "-"], f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
        return _left()

    left = _inside(netns_path, change)
    if left:
        raise EngineError(f"the target's traffic is still turned away: {', '.join(left)}", hint="run irkit as root")


def left(netns_path: str) -> list[str]:
    """What of a diversion is in place: ``nft table``, ``IPv4 rule``, ``IPv6 rule``.  Raises ``EngineError``."""
    return _inside(netns_path, _left)


def has_ipv6() -> bool:
    """Whether this thread's network namespace has IPv6 on its loopback (the kernel refuses routes to it otherwise)."""
    return any(line.split()[-1] == "lo" for line in _proc("if_inet6").splitlines() if line.strip())


def _left() -> list[str]:
    tables = _run(["nft", "list", "tables"]).stdout.splitlines()
    found = ["nft table"] if f"table inet {TABLE}" in tables else []
    for family, name in (("-4", "IPv4 rule"), ("-6", "IPv6 rule")):
        done = _run(["ip", family, "rule", "show", "pref", PREFERENCE], check=False)
        if done.returncode == 0 and ROUTES in done.stdout:
            found.append(name)
    return found


def _rule() -> list[str]:
    return ["pref", PREFERENCE, "iif", "lo", "lookup", ROUTES]


def _route(family: str, addresses: Sequence[str], otherwise: str) -> None:
    """The source must be named: by default it would be the address that is called."""
    source = addresses[0] if addresses else otherwise
    _run(["ip", family, "route", "add", "local", "default", "dev", "lo", "src", source, "table", ROUTES])
    _run(["ip", family, "rule", "add", *_rule()])


def _proc(name: str) -> str:
    try:
        return (Path("/proc/thread-self/net") / name).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _inside(netns_path: str, change: Callable[[], Result]) -> Result:
    try:
        return in_netns(netns_path, change)
    except OSError as error:
        raise EngineError(
            f"can't enter the target's network namespace: {error.strerror or error}",
            hint="run irkit as root on the engine's own host; the target must be running",
        ) from error


def _run(argv: list[str], script: str = "", *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a tool in this thread's namespace.  Raises ``EngineError`` when it can't be run or, if to check, refuses."""
    done = _call(argv, script)
    if check and done.returncode:
        reason = done.stderr.strip().splitlines()
        raise EngineError(
            f"{argv[0]} refused: {reason[0] if reason else done.returncode}",
            hint="run irkit as root; the kernel needs nft_tproxy, nft_fib_inet and policy routing",
        )
    return done


def _call(argv: list[str], script: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which(argv[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if tool is None:
        raise EngineError(f"{argv[0]} is not installed", hint=f"install the package {PACKAGES[argv[0]]}")
    try:
        return subprocess.run(
            [tool, *argv[1:]], input=script, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(
            f"{argv[0]} could not be run: {error}", hint=f"install the package {PACKAGES[argv[0]]}"
        ) from error
