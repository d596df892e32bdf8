"""The tables of an ELF file (System V ABI, gABI 4.1 chapters 4 and 5), read from bytes that nobody vouches for.

A parser of our own: the libraries for it raise errors of all kinds on broken files, and take many times as long.
Every offset, size and count of the file is held against its bytes; what does not fit is left out and named in ``problems``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PF_X, PF_W, PF_R = 1, 2, 4
SHT_SYMTAB, SHT_NOBITS = 2, 8
SEGMENT_LIMIT, SECTION_LIMIT, TEXT_LIMIT, DYNAMIC_LIMIT = 256, 4096, 4096, 4096
"""Most segments, sections, bytes of a text, dynamic entries that are read."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header.  ``flags``: PF_R, PF_W, PF_X.  Sizes and places in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    stored: int
    size: int
    align: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header."""

    name: str
    type: int
    offset: int
    size: int


@dataclass(slots=True)
class ElfFile:
    """``end``: where the last thing that a header names ends in the file."""

    data: bytes
    bits: int
    order: str
    type: int
    machine: int
    entry: int
    phend: int
    end: int
    segments: list[Segment] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def text(self, offset: int) -> str:
        """A NUL-ended text, at most :data:`TEXT_LIMIT` bytes of it."""
        if not 0 <= offset < len(self.data):
            return ""
        return self.data[offset : offset + TEXT_LIMIT].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    def offset_of(self, address: int) -> int | None:
        """Where in the file an address of memory comes from."""
        for one in self.segments:
            if one.type == PT_LOAD and one.address <= address < one.address + one.stored:
                return one.offset + address - one.address
        return None

    def dynamic(self) -> list[tuple[int, int]]:
        """``(tag, value)`` of the dynamic section, as the loader reads it: by the program header."""
        found: list[tuple[int, int]] = []
        form = struct.Struct(self.order + ("qQ" if self.bits == 64 else "iI"))
        for one in self.segments:
            if one.type != PT_DYNAMIC:
                continue
            place, end = one.offset, min(one.offset + one.stored, len(self.data))
            while place + form.size <= end and len(found) < DYNAMIC_LIMIT:
                tag, value = form.unpack_from(self.data, place)
                if tag == 0:
                    return found
                found.append((tag, value))
                place += form.size
        return found


def read_elf(data: bytes) -> ElfFile | None:
    """The tables; ``None`` when the bytes are no ELF file or the header is cut.  Never raises."""
    if len(data) < 52 or not data.startswith(b"\x7fELF") or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    bits, order = (64 if data[4] == 2 else 32), "<" if data[5] == 1 else ">"
    form = struct.Struct(order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"))
    if len(data) < 16 + form.size:
        return None
    (kind, machine, _, entry, phoff, shoff, _, ehsize, phsize, phnum, shsize, shnum, names) = form.unpack_from(data, 16)
    elf = ElfFile(data, bits, order, kind, machine, entry, 0, max(ehsize, 16 + form.size))
    if phoff:
        _segments(elf, phoff, phsize, phnum)
    if shoff:
        _sections(elf, shoff, shsize, shnum, names)
    return elf


def _segments(elf: ElfFile, place: int, size: int, count: int) -> None:
    form = struct.Struct(elf.order + ("IIQQQQQQ" if elf.bits == 64 else "IIIIIIII"))
    if count and size != form.size:
        elf.problems.append(f"program headers of {size} bytes, not {form.size}")
        return
    if count > SEGMENT_LIMIT:
        elf.problems.append(f"{count} program headers, of which {SEGMENT_LIMIT} were read")
    for index in range(min(count, SEGMENT_LIMIT)):
        at = place + index * size
        if at + size > len(elf.data):
            elf.problems.append("program headers beyond the end of the file")
            break
        row = form.unpack_from(elf.data, at)
        if elf.bits == 64:
            kind, flags, offset, address, _, stored, memory, align = row
        else:
            kind, offset, address, _, stored, memory, flags, align = row
        elf.segments.append(Segment(kind, flags, offset, address, stored, memory, align))
        elf.end = max(elf.end, offset + stored)
    elf.phend = place + count * size
    elf.end = max(elf.end, elf.phend)


def _sections(elf: ElfFile, place: int, size: int, count: int, names: int) -> None:
    form = struct.Struct(elf.order + ("IIQQQQIIQQ" if elf.bits == 64 else "IIIIIIIIII"))
    if (count and size != form.size) or place + form.size > len(elf.data):
        elf.problems.append("section headers that can't be read")
        return
    # gABI: with very many sections, their number and the name table's index stand in the first header.
    first = form.unpack_from(elf.data, place)
    count = count or first[5]
    names = first[6] if names == 0xFFFF else names
    if count > SECTION_LIMIT:
        elf.problems.append(f"{count} sections, of which {SECTION_LIMIT} were read")
    rows = []
    for index in range(min(count, SECTION_LIMIT)):
        at = place + index * form.size
        if at + form.size > len(elf.data):
            elf.problems.append("section headers beyond the end of the file")
            break
        rows.append(form.unpack_from(elf.data, at))
    table = rows[names][4] if 0 <= names < len(rows) else -1
    for row in rows:
        name = elf.text(table + row[0]) if table >= 0 else ""
        elf.sections.append(Section(name[:100], row[1], row[4], row[5]))
        if row[1] not in (0, SHT_NOBITS):
            elf.end = max(elf.end, row[4] + row[5])
    elf.end = max(elf.end, place + count * form.size)
