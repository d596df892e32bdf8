"""YARA over the memory of processes (yara-x, the extra ``irkit[yara]``): which process is worth being taken whole.

Rules see windows of at most :data:`WINDOW` bytes of memory that lies together, each overlapping the one before it by
:data:`OVERLAP`, so that a pattern is found wherever it lies.  What asks for a file's structure (``filesize``, ``elf``)
sees a window.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from irkit import resources
from irkit.yara_rules import Sources, module, scanner

WINDOW, OVERLAP = 16 * 1024 * 1024, 64 * 1024
TIMEOUT = 60
"""Seconds for one window."""
HITS = 100
"""Matches that are listed of one process."""


class Piece(Protocol):
    """A range of addresses."""

    @property
    def start(self) -> int:
        """Its first address."""

    @property
    def end(self) -> int:
        """The first after it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A pattern of a rule, found at an address."""

    rule: str
    pattern: str
    address: int

    def to_json(self) -> dict[str, str]:
        """A row of ``matches`` in ``memory/index.json``."""
        return {"rule": self.rule, "pattern": self.pattern, "address": hex(self.address)}


class Rules:
    """Compiled rules.  ``path``: where they lie."""

    def __init__(self, name: str) -> None:
        """By a name in ``forensics/yara`` or by path.  Raises ``UsageProblem``, and ``IrkitError`` without yara-x."""
        self.path = resources.find("forensics/yara", name)
        self._scanner = scanner(Sources((self.path,)).compiled(), TIMEOUT, HITS)

    def search(self, memory: int, pieces: Iterable[Piece], unread: list[tuple[int, str]]) -> list[Hit]:
        """The hits in the memory behind an open ``/proc/PID/mem``; what can't be read or scanned goes into ``unread``."""
        yara_x = module()
        found: dict[Hit, None] = {}
        for address, data in windows(memory, pieces, unread):
            try:
                results = self._scanner.scan(data)
            except (yara_x.ScanError, yara_x.TimeoutError) as error:
                unread.append((address, str(error) or "the scan took too long"))
                continue
            for hit in _hits(results, address):
                if len(found) < HITS:
                    found[hit] = None
        return list(found)


def _hits(results: Any, address: int) -> Iterator[Hit]:
    for rule in results.matching_rules:
        places = [(pattern.identifier, one.offset) for pattern in rule.patterns for one in pattern.matches]
        for name, offset in places or [("", 0)]:
            yield Hit(rule.identifier, name, address + offset)


def windows(memory: int, pieces: Iterable[Piece], unread: list[tuple[int, str]]) -> Iterator[tuple[int, bytes]]:
    """``(address, bytes)`` of what lies together, in windows that overlap."""
    for start, end in _together(pieces):
        address = start
        while address < end:
            try:
                data = os.pread(memory, min(WINDOW, end - address), address)
            except OSError as error:
                unread.append((address, error.strerror or str(error)))
                break
            if not data:
                break
            yield address, data
            if address + len(data) >= end:
                break
            address += max(len(data) - OVERLAP, 4096)


def _together(pieces: Iterable[Piece]) -> Iterator[tuple[int, int]]:
    first = last = 0
    for piece in pieces:
        if last == piece.start and last:
            last = piece.end
            continue
        if last:
            yield first, last
        first, last = piece.start, piece.end
    if last:
        yield first, last
