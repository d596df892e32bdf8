"""What a container changed on disk, from the overlay's upper directory against the lower ones.

Kernel: Documentation/filesystems/overlayfs.rst.  How the lower ones are merged: :mod:`irkit.acquire.lower`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from irkit.acquire.attributes import Marks
from irkit.acquire.beneath import Entry, facts_of, open_folder, walk
from irkit.acquire.layers import Layers
from irkit.acquire.lower import Hit, Lower, Places, is_metacopy, is_opaque, is_whiteout, redirect_of, walk_lower
from irkit.acquire.taker import Taker
from irkit.models import Change, FileFacts

Note = Callable[[str, str], None]
"""Called with a path and why it was not, or not wholly, read."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of the upper directory while it is read.

    ``merged``: the lower folders that the container sees in it; ``image``: those that the image has under this name.
    The two differ in a renamed folder, and in an opaque one.  ``cut``: the tar takes away what the image has here.
    """

    path: str
    merged: Places
    image: Places
    cut: bool = False


@contextmanager
def opened(layers: Layers, note: Note) -> Iterator[tuple[int, Lower]]:
    """The upper directory and the layers below it, until the end of the block.  Raises ``OSError`` for the upper one."""
    with ExitStack() as stack:
        upper = stack.enter_context(open_folder(layers.upper))
        folders = []
        for path in layers.lower:
            try:
                folders.append(stack.enter_context(open_folder(path)))
            except OSError as error:
                note(
                    "/",
                    f"a layer of the image can't be read ({path}: {error.strerror}): what lay in it counts as added",
                )
        lower = Lower(folders, layers.marks)
        stack.callback(lower.close)
        yield upper, lower


def scan(
    layers: Layers, taker: Taker, note: Note, last: Callable[[Lower], None] = lambda lower: None
) -> Iterator[Change]:
    """Every difference between the container's disk and its image, parents first; each file is read once.

    ``note`` is told what could not be read and why; ``last`` gets the image's layers at the end, while they are open.
    Raises ``OSError`` when the upper folder itself can't be opened.
    """
    with opened(layers, note) as (upper, lower):
        yield from _Scan(lower, taker, note).run(upper, layers.marks)
        last(lower)


class _Scan:
    def __init__(self, lower: Lower, taker: Taker, note: Note) -> None:
        self._lower = lower
        self._taker = taker
        self._note = note

    def run(self, upper: int, marks: Marks) -> Iterator[Change]:
        """The root folder, and all beneath."""
        open_now = [_Folder("", self._lower.root, self._lower.root)]
        yield from self._root(upper, marks)
        failed = self._failed
        for entry in walk(upper, "", failed, marks=marks):
            parent = entry.path[: -len(entry.name) - 1]
            while open_now[-1].path != parent:
                open_now.pop()
            folder = open_now[-1]
            if is_whiteout(entry):
                yield from self._deleted(entry, folder)
            elif entry.kind == "directory":
                here = self._folder(entry, folder)
                open_now.append(here)
                yield from self._directory(entry, folder, here)
            else:
                yield from self._other(entry, folder)
            if entry.problem:
                self._note(entry.path, entry.problem)

    def _failed(self, path: str, error: OSError) -> None:
        self._note(path, f"can't be read: {error.strerror}")

    def _root(self, upper: int, marks: Marks) -> Iterator[Change]:
        """A change of the root folder's own owner, mode or attributes."""
        top = self._lower.top()
        entry = Entry("/", ".", upper, os.fstat(upper), marks)
        if top is not None and differ(before := facts_of(top), after := facts_of(entry)):
            self._taker.take(entry)
            yield Change("/", "changed", before, after)

    def _folder(self, entry: Entry, folder: _Folder) -> _Folder:
        image = self._lower.find(folder.image, entry.path, entry.name) if folder.image else None
        own = image.below if image else ()
        if is_opaque(entry):
            return _Folder(entry.path, (), own, cut=True)
        redirect, merged = redirect_of(entry), own
        if redirect or folder.merged != folder.image:
            hit = self._lower.find(folder.merged, entry.path, entry.name, redirect)
            merged = hit.below if hit else ()
        return _Folder(entry.path, merged, own, cut=folder.cut or merged != own)

    def _deleted(self, entry: Entry, folder: _Folder) -> Iterator[Change]:
        before = self._lower.find(folder.image, entry.path, entry.name)
        self._taker.whiteout(entry.path)
        if before is not None:
            yield from self._gone(before)

    def _gone(self, hit: Hit) -> Iterator[Change]:
        """What the image had under a name, and all that lay beneath it."""
        path, below = hit.entry.path, hit.below
        self._taker.original(hit.entry)
        yield Change(path, "deleted", self._facts(hit), None)
        yield from self._beneath(path, below)

    def _beneath(self, path: str, below: Places) -> Iterator[Change]:
        """What a folder of the image held that is gone: one whiteout hides all of it, and must not hide it from a reader."""
        if not below:
            return
        try:
            for hit in walk_lower(self._lower, below, path, self._lower.names(below)):
                self._taker.original(hit.entry)
                yield Change(hit.entry.path, "deleted", self._facts(hit), None)
        except OSError as error:
            self._failed(path, error)

    def _directory(self, entry: Entry, folder: _Folder, here: _Folder) -> Iterator[Change]:
        redirect = redirect_of(entry)
        if entry.marks.get(entry.xattrs(), "redirect") is not None and not redirect:
            self._note(
                entry.path,
                "the overlay's redirect of this folder is not of a known form: only its upper part was taken",
            )
        emptied = is_opaque(entry) and bool(self._lower.names(here.image))
        yield from self._change(entry, folder, redirect if here.cut else "", emptied)
        if not here.cut:
            return
        if is_opaque(entry) or (here.image and not folder.cut):
            self._taker.opaque(entry.path)
        own = self._names(entry)
        inherited = [name for name in self._lower.names(here.merged) if name not in own]
        visible = {name for name, hidden in own.items() if not hidden}.union(inherited)
        for name in self._lower.names(here.image):
            if name not in visible and name not in own:  # a whiteout says so itself
                hit = self._lower.find(here.image, f"{entry.path}/{name}", name)
                if hit is not None:
                    yield from self._gone(hit)
        yield from self._inherited(here, inherited)

    def _names(self, entry: Entry) -> dict[str, bool]:
        """The names in a folder of the upper directory, and whether each is a whiteout."""
        try:
            with open_folder(entry.folder, entry.name) as inner:
                found = {}
                for name in os.listdir(inner):  # noqa: PTH208 - by descriptor
                    info = os.stat(name, dir_fd=inner, follow_symlinks=False)
                    found[name] = is_whiteout(Entry(f"{entry.path}/{name}", name, inner, info, entry.marks))
                return found
        except OSError:
            return {}  # the walk itself meets the same error and notes it

    def _inherited(self, here: _Folder, names: list[str]) -> Iterator[Change]:
        """What a renamed folder holds only in the lower layers: taken, so that the tree can be rebuilt from the tar."""
        there = set()
        try:
            for hit in walk_lower(self._lower, here.merged, here.path, names):
                digest = self._taker.take(hit.entry)
                path, after = hit.entry.path, facts_of(hit.entry, digest)
                there.add(path)
                before = self._before(here, path)
                if before is None:
                    yield Change(path, "added", None, after)
                elif differ(before, after):
                    yield Change(path, "changed", before, after)
            for hit in walk_lower(self._lower, here.image, here.path, names) if here.image else ():
                if hit.entry.path not in there:
                    yield Change(hit.entry.path, "deleted", self._facts(hit), None)
        except OSError as error:
            self._failed(here.path, error)

    def _before(self, here: _Folder, path: str) -> FileFacts | None:
        """What the image has under a name beneath a folder."""
        places, parent, hit = here.image, here.path, None
        for part in path[len(here.path) + 1 :].split("/"):
            hit = self._lower.find(places, f"{parent}/{part}", part) if places else None
            if hit is None:
                return None
            places, parent = hit.below, f"{parent}/{part}"
        return self._facts(hit) if hit is not None else None

    def _other(self, entry: Entry, folder: _Folder) -> Iterator[Change]:
        if is_metacopy(entry):
            entry.data = self._lower.data_of(entry, folder.merged)
            entry.lost = entry.data is None
        yield from self._change(entry, folder, "")

    def _change(self, entry: Entry, folder: _Folder, moved_from: str, opaque: bool = False) -> Iterator[Change]:
        after = facts_of(entry, self._taker.take(entry))
        found = self._lower.find(folder.image, entry.path, entry.name) if folder.image else None
        if found is None:
            yield Change(entry.path, "added", None, after, moved_from=moved_from)
            return
        self._taker.original(found.entry)
        before = self._facts(found)
        if moved_from or opaque or differ(before, after):
            yield Change(entry.path, "changed", before, after, moved_from=moved_from, opaque=opaque)
        if after.kind != "directory":
            yield from self._beneath(entry.path, found.below)

    def _facts(self, hit: Hit) -> FileFacts:
        return facts_of(hit.entry, self._taker.digest(hit.entry))


def differ(before: FileFacts, after: FileFacts) -> bool:
    """Whether anything but bookkeeping differs: a folder's times, sizes and link counts follow its contents."""
    if before.kind == after.kind == "directory":
        before, after = (replace(one, size=0, mtime_ns=0) for one in (before, after))
    before, after = (replace(one, ctime_ns=0, atime_ns=0, btime_ns=0, nlink=1) for one in (before, after))
    return before != after
