"""Byte streams between packages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

IDLE = 30.0
"""Seconds without a byte after which an engine's stream counts as hung."""


class StreamReader(io.RawIOBase):
    """Chunks as a file that can only be read forwards."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
