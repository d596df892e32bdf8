"""The filesystem collectors: changed files as an OCI layer with a list of changes, and the contents of tmpfs mounts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from irkit.acquire.attributes import NO_OVERLAY
from irkit.acquire.beneath import facts_of, open_folder, walk
from irkit.acquire.host import HostView, Mount
from irkit.acquire.image_databases import keep_databases
from irkit.acquire.image_files import ImageFiles
from irkit.acquire.layers import Layers
from irkit.acquire.lower import Lower
from irkit.acquire.overlay import scan
from irkit.acquire.package_files import Places, Sources
from irkit.acquire.taker import ORIGINALS_LIMIT, DigestTaker, TarTaker
from irkit.engine.interface import Container
from irkit.errors import StorageError
from irkit.evidence.writer import BundleWriter, Origin, Sink
from irkit.models import Change
from irkit.text import text_fields

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
LINES_TYPE = "application/jsonl"
GAP_LIMIT = 1000
"""What a container has made unreadable in its hundred thousands must not swell the index."""
MASKED = ("/proc", "/sys")
"""The engine covers files here with empty read-only tmpfs mounts (masked paths)."""


class Notes:
    """Gaps of one collector: the first ones in the index, beyond ``GAP_LIMIT`` in a list of their own.

    Called with a path and a reason; used as a context manager, which ends the list.
    """

    def __init__(self, writer: BundleWriter, collector: str) -> None:
        self._writer = writer
        self._collector = collector
        self._stack = ExitStack()
        self._list: Sink | None = None
        self._count = 0

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(None, None, None)
        if self._list is not None:
            more = f"each with its reason in {self._collector}/gaps.jsonl"
            self._writer.gap(self._collector, f"{self._count - GAP_LIMIT} more", more)

    def __call__(self, path: str, why: str) -> None:
        """One more."""
        self._count += 1
        if self._count <= GAP_LIMIT:
            shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            self._writer.gap(self._collector, shown, why)
            return
        if self._list is None:
            origin = Origin(self._collector, "what could not be captured", "one line each", LINES_TYPE)
            self._list = self._stack.enter_context(self._writer.sink(f"{self._collector}/gaps.jsonl", origin))
        with suppress(StorageError):  # said by the writer when the list is closed
            self._list.write(json.dumps({**text_fields("what", path), "why": why}).encode() + b"\n")


def acquire_changes(
    layers: Layers, writer: BundleWriter, limit: int, seen: Callable[[Change], None], known: ImageFiles | None = None
) -> int:
    """Write ``filesystem/layer.tar.zst`` and ``filesystem/changes.jsonl.zst``; how many changes there are.

    ``known``: files of images that were read for other targets of the command.
    """
    collector = "filesystem"
    method = f"host-side read of the upper directory ({layers.source})"
    count = 0
    with (
        Notes(writer, collector) as note,
        writer.sink(
            "filesystem/changes.jsonl",
            Origin(collector, "overlay upper directory against the image's layers", method, LINES_TYPE),
            threads=True,
        ) as lines,
        writer.sink(
            "filesystem/originals.tar",
            Origin(
                collector, "the image's versions of small changed files, and its package databases", method, LAYER_TYPE
            ),
        ) as old,
        writer.sink(
            "filesystem/layer.tar", Origin(collector, "overlay upper directory", method, LAYER_TYPE), threads=True
        ) as sink,
    ):
        originals = TarTaker(old, note, min(limit, ORIGINALS_LIMIT), checkpoint=writer.checkpoint, known=known)
        taker = TarTaker(sink, note, limit, originals, writer.checkpoint)
        places, sources = Places(), Sources()
        kept: list[dict[str, Any]] = []

        def databases(lower: Lower) -> None:
            keep_databases(lower, places, originals, known, note)
            for entry in sources.files(lower):
                kept.append({**text_fields("path", entry.path), "size": entry.size, "mtime_ns": entry.info.st_mtime_ns})

        for change in scan(layers, taker, note, databases):
            places.see(change.path)
            sources.see(change.path)
            _write_line(lines, change)
            seen(change)
            count += 1
        finish(taker, sink)
        originals.close()
    if kept:
        origin = Origin(collector, "the image's sources of bytecode", method, LINES_TYPE)
        with writer.sink("filesystem/sources.jsonl", origin) as lines:
            for row in kept:
                lines.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
    return count


def finish(taker: TarTaker, sink: Sink) -> None:
    """End a tar.  A disk that is full by now costs the tar, which the writer records, and not the list beside it."""
    with suppress(StorageError):
        taker.close()
        sink.close()


def _write_line(sink: Sink, change: Change) -> None:
    sink.write(json.dumps(change.to_json(), separators=(",", ":")).encode() + b"\n")


def live_changes(
    layers: Layers | str, view: HostView | None, note: Callable[[str, str], None], binds: Sequence[str] = ()
) -> Iterator[Change]:
    """The same list without storing anything: for ``irkit diff`` of a container."""
    taker = DigestTaker(note)
    if isinstance(layers, str):
        note("/", layers)
    else:
        yield from scan(layers, taker, note)
    if view is not None:
        for mount in tmpfs_mounts(view, binds):
            yield from _tmpfs_entries(view, mount, taker, note)


def bound(container: Container) -> tuple[str, ...]:
    """Where folders of the host are bound into a container."""
    mounts = container.raw.get("Mounts") or ()
    return tuple(str(one.get("Destination")) for one in mounts if one.get("Type") == "bind")


def _beneath(path: str, folders: Sequence[str]) -> bool:
    return any(path == base or path.startswith(base.rstrip("/") + "/") for base in folders)


def tmpfs_mounts(view: HostView, binds: Sequence[str] = ()) -> Iterator[Mount]:
    """The container's own tmpfs mounts; the engine's masks are left out, and what lies in a bind mount is the host's."""
    seen = set()
    for mount in view.mounts:
        if mount.fstype == "tmpfs" and not _beneath(mount.point, (*MASKED, *binds)) and mount.point not in seen:
            seen.add(mount.point)
            yield mount


