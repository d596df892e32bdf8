"""Facts of ELF files, and signs that one was packed.  Heuristics are named as such; ``packed`` has few and firm grounds."""

from __future__ import annotations

from dataclasses import dataclass

from irkit.compare.content.elf_file import (
    PF_R,
    PF_W,
    PF_X,
    PT_DYNAMIC,
    PT_INTERP,
    PT_LOAD,
    PT_NOTE,
    SHT_SYMTAB,
    ElfFile,
    read_elf,
)
from irkit.compare.content.randomness import sampled
from irkit.text import printable

NEEDED_LIMIT = 200
DENSE = 7.2
"""Bits a byte: machine code has 5 to 6.7 on every architecture that was measured, packed code more than 7.5."""
DENSE_SIZE = 4096
"""Bytes: of fewer, the entropy says little."""

_TYPES = {1: "relocatable", 2: "executable", 3: "shared", 4: "core"}
_MACHINES = {
    2: "sparc", 3: "i386", 8: "mips", 20: "powerpc", 21: "powerpc64", 22: "s390", 40: "arm", 42: "superh", 43: "sparcv9", 50: "ia64",
    62: "x86_64", 94: "xtensa", 183: "aarch64", 243: "riscv", 247: "bpf", 258: "loongarch",
}  # fmt: skip
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH, _DT_FLAGS_1 = 1, 5, 14, 15, 29, 0x6FFFFFFB
_DF_1_PIE = 0x08000000
_NT_GNU_BUILD_ID, _NT_GO_BUILD_ID = 3, 4
_PACKER_SECTIONS = {"UPX0": "upx", "UPX1": "upx", "UPX!": "upx", ".upx": "upx", ".petite": "petite", ".aspack": "aspack", ".MPRESS1": "mpress",
                    ".vmp0": "vmprotect", ".vmp1": "vmprotect", ".themida": "themida", ".ezuri": "ezuri"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """A loaded segment.  ``flags``: ``rwx`` as in ``/proc/PID/maps``; sizes in bytes; ``entropy`` in bits a byte of what is stored."""

    flags: str
    offset: int
    stored: int
    size: int
    entropy: float


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """What an ELF file says of itself, and what was measured.  All texts are escaped.

    ``type``: executable (fixed addresses), pie, shared, relocatable, core, or a number.  ``static``: no interpreter and
    no needed libraries (of executable and pie only).  ``stripped``: no symbol table.  ``sections``: their number, 0 when the headers are gone.
    ``overlay``: bytes after the end of all that headers name; -1 when only a part of the file was given.
    ``writable_entry``: the entry point lies in a segment that is writable.  ``go``: it has Go's build note.
    ``packed``: a packer's own mark, or code so dense that it can't be plain machine code.  ``signs``: all signs, by word: upx-magic,
    packer-section, dense-code, dense-file, writable-code, writable-entry, no-sections, unpacks-in-memory, overlay.
    """

    bits: int
    endian: str
    machine: str
    type: str
    static: bool
    interpreter: str
    rpath: str
    runpath: str
    soname: str
    needed: tuple[str, ...]
    stripped: bool
    sections: int
    build_id: str
    go: bool
    entropy: float
    segments: tuple[SegmentFacts, ...]
    overlay: int
    writable_entry: bool
    packed: bool
    signs: tuple[str, ...]
    problems: tuple[str, ...]


def elf_facts(data: bytes, size: int | None = None) -> ElfFacts | None:
    """The facts of an ELF file; ``None`` when it is none.  ``size``: of the whole file, when ``data`` is only its beginning.

    Takes at most some milliseconds for any file (entropy is sampled).  Never raises.
    """
    elf = read_elf(data)
    if elf is None:
        return None
    part = size is not None and size > len(data)
    links = _linked(elf)
    interpreter = _interpreter(elf)
    kind = _type(elf, interpreter, links)
    build_id, go = _notes(elf)
    segments = tuple(
        _segment(elf, one.flags, one.offset, one.stored, one.size) for one in elf.segments if one.type == PT_LOAD
    )
    whole = sampled(data, 0, len(data))
    overlay = -1 if part else max(0, len(data) - elf.end)
    writable_entry = _writable_entry(elf)
    signs = _signs(elf, segments, whole, links.needed, overlay, writable_entry)
    if elf.end > (size or len(data)):
        elf.problems.append("headers name bytes beyond the end of the file")
    runs = kind in ("executable", "pie")
    return ElfFacts(
        elf.bits, "little" if elf.order == "<" else "big", _MACHINES.get(elf.machine, str(elf.machine)), kind,
        runs and not interpreter and not links.needed, interpreter, links.rpath, links.runpath, links.soname, links.needed,
        not any(one.type == SHT_SYMTAB for one in elf.sections), len(elf.sections), build_id, go, round(whole, 3), segments, overlay,
        writable_entry, bool({"upx-magic", "packer-section", "dense-code"} & set(signs)), signs, tuple(elf.problems),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Links:
    needed: tuple[str, ...] = ()
    rpath: str = ""
    runpath: str = ""
    soname: str = ""
    pie: bool = False


def _linked(elf: ElfFile) -> _Links:
    rows = elf.dynamic()
    table = next((elf.offset_of(value) for tag, value in rows if tag == _DT_STRTAB), None)
    found: dict[int, list[str]] = {_DT_NEEDED: [], _DT_RPATH: [], _DT_RUNPATH: [], _DT_SONAME: []}
    pie = False
    for tag, value in rows:
        if tag == _DT_FLAGS_1:
            pie = bool(value & _DF_1_PIE)
        if tag in found and len(found[tag]) < NEEDED_LIMIT and table is not None:
            found[tag].append(printable(elf.text(table + value), 300))
    first = {tag: (texts[0] if texts else "") for tag, texts in found.items()}
    return _Links(tuple(found[_DT_NEEDED]), first[_DT_RPATH], first[_DT_RUNPATH], first[_DT_SONAME], pie)


def _interpreter(elf: ElfFile) -> str:
    for one in elf.segments:
        if one.type == PT_INTERP:
            return printable(elf.text(one.offset)[: min(one.stored, 4096)], 300)
    return ""


def _type(elf: ElfFile, interpreter: str, links: _Links) -> str:
    if elf.type == 3 and (links.pie or (interpreter and not links.soname)):
        return "pie"
    return _TYPES.get(elf.type, str(elf.type))


def _segment(elf: ElfFile, flags: int, offset: int, stored: int, size: int) -> SegmentFacts:
    word = "".join(letter if flags & bit else "-" for letter, bit in (("r", PF_R), ("w", PF_W), ("x", PF_X)))
    end = min(offset + stored, len(elf.data))
    return SegmentFacts(word, offset, stored, size, round(sampled(elf.data, min(offset, end), end), 3))


def _notes(elf: ElfFile) -> tuple[str, bool]:
    """GNU's build id in hex, and whether Go's note is there (gABI, "Note Section")."""
    build_id, go = "", False
    for one in elf.segments:
        if one.type != PT_NOTE:
            continue
        place, end = one.offset, min(one.offset + one.stored, len(elf.data), one.offset + 4096)
        align = 8 if one.align == 8 else 4
        while place + 12 <= end:
            name_size, size, kind = (
                int.from_bytes(elf.data[place + at : place + at + 4], "little" if elf.order == "<" else "big")
                for at in (0, 4, 8)
            )
            if name_size > 256 or size > 4096:
                break
            name = elf.data[place + 12 : place + 12 + name_size]
            start = place + _up(12 + name_size, align)
            if name == b"GNU\0" and kind == _NT_GNU_BUILD_ID and size <= 64:
                build_id = elf.data[start : start + size].hex()
            go = go or (name == b"Go\0\0" and kind == _NT_GO_BUILD_ID)
            place = start + _up(size, align)
    return build_id, go


def _up(value: int, align: int) -> int:
    return (value + align - 1) // align * align


def _writable_entry(elf: ElfFile) -> bool:
    return bool(elf.entry) and any(
        one.type == PT_LOAD and one.flags & PF_W and one.address <= elf.entry < one.address + one.size
        for one in elf.segments
    )


def _signs(
    elf: ElfFile, segments: tuple[SegmentFacts, ...], whole: float, needed: tuple[str, ...], overlay: int, writable_entry: bool
) -> tuple[str, ...]:  # fmt: skip
    code = [one for one in segments if "x" in one.flags]
    bare = not elf.sections and elf.type in (2, 3)
    # UPX puts its l_info (checksum, magic) right behind the program headers: src/p_lx_elf.cpp, src/stub/src/include/linux.h.
    # Anywhere else "UPX!" is only text, as in upx itself or a scanner's signatures.
    magic = bool(elf.phend) and b"UPX!" in elf.data[elf.phend : elf.phend + 256]
    # What is encrypted needs no headers: no section headers, no libraries, and nearly random all over.
    dynamic = any(one.type == PT_DYNAMIC for one in elf.segments)
    found = {
        "upx-magic": magic,
        "packer-section": any(one.name in _PACKER_SECTIONS for one in elf.sections),
        "dense-code": any(one.stored >= DENSE_SIZE and one.entropy >= DENSE for one in code),
        "dense-file": bare and not needed and not dynamic and whole >= DENSE and len(elf.data) >= DENSE_SIZE,
        "writable-code": any("w" in one.flags for one in code),
        "writable-entry": writable_entry,
        "no-sections": bare,
        "unpacks-in-memory": any("w" in one.flags and one.size > 65536 and one.stored * 4 < one.size for one in code),
        "overlay": overlay > 0,
    }
    return tuple(name for name, holds in found.items() if holds)
