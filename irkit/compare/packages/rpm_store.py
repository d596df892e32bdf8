"""The three containers in which rpm keeps its headers: SQLite, its own ``ndb``, and Berkeley DB hashes.

Each reader takes the whole file's bytes, yields headers, and raises ``BadStore`` where it can't go on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MIB = 1024 * 1024
HEADER_LIMIT = 68 * MIB
PACKAGES_LIMIT = 50_000
STEPS, STEPS_LIMIT = 10_000, 20_000
"""SQLite's virtual machine is asked to stop after this many times this many instructions."""


class BadStore(ValueError):
    """The bytes are no such database, or it breaks off.  Never leaves this package."""


def headers(data: bytes) -> Iterator[bytes]:
    """The headers in a file, by what its first bytes say that it is."""
    reader = _reader(data)
    if reader is None:
        raise BadStore("it is of no known format (SQLite, ndb, Berkeley DB hash)")
    total = 0
    for number, blob in enumerate(reader(data)):
        total += len(blob)
        if number >= PACKAGES_LIMIT or total > 2 * len(data):
            raise BadStore(f"it holds more than {PACKAGES_LIMIT} packages, or the same bytes many times")
        yield blob


def _reader(data: bytes) -> Callable[[bytes], Iterator[bytes]] | None:
    if data[:16] == b"SQLite format 3\0":
        return _sqlite
    if data[:4] == b"RpmP":
        return _ndb
    if data[12:16] in (b"\x61\x15\x06\x00", b"\x00\x06\x15\x61"):
        return _bdb
    return None


def _sqlite(data: bytes) -> Iterator[bytes]:
    """``Packages(hnum, blob)`` of rpm's lib/backend/sqlite.c; as https://sqlite.org/security.html says for hostile files."""
    import sqlite3

    # Bytes 18 and 19 ask for a write-ahead log, which bytes in memory can't have (sqlite.org/fileformat.html, 1.3.3).
    image = bytearray(data)
    image[18:20] = b"\1\1"
    with closing(sqlite3.connect(":memory:")) as base:
        try:
            base.deserialize(image)
            yield from _rows(base)
        except (sqlite3.Error, OverflowError, MemoryError, UnicodeDecodeError) as error:
            raise BadStore(f"SQLite: {error}") from error


def _rows(base: sqlite3.Connection) -> Iterator[bytes]:
    import sqlite3

    base.text_factory = bytes
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, HEADER_LIMIT)
    left = [STEPS_LIMIT]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    base.set_progress_handler(stop, STEPS)
    for word in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
        base.execute(f"PRAGMA {word}")
    base.set_authorizer(_allow)
    kinds = base.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchall()
    if kinds != [(b"table",)]:
        raise BadStore("SQLite: it has no table Packages")
    for (blob,) in base.execute("SELECT blob FROM Packages ORDER BY rowid"):
        if isinstance(blob, bytes):
            yield blob


def _allow(action: int, first: str | None, _second: str | None, _base: str | None, _trigger: str | None) -> int:
    """Nothing but reading two tables: no function, no view, no recursion."""
    import sqlite3

    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and first in ("Packages", "sqlite_master"):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _ndb(data: bytes) -> Iterator[bytes]:
    """rpm's lib/backend/ndb/rpmpkg.c: pages of slots (16 bytes), blobs in units of 16 bytes; little-endian."""
    if len(data) < 32:
        raise BadStore("ndb: it breaks off")
    _, version, _, pages = struct.unpack_from("<4sIII", data)
    if version != 0 or pages * 4096 > len(data):
        raise BadStore("ndb: an unknown version, or it breaks off")
    for at in range(32, pages * 4096, 16):
        magic, number, block, _ = struct.unpack_from("<4sIII", data, at)
        if magic != b"Slot":
            raise BadStore("ndb: a slot is damaged")
        if number:
            yield _ndb_blob(data, number, block * 16)


def _ndb_blob(data: bytes, number: int, at: int) -> bytes:
    if at + 16 > len(data):
        raise BadStore("ndb: a package lies beyond its end")
    magic, found, _, size = struct.unpack_from("<4sIII", data, at)
    if magic != b"BlbS" or found != number or at + 16 + size > len(data):
        raise BadStore("ndb: a package is damaged")
    return data[at + 16 : at + 16 + size]


HASH_PAGES, OVERFLOW, OFF_PAGE = (2, 13), 7, 3
"""P_HASH_UNSORTED and P_HASH, P_OVERFLOW, H_OFFPAGE of Berkeley DB's dbinc/db_page.h."""
PAGE_HEADER = 26


def _bdb(data: bytes) -> Iterator[bytes]:
    """Berkeley DB's dbinc/db_page.h: values that are headers are too large for a page and lie on chained overflow pages."""
    order = "<" if data[12:16] == b"\x61\x15\x06\x00" else ">"
    if len(data) < 512 or data[24] or data[25] != 8:
        raise BadStore("Berkeley DB: it is encrypted, or no hash")
    size = struct.unpack_from(f"{order}I", data, 20)[0]
    if size not in {512 << shift for shift in range(8)}:
        raise BadStore("Berkeley DB: the size of a page is none")
    for start in range(size, len(data) - size + 1, size):
        if data[start + 25] in HASH_PAGES:
            yield from _bdb_page(data, start, size, order)


def _bdb_page(data: bytes, start: int, size: int, order: str) -> Iterator[bytes]:
    count = struct.unpack_from(f"{order}H", data, start + 20)[0]
    if PAGE_HEADER + 2 * count > size:
        raise BadStore("Berkeley DB: a page is damaged")
    places = struct.unpack_from(f"{order}{count}H", data, start + PAGE_HEADER)
    for place in places[1::2]:  # keys and values take turns
        if place + 12 <= size and data[start + place] == OFF_PAGE:
            first, length = struct.unpack_from(f"{order}II", data, start + place + 4)
            yield _bdb_value(data, first, length, size, order)


def _bdb_value(data: bytes, page: int, length: int, size: int, order: str) -> bytes:
    if length > min(HEADER_LIMIT, len(data)):
        raise BadStore("Berkeley DB: a value is larger than its file")
    found = bytearray()
    while len(found) < length:
        start = page * size
        if page == 0 or start + size > len(data) or data[start + 25] != OVERFLOW:
            raise BadStore("Berkeley DB: a value breaks off")
        used = struct.unpack_from(f"{order}H", data, start + 22)[0]
        if not 0 < used <= size - PAGE_HEADER:
            raise BadStore("Berkeley DB: a page is damaged")
        found += data[start + PAGE_HEADER : start + PAGE_HEADER + used]
        page = struct.unpack_from(f"{order}I", data, start + 16)[0]
    return bytes(found[:length])