def acquire_tmpfs(
    view: HostView, writer: BundleWriter, limit: int, seen: Callable[[Change], None], binds: Sequence[str] = ()
) -> int:
    """Write ``tmpfs/contents.tar.zst`` and ``tmpfs/entries.jsonl.zst``: neither export nor diff ever shows these.

    ``binds``: where folders of the host are bound in; a tmpfs of the host beneath them is a gap.
    """
    collector = "tmpfs"
    mounts = list(tmpfs_mounts(view, binds))
    source = (
        ", ".join(mount.point for mount in mounts)
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )
    origin = Origin(collector, f"tmpfs mounts: {source}", "host-side read beneath the container's root", LAYER_TYPE)
    count = 0
    with (
        Notes(writer, collector) as note,
        writer.sink("tmpfs/entries.jsonl", Origin(collector, origin.source, origin.method, LINES_TYPE)) as lines,
        writer.sink("tmpfs/contents.tar", origin, threads=True) as sink,
    ):
        taker = TarTaker(sink, note, limit, checkpoint=writer.checkpoint)
        for mount in view.mounts:
            if mount.fstype == "tmpfs" and _beneath(mount.point, binds):
                note(
                    mount.point,
                    "a tmpfs of the host, bound into the container: only the volumes collector takes it, by name",
                )
        for mount in mounts:
            for change in _tmpfs_entries(view, mount, taker, note):
                _write_line(lines, change)
                seen(change)
                count += 1
        finish(taker, sink)
    return count


def _tmpfs_entries(
    view: HostView, mount: Mount, taker: DigestTaker | TarTaker, note: Callable[[str, str], None]
) -> Iterator[Change]:
    import os

    def failed(path: str, error: OSError) -> None:
        note(path, f"can't be read: {error.strerror}")

    point = mount.point.rstrip("/")
    try:
        with open_folder(view.root, point) as folder:
            device = os.fstat(folder).st_dev
            for entry in walk(folder, point, failed, device, NO_OVERLAY):
                if not _runtime_made(entry.path, entry.kind):
                    yield Change(entry.path, "added", None, facts_of(entry, taker.take(entry)), origin="tmpfs")
                    if entry.problem:
                        note(entry.path, entry.problem)
    except OSError as error:
        failed(point or "/", error)


_DEV_NODES = frozenset(
    {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "console",
        "ptmx",
        "stdin",
        "stdout",
        "stderr",
        "fd",
        "core",
        "fuse",
    }
)


def _runtime_made(path: str, kind: str) -> bool:
    """The links, nodes and mount points that the runtime puts into every container's ``/dev`` (OCI runtime-spec, "Default Devices")."""
    name = path.removeprefix("/dev/")
    if name in _DEV_NODES:
        return kind in ("char", "symlink")
    return path in ("/dev/shm", "/dev/mqueue", "/dev/pts") and kind == "directory"  # noqa: S108
