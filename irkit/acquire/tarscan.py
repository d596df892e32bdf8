"""What a tar stream holds, and the digest of every file in it, while it goes by: nothing is unpacked or looked up.

Read are POSIX ustar, pax (POSIX.1-2001) and GNU long names: what engines write.  A header that is none of these ends
the list, never the stream; a hostile one costs no memory.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from irkit.models import FileFacts
from irkit.text import text_fields

RECORD = 512
HEADER_LIMIT = 1024 * 1024
"""Of one extended header; Linux allows 64 KiB of attributes a file and names of 4 KiB."""
KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"2": "symlink", b"3": "char", b"4": "block", b"5": "directory", b"6": "fifo"}  # fmt: skip
TYPES = {"file": stat.S_IFREG, "link": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


class NotATar(ValueError):
    """What stands where a header should."""


UNREAD = ("SCHILY.acl.", "LIBARCHIVE.xattr.", "RHT.security.")


@dataclass(frozen=True, slots=True)
class Found:
    """A member: ``path`` absolute in the container, ``link`` that of the member it is a hard link to."""

    path: str
    facts: FileFacts
    link: str = ""
    sparse: bool = False
    """Whether its bytes here are not its contents: GNU's forms of files with holes."""
    unread: tuple[str, ...] = ()
    """Keys of its PAX records that hold attributes in a form that ``facts.xattrs`` has not: ACLs as text, libarchive's, SELinux labels."""

    def to_json(self) -> dict[str, Any]:
        """One line of a list of files."""
        return {
            **text_fields("path", self.path),
            **(text_fields("link", self.link) if self.link else {}),
            **self.facts.to_json(),
        }


class TarScan:
    """Fed block by block; ``seen`` is called with every member when its last byte has come.

    ``opened`` is called with it before its first byte (without its digest), ``data`` with the bytes of a file.
    """

    def __init__(
        self,
        seen: Callable[[Found], None],
        opened: Callable[[Found], None] | None = None,
        data: Callable[[memoryview], None] | None = None,
    ) -> None:
        self._seen, self._opened, self._data = seen, opened, data
        self._rest = b""
        self._left = 0
        self._padding = 0
        self._digest: hashlib._Hash | None = None
        self._member: _Header | None = None
        self._extended: bytearray | None = None
        self._next: dict[str, bytes] = {}
        self._global: dict[str, bytes] = {}
        self._headers = 0
        self.ended = False
        self.problem = ""
        self.members = 0

    def feed(self, block: bytes) -> None:
        """The next bytes of the stream."""
        if self.ended or self.problem:
            return
        view = memoryview(self._rest + block if self._rest else block)
        self._rest, position, size = b"", 0, len(view)
        try:
            while position < size and not self.ended:
                if self._left:
                    taken = min(self._left, size - position)
                    self._body(view[position : position + taken])
                    position += taken
                elif self._padding:
                    taken = min(self._padding, size - position)
                    self._padding -= taken
                    position += taken
                elif size - position < RECORD:
                    self._rest = bytes(view[position:])
                    return
                else:
                    self._header(bytes(view[position : position + RECORD]))
                    position += RECORD
        except NotATar as error:
            self.problem = str(error)

    def close(self) -> None:
        """The stream is over: was it whole?"""
        if not self.ended and not self.problem:
            self.problem = "the stream ended before the archive did"

    def _body(self, data: memoryview) -> None:
        self._left -= len(data)
        if self._extended is not None:
            self._extended += data
        elif self._digest is not None:
            self._digest.update(data)
            if self._data is not None:
                self._data(data)
        if not self._left:
            self._finish()

    def _header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self.ended = True
            return
        header = _Header.read(block, {**self._global, **self._next} if self._next or self._global else {})
        self._padding = -header.size % RECORD
        self._left = header.size
        self._member, self._digest, self._extended = header, None, None
        if header.kind in (b"x", b"g", b"L", b"K"):
            self._headers += header.size
            if self._headers > HEADER_LIMIT:
                raise NotATar("extended headers of more than a mebibyte for one member")
            self._extended = bytearray()
        else:
            self._next, self._headers = {}, 0
            if KINDS.get(header.kind, "file") == "file":
                self._digest = hashlib.sha256()
            else:
                self._left = self._padding = 0
            if self._opened is not None:
                self._opened(header.found(""))
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        header, self._member = self._member, None
        if header is None:
            return
        if self._extended is None:
            self.members += 1
            self._seen(header.found(self._digest.hexdigest() if self._digest is not None else ""))
            return
        data, self._extended = bytes(self._extended), None
        if header.kind == b"x":
            self._next.update(pax_records(data))
        elif header.kind == b"g":
            self._global = pax_records(data)
        else:
            self._next["path" if header.kind == b"L" else "linkpath"] = data.rstrip(b"\0")


