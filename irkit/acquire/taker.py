"""Taking a file's bytes: its digest alone, or its digest while it goes into a tar stream (one pass)."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable
from typing import IO, Protocol, cast

from irkit.acquire.beneath import BLOCK, Entry, sha256_of
from irkit.errors import StorageError
from irkit.evidence.writer import Sink

GapNote = Callable[[str, str], None]
"""Called with a path and the reason why it was not, or not wholly, taken."""


ORIGINALS = ("/etc/", "/root/")
ORIGINAL_LIMIT = 64 * 1024


class Taker(Protocol):
    """What is done with each entry that is found."""

    def take(self, entry: Entry) -> str:
        """Take it; a regular file's sha256, else an empty string."""

    def original(self, entry: Entry) -> None:
        """What lay in the image under a name that has just been taken."""

    def whiteout(self, path: str) -> None:
        """A name that the upper layer hides."""

    def opaque(self, path: str) -> None:
        """A folder whose lower contents the upper layer hides."""


class DigestTaker:
    """Digests only: for a live diff, which stores nothing."""

    def __init__(self, gap: GapNote, checkpoint: Callable[[], None] = lambda: None) -> None:
        self._gap = gap
        self._checkpoint = checkpoint

    def take(self, entry: Entry) -> str:
        """The sha256 of a regular file."""
        if entry.kind != "file":
            return ""
        try:
            return sha256_of(entry, self._checkpoint)
        except OSError as error:
            self._gap(entry.path, f"can't be read: {error.strerror or error}")
            return ""

    def original(self, entry: Entry) -> None:
        """Nothing to store."""

    def whiteout(self, path: str) -> None:
        """Nothing to store."""

    def opaque(self, path: str) -> None:
        """Nothing to store."""


class _Measured:
    """A file that is read as exactly as many bytes as were announced: zeros where it shrank."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()
        self.missing = 0

    def read(self, wanted: int) -> bytes:
        wanted = min(wanted, self._left)
        data = bytearray()
        while len(data) < wanted and not self.missing:
            try:
                more = self._file.read(wanted - len(data))
            except OSError:
                more = b""
            if not more:
                self.missing = self._left - len(data)
            data += more
        self.digest.update(data)
        self._left -= wanted
        return bytes(data) + bytes(wanted - len(data))


class TarTaker:
    """Entries into a tar stream in the form of an OCI image layer (image-spec, layer.md: whiteouts, PAX xattrs).

    ``budget``: bytes of file contents to be stored at most; what is over it is digested, listed, and noted as a gap.
    """

    def __init__(self, sink: Sink, gap: GapNote, budget: int, originals: TarTaker | None = None) -> None:
        self._gap = gap
        self._originals = originals
        self._budget = budget
        self._seen: dict[tuple[int, int], tuple[str, str]] = {}
        self._full = False
        self._tar = tarfile.open(  # noqa: SIM115 - closed by close(), the sink belongs to the caller
            mode="w|", fileobj=cast(IO[bytes], sink), format=tarfile.PAX_FORMAT, bufsize=BLOCK
        )

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()

    def take(self, entry: Entry) -> str:
        """Store it; once the disk is full, its digest alone, so that the list of changes is whole all the same."""
        try:
            return self._digest_only(entry) if self._full else self._store(entry)
        except StorageError:
            self._full = True
            self._gap(entry.path, "the disk is full: from here on digests only, the contents are not in the bundle")
            return self.take(entry)
        except FileNotFoundError:
            self._gap(entry.path, "it was gone or exchanged before it could be read")
        except OSError as error:
            self._gap(entry.path, f"can't be read: {error.strerror or error}")
        return ""

    def original(self, entry: Entry) -> None:
        """Store the image's version of a small configuration file, so that a reader can tell what was changed in it."""
        wanted = entry.kind == "file" and entry.info.st_size <= ORIGINAL_LIMIT and entry.path.startswith(ORIGINALS)
        if self._originals is not None and wanted:
            self._originals.take(entry)

    def whiteout(self, path: str) -> None:
        """``.wh.NAME``."""
        folder, _, name = path.rpartition("/")
        self._mark(f"{folder}/.wh.{name}")

    def opaque(self, path: str) -> None:
        """``.wh..wh..opq``."""
        self._mark(f"{path}/.wh..wh..opq")

    def _mark(self, name: str) -> None:
        try:
            self._tar.addfile(tarfile.TarInfo(name.lstrip("/")))
        except StorageError:
            self._full = True
            self._gap(name, "the disk is full: from here on digests only, the contents are not in the bundle")

    @staticmethod
    def _digest_only(entry: Entry) -> str:
        return sha256_of(entry) if entry.kind == "file" else ""

    def _store(self, entry: Entry) -> str:
        member = self._member(entry)
        if entry.kind == "socket":
            self._gap(entry.path, "a socket has no contents and no tar form: it is only listed")
            return ""
        if entry.kind != "file":
            self._tar.addfile(member)
            return ""
        key = (entry.info.st_dev, entry.info.st_ino)
        if entry.info.st_nlink > 1 and key in self._seen:
            member.type, (member.linkname, digest), member.size = tarfile.LNKTYPE, self._seen[key], 0
            self._tar.addfile(member)
            return digest
        if member.size > self._budget:
            self._gap(entry.path, f"{member.size} bytes are over the limit of this profile: digest only")
            return sha256_of(entry)
        digest = self._copy(entry, member)
        if entry.info.st_nlink > 1:
            self._seen[key] = (member.name, digest)
        return digest

    def _copy(self, entry: Entry, member: tarfile.TarInfo) -> str:
        with os.fdopen(entry.open(), "rb", buffering=0) as file:
            measured = _Measured(cast(IO[bytes], file), member.size)
            self._tar.addfile(member, cast(IO[bytes], measured))
            if measured.missing:
                self._gap(
                    entry.path,
                    f"the last {measured.missing} bytes could not be read (it shrank?): they are zeros",
                )
            elif file.read(1):
                self._gap(entry.path, f"it grew while it was read: only the first {member.size} bytes were taken")
        self._budget -= member.size
        return measured.digest.hexdigest()

    def _member(self, entry: Entry) -> tarfile.TarInfo:
        info = entry.info
        member = tarfile.TarInfo(entry.path.lstrip("/"))
        member.mode, member.uid, member.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
        member.mtime = info.st_mtime_ns // 1_000_000_000
        seconds, fraction = divmod(abs(info.st_mtime_ns), 1_000_000_000)
        member.pax_headers = {"mtime": f"{'-' if info.st_mtime_ns < 0 else ''}{seconds}.{fraction:09d}"}
        kinds = {
            "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE, "char": tarfile.CHRTYPE,
            "block": tarfile.BLKTYPE,
        }  # fmt: skip
        member.type = kinds.get(entry.kind, tarfile.REGTYPE)
        member.size = info.st_size if entry.kind == "file" else 0
        if entry.kind == "symlink":
            member.linkname = entry.target()
        else:
            for name, value in entry.xattrs().items():
                if not name.startswith("trusted.overlay."):
                    member.pax_headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        if entry.kind in ("char", "block"):
            member.devmajor, member.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
        return member
