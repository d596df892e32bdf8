"""An overlay's read-only layers, merged as the kernel merges them (overlayfs.rst; ``ovl_lookup`` in fs/overlayfs/namei.c).

Whiteouts in both forms (a character device 0:0, an empty file with the xattr ``whiteout``), opaque folders, redirects
and metacopy are followed through the layers by descriptor; a symbolic link never is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from irkit.acquire.attributes import Marks
from irkit.acquire.beneath import FOLDER, Entry

DEPTH_LIMIT = 200
OPEN_LIMIT = 256
"""Folders of layers that are held open; more than an overlay has layers."""

Place = tuple[int, str]
"""A folder in one layer: the layer's number from the top, and its path in it without slashes around."""
Places = tuple[Place, ...]
"""One merged folder: where it lies, the topmost layer first."""


def is_whiteout(entry: Entry) -> bool:
    """A name that hides what lies below it, and is not there itself."""
    info = entry.info
    if stat.S_ISCHR(info.st_mode):
        return info.st_rdev == 0
    return stat.S_ISREG(info.st_mode) and info.st_size == 0 and entry.marks.get(entry.xattrs(), "whiteout") is not None


def is_opaque(entry: Entry) -> bool:
    """A folder that hides what lies below: ``y``.  (``x`` only says that whiteouts of the second form may be in it.)"""
    return entry.kind == "directory" and entry.marks.get(entry.xattrs(), "opaque") == b"y"


def redirect_of(entry: Entry) -> str:
    """Under which name the lower layers have it: absolute (``/a/b``), relative (``b``), or empty."""
    value = os.fsdecode(entry.marks.get(entry.xattrs(), "redirect") or b"")
    parts = value.strip("/").split("/")
    if not value or any(part in ("", ".", "..") for part in parts) or (value[0] != "/" and len(parts) > 1):
        return ""
    return value


def is_metacopy(entry: Entry) -> bool:
    """A file whose bytes lie in a lower layer."""
    return entry.kind == "file" and entry.marks.get(entry.xattrs(), "metacopy") is not None


Stamp = tuple[int, int, int, int, int, int]


def stamp(info: os.stat_result) -> Stamp:
    """Device, inode, size and times of a file or folder: what can't stay the same when it is changed (inode(7)).

    Of a folder without the time of its last reading, which a search changes.
    """
    read = 0 if stat.S_ISDIR(info.st_mode) else info.st_atime_ns
    return info.st_dev, info.st_ino, info.st_size, info.st_ctime_ns, info.st_mtime_ns, read


@dataclass(slots=True)
class Trace:
    """What was looked at: each folder that was searched and each name that was found.

    ``whole``: whether that is all that the answers depend on.
    """

    folders: dict[Place, Stamp] = field(default_factory=dict)
    names: dict[tuple[Place, str], Stamp] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Hit:
    """What the lower layers show under a name.  ``below``: where it goes on, when it is a folder."""

    entry: Entry
    below: Places


