"""YARA over files and memory-backed executables: hits with a meaning (docs/rules.md).

The shipped rules in ``forensics/yara/`` and a user's own are compiled once.  A rule's ``meta`` says what its hit means:
``severity``, ``description``, ``reason``, ``next`` and ``attack`` (ATT&CK ids, separated by blanks or commas).  Each scan has a limit
of bytes and of seconds; what was not scanned, or not wholly, is said in :attr:`Scan.problem`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit import resources
from irkit.compare.attack import TECHNIQUE, load_techniques
from irkit.compare.rules import Timings
from irkit.errors import IrkitError, UsageProblem
from irkit.models import SEVERITIES, Finding, Gap
from irkit.text import printable
from irkit.yara_rules import HINT, MISSING, Sources, metadata, module, scanner

FOLDER = "forensics/yara"
FOR_MEMORY = "memory.yar"
"""Rules that choose processes for a memory dump: a reason to look, no verdict on a file."""
SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of one file that are scanned: its beginning."""
TIMEOUT = 10
"""Seconds for one file."""
PLACES = 8
"""Places of one pattern that are listed."""
HITS = 64
"""Hits that are listed of one file."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that fits.  ``file``: the file of rules; ``places``: ``(pattern, offset)``, the first of them."""

    rule: str
    file: str
    severity: str
    title: str
    reason: str
    next: str
    attack: tuple[str, ...]
    places: tuple[tuple[str, int], ...]

    def finding(self, subject: str, kind: str = "change") -> Finding:
        """What it means for ``subject``; the rule's name is ``yara:NAME``."""
        return Finding(
            f"yara:{self.rule}", self.severity, self.title, self.reason, self.attack, subject, self.next, kind
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """``problem``: why nothing, or not all, was scanned; "" when all was."""

    hits: tuple[Hit, ...]
    problem: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """For the fact ``yara``."""
        return tuple(hit.rule for hit in self.hits)


class Yara:
    """Compiled rules, ready for many files, one at a time."""

    def __init__(self, paths: Sequence[Path] | None = None, *, limit: int = SIZE_LIMIT, timeout: int = TIMEOUT) -> None:
        """``paths``: files of rules; ``None``: the shipped ones and a user's own.

        Raises ``UsageProblem`` with file and line for rules that don't compile, ``IrkitError`` without yara-x.
        """
        self.limit, self._timeout = limit, timeout
        self._paths = tuple(paths if paths is not None else yara_files())
        self._scanner = scanner(Sources(self._paths).compiled(), timeout, PLACES)
        self._apart: list[tuple[str, Any]] = []

    def scan(self, data: bytes, timings: Timings | None = None) -> Scan:
        """Hits in ``data``, of which at most :attr:`limit` bytes are read."""
        size = len(data)
        data = data[: self.limit] if size > self.limit else data
        said = f"only the first {self.limit} of {size} bytes were scanned" if size > len(data) else ""
        return self._scan(data, said, timings)

    def scan_descriptor(self, descriptor: int, timings: Timings | None = None) -> Scan:
        """Hits in a file that is open for reading; its position is left alone.  Reading goes by pread(2), never by name."""
        pieces, place = [], 0
        try:
            while place <= self.limit and (piece := os.pread(descriptor, min(1 << 20, self.limit + 1 - place), place)):
                pieces.append(piece)
                place += len(piece)
        except OSError as error:
            return Scan((), f"can't be read: {error.strerror}")
        data = b"".join(pieces)
        said = f"only the first {self.limit} bytes were scanned" if len(data) > self.limit else ""
        return self._scan(data[: self.limit], said, timings)

    def _scan(self, data: bytes, said: str, timings: Timings | None) -> Scan:
        yara_x = module()
        hits: list[Hit] = []
        for name, one in self._scanners(timings):
            start = time.perf_counter_ns()
            before = len(hits)
            try:
                hits += _hits(one.scan(data))
            except yara_x.TimeoutError:
                said = f"the scan took more than {self._timeout} seconds"
            except yara_x.ScanError as error:
                said = f"the scan failed: {printable(str(error), 200)}"
            if timings is not None:
                timings.add(f"yara file {name}", time.perf_counter_ns() - start, len(hits) > before)
        if len(hits) > HITS:
            said = said or f"{len(hits) - HITS} more rules fit than the {HITS} that are listed"
        return Scan(tuple(hits[:HITS]), said)

    def _scanners(self, timings: Timings | None) -> Iterator[tuple[str, Any]]:
        """One for all files; one for each where times are asked for, which yara-x does not tell by rule."""
        if timings is None:
            yield "all", self._scanner
            return
        if not self._apart:
            self._apart = [
                (path.name, scanner(Sources((path,)).compiled(), self._timeout, PLACES)) for path in self._paths
            ]
        yield from self._apart


def yara_files() -> Iterator[Path]:
    """The shipped rules for files, and a user's own in front of them."""
    return (path for path in resources.every(FOLDER) if path.name != FOR_MEMORY)


def open_yara(paths: Sequence[Path] | None = None) -> Yara | Gap:
    """The scanner, or the gap that stands for it where yara-x is not installed.  Raises ``UsageProblem`` for bad rules."""
    try:
        return Yara(paths)
    except UsageProblem:
        raise
    except IrkitError as error:
        if error.message != MISSING:
            raise
        return Gap("yara", "YARA rules", f"{MISSING}, so no file was scanned: {HINT}")


def _hits(results: Any) -> Iterator[Hit]:
    for rule in results.matching_rules:
        meta = metadata(rule)
        places = [(pattern.identifier, one.offset) for pattern in rule.patterns for one in pattern.matches]
        severity = str(meta.get("severity", "medium")).lower()
        yield Hit(
            rule.identifier, rule.namespace, severity if severity in SEVERITIES else "medium",
            _text(meta, "description", f"YARA rule {rule.identifier} fits"),
            _text(meta, "reason", "Its bytes fit a YARA rule; the rule's author knows why."),
            _text(meta, "next", "Look at the places in the file that the rule names."),
            _attack(meta), tuple(places[:PLACES]),
        )  # fmt: skip


def _text(meta: Mapping[str, object], name: str, default: str) -> str:
    value = meta.get(name)
    return printable(value.strip(), 300) if isinstance(value, str) and value.strip() else default


def _attack(meta: Mapping[str, object]) -> tuple[str, ...]:
    named = str(meta.get("attack", meta.get("mitre_attack", ""))).replace(",", " ").split()
    ids = [one for one in named if TECHNIQUE.fullmatch(one)]
    if not ids:
        return ()
    table = load_techniques()
    return tuple(dict.fromkeys(table.current(one) for one in ids))
