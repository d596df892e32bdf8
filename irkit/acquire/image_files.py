"""Small files of image layers as a tar has them, for targets of one command that were made from the same image.

Why what one target was given is as true for the next: a file of a read-only layer is looked at each time (stat(2)), and
is taken from here only while its device, inode, size and times are those it had when it was read. ``ctime`` moves with
every change of bytes, owner, mode or attributes, and nobody can set it back (inode(7)).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from irkit.acquire.beneath import Entry

if TYPE_CHECKING:
    from irkit.acquire.image_databases import Databases

LIMIT = 16 * 1024 * 1024
"""Bytes that are held at most: what comes after is read again by each."""


class ImageFiles:
    """Members of a tar, header and bytes, by what was read.  Used by several threads: each look-up is one of a dict, and the limit may be passed by a file or two."""

    def __init__(self) -> None:
        self._members: dict[Hashable, bytes] = {}
        self.databases: dict[Hashable, Databases] = {}
        """What was found of the package databases of an image (:mod:`irkit.acquire.image_databases`)."""
        self._left = LIMIT

    def find(self, entry: Entry) -> bytes | None:
        """The member that the same file made before."""
        return self._members.get(_key(entry))

    def keep(self, entry: Entry, member: bytes) -> None:
        """Hold one for the next target.

        Not one whose bytes lie elsewhere (metacopy), that could not be read wholly, or that other names may link to.
        """
        plain = entry.data is None and not entry.lost and not entry.problem and entry.info.st_nlink == 1
        if plain and len(member) <= self._left:
            self._left -= len(member)
            self._members[_key(entry)] = member


def _key(entry: Entry) -> Hashable:
    info = entry.info
    times = (info.st_ctime_ns, info.st_mtime_ns, info.st_atime_ns)
    return entry.path, entry.marks, info.st_dev, info.st_ino, info.st_size, times
