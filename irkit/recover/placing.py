"""Putting files of a backup into a fresh volume's folder: beneath it, through no link, within limits.

A backup is hostile input: perhaps it was made after the intrusion.  Every step is an ``openat`` of one name with
``O_NOFOLLOW``, every file is a new one (``O_EXCL``), and links are made, never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from irkit.errors import CheckFailed, storage_error
from irkit.models import FileFacts

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DEPTH_LIMIT = 200
NAME_LIMIT = 255
PROBLEMS_KEPT = 1000
NAMESPACES = ("user", "security", "system", "trusted")
LOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be put there: bytes of all files, and how many entries.  ``devices``: whether device nodes are made."""

    size: int = 256 * 1024**3
    count: int = 5_000_000
    devices: bool = False


@dataclass(slots=True)
class Lost:
    """Extended attributes of one namespace that were not restored: how many, and the first few paths that had them."""

    count: int = 0
    paths: list[str] = field(default_factory=list)


class Unsafe(ValueError):
    """An entry that is not made, and why."""


@dataclass(slots=True)
class Placer:
    """Fed by a source: :meth:`begin` an entry, its :meth:`data` piece by piece, :meth:`end`.  Then :meth:`finish`.

    ``root``: a descriptor of the empty folder.  ``problems``: what was not made, with the reason.
    """

    root: int
    limits: Limits
    problems: list[tuple[str, str]] = field(default_factory=list)
    placed: int = 0
    size: int = 0
    _seen: int = 0
    _file: int = -1
    _facts: FileFacts | None = None
    _path: str = ""
    _folders: dict[str, FileFacts] = field(default_factory=dict)
    _dropped: int = 0
    _lost: dict[str, Lost] = field(default_factory=dict)

    def begin(self, path: str, facts: FileFacts, link: str = "") -> None:
        """An entry at ``path`` in the volume.  Raises ``CheckFailed`` over a limit, ``StorageError`` on a full disk."""
        self._seen += 1
        if self._seen > self.limits.count:
            raise CheckFailed(f"the backup has more than {self.limits.count} entries", hint="--limit-files allows more")
        if self.size + facts.size > self.limits.size and facts.kind == "file":
            raise CheckFailed(f"the backup has more than {self.limits.size} bytes", hint="--limit-bytes allows more")
        self._file, self._facts, self._path = -1, facts, path
        try:
            self._make(path, facts, link)
        except (ValueError, OverflowError) as error:
            self._problem(path, str(error))
        except OSError as error:
            self._failed(path, error)

    def data(self, piece: bytes | memoryview) -> None:
        """The next bytes of the entry's file.  Raises ``CheckFailed`` over the limit, ``StorageError``."""
        self.size += len(piece)
        if self.size > self.limits.size:
            raise CheckFailed(f"the backup has more than {self.limits.size} bytes", hint="--limit-bytes allows more")
        if self._file < 0:
            return
        try:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise storage_error(error, "can't write to the fresh volume") from error

    def end(self) -> None:
        """The entry is whole: its owner, mode and times."""
        if self._file < 0 or self._facts is None:
            return
        try:
            self._attributes(self._file, self._path, self._facts)
            self.placed += 1
        except (ValueError, OverflowError) as error:
            self._problem(self._path, str(error))
        except OSError as error:
            self._failed(self._path, error)
        finally:
            os.close(self._file)
            self._file = -1

    def abort(self) -> None:
        """Close what is open."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def finish(self) -> None:
        """Folders get their mode and times last, the deepest first: what is put into them changes both."""
        for path in sorted(self._folders, key=lambda one: -one.count("/")):
            try:
                with self._beneath(_parts(path), make=False) as folder:
                    self._attributes(folder, f"/{path}", self._folders[path])
            except (ValueError, OverflowError) as error:
                self._problem(path, str(error))
            except OSError as error:
                self._failed(path, error)
        os.fsync(self.root)

    @property
    def told(self) -> list[str]:
        """All problems, in words."""
        more = [f"{self._dropped} more entries were not made"] if self._dropped else []
        lost = [
            f"{one.count} extended attributes of {namespace}.* were not set: {', '.join(one.paths)}{' …' if one.count > len(one.paths) else ''}"
            for namespace, one in sorted(self._lost.items())
        ]
        return [*(f"{path}: {why}" for path, why in self.problems), *more, *lost]

    @property
    def lost(self) -> list[dict[str, object]]:
        """``namespace``, ``count``, ``paths`` (the first few): extended attributes that the backup has and the volume has not."""
        return [
            {"namespace": namespace, "count": one.count, "paths": list(one.paths)}
            for namespace, one in sorted(self._lost.items())
        ]

    def lose(self, path: str, names: Iterable[str]) -> None:
        """Count attributes that are not restored, by their namespace (xattr(7))."""
        for name in names:
            space = name.partition(".")[0]
            found = self._lost.setdefault(space if space in NAMESPACES else "other", Lost())
            found.count += 1
            shown = _shown(path)
            if len(found.paths) < LOST_SHOWN and shown not in found.paths:
                found.paths.append(shown)

    def _make(self, path: str, facts: FileFacts, link: str) -> None:
        parts = _parts(path)
        if facts.kind == "directory":
            with self._beneath(parts, make=True):
                self._folders["/".join(parts)] = facts
            self.placed += 1
            return
        if not parts:
            raise Unsafe("it would be the volume itself")
        *above, name = parts
        with self._beneath(above, make=True) as folder:
            self._clear(folder, name)
            if link:
                self._hard_link(folder, name, link)
            elif facts.kind == "file":
                self._file = os.open(name, NEW, 0o600, dir_fd=folder)
                return
            elif facts.kind == "symlink":
                self.lose(path, facts.xattrs)
                os.symlink(facts.target, name, dir_fd=folder)
                os.chown(name, facts.uid, facts.gid, dir_fd=folder, follow_symlinks=False)
                os.utime(name, ns=(facts.mtime_ns, facts.mtime_ns), dir_fd=folder, follow_symlinks=False)
            else:
                self._special(folder, name, facts)
                self.lose(path, facts.xattrs)
        self.placed += 1

    def _attributes(self, descriptor: int, path: str, facts: FileFacts) -> None:
        """Owner before mode: a change of owner takes setuid away.  Of extended attributes only ``user.*`` are set."""
        os.fchown(descriptor, facts.uid, facts.gid)
        os.fchmod(descriptor, facts.mode)
        for name, value in facts.xattrs.items():
            try:
                if not name.startswith("user."):
                    raise Unsafe("it would give rights")
                os.setxattr(descriptor, name, bytes.fromhex(value))
            except (OSError, ValueError):  # ENOSPC too: ext4 says so of one that is too large
                self.lose(path, (name,))
        os.utime(descriptor, ns=(facts.mtime_ns, facts.mtime_ns))

    def _special(self, folder: int, name: str, facts: FileFacts) -> None:
        kinds = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
        if facts.kind not in kinds:
            raise Unsafe(f"a {facts.kind} can't be restored")
        if facts.kind != "fifo" and not self.limits.devices:
            raise Unsafe("a device node: made only with --devices")
        major, _, minor = facts.rdev.partition(":")
        device = os.makedev(int(major), int(minor)) if facts.kind != "fifo" else 0
        os.mknod(name, kinds[facts.kind] | 0o600, device, dir_fd=folder)
        os.chown(name, facts.uid, facts.gid, dir_fd=folder, follow_symlinks=False)
        os.chmod(name, facts.mode, dir_fd=folder)

    def _hard_link(self, folder: int, name: str, link: str) -> None:
        """To a regular file that lies in the volume already."""
        parts = _parts(link)
        if not parts:
            raise Unsafe("a hard link to the volume itself")
        *above, source = parts
        with self._beneath(above, make=False) as other:
            if not stat.S_ISREG(os.stat(source, dir_fd=other, follow_symlinks=False).st_mode):
                raise Unsafe("a hard link to what is no regular file")
            os.link(source, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)

    @staticmethod
    def _clear(folder: int, name: str) -> None:
        """A later entry of the same name takes the place of an earlier one, as tar has it; never that of a folder."""
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise Unsafe("a folder of this name is there already")
            os.unlink(name, dir_fd=folder)

    @contextmanager
    def _beneath(self, parts: list[str], *, make: bool) -> Iterator[int]:
        """A descriptor of a folder in the volume; missing ones are made.  Raises ``OSError``: a link is not followed."""
        current = os.dup(self.root)
        try:
            for part in parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=current)
                inner = os.open(part, FOLDER, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)

    def _failed(self, path: str, error: OSError) -> None:
        if error.errno not in _FULL:
            self._problem(path, error.strerror or str(error))
            return
        raise storage_error(error, "can't write to the fresh volume") from error

    def _problem(self, path: str, why: str) -> None:
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append((_shown(path), why))
        else:
            self._dropped += 1

    def note(self, path: str, why: str) -> None:
        """Something of the source that can't be put there."""
        self._problem(path, why)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unsafe("its name leads upwards")
    if len(parts) > DEPTH_LIMIT:
        raise Unsafe(f"deeper than {DEPTH_LIMIT} folders")
    if any("\0" in part or len(os.fsencode(part)) > NAME_LIMIT for part in parts):
        raise Unsafe("no name that a file can have")
    return parts


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
