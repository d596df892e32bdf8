"""The header of an installed package, as rpm's database holds it: a bounded reader of what is needed of it.

Format: rpm's docs/manual/format_header.md and lib/header.c (``hdrblobInit``): two big-endian 32-bit counts (entries,
bytes of data), the entries (tag, type, offset, count), the data.  Tags: include/rpm/rpmtag.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NAME, VERSION, RELEASE, EPOCH, INSTALL_TIME, ARCH = 1000, 1001, 1002, 1003, 1008, 1022
FILE_STATES, FILE_MODES, FILE_DIGESTS, FILE_FLAGS = 1029, 1030, 1035, 1037
DIR_INDEXES, BASE_NAMES, DIR_NAMES, DIGEST_ALGORITHM = 1116, 1117, 1118, 5011
STRING, STRING_ARRAY, I18N_STRING = 6, 8, 9
WIDTHS = {2: "B", 3: "H", 4: "I"}
"""RPM_INT8_TYPE, RPM_INT16_TYPE, RPM_INT32_TYPE."""
TAGS_LIMIT = 0xFFFF
"""HEADER_TAGS_MAX of rpm's lib/header.c."""
DATA_LIMIT = 64 * 1024 * 1024
FILES_LIMIT = 1_000_000
TEXT_LIMIT = 256
PGP_DIGESTS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
"""RFC 4880, section 9.4; MD5 when the header names none."""
CONFIG, GHOST = 1, 64
"""RPMFILE_CONFIG, RPMFILE_GHOST (include/rpm/rpmfiles.h)."""
REPLACED, NOT_INSTALLED = 1, 2
"""RPMFILE_STATE_REPLACED, RPMFILE_STATE_NOTINSTALLED."""
REGULAR, KIND = 0o100000, 0o170000
HEX = frozenset("0123456789abcdef")


class BadHeader(ValueError):
    """The bytes are no header, or one beyond the limits.  Never leaves this package."""


@dataclass(frozen=True, slots=True)
class RpmFile:
    """A file of a package."""

    path: bytes
    mode: int
    """With the bits of its kind."""
    digest: str
    conffile: bool


class Header:
    """One header.  Raises :class:`BadHeader` where it does not fit its own counts."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) < 8:
            raise BadHeader("it is shorter than 8 bytes")
        entries, size = struct.unpack_from(">II", blob)
        start = 8 + 16 * entries
        if not 0 < entries <= TAGS_LIMIT or size > DATA_LIMIT or start + size > len(blob):
            raise BadHeader("its counts are beyond its bytes, or beyond rpm's own limits")
        self._data = blob[start : start + size]
        self._tags = {
            tag: (kind, offset, count)
            for tag, kind, offset, count in struct.iter_unpack(">IIII", blob[8:start])
            if offset <= size
        }

    def text(self, tag: int) -> str:
        """A string; empty when it is not there."""
        kind, offset, _ = self._tags.get(tag, (0, 0, 0))
        if kind not in (STRING, STRING_ARRAY, I18N_STRING):
            return ""
        found = self._data[offset : offset + TEXT_LIMIT].split(b"\0", 1)[0]
        return found.decode("utf-8", "replace")

    def texts(self, tag: int) -> list[bytes]:
        """An array of strings."""
        kind, offset, count = self._tags.get(tag, (0, 0, 0))
        if kind != STRING_ARRAY:
            return []
        if count > FILES_LIMIT:
            raise BadHeader("an array is beyond the limit")
        found = self._data[offset:].split(b"\0", count)
        if len(found) <= count:
            raise BadHeader("an array of strings breaks off")
        return found[:count]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """An array of integers."""
        kind, offset, count = self._tags.get(tag, (0, 0, 0))
        code = WIDTHS.get(kind)
        if code is None:
            return ()
        if count > FILES_LIMIT or offset + count * struct.calcsize(code) > len(self._data):
            raise BadHeader("an array of numbers is beyond the limit")
        return struct.unpack_from(f">{count}{code}", self._data, offset)

    @property
    def version(self) -> str:
        """``[EPOCH:]VERSION-RELEASE``, as rpm prints it."""
        epoch = self.numbers(EPOCH)
        before = f"{epoch[0]}:" if epoch and epoch[0] else ""
        return f"{before}{self.text(VERSION)}-{self.text(RELEASE)}"

    @property
    def algorithm(self) -> str:
        """That of the files' digests; empty for one that is not known."""
        found = self.numbers(DIGEST_ALGORITHM)
        return PGP_DIGESTS.get(found[0], "") if found else "md5"

    def files(self) -> Iterator[RpmFile]:
        """The files that are really there for this package (``rpm --verify``, lib/verify.c, passes over the others)."""
        names, folders = self.texts(BASE_NAMES), self.texts(DIR_NAMES)
        places = self.numbers(DIR_INDEXES)
        if len(places) != len(names):
            raise BadHeader("it has not as many folders' numbers as names")
        modes, flags = self._for(FILE_MODES, names), self._for(FILE_FLAGS, names)
        states, digests = self._for(FILE_STATES, names), self.texts(FILE_DIGESTS)
        for number, (name, place) in enumerate(zip(names, places, strict=True)):
            if place >= len(folders):
                raise BadHeader("a file is in a folder that it does not name")
            if states[number] in (REPLACED, NOT_INSTALLED):
                continue
            ghost = flags[number] & GHOST or modes[number] & KIND not in (0, REGULAR)
            digest = digests[number].decode("latin-1").lower() if number < len(digests) and not ghost else ""
            path = folders[place] + name
            yield RpmFile(
                path.rstrip(b"/") or b"/",
                modes[number],
                digest if set(digest) <= HEX else "",
                bool(flags[number] & CONFIG),
            )

    def _for(self, tag: int, names: list[bytes]) -> tuple[int, ...]:
        """An array that is as long as the names; zeros when it is not there."""
        found = self.numbers(tag)
        return found if len(found) == len(names) else (0,) * len(names)
