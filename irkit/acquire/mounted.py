"""The overlay that the engine mounted for a container, as the mount tables of the engine's side show it.

A running container's is always there.  Of a stopped one the engine mounts it only while it answers a call about its
files.  So such a call is begun, the tables are looked at meanwhile, and the call is broken off.  The engine's mount
point names the container's id, so that nothing else that it mounts at the same time can be taken for it.  irkit mounts
nothing: a second overlay with the same upper directory would corrupt a container that is started meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial

from irkit.acquire.host import PROC, HostView, Mount, link_of, parse_mountinfo, read_text
from irkit.acquire.spaces import spaces
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError

OVERLAYS = ("overlay", "stargz", "soci", "nydus")
"""Storage drivers and containerd snapshotters whose mounts are overlays have one of these in their names."""
EXPORTS = 2
"""An export is remembered as an event, of which the engine keeps only some hundreds."""
COMPARISONS = 30
"""A call for the list of changes leaves no event, but its mount ends with it: seen in about one of three."""
PATIENCE = 10.0
"""Seconds for all calls together, and for one of them to answer."""
LINGER = 0.25
"""Seconds that an export is kept open: what is longer than the socket's buffer (some 200 KB) waits there for a reader."""
HELD = 4 * 1024 * 1024
"""Bytes that no buffers between the engine and irkit hold."""


def standing(container_id: str, view: HostView | None) -> Mount | None:
    """The overlay that is mounted for the container now."""
    own = frozenset(view.pids()) if view is not None else frozenset()
    return _of(container_id, engine_mounts(own, container_id))


def fleeting(engine: Engine, container: Container) -> Mount | None:
    """The overlay that the engine mounts while it answers about a container that is not running.

    ``None``: it was not seen, the engine is on another host, it refuses, or irkit may not read other processes' mounts.
    """
    driver = str(container.raw.get("Driver") or "")
    if not engine.local or os.geteuid() != 0 or not any(name in driver for name in OVERLAYS):
        return None
    end = time.monotonic() + PATIENCE
    with suppress(EngineError):
        for call in (*[_exported] * EXPORTS, *[_compared] * COMPARISONS):
            watch = _Watch(container.id)
            worth = watch.during(partial(call, engine, container.id))
            if watch.found is not None or not worth or time.monotonic() > end:
                return watch.found
    return None


def _exported(engine: Engine, container_id: str, seen: threading.Event) -> bool:
    """Begin an export and hold it; whether another call may show what this one did not."""
    stream = engine.export(container_id, PATIENCE)
    try:
        size = len(next(stream, b""))  # the engine has mounted it now
        if seen.wait(LINGER):
            return True
        for chunk in stream:
            size += len(chunk)
            if size > HELD:
                return False  # it was held all the while, in a mount table that can't be seen from here
        return True
    finally:
        if isinstance(stream, Generator):
            stream.close()  # the engine breaks off, and unmounts


def _compared(engine: Engine, container_id: str, _: threading.Event) -> bool:
    engine.changes(container_id)
    return True


class _Watch:
    """Looks at the mount tables again and again, in a thread, while a call runs."""

    def __init__(self, container_id: str) -> None:
        self.found: Mount | None = None
        self.seen = threading.Event()
        self._id = container_id
        self._ended = False
        self._tables = [f"{PROC}/{pid}/mountinfo" for pid in namespaces(frozenset())]

    def during(self, call: Callable[[threading.Event], bool]) -> bool:
        """What the call gives; raises what it raises."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            return call(self.seen)
        finally:
            self._ended = True
            thread.join()

    def _look(self) -> None:
        while not self._ended:
            for table in self._tables:
                text = read_text(table)
                if self._id in text:
                    self.found = _of(self._id, parse_mountinfo(text, self._id))
                if self.found is not None:
                    self.seen.set()
                    return


def _of(container_id: str, mounts: Iterator[Mount] | tuple[Mount, ...]) -> Mount | None:
    for mount in mounts:
        if mount.fstype == "overlay" and container_id in mount.point.split("/"):
            return mount
    return None


def engine_mounts(but: frozenset[int], name: str) -> Iterator[Mount]:
    """The mounts that ``name`` stands in, of every mount namespace of the engine's side."""
    for pid in namespaces(but):
        yield from parse_mountinfo(read_text(f"{PROC}/{pid}/mountinfo"), name)


def namespaces(but: frozenset[int]) -> Iterator[int]:
    """A process of each mount namespace whose processes share irkit's pid namespace; ``but``: the container's own."""
    mine = link_of(f"{PROC}/self/ns/pid")
    first = {os.getpid(), 1}
    for some in sorted(spaces("mnt").pids.values(), key=first.isdisjoint):
        for pid in some:
            if pid not in but and link_of(f"{PROC}/{pid}/ns/pid") == mine:
                yield pid
                break
