"""Files with holes: only what holds data is read; the digest counts the holes as the zeros that they are."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

BLOCK = 1024 * 1024
EXTENT_LIMIT = 65536
"""Beyond that many pieces the rest of a file counts as data: its writer chooses how many there are."""
HOLES_LIMIT = 16 * 1024**3
"""Zeros that are hashed for holes in one go over a container (some 10 s); a file can have exabytes of them."""
_ZEROS = bytes(BLOCK)

Extent = tuple[int, int]
"""Offset and length of a piece that holds data."""


def extents(descriptor: int, size: int, allocated: int) -> Sequence[Extent]:
    """The pieces of a file that hold data, in order; one piece for a file without holes.  lseek(2), ``SEEK_DATA``."""
    if allocated >= size:
        return ((0, size),) if size else ()
    found: list[Extent] = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            return ((0, size),)
        if start >= size:
            break
        if len(found) == EXTENT_LIMIT:
            end = size
        found.append((start, min(end, size) - start))
        offset = end
    return found


def read_piece(descriptor: int, extent: Extent, checkpoint: Callable[[], None]) -> Iterator[bytes]:
    """The bytes of one piece; fewer when the file ends before, or can't be read on."""
    offset, left = extent
    while left:
        checkpoint()
        try:
            data = os.pread(descriptor, min(left, BLOCK), offset)
        except OSError:
            return
        if not data:
            return
        yield data
        offset += len(data)
        left -= len(data)


@dataclass(slots=True)
class Holes:
    """How many bytes of holes may still be hashed."""

    left: int = HOLES_LIMIT

    def afford(self, size: int) -> bool:
        """Whether ``size`` more may be; counts them."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(slots=True)
class Digest:
    """A file's sha256, made of pieces and holes; none when there are more holes than one may hash."""

    holes: Holes
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    position: int = 0
    whole: bool = True

    def data(self, block: bytes) -> None:
        """Bytes that were read."""
        if self.whole:
            self.sha256.update(block)
        self.position += len(block)

    def skip_to(self, offset: int) -> None:
        """A hole."""
        gap = offset - self.position
        if gap > 0 and self.whole and self.holes.afford(gap):
            for _ in range(gap // BLOCK):
                self.sha256.update(_ZEROS)
            self.sha256.update(_ZEROS[: gap % BLOCK])
        elif gap > 0:
            self.whole = False
        self.position = max(self.position, offset)

    def value(self) -> str:
        """In hex; empty when it was not made."""
        return self.sha256.hexdigest() if self.whole else ""
