"""``/proc/PID/maps`` (proc(5)): what a process has mapped, parsed once for memory and for mapped files."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)")


class Mapping(NamedTuple):
    """A line: addresses, permissions, offset in bytes, device (``fe:01``), inode (0: anonymous), name."""

    start: int
    end: int
    flags: str
    offset: int
    device: str
    inode: int
    path: bytes

    @property
    def executable(self) -> bool:
        """Whether its pages may be run."""
        return "x" in self.flags

    @property
    def suspect(self) -> bool:
        """Code that no file on a disk holds: anonymous, deleted or memfd, and executable."""
        anonymous = self.inode == 0 and not self.path.startswith(b"[v")
        return self.executable and (anonymous or self.path.endswith(b" (deleted)") or self.path.startswith(b"/memfd:"))


def parse_maps(text: bytes) -> list[Mapping]:
    """The mappings of one ``/proc/PID/maps``; lines of another form are passed over."""
    found = []
    for line in text.split(b"\n"):
        match = _LINE.fullmatch(line)
        if match:
            start, end, flags, offset, device, inode, path = match.groups()
            found.append(
                Mapping(
                    int(start, 16), int(end, 16), flags.decode(), int(offset, 16), device.decode(), int(inode), path
                )
            )
    return found


def device_number(device: str) -> int:
    """``fe:01``, hexadecimal as in ``maps``, as ``st_dev`` has it.  Raises ``ValueError``."""
    import os

    major, _, minor = device.partition(":")
    return os.makedev(int(major, 16), int(minor, 16))
