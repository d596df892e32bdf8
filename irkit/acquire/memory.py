"""The memory of a frozen container's processes, each as an ELF core file, read through the host's ``/proc/PID/mem``.

Only pages that the process has (present or swapped out, by ``pagemap``) are stored; of a mapped file the others are in
the file.  Nothing is attached to, nothing is run inside.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from irkit.acquire import elfcore
from irkit.acquire.elfcore import PAGE, FileRange, Process, Segment, Thread
from irkit.acquire.host import PROC, HostView, link_of, read_text
from irkit.acquire.maps import Mapping, parse_maps
from irkit.errors import IrkitError, UsageProblem
from irkit.evidence.writer import BLOCK, BundleWriter, Origin
from irkit.text import text_fields

if TYPE_CHECKING:
    from irkit.acquire.yara_scan import Rules

COLLECTOR = "memory"
HAS = (1 << 63) | (1 << 62)
"""``pagemap``: present, or in swap (Documentation/admin-guide/mm/pagemap.rst)."""
PAGEMAP_BLOCK = 128 * 1024


@dataclass(slots=True)
class _Dump:
    """One process: what is to be stored, and what turned out to be unreadable."""

    pid: int
    mappings: list[Mapping]
    segments: list[Segment]
    unreadable: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(one.end - one.start for one in self.segments if one.stored)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of which processes.

    ``which``: ``all``, ``executable`` (only code that no file on a disk holds), or ``yara`` (all, of processes that a
    rule of ``rules`` hits).  ``processes``: patterns (fnmatch) of a process's name or its program's path; empty: every
    one.  ``limit``: bytes in total; a process that would go over it is taken as ``executable`` instead, and if that is
    too much not at all: both are gaps.
    """

    which: str
    limit: int
    processes: tuple[str, ...] = ()
    rules: str = ""

    def names(self, pid: int) -> bool:
        """Whether a process is meant."""
        texts = [read_text(f"{PROC}/{pid}/comm").rstrip("\n"), link_of(f"{PROC}/{pid}/exe")]
        return not self.processes or any(fnmatch(text, pattern) for text in texts for pattern in self.processes)


def acquire_memory(view: HostView, writer: BundleWriter, wanted: Wanted) -> list[dict[str, Any]]:
    """Write ``memory/pid-N.core`` and ``memory/index.json``; a row a process, of those that were not meant too.

    Raises ``UsageProblem`` for rules that there are not, or that do not compile.
    """
    machine = elfcore.this_machine()
    rows: list[dict[str, Any]] = []
    if machine is None:
        writer.gap(COLLECTOR, "everything", "the registers' layout of this machine is not known: no core files")
        return rows
    wanted, rules = _with_rules(wanted, writer)
    left = wanted.limit
    for pid in view.pids():
        row = {
            "pid": pid, "which": wanted.which, "artifact": "", "stored": 0, "unreadable": [], "mappings": [],
            "matches": [], "left_out": "" if wanted.names(pid) else "the profile does not name it",
        }  # fmt: skip
        rows.append(row)
        if not row["left_out"]:
            left -= _process(row, writer, rules, left, machine)
    stored = (
        "read from the host while frozen"
        if view.frozen()
        else "read from the host while it ran: pages may not fit together"
    )
    writer.add_json("memory/index.json", rows, Origin(COLLECTOR, f"{PROC}/PID/mem of {len(rows)} processes", stored))
    return rows


def _with_rules(wanted: Wanted, writer: BundleWriter) -> tuple[Wanted, Rules | None]:
    """Without yara-x nothing can be chosen: what is most suspect is taken of every process instead."""
    if wanted.which != "yara":
        return wanted, None
    from irkit.acquire.yara_scan import Rules

    try:
        return wanted, Rules(wanted.rules)
    except UsageProblem:
        raise
    except IrkitError as error:
        writer.gap(COLLECTOR, "YARA", f"{error}: executable memory of every process was taken instead")
        return replace(wanted, which="executable"), None


