"""Signs that a log, a login record or a shell's history was wiped: what was in the image, or in an earlier snapshot, and is no more.

Rotation looks like truncation: whoever reports a finding looks for ``NAME.1`` first.  A log that was written and cleaned
wholly inside the container leaves no trace here but holes.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

DATA_LIMIT = 8 * 1024 * 1024
HOLE = 64
"""NULs in a row, in a text log: written by a process that did not know that its file was truncated, or by a wiper."""
_RECORDS = re.compile(r"/(?:wtmp|btmp|utmp|wtmpx|btmpx|utmpx)(?:[.-][\w.-]+)?$")
_LASTLOG = re.compile(r"/lastlog$")
_HISTORY = re.compile(
    r"/\.(?:\w{1,20}_history|history|zhistory|histfile|local/share/fish/fish_history|viminfo|lesshst|wget-hsts)$|/fish_history$"
)
_LOG = re.compile(r"/var/log/|/log/|/logs/|\.log(?:\.\d+)?$|/var/account/|/var/run/utmp$|/run/utmp$")
UTMP_SIZES = {384: ("<I", 340), 400: ("<q", 344)}
"""Record size: form and place of the time.  384: x86 and 32-bit ARM (glibc); 400: 64-bit ARM and others whose times are 64 bits."""
LASTLOG_SIZE = 292


@dataclass(frozen=True, slots=True)
class LogSide:
    """One side.  ``kind``: file, symlink, … or "" when it is not there; ``size`` of the whole file; ``data``: its bytes, as far as they are known."""

    kind: str = ""
    size: int = 0
    data: bytes = b""
    target: str = ""


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What is odd; all false when nothing is.  ``format``: text, history, utmp or lastlog.

    ``emptied``: it had bytes, and has none.  ``shrank``: it is shorter.  ``removed``.  ``linked_away``: it is now a link to
    ``/dev/null`` or the like; ``replaced``: no regular file any more.  ``lines_missing``: lines of before (records, for utmp) that are not there now.
    ``lines_cut``: of a text, those that are missing after a line that is still there: rotation takes all, and who trims a log takes its head.
    ``rewritten``: its beginning is not what it was, though it is not shorter.  ``holes``: runs of NULs in a text.
    ``zeroed``: records that are all NUL now (lastlog: that were not before).  ``backwards``: places where the time of records goes back.
    ``incomplete``: only a part of the bytes was looked at.
    """

    format: str
    emptied: bool = False
    shrank: bool = False
    removed: bool = False
    linked_away: bool = False
    replaced: bool = False
    rewritten: bool = False
    lines_missing: int = 0
    lines_cut: int = 0
    holes: int = 0
    zeroed: int = 0
    backwards: int = 0
    incomplete: bool = False

    @property
    def wiped(self) -> bool:
        """Whether any of it points at wiping."""
        return any(
            (
                self.emptied,
                self.shrank,
                self.removed,
                self.linked_away,
                self.replaced,
                self.rewritten,
                self.lines_missing,
                self.holes,
                self.zeroed,
            )
        )


def is_log(path: str) -> str:
    """``utmp``, ``lastlog``, ``history``, ``text``, or "" when the path is no log's."""
    if _RECORDS.search(path):
        return "utmp"
    if _LASTLOG.search(path):
        return "lastlog"
    if _HISTORY.search(path):
        return "history"
    return "text" if _LOG.search(path) else ""


def log_wiped(path: str, before: LogSide | None, after: LogSide | None) -> LogFacts:
    """Hold a log against what it was; ``None``: it is not there.  For any path: one that is no log's is read as text.  Never raises."""
    form = is_log(path) or "text"
    was, now = before or LogSide(), after or LogSide()
    if not now.kind:
        return LogFacts(form, removed=bool(was.kind))
    if now.kind != "file":
        return LogFacts(
            form, linked_away=now.kind == "symlink" and now.target.startswith("/dev/"), replaced=was.kind == "file"
        )
    cut = any(len(side.data) < side.size for side in (was, now) if side.kind == "file")
    incomplete = cut or max(len(was.data), len(now.data)) > DATA_LIMIT
    old, new = was.data[:DATA_LIMIT], now.data[:DATA_LIMIT]
    had = was.size if was.kind == "file" else 0
    missing = lines_cut = 0
    kept = new.startswith(old)
    if not kept and not incomplete:
        missing = _missing(form, old, new)
        lines_cut = _cut(old, new) if form == "text" and missing and not gzipped(path, new) else 0
    zeroed, backwards = _records(form, old, new)
    return LogFacts(
        form, emptied=had > 0 and now.size == 0, shrank=now.size < had, rewritten=bool(old) and not kept and now.size >= had and form != "lastlog",
        lines_missing=missing, lines_cut=lines_cut, holes=_holes(new) if form in ("text", "history") and not gzipped(path, new) else 0, zeroed=zeroed, backwards=backwards,
        incomplete=incomplete,
    )  # fmt: skip


def gzipped(path: str, data: bytes) -> bool:
    """Whether it is no text at all: compressed, or a journal of systemd."""
    return data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"LPKSHHRH")) or path.endswith(
        ".journal"
    )


def _missing(form: str, old: bytes, new: bytes) -> int:
    if form == "lastlog":
        return 0
    if form == "utmp":
        size = _utmp_size(old) or _utmp_size(new)
        if not size:
            return 0
        return sum((Counter(_pieces(old, size)) - Counter(_pieces(new, size))).values())
    return sum((Counter(old.splitlines()) - Counter(new.splitlines())).values())


def _cut(old: bytes, new: bytes) -> int:
    """Lines of ``old`` that ``new`` lacks, counted from the first one that it has.  Blank lines tell nothing."""
    left = Counter(line for line in new.splitlines() if line.strip())
    kept = cut = 0
    for line in old.splitlines():
        if not line.strip():
            continue
        if left[line] > 0:
            left[line] -= 1
            kept += 1
        elif kept:
            cut += 1
    return cut


def _holes(data: bytes) -> int:
    return sum(1 for _ in re.finditer(rb"\x00{%d,}" % HOLE, data))


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for place in range(0, len(data) - size + 1, size):
        yield data[place : place + size]


def _utmp_size(data: bytes) -> int:
    """384 or 400, whichever fits the length and the types of the records (0 to 9, utmp(5)); 0 when neither does."""
    best, score = 0, 0
    for size in UTMP_SIZES:
        if not data or len(data) % size:
            continue
        good = sum(int.from_bytes(piece[:2], "little") <= 9 for piece in _pieces(data[: size * 1000], size))
        total = min(len(data) // size, 1000)
        if good == total and good > score:
            best, score = size, good
    return best


def _records(form: str, old: bytes, new: bytes) -> tuple[int, int]:
    """``(zeroed, backwards)``."""
    if form == "lastlog":
        empty = bytes(LASTLOG_SIZE)
        pairs = zip(_pieces(old, LASTLOG_SIZE), _pieces(new, LASTLOG_SIZE), strict=False)
        return sum(was != empty and now == empty for was, now in pairs), 0
    size = _utmp_size(new) if form == "utmp" else 0
    if not size:
        return 0, 0
    form_of_time, place = UTMP_SIZES[size]
    reader, empty = struct.Struct(form_of_time), bytes(size)
    zeroed = backwards = last = 0
    for piece in _pieces(new, size):
        if piece == empty:
            zeroed += 1
            continue
        (when,) = reader.unpack_from(piece, place)
        # The clock of a machine is set by some seconds now and then; a day is more than that.
        backwards += 0 < when < last - 86400
        last = max(last, when)
    return zeroed, backwards
