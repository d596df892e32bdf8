"""Taking a file's bytes: its digest alone, or its digest while it goes into a tar stream (one pass)."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from irkit.acquire import tarwriter
from irkit.acquire.attributes import ACCESS_ACL, DEFAULT_ACL, acl_text
from irkit.acquire.beneath import Entry, sha256_of
from irkit.acquire.image_files import ImageFiles
from irkit.acquire.sparse import BLOCK, Digest, Extent, Holes, extents, read_piece
from irkit.acquire.tarwriter import Member, Output, TarWriter
from irkit.errors import StorageError

GapNote = Callable[[str, str], None]
"""Called with a path and the reason why it was not, or not wholly, taken."""


SMALL = 64 * 1024
ORIGINAL_LIMIT = 1024 * 1024
ORIGINALS_LIMIT = 64 * 1024 * 1024
"""Bytes of the image's versions of changed files that are kept: of one file, and of all together."""
WHITEOUT = ".wh."
"""OCI image-spec, layer.md, "Whiteouts": what a name that begins so means in a layer's tar."""
HOLES_WHY = "its holes are too large to be hashed as zeros: what holds data is taken, the file has no digest of its own"
FULL_WHY = "the disk is full: from here on digests only, the contents are not in the bundle"


class Taker(Protocol):
    """What is done with each entry that is found."""

    def take(self, entry: Entry) -> str:
        """Take it; a regular file's sha256, else an empty string."""

    def digest(self, entry: Entry) -> str:
        """A regular file's sha256, without taking it."""

    def original(self, entry: Entry) -> None:
        """What lay in the image under a name that has just been taken."""

    def whiteout(self, path: str) -> None:
        """A name that the upper layer hides."""

    def opaque(self, path: str) -> None:
        """A folder whose lower contents the upper layer hides."""


class DigestTaker:
    """Digests only: for a live diff, which stores nothing."""

    def __init__(self, gap: GapNote, checkpoint: Callable[[], None] = lambda: None, holes: Holes | None = None) -> None:
        self._gap = gap
        self._checkpoint = checkpoint
        self._holes = holes or Holes()

    def take(self, entry: Entry) -> str:
        """The sha256 of a regular file."""
        return self.digest(entry)

    def digest(self, entry: Entry) -> str:
        """The sha256 of a regular file; empty, and a gap, when it can't be made."""
        if entry.kind != "file":
            return ""
        try:
            found = sha256_of(entry, self._checkpoint, self._holes)
        except OSError as error:
            self._gap(entry.path, f"can't be read: {error.strerror or error}")
            return ""
        if not found:
            self._gap(entry.path, HOLES_WHY)
        return found

    def original(self, entry: Entry) -> None:
        """Nothing to store."""

    def whiteout(self, path: str) -> None:
        """Nothing to store."""

    def opaque(self, path: str) -> None:
        """Nothing to store."""