def _process(
    row: dict[str, Any], writer: BundleWriter, rules: Rules | None, left: int, machine: elfcore.Machine
) -> int:
    """Take one process; how many bytes were stored."""
    pid = row["pid"]
    try:
        descriptor = os.open(f"{PROC}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        writer.gap(COLLECTOR, f"pid {pid}", f"its memory can't be read: {error.strerror}")
        return 0
    try:
        plan = _planned(pid, "executable" if row["which"] == "executable" else "all")
        if rules is not None and not _hit(row, plan, rules, descriptor, writer):
            return 0
        if plan.size > left and row["which"] != "executable":
            writer.gap(
                COLLECTOR, f"pid {pid}", f"{plan.size} bytes are over this profile's limit: executable memory only"
            )
            row["which"] = "executable"
            plan = _planned(pid, "executable")
        row["mappings"] = [_mapping_row(one, plan) for one in plan.mappings]
        if plan.size > left:
            writer.gap(COLLECTOR, f"pid {pid}", f"{plan.size} bytes are over this profile's limit: not taken")
            return 0
        name = f"memory/pid-{pid}.core"
        origin = Origin(
            COLLECTOR, f"{PROC}/{pid}/mem", "pages by pagemap, through the host's /proc", "application/x-coredump"
        )
        row["artifact"] = f"data/{name}.zst"
        writer.add(name, _core(descriptor, plan, machine), origin)
    except ProcessLookupError:
        return 0  # the writer has recorded how much there is of it
    except OSError as error:
        writer.gap(COLLECTOR, f"pid {pid}", f"its memory can't be read: {error.strerror}")
        return 0
    finally:
        os.close(descriptor)
    row.update(stored=plan.size, unreadable=[list(map(hex, one)) for one in plan.unreadable])
    if plan.unreadable:
        lost = sum(end - start for start, end in plan.unreadable)
        writer.gap(
            COLLECTOR, f"pid {pid}", f"{lost} bytes in {len(plan.unreadable)} ranges could not be read: they are zeros"
        )
    return plan.size


def _hit(row: dict[str, Any], plan: _Dump, rules: Rules, memory: int, writer: BundleWriter) -> bool:
    """Whether a rule hits: the hits are in the row.  A process that could not be scanned whole is a gap."""
    unread: list[tuple[int, str]] = []
    row["matches"] = [
        hit.to_json() for hit in rules.search(memory, [one for one in plan.segments if one.stored], unread)
    ]
    if unread:
        address, why = unread[0]
        writer.gap(
            COLLECTOR, f"pid {row['pid']}", f"{len(unread)} ranges were not scanned, the first at {address:#x}: {why}"
        )
    if not row["matches"]:
        row["left_out"] = "no rule hit"
    return bool(row["matches"])


def _mapping_row(one: Mapping, plan: _Dump) -> dict[str, Any]:
    stored = sum(
        part.end - part.start
        for part in plan.segments
        if part.stored and one.start <= part.start and part.end <= one.end
    )
    path = text_fields("path", one.path.decode("utf-8", "surrogateescape"))
    return {"start": hex(one.start), "end": hex(one.end), "flags": one.flags, **path, "stored": stored}


def _planned(pid: int, which: str) -> _Dump:
    """Which pages.  Raises ``OSError`` when the process is gone."""
    with open(f"{PROC}/{pid}/maps", "rb", buffering=0) as file:  # noqa: PTH123
        mappings = parse_maps(file.read())
    gap = PAGE
    while True:
        segments: list[Segment] = []
        with open(f"{PROC}/{pid}/pagemap", "rb", buffering=0) as pagemap:  # noqa: PTH123
            for one in mappings:
                wanted = (which == "all" or one.suspect) and not one.path.startswith((b"[vsyscall]", b"[vvar"))
                runs = _runs(pagemap.fileno(), one, gap) if wanted else iter(())
                if wanted and one.path == b"[vdso]":  # a debugger wants the whole of the kernel's small library
                    runs = iter([(one.start, one.end)])
                segments += _segments(one, runs)
        if len(segments) <= elfcore.SEGMENT_LIMIT:
            return _Dump(pid, mappings, segments)
        gap *= 4


def _runs(pagemap: int, one: Mapping, gap: int) -> Iterator[tuple[int, int]]:
    """Ranges of pages that the process has; holes smaller than ``gap`` bytes are stored too, as zeros."""
    start = end = 0
    address = one.start
    while address < one.end:
        count = min(PAGEMAP_BLOCK // 8, (one.end - address) // PAGE)
        words = memoryview(os.pread(pagemap, count * 8, address // PAGE * 8)).cast("Q")
        if not len(words):
            break
        for number, word in enumerate(words if any(words) else ()):
            if not word & HAS:
                continue
            place = address + number * PAGE
            if end and place - end < gap:
                end = place + PAGE
                continue
            if end:
                yield start, end
            start, end = place, place + PAGE
        address += len(words) * PAGE
    if end:
        yield start, end


def _segments(one: Mapping, runs: Iterator[tuple[int, int]]) -> Iterator[Segment]:
    place = one.start
    for start, end in runs:
        if place < start:
            yield Segment(place, start, one.flags, stored=False)
        yield Segment(start, end, one.flags, stored=True)
        place = end
    if place < one.end:
        yield Segment(place, one.end, one.flags, stored=False)


def _core(memory: int, plan: _Dump, machine: elfcore.Machine) -> Iterator[bytes]:
    yield elfcore.head(_facts(plan), plan.segments, machine)
    for one in plan.segments:
        address = one.start
        while one.stored and address < one.end:
            data = _read(memory, address, min(BLOCK, one.end - address), plan.unreadable)
            yield data
            address += len(data)


def _read(memory: int, address: int, size: int, unreadable: list[tuple[int, int]]) -> bytes:
    """``size`` bytes, or the readable ones at their beginning; an unreadable page is zeros and is noted.

    Raises ``ProcessLookupError`` when the process is gone: what was read of it until then is kept.
    """
    try:
        data = os.pread(memory, size, address)
        if not data:  # never so while its memory exists
            raise ProcessLookupError(errno.ESRCH, "the process ended while it was read")
    except ProcessLookupError:
        raise
    except OSError:
        data = b""
    if data:
        return data
    page = min(size, PAGE - address % PAGE)
    if unreadable and unreadable[-1][1] == address:
        unreadable[-1] = (unreadable[-1][0], address + page)
    else:
        unreadable.append((address, address + page))
    return bytes(page)


def _facts(plan: _Dump) -> Process:
    base = f"{PROC}/{plan.pid}"
    status = dict(line.partition(":\t")[::2] for line in read_text(f"{base}/status").split("\n"))
    uid, gid = (int((status.get(name) or "0").split()[0]) for name in ("Uid", "Gid"))
    try:
        tids = sorted((int(name) for name in os.listdir(f"{base}/task")), key=lambda tid: (tid != plan.pid, tid))  # noqa: PTH208
        with open(f"{base}/auxv", "rb", buffering=0) as file:  # noqa: PTH123
            auxv = file.read(8192)
    except OSError:
        tids, auxv = [plan.pid], b""
    threads = [Thread(tid, read_text(f"{base}/task/{tid}/syscall").strip()) for tid in tids]
    command = read_text(f"{base}/cmdline").encode("utf-8", "surrogateescape").replace(b"\0", b" ")
    name = (status.get("Name") or "").encode("utf-8", "surrogateescape")
    files = [FileRange(one.start, one.end, one.offset, one.path) for one in plan.mappings if one.inode]
    return Process(plan.pid, int(status.get("PPid") or 0), uid, gid, name, command, auxv, threads, files)
