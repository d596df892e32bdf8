"""Mount tables: what is mounted where in a mount namespace (proc(5), ``/proc/PID/mountinfo``)."""

from __future__ import annotations

import os
from typing import NamedTuple

PROC = "/proc"
CHUNK = 65536


class Mount(NamedTuple):
    """One line of ``mountinfo`` (proc(5))."""

    point: str
    fstype: str
    options: dict[str, str]
    root: str = "/"
    device: str = ""
    """``major:minor``, decimal."""
    source: str = ""

    @property
    def number(self) -> int:
        """Its device as ``st_dev`` has it; -1 when the line does not say."""
        major, _, minor = self.device.partition(":")
        return os.makedev(int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else -1

    @property
    def served(self) -> bool:
        """Whether a process answers for it (FUSE), which may be a frozen one."""
        return self.fstype in ("fuse", "fuseblk") or self.fstype.startswith("fuse.")


def unescape(field: str) -> str:
    """Undo ``mountinfo``'s octal escapes (space, tab, newline, backslash)."""
    if "\\" not in field:
        return field
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def parse_mountinfo(text: str, holding: str = "") -> tuple[Mount, ...]:
    """The mounts of one ``/proc/PID/mountinfo``, in its order; lines that are not of its form are passed over.

    ``holding``: only lines with this text are read; a host of many containers has many that nobody asks for.
    """
    found = []
    for line in text.split("\n"):
        if holding not in line:
            continue
        left, separator, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 3:
            continue
        options = dict(unescape(item).partition("=")[::2] for item in rest[2].split(","))
        found.append(Mount(unescape(fields[4]), rest[0], options, unescape(fields[3]), fields[2], unescape(rest[1])))
    return tuple(found)


def read_text(path: str) -> str:
    """A file of ``/proc`` or ``/sys``; empty when it is gone or can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(lambda: os.read(descriptor, CHUNK), b"")).decode("utf-8", "surrogateescape")
        finally:
            os.close(descriptor)
    except OSError:
        return ""


def link_of(path: str) -> str:
    """Where a magic link of ``/proc`` points to; empty when it is gone or can't be read."""
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""
