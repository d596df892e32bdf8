"""The engine's own export: the whole root file system with the digest of every file, made in the same pass.

Also the way to a container's changes where its layers can't be read from here; what is lost on it is listed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from irkit.acquire.filesystem import LINES_TYPE
from irkit.acquire.tarscan import Found, TarScan
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError, IrkitError
from irkit.evidence.writer import BundleWriter, Origin, Sink
from irkit.models import Change

COLLECTOR = "export"
TAR_TYPE = "application/x-tar+zstd"
STALLED = 120.0
"""Seconds without a byte after which an export counts as hung."""
LEFT_OUT = "the engine's export leaves out volumes, bind mounts, tmpfs, sockets and device nodes"
BY_API = (
    "taken from the engine's export, not from the layers: no image versions to compare with, no birth and access times, "
    "no contents of devices, mounts and tmpfs; `changed` is the engine's word"
)
KINDS = {0: "changed", 1: "added", 2: "deleted"}


class OverLimit(IrkitError):
    """A stream is larger than its profile allows."""


def acquire_export(engine: Engine, before: Container, writer: BundleWriter, limit: int) -> int:
    """Write ``filesystem/export.tar`` and ``filesystem/export.jsonl``; how many members there are."""
    return _export(engine, before, writer, limit, COLLECTOR, lambda _: None)


def acquire_by_api(engine: Engine, before: Container, writer: BundleWriter, limit: int, why: str) -> int:
    """The changed files' list from the engine's word and its export; ``filesystem/changes.jsonl``, how many there are.

    ``why``: the reason why the layers were not read.  Each way in which this is less is a gap.
    """
    collector = "filesystem"
    writer.gap(collector, "changed files", f"{why}; {BY_API}")
    try:
        told = {str(row["Path"]): KINDS.get(int(row["Kind"]), "changed") for row in engine.changes(before.id)}
    except EngineError as error:
        writer.gap(collector, "changed files", f"the engine does not list them: {error.message}")
        told = {}
    if not told:
        writer.gap(collector, "changed files", "the engine lists none; some engines do so wrongly: see the export")
    origin = Origin(collector, "docker diff, and the facts of the export", "engine API: changes, export", LINES_TYPE)
    with writer.sink("filesystem/changes.jsonl", origin) as lines:
        for path, change in told.items():
            if change == "deleted":
                _line(lines, Change(path, change, None, None).to_json())

        def seen(found: Found) -> None:
            change = told.get(found.path)
            if change is not None:
                _line(lines, Change(found.path, change, None, found.facts).to_json())

        _export(engine, before, writer, limit, collector, seen)
    return len(told)


def _export(
    engine: Engine, before: Container, writer: BundleWriter, limit: int, collector: str, seen: Callable[[Found], None]
) -> int:
    source = f"container {before.id}"
    list_of = Origin(collector, source, "digests of the export's files, in the same pass", LINES_TYPE)
    tar = Origin(collector, source, "engine API: export", TAR_TYPE)

    def member(found: Found) -> None:
        _line(lines, found.to_json())
        seen(found)

    scan = TarScan(member)
    try:
        stream = engine.export(before.id, STALLED)
        with (
            writer.sink("filesystem/export.jsonl", list_of, threads=True) as lines,
            writer.sink("filesystem/export.tar", tar, threads=True) as sink,
        ):
            for chunk in stream:
                if sink.raw_size + len(chunk) > limit:
                    raise OverLimit(f"the export is larger than the {limit} bytes that this profile allows")
                sink.write(chunk)
                scan.feed(chunk)
            scan.close()
    except (EngineError, OverLimit) as error:
        writer.gap(collector, "filesystem/export.tar", error.message)
        return scan.members
    if scan.problem:
        writer.gap(collector, "filesystem/export.jsonl", f"{scan.problem}: the list ends there")
    return scan.members


def _line(sink: Sink, row: Mapping[str, Any]) -> None:
    sink.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