class TarTaker:
    """Entries into a tar stream in the form of an OCI image layer (image-spec, layer.md: whiteouts, PAX xattrs).

    ``budget``: bytes of file contents to be stored at most; what is over it is digested, listed, and noted as a gap.
    A socket has no form in a tar: it stands in the list of changes only.
    """

    def __init__(
        self,
        sink: Output,
        gap: GapNote,
        budget: int,
        originals: TarTaker | None = None,
        checkpoint: Callable[[], None] = lambda: None,
        known: ImageFiles | None = None,
    ) -> None:
        self._gap = gap
        self._originals = originals
        self._known = known
        self._budget = budget
        self._checkpoint = checkpoint
        self._seen: dict[tuple[int, int], tuple[str, str]] = {}
        self._full = False
        self._kept: set[str] = set()
        self._holes = Holes()
        self._digests = DigestTaker(gap, checkpoint, self._holes)
        self._tar = TarWriter(sink)

    @property
    def left(self) -> int:
        """What is left of the budget."""
        return self._budget

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()

    def take(self, entry: Entry) -> str:
        """Store it; once the disk is full, its digest alone, so that the list of changes is whole all the same."""
        try:
            return self._digests.digest(entry) if self._full else self._store(entry)
        except StorageError:
            self._full = True
            self._gap(entry.path, FULL_WHY)
            return self.take(entry)
        except FileNotFoundError:
            self._gap(entry.path, "it was gone or exchanged before it could be read")
        except OSError as error:
            self._gap(entry.path, f"can't be read: {error.strerror or error}")
        return ""

    def digest(self, entry: Entry) -> str:
        """The sha256 of a regular file that is not stored."""
        return self._digests.digest(entry)

    def original(self, entry: Entry) -> None:
        """Store the image's version of a small file, so that a reader can tell what was changed in it."""
        if self._originals is not None and entry.kind == "file" and entry.size <= ORIGINAL_LIMIT:
            self._originals.keep(entry)

    def keep(self, entry: Entry) -> None:
        """Take it if there is room, once; when there is none left, one gap says so."""
        if entry.path in self._kept or self._full:
            return
        if entry.size <= self._budget:
            self._kept.add(entry.path)
            self.take(entry)
        elif self._budget:
            self._budget = 0
            self._gap(
                entry.path, "no room is left for what the image had under this name, and for all that come after it"
            )

    def keep_always(self, entry: Entry) -> bool:
        """Take it whatever is left of the budget, once: its own limits were asked.  Whether it was not taken before."""
        if entry.path in self._kept or self._full:
            return False
        self._kept.add(entry.path)
        self._budget = max(self._budget, entry.size)
        if not self._again(entry):
            self.take(entry)
        return True

    def keep_members(self, paths: Collection[str], members: bytes) -> bool:
        """Store what the same files of the image made for another target; not if any of them was taken before."""
        if self._full or not self._kept.isdisjoint(paths):
            return False
        try:
            self._tar.member(members)
        except StorageError:
            return False
        self._kept.update(paths)
        return True

    def _again(self, entry: Entry) -> bool:
        """Store what the same file of the image made for another target of this command, if it did."""
        member = self._known.find(entry) if self._known is not None else None
        if member is None:
            return False
        try:
            self._tar.member(member)
        except StorageError:
            return False
        self._budget -= entry.size
        return True

    def whiteout(self, path: str) -> None:
        """``.wh.NAME``."""
        folder, _, name = path.rpartition("/")
        self._mark(f"{folder}/{WHITEOUT}{name}")

    def opaque(self, path: str) -> None:
        """``.wh..wh..opq``."""
        self._mark(f"{path}/{WHITEOUT}{WHITEOUT}.opq")

    def _mark(self, name: str) -> None:
        try:
            self._tar.add(Member(name.lstrip("/"), tarwriter.FILE, 0o644))
        except StorageError:
            self._full = True
            self._gap(name, FULL_WHY)

    def _store(self, entry: Entry) -> str:
        if entry.kind == "socket":
            return ""
        name = self._name(entry)
        if entry.kind != "file":
            self._tar.add(member_of(entry, name))
            return ""
        key = (entry.info.st_dev, entry.info.st_ino)
        if entry.info.st_nlink > 1 and key in self._seen:
            target, digest = self._seen[key]
            self._tar.add(member_of(entry, name, target))
            return digest
        stored, digest = self._file(entry, name)
        if entry.info.st_nlink > 1 and stored:
            self._seen[key] = (name, digest)
        return digest

    def _name(self, entry: Entry) -> str:
        name = entry.path.lstrip("/") or "."
        if f"/{WHITEOUT}" not in entry.path:
            return name
        safe = f"/{name}".replace(f"/{WHITEOUT}", "/.irkit.wh.")[1:]
        self._gap(entry.path, f"a layer's tar would take its name for a mark of removal: stored as {safe}")
        return safe

    def _file(self, entry: Entry, name: str) -> tuple[bool, str]:
        """Whether it was stored, and its digest."""
        descriptor = entry.open()
        try:
            if entry.size <= SMALL and entry.size <= min(entry.allocated, self._budget):
                return True, self._small(entry, name, descriptor)
            pieces = extents(descriptor, entry.size, entry.allocated)
            wanted = sum(length for _, length in pieces)
            if wanted > self._budget:
                self._gap(entry.path, f"{entry.size} bytes are over the limit of this profile: digest only")
                return False, self._digests.digest(entry)
            self._budget -= wanted
            return True, self._copy(entry, name, descriptor, pieces)
        finally:
            os.close(descriptor)

    def _small(self, entry: Entry, name: str, descriptor: int) -> str:
        """A small file without holes, in one go: of these a container has hundred thousands."""
        size = entry.size
        data = os.pread(descriptor, size + 1, 0)
        as_listed = len(data) == size and name == entry.path[1:]
        if len(data) < size:
            self._gap(entry.path, f"{size - len(data)} bytes could not be read (it shrank?): they are zeros")
            data += bytes(size - len(data))
        elif len(data) > size:
            self._gap(entry.path, f"it grew while it was read: only the first {size} bytes were taken")
            data = data[:size]
        self._budget -= size
        member = tarwriter.member(member_of(entry, name), data)
        self._tar.member(member)
        if self._known is not None and as_listed:
            self._known.keep(entry, member)
        return hashlib.sha256(data).hexdigest()

    def _copy(self, entry: Entry, name: str, descriptor: int, pieces: Sequence[Extent]) -> str:
        member, head = member_of(entry, name), b""
        holed = sum(length for _, length in pieces) < entry.size
        if holed:
            member, head = tarwriter.sparse(member, entry.size, pieces)
        digest, missing = Digest(self._holes), 0
        self._tar.add(member)
        if holed:
            self._tar.data(head)
        for offset, length in pieces:
            digest.skip_to(offset)
            missing += self._piece(descriptor, (offset, length), digest)
        digest.skip_to(entry.size)
        self._tar.end(member.size)
        if missing:
            self._gap(entry.path, f"{missing} bytes could not be read (it shrank?): they are zeros")
        elif os.fstat(descriptor).st_size > entry.size:
            self._gap(entry.path, f"it grew while it was read: only the first {entry.size} bytes were taken")
        if not digest.whole:
            self._gap(entry.path, HOLES_WHY)
        return digest.value()

    def _piece(self, descriptor: int, extent: Extent, digest: Digest) -> int:
        """Copy one piece; how many bytes of it were missing."""
        left = extent[1]
        for block in read_piece(descriptor, extent, self._checkpoint):
            self._tar.data(block)
            digest.data(block)
            left -= len(block)
        missing = left
        while left:
            block = bytes(min(left, BLOCK))
            self._tar.data(block)
            digest.data(block)
            left -= len(block)
        return missing


