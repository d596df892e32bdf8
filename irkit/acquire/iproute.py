"""Addresses, routes of every table, rules, neighbours and traffic control of a network namespace, by ip(8) and tc(8).

The host's own programs run in the target's network namespace and in nothing else of it: nothing of the container is run.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from irkit.acquire.host import HostView
from irkit.evidence.writer import BundleWriter, Origin
from irkit.netns import in_netns

TIMEOUT = 5
BATCHES = {
    ("ip", "-d", "-s", "-j"): {
        "links": "link show", "addresses": "address show", "multicast": "maddress show", "neighbours": "neighbour show",
    },
    ("ip", "-4", "-j"): {"routes": "route show table all", "rules": "rule show"},
    ("ip", "-6", "-j"): {"routes6": "route show table all", "rules6": "rule show"},
    ("tc", "-j"): {"qdiscs": "qdisc show", "filters": "filter show"},
}  # fmt: skip


def collect_ip(view: HostView) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """``network/ip.json``, each value as the program printed it, and ``(what, why)`` of what could not be had."""
    found: dict[str, Any] = {}
    missing: list[tuple[str, str]] = []
    for words, running in start(view).items():
        names = list(BATCHES[words])
        try:
            documents = _documents(_finish(running, BATCHES[words]))
            if len(documents) != len(names):
                raise ValueError(f"{len(names)} questions had {len(documents)} answers")
            found.update(zip(names, documents, strict=True))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            missing += [(name, f"{words[0]}: {error or type(error).__name__}") for name in names]
    return found, missing


def acquire_routes(view: HostView, writer: BundleWriter) -> int:
    """Write ``network/ip-before.json``, as ``network/ip.json``; how many tables it has."""
    tables, missing = collect_ip(view)
    origin = Origin(
        "network-state",
        view.netns,
        "ip -j and tc -j of the host, in its network namespace, before it left its networks",
    )
    writer.add_json("network/ip-before.json", tables, origin)
    for what, why in missing:
        writer.gap("network-state", what, why)
    return len(tables)


Running = subprocess.Popen[bytes] | OSError


def start(view: HostView) -> dict[tuple[str, ...], Running]:
    """Every program at once, in the target's network namespace."""
    return in_netns(view.netns, lambda: {words: _start((*words, "-batch", "-")) for words in BATCHES})


def _start(argv: tuple[str, ...]) -> Running:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        return error


def _finish(running: Running, questions: dict[str, str]) -> str:
    """What it printed.  Raises ``OSError`` and ``SubprocessError``."""
    if isinstance(running, OSError):
        raise running
    try:
        out, err = running.communicate("\n".join(questions.values()).encode() + b"\n", timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        raise
    if running.returncode:
        raise OSError(err.decode("utf-8", "backslashreplace").strip() or f"exit {running.returncode}")
    return out.decode("utf-8", "surrogateescape")


def _documents(text: str) -> list[Any]:
    """One JSON document after another, as ``-batch`` prints them.  Raises ``ValueError``."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while rest := text[place:].lstrip():
        document, used = decoder.raw_decode(rest)
        found.append(document)
        place = len(text) - len(rest) + used
    return found
