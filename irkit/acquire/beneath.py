"""Reading files that an attacker arranged, never outside of the folder that we mean.

Every step is an ``openat`` of one name with ``O_NOFOLLOW``: no link is ever followed, so none can lead out.
FIFOs and devices are never opened for reading.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from irkit.models import FileFacts

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
BLOCK = 1024 * 1024
DEPTH_LIMIT = 500
KINDS = (
    (stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"), (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "char"), (stat.S_ISBLK, "block"),
)  # fmt: skip


def kind_of(mode: int) -> str:
    """``file``, ``directory``, ``symlink`` …"""
    return next((name for test, name in KINDS if test(mode)), "unknown")


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


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder that is open right now: ``path`` is absolute in the container, without a trailing slash."""

    path: str
    name: str
    folder: int
    info: os.stat_result

    @property
    def kind(self) -> str:
        """``file``, ``directory``, ``symlink`` …"""
        return kind_of(self.info.st_mode)

    def open(self) -> int:
        """A descriptor of this regular file, the same one that was listed.  Raises ``OSError``."""
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
        """A symbolic link's text."""
        return os.readlink(self.name, dir_fd=self.folder)

    def xattrs(self) -> dict[str, bytes]:
        """Extended attributes.  Read by the folder's descriptor, and never through a link."""
        path = f"/proc/self/fd/{self.folder}/{self.name}"
        try:
            return {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
        except OSError:
            return {}


def walk(
    folder: int, prefix: str, on_error: Callable[[str, OSError], None], device: int | None = None
) -> Iterator[Entry]:
    """Every entry beneath an open folder, parents first, names sorted; with ``device``, never onto another one.

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
                continue
            yield Entry(path, name, level.folder, info)
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


def sha256_of(entry: Entry, checkpoint: Callable[[], None] = lambda: None) -> str:
    """The digest of a regular file.  Raises ``OSError``."""
    digest = hashlib.sha256()
    with os.fdopen(entry.open(), "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            checkpoint()
            digest.update(block)
    return digest.hexdigest()


def facts_of(entry: Entry, sha256: str = "") -> FileFacts:
    """What is known of an entry, with a digest that was made elsewhere."""
    info, kind = entry.info, entry.kind
    attributes = {} if kind == "symlink" else entry.xattrs()
    return FileFacts(
        kind=kind, mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid,
        size=info.st_size if kind in ("file", "symlink") else 0, mtime_ns=info.st_mtime_ns, ctime_ns=info.st_ctime_ns,
        sha256=sha256, target=entry.target() if kind == "symlink" else "",
        rdev=f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if kind in ("char", "block") else "", nlink=info.st_nlink,
        xattrs={name: value.hex() for name, value in sorted(attributes.items()) if not name.startswith("trusted.overlay.")},
    )  # fmt: skip
