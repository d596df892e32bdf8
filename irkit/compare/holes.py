"""Files with holes: an attacker makes one of 8 EB for nothing, and whoever reads its zeros reads for years."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import IO, BinaryIO

LIMIT = 1024**3
"""Zeros of holes that are read over one comparison; beyond, a file's holes are passed over."""
SHORT = 4096
"""Bytes that stand for a hole that is passed over: what lies before and behind it must not touch."""


class Dense(io.RawIOBase):
    """The pieces of a sparse member that hold data, with :data:`SHORT` zeros at most for each hole between them."""

    def __init__(self, member: tarfile.TarInfo, file: IO[bytes]) -> None:
        # Of a stream: the buffered object asks whether it can seek, which tarfile's stream of 3.11 doesn't know.
        self._file: IO[bytes] = getattr(file, "raw", file)
        self._pieces = iter([*_pieces(member), (member.size, 0)])
        self._place = self._left = self._zeros = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        found: list[bytes] = []
        while size > 0 and (self._left or self._zeros or self._next()):
            if self._zeros:
                data = bytes(min(size, self._zeros))
                self._zeros -= len(data)
            else:
                data = self._file.read(min(size, self._left))
                self._left = self._left - len(data) if data else 0
            found.append(data)
            size -= len(data)
        return b"".join(found)

    def _next(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        offset, self._left = piece
        self._zeros = min(SHORT, max(0, offset - self._place))
        self._file.seek(offset)
        self._place = offset + self._left
        return True


@dataclass(slots=True)
class Zeros:
    """How many zeros of holes may still be read."""

    left: int = LIMIT

    def opened(self, member: tarfile.TarInfo, file: IO[bytes]) -> BinaryIO:
        """The member's bytes; as :class:`Dense` when its holes are more than may be read."""
        holes = max(0, member.size - sum(length for _, length in _pieces(member)))
        if holes > self.left:
            return Dense(member, file)  # type: ignore[return-value]  # what is asked of it is `read`
        self.left -= holes
        return file  # type: ignore[return-value]  # an ExFileObject: a BufferedReader


def _pieces(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
    return [(0, member.size)] if sparse is None else sparse
