"""Volumes and bind mounts by choice, with limits: read beneath their own folder, never followed out of it.

A bind mount of a folder that is the host's rather than the container's (``/``, ``/etc``, the engine's own, a socket) is
taken only when it is named.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from irkit.acquire.attributes import NO_OVERLAY
from irkit.acquire.beneath import Entry, facts_of, open_folder, walk
from irkit.acquire.filesystem import LAYER_TYPE, LINES_TYPE, Notes, finish
from irkit.acquire.host import HostView
from irkit.acquire.layers import find_layers
from irkit.acquire.taker import TarTaker
from irkit.acquire.volume_image import acquire_volume_image
from irkit.engine.interface import Container, Engine
from irkit.evidence.writer import BundleWriter, Origin
from irkit.host_paths import HostPaths, of_engine
from irkit.models import Change
from irkit.mounts import followed, seen_at, seen_through, volumes_of
from irkit.text import text_fields

COLLECTOR = "volumes"
OF_THE_IMAGE = "what the image has in volumes"
"""Of a gap that is no lack of a volume's own files: only what they are compared with."""
TYPES = ("volume", "bind")
HOSTS_OWN = (
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/boot",
    "/etc",
    "/usr",
    "/var/lib/docker",
    "/var/lib/containerd",
)
"""Folders of a host that no container calls its own, and all that lies in them."""
SHALLOW = 1
"""A bind mount of ``/`` or of a folder directly in it (``/home``, ``/var``) is the host."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to take.  ``names``: only these (a volume's name, a source or a destination), else every volume, and every
    bind mount that isn't the host's own.  ``limit_bytes`` and ``limit_files``: of all together."""

    limit_bytes: int
    limit_files: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mounted:
    """One of ``Mounts`` of an inspect document."""

    type: str
    name: str
    source: str
    destination: str
    writable: bool

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Mounted:
        """From inspect."""
        text = {key: str(raw.get(key) or "") for key in ("Type", "Name", "Source", "Destination")}
        return cls(text["Type"], text["Name"], text["Source"], text["Destination"], bool(raw.get("RW")))

    def to_json(self) -> dict[str, Any]:
        """In ``volumes/index.json``."""
        return {
            "type": self.type, "name": self.name, **text_fields("source", self.source),
            **text_fields("destination", self.destination), "writable": self.writable,
        }  # fmt: skip


def refusal(mount: Mounted, choice: Choice, engine_root: str, device: str = "") -> str:
    """Why a mount is not taken; empty when it is.

    ``device``: what of the host a volume shows, or where a bind mount's source leads (:mod:`irkit.mounts`).
    """
    named = any(one in choice.names for one in (mount.name, mount.source, mount.destination) if one)
    if named:
        return ""
    if choice.names:
        return "the profile does not name it"
    if mount.type not in TYPES:
        return f"a mount of the type {mount.type!r} has no folder on the host"
    if mount.type == "volume" and not device.startswith("/"):
        return ""
    source = os.path.normpath(device or mount.source)
    parts = [part for part in source.split("/") if part]
    if len(parts) <= SHALLOW:
        return "it is a folder of the host's own: name it in the profile to take it all the same"
    for folder in (*HOSTS_OWN, engine_root):
        if folder and (within(source, folder) or within(folder, source)):
            return f"it holds {folder} of the host or lies in it: name it in the profile to take it all the same"
    return ""


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, by their text."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def acquire_volumes(
    engine: Engine, before: Container, view: HostView | None, writer: BundleWriter, choice: Choice
) -> int:  # fmt: skip
    """Write ``volumes/N.tar``, ``volumes/N.jsonl`` and ``volumes/index.json``; how many entries were taken."""
    root, host = engine.info().root_dir, of_engine(engine.endpoint)
    rows: list[dict[str, Any]] = []
    state = _State(choice.limit_bytes, choice.limit_files)
    with Notes(writer, COLLECTOR) as note:
        for number, raw in enumerate(before.raw.get("Mounts") or ()):
            mount = Mounted.of(raw)
            if mount.type == "tmpfs":
                continue  # the tmpfs collector's
            row: dict[str, Any] = {
                "number": number,
                **mount.to_json(),
                "taken": False,
                "whole": False,
                "why": "",
                "entries": 0,
            }
            rows.append(row)
            row["why"] = next(
                filter(None, (refusal(mount, choice, root, one) for one in _shows(engine, host, raw))), ""
            )
            if row["why"]:
                note(f"{mount.destination} ({mount.name or mount.source})", row["why"])
                continue
            try:
                with _opened(mount, view, engine.local) as (folder, name, how):
                    row["how"] = how
                    found = _entries(folder, mount.destination.rstrip("/"), name, note)
                    row["entries"] = _take(found, mount, number, writer, state, note)
                    row["taken"], row["whole"] = True, state.files_left > 0
            except OSError as error:
                row["why"] = f"can't be read: {error.strerror or error}"
                note(f"{mount.destination} ({mount.name or mount.source})", row["why"])
        _image(engine, before, view, writer, rows, note)
    writer.add_json(
        "volumes/index.json",
        {"schema": "irkit.volumes/v1", "mounts": rows},
        Origin(COLLECTOR, f"container {before.id}", "engine API: inspect"),
    )
    return sum(int(row["entries"]) for row in rows)


