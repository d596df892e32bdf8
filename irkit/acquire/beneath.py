"""Reading files that an attacker arranged, never outside of the folder that we mean.

Every step is an ``openat`` of one name with ``O_NOFOLLOW``: no link is ever followed, so none can lead out.
FIFOs and devices are never opened for reading.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from irkit.acquire.attributes import OVERLAY, Marks, birth_time, read_xattrs
from irkit.acquire.sparse import Digest, Holes, extents, read_piece
from irkit.models import FileFacts

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
BLOCK = 1024 * 1024
DEPTH_LIMIT = 500
KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char", stat.S_IFBLK: "block",
}  # fmt: skip


def kind_of(mode: int) -> str:
    """``file``, ``directory``, ``symlink`` …"""
    return KINDS.get(stat.S_IFMT(mode), "unknown")


@contextmanager
def open_folder(root: str | int, path: str = "") -> Iterator[int]:
    """A descriptor of the folder ``path`` beneath ``root``, one component at a time.  Raises ``OSError``."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if isinstance(root, str) else os.dup(root)
    try:
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                raise PermissionError(f"{path!r} leads upwards")
            inner = os.open(part, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Entry:
    """One name in a folder that is open right now: ``path`` is absolute in the container, without a trailing slash.

    ``data``: where its bytes are when an overlay keeps them in a lower layer (metacopy), ``lost`` when they are not
    there.  ``problem``: what of it could not be read, and why.
    """

    path: str
    name: str
    folder: int
    info: os.stat_result
    marks: Marks = OVERLAY
    data: Entry | None = None
    lost: bool = False
    problem: str = ""
    _xattrs: dict[str, bytes] | None = None
    _target: str | None = None
    _born: int = -1

    @property
    def kind(self) -> str:
        """``file``, ``directory``, ``symlink`` …"""
        return kind_of(self.info.st_mode)

    @property
    def size(self) -> int:
        """A regular file's bytes."""
        return (self.data or self).info.st_size

    @property
    def allocated(self) -> int:
        """How many bytes of it lie on the disk."""
        return (self.data or self).info.st_blocks * 512

    def open(self) -> int:
        """A descriptor of this regular file, the same one that was listed.  Raises ``OSError``."""
        if self.data is not None:
            return self.data.open()
        if self.lost:
            raise OSError(errno.ENODATA, "the overlay keeps its contents in a layer that can't be read")
        try:
            descriptor = os.open(self.name, FILE, dir_fd=self.folder)
        except PermissionError:
            descriptor = os.open(self.name, FILE & ~os.O_NOATIME, dir_fd=self.folder)
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode) or (now.st_dev, now.st_ino) != (self.info.st_dev, self.info.st_ino):
            os.close(descriptor)
            raise FileNotFoundError(f"{self.path!r} was exchanged while it was read")
        return descriptor

    def target(self) -> str:
        """A symbolic link's text, read once; empty, and a ``problem``, when it is gone."""
        if self._target is None:
            try:
                self._target = os.readlink(self.name, dir_fd=self.folder)
            except OSError:
                self._target, self.problem = "", "it was gone or exchanged before it could be read"
        return self._target

    def xattrs(self) -> dict[str, bytes]:
        """Extended attributes, the overlay's own too.  Read once, by the folder's descriptor, never through a link."""
        if self._xattrs is None:
            try:
                self._xattrs = read_xattrs(self.folder, self.name)
            except OSError as error:
                self._xattrs, self.problem = {}, f"its extended attributes can't be read: {error.strerror or error}"
        return self._xattrs

    def seen_xattrs(self) -> dict[str, bytes]:
        """Extended attributes as the container sees them."""
        found = self.xattrs()
        return self.marks.visible(found) if found else found

    def born(self) -> int:
        """Birth time, nanoseconds since the epoch; 0 where it is not known."""
        if self._born < 0:
            self._born = birth_time(self.folder, self.name)
        return self._born


