"""Where a path or a digest stands in a database: eight bytes a line, whatever its length."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

MASK = 0xFFFFFFFF
CANDIDATES = 64
"""Places that one key is looked up at: more have it in forged databases only, or are folders of every package."""
ROW = struct.Struct(">IHBBH")
TEXT_LIMIT = 1 << 31
"""Bytes of text that an index reaches over."""
LINES_LIMIT = 3_000_000
"""Lines or files that an index holds: an image of ten thousand packages has less."""
TABLE_LIMIT = 256 * 1024 * 1024
"""Bytes of a table."""


class HashIndex:
    """``key → places`` (32 bits each).  A place may be wrong, by the hash's length: look there before you believe it.

    The hash is Python's own, with a secret of this process: nobody can write keys that collide.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: list[int]) -> None:
        entries.sort()
        self._entries = array("Q", entries)

    @staticmethod
    def entry(key: bytes, place: int) -> int:
        """What to give to the constructor."""
        return (hash(key) & MASK) << 32 | place

    def find(self, key: bytes) -> Sequence[int]:
        """The places of a key, the first ones first, :data:`CANDIDATES` at most."""
        entries = self._entries
        top = hash(key) & MASK
        start = bisect_left(entries, top << 32)
        if start == len(entries) or entries[start] >> 32 != top:
            return ()
        stop = start + 1
        while stop < len(entries) and entries[stop] >> 32 == top and stop < start + CANDIDATES:
            stop += 1
        return [place & MASK for place in entries[start:stop]]

    def __len__(self) -> int:
        return len(self._entries)


class TextIndex:
    """The lines of several texts by a part of each line.  The texts themselves are read again when they are asked for."""

    def __init__(
        self, names: Iterable[str], read: Callable[[str], bytes | None], start: int = 0, stop: int | None = None
    ) -> None:
        """The key of a line is ``line[start:stop]``; empty lines have none."""
        self._read = read
        self.whole = True
        """Whether all texts are in it: of forged ones some may not be."""
        self._names: list[str] = []
        self._starts = array("Q")
        part = slice(start, stop)
        entries: list[int] = []
        total = 0
        for name in names:
            text = read(name)
            if text is None:
                continue
            lines = text.split(b"\n", LINES_LIMIT - len(entries))
            if total + len(text) >= TEXT_LIMIT or len(entries) + len(lines) > LINES_LIMIT:
                self.whole = False  # that text can't hide the others
                continue
            self._names.append(name)
            self._starts.append(total)
            at = total
            for line in lines:
                if key := line[part]:
                    entries.append((hash(key) & MASK) << 32 | at)
                at += len(line) + 1
            total = at
        self._index = HashIndex(entries)

    def __len__(self) -> int:
        return len(self._index)

    def find(self, key: bytes) -> Iterator[tuple[str, bytes]]:
        """``(the text's name, the line)`` for every place where the key may stand."""
        for place in self._index.find(key):
            number = bisect_right(self._starts, place) - 1
            text = self._read(self._names[number]) or b""
            start = place - self._starts[number]
            end = text.find(b"\n", start)
            yield self._names[number], text[start : end if end >= 0 else len(text)]


@dataclass(frozen=True, slots=True)
class Row:
    """A file that a package owns."""

    package: int
    path: bytes
    digest: bytes
    """Binary; empty for none."""
    algorithm: int
    """Its number in :data:`irkit.compare.packages.model.ALGORITHMS`."""
    flags: int
    mode: int | None


CONFFILE, MODE = 1, 2


class Table:
    """Files that packages own, in one run of bytes."""

    def __init__(self) -> None:
        self._rows = bytearray()
        self._paths: list[int] = []
        self._path_index: HashIndex | None = None
        self._digest_index: HashIndex | None = None

    def add(
        self,
        package: int,
        path: bytes,
        digest: bytes = b"",
        algorithm: int = 0,
        flags: int = 0,
        mode: int = 0,
    ) -> bool:
        """Whether there was room for it."""
        at = len(self._rows)
        if at >= TABLE_LIMIT or len(self._paths) >= LINES_LIMIT or len(path) > 0xFFFF or len(digest) > 64:
            return False
        self._paths.append((hash(path) & MASK) << 32 | at)
        self._rows += ROW.pack(package, len(path), len(digest), algorithm << 4 | flags, mode & 0xFFFF)
        self._rows += digest
        self._rows += path
        return True

    def find(self, path: bytes) -> Iterator[Row]:
        """The rows of a path, in the order in which they were added."""
        if self._path_index is None:
            self._path_index = HashIndex(self._paths)
            self._paths = []
        for place in self._path_index.find(path):
            row = self._row(place)
            if row.path == path:
                yield row

    def with_digest(self, algorithm: int, digest: bytes) -> Iterator[Row]:
        """Rows of a digest."""
        if self._digest_index is None:
            self._digest_index = HashIndex(list(self._digests()))
        for place in self._digest_index.find(digest):
            row = self._row(place)
            if row.digest == digest and row.algorithm == algorithm:
                yield row

    def _digests(self) -> Iterator[int]:
        at = 0
        while at < len(self._rows):
            _, path, digest, _, _ = ROW.unpack_from(self._rows, at)
            start = at + ROW.size
            if digest:
                yield HashIndex.entry(bytes(self._rows[start : start + digest]), at)
            at = start + digest + path

    def _row(self, at: int) -> Row:
        package, path, digest, kind, mode = ROW.unpack_from(self._rows, at)
        start = at + ROW.size
        middle = start + digest
        return Row(
            package,
            bytes(self._rows[middle : middle + path]),
            bytes(self._rows[start:middle]),
            kind >> 4,
            kind & 0xF,
            mode if kind & MODE else None,
        )