def _image(
    engine: Engine, before: Container, view: HostView | None, writer: BundleWriter, rows: list[dict[str, Any]],
    note: Callable[[str, str], None],
) -> None:  # fmt: skip
    """What the image has where volumes that were taken are mounted: without it, all that is in them counts as added."""
    points = [str(row["destination"]).rstrip("/") for row in rows if row["taken"] and row["type"] == "volume"]
    if not points:
        return
    layers = find_layers(before, view, engine)
    try:
        if not isinstance(layers, str):
            acquire_volume_image(layers, before, points, writer, note)
            return
    except OSError as error:
        layers = f"the image's layers can't be read: {error.strerror or error}"
    note(OF_THE_IMAGE, f"{layers}: all that is in them counts as added")


def _shows(engine: Engine, host: HostPaths | str, raw: Mapping[str, Any]) -> list[str]:
    """What of the host a mount shows, by name and by where links lead; one empty string for a volume of its own.

    Not by the container's own mount table: with CAP_SYS_ADMIN it could have a folder passed over.
    """
    rows = seen_through([raw], volumes_of(engine, [raw]))
    there = [*rows, *followed(rows, partial(seen_at, host, None))]
    return sorted({str(one.get("Source") or "") for one in there if one.get("Type") == "bind"}) or [""]


@dataclass(slots=True)
class _State:
    """What may still be taken, over all mounts together."""

    bytes_left: int
    files_left: int


@contextmanager
def _opened(mount: Mounted, view: HostView | None, local: bool) -> Iterator[tuple[int, str, str]]:
    """The mount's folder, the one name in it that is mounted (or none: all of it), and how it was reached.

    No component of the host's path may be a link: where one bind mount lies inside another, a container could make it
    one.  The container's own root comes second.  Raises ``OSError``.
    """
    with ExitStack() as stack:
        if local:
            above, _, name = mount.source.rstrip("/").rpartition("/")
            try:
                folder = stack.enter_context(open_folder("/", above))
                whole = not name or not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
                folder = stack.enter_context(open_folder("/", mount.source)) if whole else folder
            except OSError:
                if view is None:
                    raise
            else:
                yield folder, "" if whole else name, "host-side read of its folder"
                return
        if view is None:
            raise OSError("the engine runs on another host, and the container's root can't be seen from here")
        yield (
            stack.enter_context(open_folder(view.root, mount.destination)),
            "",
            "host-side read beneath the container's root",
        )


def _take(
    found: Iterator[Entry],
    mount: Mounted,
    number: int,
    writer: BundleWriter,
    state: _State,
    note: Callable[[str, str], None],
) -> int:
    origin = Origin(COLLECTOR, f"{mount.type} mount {number}", "host-side read beneath its folder", LAYER_TYPE)
    lines_origin = Origin(COLLECTOR, origin.source, origin.method, LINES_TYPE)
    with (
        writer.sink(f"volumes/{number}.jsonl", lines_origin, threads=True) as lines,
        writer.sink(f"volumes/{number}.tar", origin, threads=True) as sink,
    ):
        taker = TarTaker(sink, note, state.bytes_left, checkpoint=writer.checkpoint)
        count = 0
        for entry in found:
            if state.files_left <= 0:
                note(entry.path, "the profile allows no more files: what comes after it was not taken or listed")
                break
            state.files_left -= 1
            change = Change(entry.path, "added", None, facts_of(entry, taker.take(entry)), origin="volume")
            lines.write(json.dumps(change.to_json(), separators=(",", ":")).encode() + b"\n")
            if entry.problem:
                note(entry.path, entry.problem)
            count += 1
        finish(taker, sink)
        state.bytes_left = taker.left
    return count


def _entries(folder: int, point: str, name: str, note: Callable[[str, str], None]) -> Iterator[Entry]:
    """The folder itself, and all beneath it that is on its device; or the one file that is mounted."""
    if name:
        yield Entry(point, name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False), NO_OVERLAY)
        return
    info = os.fstat(folder)
    yield Entry(point, ".", folder, info, NO_OVERLAY)
    yield from walk(
        folder,
        point,
        lambda path, error: note(path, f"can't be read: {error.strerror}"),
        info.st_dev,
        NO_OVERLAY,
        lambda path: note(path, "something else is mounted there: not followed"),
    )