_KINDS = {
    "file": tarwriter.FILE, "directory": tarwriter.DIRECTORY, "symlink": tarwriter.SYMLINK, "fifo": tarwriter.FIFO,
    "char": tarwriter.CHAR, "block": tarwriter.BLOCK_DEVICE,
}  # fmt: skip


def member_of(entry: Entry, name: str, link: str = "") -> Member:
    """What a tar says of an entry; ``link``: the member that it is a hard link to.

    Times to the nanosecond: ``atime`` and ``ctime`` as in POSIX, the birth time as libarchive writes it
    (``LIBARCHIVE.creationtime``).  ACLs twice: as attributes, which engines restore, and as text, which GNU tar does.
    """
    info, kind = entry.info, entry.kind
    pax = {"atime": tarwriter.seconds(info.st_atime_ns), "ctime": tarwriter.seconds(info.st_ctime_ns)}
    if born := entry.born():
        pax["LIBARCHIVE.creationtime"] = tarwriter.seconds(born)
    for key, value in entry.seen_xattrs().items():
        pax["SCHILY.xattr." + key.replace("%", "%25").replace("=", "%3D")] = value  # GNU tar's escapes (xheader.c)
        if key in (ACCESS_ACL, DEFAULT_ACL) and (text := acl_text(value)):
            pax["SCHILY.acl.access" if key == ACCESS_ACL else "SCHILY.acl.default"] = text.encode()
    target = link or (entry.target() if kind == "symlink" else "")
    return Member(
        name, tarwriter.LINK if link else _KINDS[kind], stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid,
        entry.size if kind == "file" and not link else 0, info.st_mtime_ns, target,
        info.st_rdev if kind in ("char", "block") else 0, pax,
    )  # fmt: skip
