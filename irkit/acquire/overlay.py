"""What a container changed on disk, from the overlay's upper directory against the lower ones.

Kernel: Documentation/filesystems/overlayfs.rst.  A whiteout is a character device 0:0; an opaque folder carries the
xattr ``trusted.overlay.opaque`` (``user.overlay.opaque`` in a user namespace).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from irkit.acquire.beneath import Entry, facts_of, lookup, open_folder, sha256_of, walk
from irkit.acquire.host import HostView
from irkit.acquire.taker import Taker
from irkit.engine.interface import Container
from irkit.models import Change, FileFacts

OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
REDIRECTS = (
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.redirect",
    "user.overlay.metacopy",
)


@dataclass(frozen=True, slots=True)
class Layers:
    """The host's folders of one container: ``lower`` from the top downwards."""

    upper: str
    lower: tuple[str, ...]
    source: str


def find_layers(container: Container, view: HostView | None) -> Layers | str:
    """The layers on this host, or why they can't be read.

    The engine's word comes first; the container's own mount table, which an attacker with CAP_SYS_ADMIN can add to,
    only when the engine names none (containerd image store).
    """
    data = container.graph_data
    if data.get("UpperDir"):
        layers = Layers(
            data["UpperDir"],
            tuple(filter(None, data.get("LowerDir", "").split(":"))),
            "GraphDriver of the engine",
        )
        return (
            layers
            if Path(layers.upper).is_dir()
            else f"{layers.upper} is not readable here: the engine runs on another host, or irkit lacks rights"
        )
    for mount in view.mounts if view else ():
        if mount.point == "/" and mount.fstype == "overlay" and "upperdir" in mount.options:
            lower = tuple(mount.options.get("lowerdir", "").split(":"))
            return Layers(mount.options["upperdir"], lower, "mountinfo of the container")
        if mount.point == "/":
            break
    return "its storage driver is not an overlay that can be read from here"


class Lower:
    """The read-only layers, merged as the kernel would."""

    def __init__(self, folders: list[int]) -> None:
        self._folders = folders

    def facts(self, path: str, digest: bool = True, see: Callable[[Entry], None] | None = None) -> FileFacts | None:
        """What lay at ``path`` before; ``see`` is shown the entry while its folder is open."""
        for folder in self._folders:
            hidden = False
            for entry in lookup(folder, path):
                if entry is None:
                    break
                if is_whiteout(entry):
                    return None
                if entry.path == path:
                    if see is not None:
                        see(entry)
                    return facts_of(entry, sha256_of(entry) if digest and entry.kind == "file" else "")
                if entry.kind != "directory":
                    return None
                hidden = hidden or is_opaque(entry)
            if hidden:
                return None
        return None

    def children(self, path: str) -> list[str]:
        """The names in the merged folder ``path``."""
        found: dict[str, bool] = {}
        for folder in self._folders:
            try:
                with open_folder(folder, path) as inner:
                    for name in sorted(os.listdir(inner)):  # noqa: PTH208 - by descriptor
                        info = os.stat(name, dir_fd=inner, follow_symlinks=False)
                        found.setdefault(name, not (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0))
            except OSError:
                continue
        return sorted(name for name, visible in found.items() if visible and self.facts(f"{path}/{name}", digest=False))


def is_whiteout(entry: Entry) -> bool:
    """A character device 0:0."""
    return stat.S_ISCHR(entry.info.st_mode) and entry.info.st_rdev == 0


def is_opaque(entry: Entry) -> bool:
    """A folder that hides what lies below."""
    if entry.kind != "directory":
        return False
    attributes = entry.xattrs()
    return any(attributes.get(name) == b"y" for name in OPAQUE)


@contextmanager
def _opened(layers: Layers, note: Callable[[str, str], None]) -> Iterator[tuple[int, Lower]]:
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
        yield upper, Lower(folders)


def scan(layers: Layers, taker: Taker, note: Callable[[str, str], None]) -> Iterator[Change]:
    """Every difference between the container's disk and its image, in order of path; each file is read once.

    ``note`` is told what could not be read and why.  Raises ``OSError`` when the upper folder itself can't be opened.
    """
    with _opened(layers, note) as (upper, lower):
        for entry in walk(upper, "", lambda path, error: note(path, f"can't be read: {error.strerror}")):
            yield from _changes_of(entry, lower, taker, note)


def _changes_of(entry: Entry, lower: Lower, taker: Taker, note: Callable[[str, str], None]) -> Iterator[Change]:
    if is_whiteout(entry):
        taker.whiteout(entry.path)
        before = lower.facts(entry.path)
        if before is not None:
            yield Change(entry.path, "deleted", before, None)
        return
    if entry.kind == "directory" and is_opaque(entry):
        taker.opaque(entry.path)
        yield from _hidden_by(entry, lower)
    if any(name in REDIRECTS for name in entry.xattrs()):
        note(
            entry.path,
            "the overlay redirects this name (redirect or metacopy): only the upper part was taken",
        )
    after = facts_of(entry, taker.take(entry))
    before = lower.facts(entry.path, see=taker.original)
    if before is None:
        yield Change(entry.path, "added", None, after)
    elif differ(before, after):
        yield Change(entry.path, "changed", before, after)


def _hidden_by(entry: Entry, lower: Lower) -> Iterator[Change]:
    """What an opaque folder hides and does not bring anew, in the folders beneath it as well."""
    try:
        with open_folder(entry.folder, entry.name) as folder:
            own = {
                name: Entry(f"{entry.path}/{name}", name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False))
                for name in os.listdir(folder)  # noqa: PTH208 - by descriptor
            }
            for name in lower.children(entry.path):
                path = f"{entry.path}/{name}"
                if name not in own:
                    yield Change(path, "deleted", lower.facts(path), None)
                elif own[name].kind == "directory" and not is_opaque(own[name]):
                    yield from _hidden_by(own[name], lower)
    except OSError:
        return  # the walk itself meets the same error and notes it


def differ(before: FileFacts, after: FileFacts) -> bool:
    """Whether anything but bookkeeping differs: a folder's times, sizes and link counts follow its contents."""
    if before.kind == after.kind == "directory":
        before, after = (replace(one, size=0, mtime_ns=0) for one in (before, after))
    return replace(before, ctime_ns=0, nlink=1) != replace(after, ctime_ns=0, nlink=1)
