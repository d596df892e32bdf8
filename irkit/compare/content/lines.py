"""Lines of a file of statements: split at line feeds alone, as the programs that read such files do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FILE_LIMIT = 1024 * 1024
COUNT_LIMIT = 20_000
LINE_LIMIT = 16 * 1024
"""Bytes of a file, lines, and characters of a line that are looked at."""


@dataclass(frozen=True, slots=True)
class Line:
    """``number`` counts from 1.  ``text`` is in ``surrogateescape`` form, without its end."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Lines:
    """A file's lines; ``problems``: what was left out."""

    lines: tuple[Line, ...]
    problems: tuple[str, ...]

    def statements(self, comments: str = "#") -> Iterator[Line]:
        """Lines with a word in them, stripped, that are no comments."""
        for line in self.lines:
            text = line.text.strip()
            if text and text[0] not in comments:
                yield Line(line.number, text)

    def joined(self, comments: str = "#", keep: re.Pattern[str] | None = None) -> Iterator[Line]:
        """As :meth:`statements`, each with the lines that a backslash at its end continues: up to :data:`LINE_LIMIT`, what is longer comes in pieces.

        ``keep``: what looks like a comment and is none.
        """
        parts: list[str] = []
        size = number = 0
        for line in self.lines:
            if not parts:
                number = line.number
                bare = line.text.lstrip()
                if bare[:1] in tuple(comments) and not (keep and keep.match(bare)):
                    continue
            text = line.text
            more = text.endswith("\\")
            size += len(text)
            parts.append(text[:-1] if more else text)
            # Longer ones are read in pieces: nothing is dropped.
            if not more or size > LINE_LIMIT:
                yield from self._whole(parts, number)
                parts, size = [], 0
        yield from self._whole(parts, number)

    @staticmethod
    def _whole(parts: list[str], number: int) -> Iterator[Line]:
        text = "".join(parts).strip()
        if text:
            yield Line(number, text)


def split(data: bytes | None) -> Lines:
    """The lines of a file; none when there is no file.  Never raises."""
    if not data:
        return Lines((), ())
    problems = []
    if len(data) > FILE_LIMIT:
        problems.append(f"only the first {FILE_LIMIT} of {len(data)} bytes were compared by entries")
    rows = data[:FILE_LIMIT].split(b"\n", COUNT_LIMIT)
    if len(rows) > COUNT_LIMIT:
        if rows[-1]:
            problems.append(f"only the first {COUNT_LIMIT} lines were compared by entries")
        rows.pop()
    lines = []
    long = 0
    for number, row in enumerate(rows, 1):
        long += len(row) > LINE_LIMIT
        lines.append(Line(number, row[:LINE_LIMIT].rstrip(b"\r").decode("utf-8", "surrogateescape")))
    if long:
        problems.append(f"{long} lines are longer than {LINE_LIMIT} bytes, and were cut")
    return Lines(tuple(lines), tuple(problems))


def number(text: str) -> int | None:
    """A decimal number as C's ``strtoul`` and musl's ``atou`` read it; empty is 0 (musl), no number at all is ``None``."""
    word = text.strip().lstrip("+-")
    if not word.isascii() or len(word) > 30 or (word and not word.isdigit()):
        return None
    return int(word or "0")
