"""Where a container's layers lie on this host.

The engine's word comes first.  Where it names none (containerd image store), the mount tables of the engine's side
do; never the container's own, to which an attacker with CAP_SYS_ADMIN can add folders of the host's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from irkit.acquire.attributes import OVERLAY, TRUSTED, USER, Marks
from irkit.acquire.host import PROC, HostView, Mount, all_pids, parse_mountinfo, read_text
from irkit.engine.interface import Container


@dataclass(frozen=True, slots=True)
class Layers:
    """The host's folders of one container: ``lower`` from the top downwards; ``marks``: the overlay's own attributes."""

    upper: str
    lower: tuple[str, ...]
    source: str
    marks: Marks = OVERLAY


def find_layers(container: Container, view: HostView | None) -> Layers | str:
    """The layers on this host, or why they can't be read."""
    data = container.graph_data
    mount = rootfs_mount(container, view) if view is not None or not data.get("UpperDir") else None
    marks = Marks(USER if mount is not None and "userxattr" in mount.options else TRUSTED)
    if data.get("UpperDir"):
        upper = data["UpperDir"]
        if not Path(upper).is_dir():
            return f"{upper} is not readable here: the engine runs on another host, or irkit lacks rights"
        return Layers(
            upper, tuple(filter(None, data.get("LowerDir", "").split(":"))), "GraphDriver of the engine", marks
        )
    if mount is None or "upperdir" not in mount.options:
        return (
            "its storage is not an overlay that can be read from here: the engine names no folder, and none is mounted"
        )
    upper = mount.options["upperdir"]
    if not Path(upper).is_dir():
        return f"{upper} is not readable here: irkit lacks rights, or the engine has a root folder of its own"
    lower = tuple(_absolute(one, upper) for one in split_lower(mount.options.get("lowerdir", "")))
    return Layers(upper, lower, f"the engine's mount at {mount.point}", marks)


def split_lower(option: str) -> list[str]:
    """The folders of ``lowerdir``, the top first: colons between them, ``::`` before data-only ones, ``\\:`` in names."""
    found, current, escaped = [], "", False
    for char in option:
        if escaped or char not in "\\:":
            current, escaped = current + char, False
        elif char == "\\":
            escaped = True
        else:
            found.append(current)
            current = ""
    return [one for one in (*found, current) if one]


def _absolute(path: str, upper: str) -> str:
    """A mount with very many layers names them relative to a folder above the upper directory."""
    if path.startswith("/"):
        return path
    return next((str(one / path) for one in Path(upper).parents if (one / path).is_dir()), path)


def rootfs_mount(container: Container, view: HostView | None) -> Mount | None:
    """The overlay that the engine mounted for the container: its mount point names the container's id."""
    own = set(view.pids()) if view is not None else set()
    for mount in _engine_mounts(own, container.id):
        if mount.fstype == "overlay" and container.id in mount.point.split("/"):
            return mount
    return None


def _engine_mounts(but: set[int], name: str) -> Iterator[Mount]:
    """The mounts that ``name`` stands in, of every mount namespace whose processes share irkit's pid namespace."""
    mine = _link(f"{PROC}/self/ns/pid")
    seen = set()
    for pid in (os.getpid(), 1, *all_pids()):
        if pid in but:
            continue
        namespace = _link(f"{PROC}/{pid}/ns/mnt")
        if not namespace or namespace in seen or _link(f"{PROC}/{pid}/ns/pid") != mine:
            continue
        seen.add(namespace)
        yield from parse_mountinfo(read_text(f"{PROC}/{pid}/mountinfo"), name)


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""
