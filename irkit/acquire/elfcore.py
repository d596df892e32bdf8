"""ELF core files (System V ABI, chapter 5; Linux ``fs/binfmt_elf.c``, core(5)) of a stopped process, from its host.

Written forwards in one pass: header, program headers, notes, then the pages.  Registers are those that
``/proc/TID/syscall`` tells of a sleeping thread (stack pointer, program counter, the system call and its arguments);
the others are zero, because a frozen thread can't be traced without thawing it.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PAGE = os.sysconf("SC_PAGE_SIZE")
EHDR, PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
ET_CORE, PT_LOAD, PT_NOTE = 4, 1, 4
NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_FILE = 1, 3, 6, 0x46494C45
SEGMENT_LIMIT = 60_000
"""Program headers are counted in 16 bits; PN_XNUM (65535) is a form that not every reader knows."""


@dataclass(frozen=True, slots=True)
class Machine:
    """ELF machine number, size of the general registers, and where in them: PC, SP, system call, its six arguments."""

    number: int
    registers: int
    pc: int
    sp: int
    call: int
    arguments: tuple[int, ...]


MACHINES = {
    "x86_64": Machine(62, 27, 16, 19, 15, (14, 13, 12, 7, 9, 8)),  # struct user_regs_struct
    "aarch64": Machine(183, 34, 32, 31, 8, (0, 1, 2, 3, 4, 5)),  # struct user_pt_regs
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of addresses.  ``flags``: ``rwx`` as in ``maps``; ``stored``: whether its bytes are in the file."""

    start: int
    end: int
    flags: str
    stored: bool


@dataclass(frozen=True, slots=True)
class FileRange:
    """A mapped file: addresses, offset in bytes, and its name as ``maps`` writes it."""

    start: int
    end: int
    offset: int
    path: bytes


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread, and what ``/proc/TID/syscall`` says of it (proc(5)); empty when it says nothing."""

    tid: int
    syscall: str


@dataclass(frozen=True, slots=True)
class Process:
    """What the notes say.  ``name`` and ``arguments`` are cut to 16 and 80 bytes by the format."""

    pid: int
    ppid: int
    uid: int
    gid: int
    name: bytes
    arguments: bytes
    auxv: bytes
    threads: Sequence[Thread]
    files: Sequence[FileRange]


def head(process: Process, segments: Sequence[Segment], machine: Machine) -> bytes:
    """All that stands before the first page.  The stored segments' bytes follow, in order, nothing between them."""
    notes = b"".join(_notes(process, machine))
    count = len(segments) + 1
    offset = EHDR.size + count * PHDR.size
    start = -(-(offset + len(notes)) // PAGE) * PAGE
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    out = [
        EHDR.pack(ident, ET_CORE, machine.number, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, count, 0, 0, 0),
        PHDR.pack(PT_NOTE, 0, offset, 0, 0, len(notes), 0, 4),
    ]
    place = start
    for one in segments:
        size = one.end - one.start
        stored = size if one.stored else 0
        flags = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if letter in one.flags)
        out.append(PHDR.pack(PT_LOAD, flags, place, one.start, 0, stored, size, PAGE))
        place += stored
    whole = b"".join(out) + notes
    return whole + bytes(start - len(whole))


def _notes(process: Process, machine: Machine) -> Iterator[bytes]:
    for number, thread in enumerate(process.threads):
        yield _note(NT_PRSTATUS, _prstatus(process, thread, machine))
        if number == 0:
            yield _note(NT_PRPSINFO, _prpsinfo(process))
            yield _note(NT_AUXV, process.auxv)
            yield _note(NT_FILE, _files(process.files))


def _note(kind: int, body: bytes) -> bytes:
    padded = body + bytes(-len(body) % 4)
    return struct.pack("<III", 5, len(body), kind) + b"CORE\0\0\0\0" + padded


def _prstatus(process: Process, thread: Thread, machine: Machine) -> bytes:
    """``struct elf_prstatus``: signals, ids, times, registers."""
    registers = [0] * machine.registers
    for place, value in zip((machine.sp, machine.pc), _numbers(thread.syscall)[-2:], strict=False):
        registers[place] = value
    words = _numbers(thread.syscall)
    if len(words) == 9:
        registers[machine.call] = words[0]
        for place, value in zip(machine.arguments, words[1:7], strict=True):
            registers[place] = value
    ids = struct.pack("<4i", thread.tid, process.ppid, 0, 0)
    return bytes(32) + ids + bytes(64) + struct.pack(f"<{machine.registers}Q", *registers) + bytes(8)


def _numbers(syscall: str) -> list[int]:
    """``NUMBER ARG*6 SP PC``, or ``-1 SP PC``; empty for ``running`` and anything else."""
    try:
        words = [int(word, 0) & 0xFFFFFFFFFFFFFFFF for word in syscall.split()]
    except ValueError:
        return []
    return words if len(words) in (3, 9) else []


def _prpsinfo(process: Process) -> bytes:
    """``struct elf_prpsinfo`` of 64 bits."""
    return struct.pack(
        "<4bxxxxQIIiiii16s80s", 0, ord("S"), 0, 0, 0, process.uid & 0xFFFFFFFF, process.gid & 0xFFFFFFFF,
        process.pid, process.ppid, 0, 0, process.name[:15], process.arguments[:79],
    )  # fmt: skip


def _files(files: Sequence[FileRange]) -> bytes:
    """Count, page size (1: the offsets are in bytes), then start, end, offset each, then the names."""
    rows = b"".join(struct.pack("<QQQ", one.start, one.end, one.offset) for one in files)
    return struct.pack("<QQ", len(files), 1) + rows + b"".join(one.path + b"\0" for one in files)


def this_machine() -> Machine | None:
    """This host's machine; ``None`` where the layout of its registers is not known here."""
    return MACHINES.get(platform.machine())