def walk(
    folder: int,
    prefix: str,
    on_error: Callable[[str, OSError], None],
    device: int | None = None,
    marks: Marks = OVERLAY,
    on_mount: Callable[[str], None] = lambda path: None,
) -> Iterator[Entry]:
    """Every entry beneath an open folder, parents first, names sorted; with ``device``, never onto another one.

    What is mounted from another device is told to ``on_mount``.

    An entry's folder descriptor is open only until the next entry is asked for.  Each level holds a descriptor, so
    what is nested deeper than ``DEPTH_LIMIT`` is told to ``on_error``: an attacker chooses the depth.
    """
    with ExitStack() as stack:
        levels = [_Level(folder, prefix, _listed(folder, prefix, on_error))]
        stack.callback(_close_all, levels)
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is None:
                levels.pop()
                if levels:
                    os.close(level.folder)
                continue
            path = f"{level.prefix}/{name}"
            try:
                info = os.stat(name, dir_fd=level.folder, follow_symlinks=False)
            except OSError as error:
                on_error(path, error)
                continue
            if device is not None and info.st_dev != device:
                on_mount(path)
                continue
            yield Entry(path, name, level.folder, info, marks)
            if stat.S_ISDIR(info.st_mode):
                try:
                    if len(levels) > DEPTH_LIMIT:
                        raise OSError(
                            errno.ELOOP, f"nested deeper than {DEPTH_LIMIT} folders: what lies in it was not read"
                        )
                    inner = os.open(name, FOLDER, dir_fd=level.folder)
                except OSError as error:
                    on_error(path, error)
                    continue
                levels.append(_Level(inner, path, _listed(inner, path, on_error)))


def _close_all(levels: list[_Level]) -> None:
    """Close what the walk itself opened: the first level belongs to the caller."""
    for level in levels[1:]:
        os.close(level.folder)


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder that is being read."""

    folder: int
    prefix: str
    names: Iterator[str]


def _listed(folder: int, prefix: str, on_error: Callable[[str, OSError], None]) -> Iterator[str]:
    try:
        return iter(sorted(os.listdir(folder)))
    except OSError as error:
        on_error(prefix or "/", error)
        return iter(())


def lookup(root: int, path: str) -> Iterator[Entry | None]:
    """Each component of ``path`` beneath ``root`` in turn, from the top: an entry, or ``None`` and the end."""
    folder = os.dup(root)
    try:
        parts = [part for part in path.split("/") if part]
        seen = ""
        for number, part in enumerate(parts):
            seen += f"/{part}"
            try:
                entry = Entry(seen, part, folder, os.stat(part, dir_fd=folder, follow_symlinks=False))
            except OSError:
                yield None
                return
            yield entry
            if number + 1 < len(parts):
                try:
                    inner = os.open(part, FOLDER, dir_fd=folder)
                except OSError:
                    yield None
                    return
                os.close(folder)
                folder = inner
    finally:
        os.close(folder)


def sha256_of(entry: Entry, checkpoint: Callable[[], None] = lambda: None, holes: Holes | None = None) -> str:
    """The digest of a regular file; empty when it has more holes than ``holes`` affords.  Raises ``OSError``."""
    digest = Digest(holes or Holes())
    descriptor = entry.open()
    try:
        now = os.fstat(descriptor)
        for extent in extents(descriptor, now.st_size, now.st_blocks * 512):
            digest.skip_to(extent[0])
            for block in read_piece(descriptor, extent, checkpoint):
                digest.data(block)
        digest.skip_to(now.st_size)
    finally:
        os.close(descriptor)
    return digest.value()


def facts_of(entry: Entry, sha256: str = "") -> FileFacts:
    """What is known of an entry, with a digest that was made elsewhere."""
    info, kind = entry.info, entry.kind
    return FileFacts(
        kind=kind, mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid,
        size=entry.size if kind in ("file", "symlink") else 0, mtime_ns=info.st_mtime_ns, ctime_ns=info.st_ctime_ns,
        sha256=sha256, target=entry.target() if kind == "symlink" else "",
        rdev=f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if kind in ("char", "block") else "", nlink=info.st_nlink,
        xattrs={name: value.hex() for name, value in sorted(entry.seen_xattrs().items())},
        atime_ns=info.st_atime_ns, btime_ns=entry.born(),
    )  # fmt: skip