@dataclass(frozen=True, slots=True)
class _Header:
    raw: bytes
    kind: bytes
    size: int
    pax: dict[str, bytes]

    @classmethod
    def read(cls, raw: bytes, pax: dict[str, bytes]) -> _Header:
        checksum = _number(raw[148:156])
        if checksum != sum(raw) - sum(raw[148:156]) + 8 * 32:
            raise NotATar("a header whose checksum is wrong")
        kind = raw[156:157]
        size = _number(raw[124:136])
        if "size" in pax and kind not in (b"x", b"g", b"L", b"K"):
            size = _decimal(pax["size"])
        if size < 0:
            raise NotATar("a member of a negative size")
        return cls(raw, kind, size, pax)

    def found(self, digest: str) -> Found:
        raw, pax = self.raw, self.pax
        kind = KINDS.get(self.kind, "file")
        name = pax.get("path") or self._name()
        link = pax.get("linkpath") or _text(raw[157:257])
        device = ""
        if kind in ("char", "block"):
            device = f"{_number(raw[329:337])}:{_number(raw[337:345])}"
        facts = FileFacts(
            kind="file" if kind == "link" else kind, mode=_number(raw[100:108]) & 0o7777, uid=_of(pax, "uid", raw[108:116]),
            gid=_of(pax, "gid", raw[116:124]), size=self.size if kind == "file" else len(link) if kind == "symlink" else 0,
            mtime_ns=_time(pax["mtime"]) if "mtime" in pax else _number(raw[136:148]) * 1_000_000_000,
            ctime_ns=_time(pax["ctime"]) if "ctime" in pax else 0, sha256=digest,
            target=os.fsdecode(link) if kind == "symlink" else "", rdev=device,
            xattrs={
                key.removeprefix("SCHILY.xattr."): value.hex() for key, value in sorted(pax.items()) if key.startswith("SCHILY.xattr.")
            },
        )  # fmt: skip
        sparse = self.kind == b"S" or any(key.startswith("GNU.sparse.") for key in pax)
        unread = tuple(sorted(key for key in pax if key.startswith(UNREAD)))
        return Found(_absolute(name), facts, _absolute(link) if kind == "link" else "", sparse, unread)

    def _name(self) -> bytes:
        name, prefix = _text(self.raw[:100]), b""
        if self.raw[257:263] == b"ustar\0":
            prefix = _text(self.raw[345:500])
        return prefix + b"/" + name if prefix else name


def pax_records(data: bytes) -> dict[str, bytes]:
    """``LENGTH KEYWORD=VALUE\\n`` after another.  Raises ``NotATar``."""
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        length, separator, _ = data[position : position + 24].partition(b" ")
        if not separator or not length.isdigit() or int(length) < len(length) + 3:
            raise NotATar("an extended header that is not of its form")
        record = data[position + len(length) + 1 : position + int(length)]
        keyword, separator, value = record.partition(b"=")
        if not separator or not value.endswith(b"\n"):
            raise NotATar("an extended header that is not of its form")
        found[keyword.decode("utf-8", "surrogateescape")] = value[:-1]
        position += int(length)
    return found


def _absolute(name: bytes) -> str:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    return "/" + os.fsdecode(b"/".join(parts))


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _of(pax: dict[str, bytes], keyword: str, field: bytes) -> int:
    return _decimal(pax[keyword]) if keyword in pax else _number(field)


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise NotATar("a number that is none")
    return int(value)


def _number(field: bytes) -> int:
    """Octal, or GNU's base-256 when the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        return value - (1 << 8 * len(field)) if field[0] == 0xFF else value - (0x80 << 8 * (len(field) - 1))
    text = field.partition(b"\0")[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise NotATar("a number that is none") from None


def _time(value: bytes) -> int:
    """Seconds with a fraction, in nanoseconds; 0 for what is not a time."""
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 15 or not (fraction + b"0").isdigit():
        return 0
    result = int(whole) * 1_000_000_000 + int((fraction + b"0" * 9)[:9])
    return -result if value.startswith(b"-") else result