class Lower:
    """The layers, by their open root folders, from the top.  :meth:`close` closes what this class opened itself."""

    def __init__(self, folders: list[int], marks: Marks) -> None:
        self._roots = folders
        self.marks = marks
        self.trace: Trace | None = None
        """What is looked at from now on, if somebody wants to know."""
        self._open: OrderedDict[Place, int] = OrderedDict()

    @property
    def root(self) -> Places:
        """The merged root folder."""
        return tuple((number, "") for number in range(len(self._roots)))

    def top(self) -> Entry | None:
        """The merged root folder itself."""
        if not self._roots:
            return None
        return Entry("/", ".", self._roots[0], os.fstat(self._roots[0]), self.marks)

    def close(self) -> None:
        """Close every folder."""
        while self._open:
            os.close(self._open.popitem()[1])

    def find(self, below: Places, path: str, name: str, redirect: str = "") -> Hit | None:
        """What lies under ``name`` in a merged folder; ``path`` is its name in the container.

        An entry can be used until the next call.
        """
        found: list[Place] = []
        top: Entry | None = None
        at: Place = (-1, "")
        wanted, pending = redirect or name, list(below)
        if wanted.startswith("/"):
            pending = list(self.root)
        while pending:
            layer, folder = pending.pop(0)
            entry, place, stop = self._step(layer, folder, wanted, path)
            if entry is None or (top is not None and entry.kind != "directory"):
                if stop or entry is not None:
                    break
                continue
            if top is None:
                top, at = entry, place
            if entry.kind != "directory":
                break
            found.append(place)
            if stop:
                break
            if onward := redirect_of(entry):
                self._leads_elsewhere()
                wanted = onward
                if wanted.startswith("/"):
                    pending = [one for one in self.root if one[0] > layer]
        if top is None:
            return None
        if is_metacopy(top):
            top.data = self._data(top, at[0], below)
        again = self.folder(at[0], at[1].rpartition("/")[0])  # the layers since may have cost it its descriptor
        if again is None:
            return None
        top.folder = again
        return Hit(top, tuple(found))

    def data_of(self, entry: Entry, below: Places) -> Entry | None:
        """The file that has a metacopy file's bytes; ``None`` when it can't be found."""
        return self._data(entry, -1, below)

    def _data(self, entry: Entry, above: int, below: Places) -> Entry | None:
        wanted = entry.name
        pending = [one for one in below if one[0] > above]
        while True:
            if onward := redirect_of(entry):
                wanted = onward
                if wanted.startswith("/"):
                    pending = [one for one in self.root if one[0] > above]
            if not pending:
                return None
            above, folder = pending.pop(0)
            found, _, stop = self._step(above, folder, wanted, entry.path)
            if found is None:
                if stop:
                    return None
                continue
            if found.kind != "file":
                return None
            if not is_metacopy(found):
                return found
            entry = found

    def names(self, below: Places, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
        """The names in a merged folder, sorted; ``wanted``: no others are looked at."""
        found: dict[str, bool] = {}
        for layer, folder in below:
            opened = self.folder(layer, folder)
            if opened is None:
                continue
            for name in os.listdir(opened):  # noqa: PTH208 - by descriptor
                if name not in found and wanted(name):
                    entry = self._entry(opened, name, name, (layer, folder))
                    found[name] = entry is not None and not is_whiteout(entry)
        return sorted(name for name, visible in found.items() if visible)

    def _leads_elsewhere(self) -> None:
        if self.trace is not None:
            self.trace.whole = False

    def _step(self, layer: int, folder: str, wanted: str, path: str) -> tuple[Entry | None, Place, bool]:
        """One layer: the entry, its place, and whether the layers below it don't count any more."""
        *parents, last = wanted.strip("/").split("/")
        hidden = False
        for part in parents:
            opened = self.folder(layer, folder)
            entry = None if opened is None else self._entry(opened, part, path, (layer, folder))
            if entry is None:
                return None, (layer, ""), hidden
            if is_whiteout(entry) or entry.kind != "directory":
                return None, (layer, ""), True
            hidden = hidden or is_opaque(entry)
            folder = f"{folder}/{part}".lstrip("/")
        opened = self.folder(layer, folder)
        entry = None if opened is None else self._entry(opened, last, path, (layer, folder))
        if entry is None:
            return None, (layer, ""), hidden
        if is_whiteout(entry):
            return None, (layer, ""), True
        return entry, (layer, f"{folder}/{last}".lstrip("/")), hidden or is_opaque(entry)

    def _entry(self, folder: int, name: str, path: str, place: Place) -> Entry | None:
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None
        if self.trace is not None:
            self.trace.names[place, name] = stamp(info)
        return Entry(path, name, folder, info, self.marks)

    def folder(self, layer: int, path: str) -> int | None:
        """A folder of a layer, open until the next call but one; ``None`` when it can't be opened."""
        opened = self._folder(layer, path)
        if self.trace is not None:
            self.trace.whole = self.trace.whole and opened is not None
            if opened is not None and (layer, path) not in self.trace.folders:
                self.trace.folders[layer, path] = stamp(os.fstat(opened))
        return opened

    def _folder(self, layer: int, path: str) -> int | None:
        if not path:
            return self._roots[layer]
        place = (layer, path)
        if place in self._open:
            self._open.move_to_end(place)
            return self._open[place]
        parent, _, name = path.rpartition("/")
        above = self._folder(layer, parent)
        if above is None:
            return None
        try:
            opened = os.open(name, FOLDER, dir_fd=above)
        except OSError:
            return None
        self._open[place] = opened
        if len(self._open) > OPEN_LIMIT:
            os.close(self._open.popitem(last=False)[1])
        return opened


def walk_lower(lower: Lower, below: Places, path: str, names: list[str], depth: int = 0) -> Iterator[Hit]:
    """These names of a merged folder and all that lies in them, parents first, under the path ``path``.

    Raises ``OSError`` for what is nested too deeply.
    """
    if depth > DEPTH_LIMIT:
        raise OSError(errno.ELOOP, f"nested deeper than {DEPTH_LIMIT} folders: what lies in it was not read")
    for name in names:
        hit = lower.find(below, f"{path}/{name}", name)
        if hit is not None:
            yield hit
            if hit.below:
                yield from walk_lower(lower, hit.below, f"{path}/{name}", lower.names(hit.below), depth + 1)
