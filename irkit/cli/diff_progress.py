"""How far a long comparison has come: one line on standard error that is written over, and taken away at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

AFTER = 1.0
"""Seconds that a comparison may take before anything is said."""
EVERY = 0.2
ERASE = "\r\x1b[2K"

T = TypeVar("T")


class Progress:
    """Counts of what goes by.  ``wanted``: ``None`` shows it on a terminal only; without a terminal it is a line each time."""

    def __init__(self, wanted: bool | None, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._shown = self._terminal if wanted is None else wanted
        self._next = time.monotonic() + AFTER
        self._drawn = False

    def count(self, words: str, items: Iterable[T], total: int = 0) -> Iterator[T]:
        """Let items pass.  ``words``: what is being done; ``total``: how many there will be, where that is known."""
        number = 0
        for number, item in enumerate(items, 1):
            yield item
            self.tell(words, number, total)
        self.end()

    def tell(self, words: str, number: int, total: int = 0) -> None:
        """One more; drawn now and then."""
        if not self._shown or time.monotonic() < self._next:
            return
        every = EVERY if self._terminal else 5.0
        self._next = time.monotonic() + every
        line = f"  … {words}: {number:,}" + (f" of {total:,}" if total else "")
        # Back at the line's beginning: what is printed meanwhile on the same terminal writes over it.
        self._stream.write(f"{ERASE}{line}\r" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._drawn = True

    def end(self) -> None:
        """Take the line away."""
        if self._drawn and self._terminal:
            self._stream.write(ERASE)
            self._stream.flush()
        self._drawn = False
