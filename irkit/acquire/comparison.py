"""What a comparison of a live container needs, as an unsealed bundle: the same that a sealed one would hold.

Taken by the same collectors as evidence is, so that `irkit diff NAME` and `irkit diff BUNDLE` can't differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from irkit.acquire.engine_files import acquire_engine_files
from irkit.acquire.engine_state import acquire_volume_records
from irkit.acquire.export import acquire_by_api
from irkit.acquire.filesystem import acquire_changes, acquire_tmpfs, bound
from irkit.acquire.host import HostView, locate
from irkit.acquire.layers import find_layers
from irkit.acquire.mapped import acquire_mapped
from irkit.acquire.netstate import acquire_network
from irkit.acquire.processes import acquire_processes
from irkit.acquire.volumes import Choice, acquire_volumes
from irkit.clock import now
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError
from irkit.evidence import names
from irkit.evidence.writer import BundleWriter, Origin
from irkit.models import Change

CONTENT_LIMIT = 4 * 1024 * 1024 * 1024
"""Bytes of changed files whose contents are looked at; those over it have their digest, and are a gap."""
VOLUMES = Choice(1024 * 1024 * 1024, 200_000)


def acquire_comparison(
    engine: Engine, container: Container, writer: BundleWriter, seen: Callable[[Change], None], *, volumes: bool = True
) -> None:  # fmt: skip
    """Fill ``writer`` with changes, tmpfs, volumes, processes, sockets and the engine's two documents, and its index.

    The container may be running, frozen or stopped; of a stopped one there is only what is on disk, and that is a gap.
    ``seen`` is told each change on disk and in tmpfs as it is read.
    Raises ``StorageError``.
    """
    origin = Origin("engine-state", f"container {container.id}", "engine API: inspect")
    writer.add_json("engine/container-before.json", container.raw, origin)
    try:
        writer.add_json("engine/image.json", engine.image(container.image_id).raw, origin)
    except EngineError as error:
        writer.gap("engine-state", "the image", error.message)
    acquire_volume_records(engine, container, writer)
    acquire_engine_files(container, engine.local, writer)
    view = locate(container)
    there = view if isinstance(view, HostView) else None
    layers = find_layers(container, there, engine)
    if isinstance(layers, str):
        acquire_by_api(engine, container, writer, CONTENT_LIMIT, layers)
    else:
        acquire_changes(layers, writer, CONTENT_LIMIT, seen)
    if not isinstance(view, HostView):
        writer.gap("processes", "processes, sockets and tmpfs", view)
    else:
        _alive(view, container, writer, seen)
    if volumes and container.raw.get("Mounts"):
        acquire_volumes(engine, container, there, writer, VOLUMES)
    target = {"id": container.id, "name": container.name, "image": container.image_ref, "image_id": container.image_id}
    facts = {"target": {**target, "engine": engine.endpoint}, "taken": now()}
    writer.put(names.INDEX, json.dumps(writer.index(facts)).encode())


def _alive(view: HostView, container: Container, writer: BundleWriter, seen: Callable[[Change], None]) -> None:
    with suppress(ProcessLookupError):  # it ended meanwhile: each collector says what it missed
        rows = acquire_processes(view, writer)
        acquire_network(view, writer, rows)
        acquire_mapped(view, writer, CONTENT_LIMIT)
        acquire_tmpfs(view, writer, CONTENT_LIMIT, seen, bound(container))
