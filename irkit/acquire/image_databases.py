"""The package databases of an image, for targets of one command that were made from it: looked up once, stored by each.

What was found for one target is true for the next one while all that was looked at is as it was: every folder that was
searched and every name that was found, by device, inode, size and times (:mod:`irkit.acquire.image_files` says why that
is enough).  A layer without any of the folders in question, as the one that Docker makes for each container, plays no part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from irkit.acquire.beneath import Entry
from irkit.acquire.image_files import ImageFiles
from irkit.acquire.lower import Lower, Place, Stamp, Trace, stamp
from irkit.acquire.package_files import Places, at, keep
from irkit.acquire.taker import TarTaker

GapNote = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Databases:
    """What was found, and what was looked at for it; layers are numbered among those that play a part.

    ``files``: each path with its member of a tar, or with none where it must be read again.
    """

    folders: Mapping[Place, Stamp]
    names: Mapping[tuple[Place, str], Stamp]
    files: tuple[tuple[str, bytes | None], ...]

    def stand(self, lower: Lower, layers: tuple[int, ...]) -> bool:
        """Whether all that was looked at is as it was."""
        for (layer, path), was in self.folders.items():
            folder = lower.folder(layers[layer], path)
            if folder is None or stamp(os.fstat(folder)) != was:
                return False
        try:
            return all(
                _name(lower, layers[layer], path, name) == was for ((layer, path), name), was in self.names.items()
            )
        except OSError:
            return False


def keep_databases(lower: Lower, places: Places, originals: TarTaker, known: ImageFiles | None, gap: GapNote) -> None:
    """:func:`keep` into ``originals``; of an image that is known, by what is known of it."""
    if known is None:
        keep(lower, places, originals.keep_always, gap)
        return
    heads = places.heads()
    layers = tuple(number for number, _ in lower.root if _has_any(lower, number, heads))
    key = (tuple(_identity(lower, number) for number in layers), lower.marks, places.key)
    found = known.databases.get(key)
    if found is None or not found.stand(lower, layers) or not _store(lower, found, originals):
        made = _look(lower, places, originals, known, gap, layers)
        if made is not None:
            known.databases[key] = made


def _store(lower: Lower, found: Databases, originals: TarTaker) -> bool:
    """Whether all of it could be stored; what could not is for a look of its own, which passes over what is stored."""
    held = {path: member for path, member in found.files if member is not None}
    if held and not originals.keep_members(held, b"".join(held.values())):
        return False
    for path in (path for path, member in found.files if member is None):
        hit = at(lower, path)
        if hit is None:
            return False
        originals.keep_always(hit.entry)
    return True


def _look(
    lower: Lower, places: Places, originals: TarTaker, known: ImageFiles, gap: GapNote, layers: tuple[int, ...]
) -> Databases | None:
    """:func:`keep`, and what it found; ``None`` when that is not the whole truth of the image."""
    files: list[tuple[str, bytes | None]] = []
    trace = lower.trace = Trace()

    def take(entry: Entry) -> None:
        trace.whole = originals.keep_always(entry) and trace.whole
        files.append((entry.path, known.find(entry)))

    def missed(path: str, why: str) -> None:
        trace.whole = False
        gap(path, why)

    try:
        keep(lower, places, take, missed)
    finally:
        lower.trace = None
    number = {layer: place for place, layer in enumerate(layers)}
    if not trace.whole or len({path for path, _ in files}) != len(files):
        return None
    return Databases(
        {(number[layer], path): was for (layer, path), was in trace.folders.items() if layer in number},
        {((number[layer], path), name): was for ((layer, path), name), was in trace.names.items() if layer in number},
        tuple(files),
    )


def _name(lower: Lower, layer: int, path: str, name: str) -> Stamp | None:
    """Raises ``OSError``."""
    folder = lower.folder(layer, path)
    return None if folder is None else stamp(os.stat(name, dir_fd=folder, follow_symlinks=False))


def _has_any(lower: Lower, layer: int, heads: set[str]) -> bool:
    folder = lower.folder(layer, "")
    return folder is None or any(_there(folder, name) for name in heads)


def _there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _identity(lower: Lower, layer: int) -> tuple[int, int]:
    folder = lower.folder(layer, "")
    info = os.fstat(folder) if folder is not None else None
    return (info.st_dev, info.st_ino) if info is not None else (-1, -1)
