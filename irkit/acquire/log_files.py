"""The log driver's own files, on this host: rotated ones too, as they lie on the disk, and held against what the API gave.

Formats: json-file, one ``{"log", "stream", "time"}`` a line (docs.docker.com, "JSON File logging driver"); local, entries
of moby's ``api/types/plugins/logdriver/entry.proto``, each between its size twice (big-endian, 32 bits).  Both rotate to
``NAME.1``, ``NAME.2`` …, compressed ones to ``NAME.1.gz`` ….  A container wrote what is in them: nothing is believed.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from irkit.acquire.beneath import BLOCK, FILE, facts_of, kind_of, open_folder
from irkit.acquire.beneath import Entry as FolderEntry
from irkit.acquire.log_formats import JsonLines, LocalEntries, Rebuilt
from irkit.engine.interface import Container
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter, Origin

COUNT_LIMIT = 1000
INFLATED_LIMIT = 16 * 1024**3
NAMED_LIMIT = 20


@dataclass(frozen=True, slots=True)
class LogFolder:
    """Where a driver's files are, and of which format: ``json`` or ``local``."""

    folder: str
    base: str
    format: str


@dataclass(slots=True)
class Comparison:
    """What the files hold, per stream; ``files``: facts of each, the oldest first."""

    files: list[dict[str, Any]] = field(default_factory=list)
    rebuilt: dict[str, Rebuilt] = field(default_factory=dict)
    readable: bool = True


def find_folder(container: Container) -> LogFolder | str:
    """Where the log driver writes, by what inspect says of the container; or why that is unknown.

    The engine isn't asked anew: it may be gone.
    """
    driver = str((container.host_config.get("LogConfig") or {}).get("Type") or "")
    own = str(container.raw.get("HostnamePath") or container.raw.get("HostsPath") or "").rpartition("/")[0]
    if driver in ("json-file", "k8s-file") and container.log_path:
        folder, _, base = container.log_path.rpartition("/")
        if not folder.startswith("/") or container.id not in folder:
            return "the engine names a log file that is not in the container's own folder"
        return LogFolder(folder, base, "json" if driver == "json-file" else "text")
    if driver in ("", "none"):
        return "the log driver keeps no files"
    if not own.startswith("/") or container.id not in own:
        return "the engine does not say where its files are"
    if driver == "local":
        return LogFolder(f"{own}/local-logs", "container.log", "local")
    return LogFolder(own, "container-cached.log", "local")


def acquire_files(
    where: LogFolder, writer: BundleWriter, wanted: dict[str, int], limit: int | None = None
) -> Comparison:
    """Write ``logs/raw/NNN.json`` (``.local``, with ``.gz`` where the driver compressed it), NNN the rotation's number.

    ``wanted``: for each stream, how many bytes the API gave, so that as many are held against it.  ``limit``: bytes in
    total.  What can't be taken is a gap.
    """
    found = Comparison(rebuilt={name: Rebuilt(size) for name, size in wanted.items()})
    try:
        with open_folder("/", where.folder) as folder:
            _take_all(folder, where, writer, found, limit)
    except OSError as error:
        found.readable = False
        writer.gap("logs", "raw", f"the log driver's folder can't be opened on this host: {error.strerror or error}")
    return found


def _take_all(folder: int, where: LogFolder, writer: BundleWriter, found: Comparison, limit: int | None) -> None:
    names = _rotations(folder, where.base)
    if not names:
        found.readable = False
        writer.gap("logs", "raw", "the log driver has no file on this host: it was removed, or never written")
    for _ in range(max(0, len(names) - COUNT_LIMIT)):
        number, _ = names.pop(0)
        writer.gap("logs", f"raw/{number:03d}", f"more than {COUNT_LIMIT} rotated files")
        found.readable = False
    left = limit
    for number, name in names:
        try:
            entry = FolderEntry(f"/{name}", name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False))
            if left is not None and entry.info.st_size > left:
                raise OSError(0, f"larger than what is left of the limit of {limit} bytes")
            found.files.append(_take(entry, number, where, writer, found))
            left = None if left is None else left - entry.info.st_size
        except OSError as error:
            found.readable = False
            writer.gap("logs", f"raw/{number:03d}", f"not taken: {error.strerror or error}")


def _rotations(folder: int, base: str) -> list[tuple[int, str]]:
    """``(number, name)``, the oldest first; the current file is number 0."""
    form = re.compile(rf"{re.escape(base)}(?:\.([1-9][0-9]{{0,5}})(?:\.gz)?)?")
    names = [(match, name) for name in os.listdir(folder) if (match := form.fullmatch(name))]
    return sorted(((int(match.group(1) or 0), name) for match, name in names), reverse=True)


def _take(entry: FolderEntry, number: int, where: LogFolder, writer: BundleWriter, found: Comparison) -> dict[str, Any]:
    if not stat.S_ISREG(entry.info.st_mode):
        raise OSError(0, f"it is a {kind_of(entry.info.st_mode)}, not a regular file")
    packed = entry.name.endswith(".gz")
    name = f"logs/raw/{number:03d}.{where.format}{'.gz' if packed else ''}"
    origin = Origin(
        "logs", f"log driver's file, rotation {number}", f"host: open(2) beneath its folder, flags {FILE:#o}"
    )
    reader = LocalEntries(found.rebuilt) if where.format == "local" else JsonLines(found.rebuilt)
    descriptor = entry.open()
    problem = ""
    with os.fdopen(descriptor, "rb", buffering=0) as file, writer.sink(name, origin, compress=not packed) as sink:
        read = 0
        try:
            for block in (
                _inflated(_tee(file, entry.info.st_size, sink)) if packed else _tee(file, entry.info.st_size, sink)
            ):
                if where.format != "text":
                    reader.feed(block)
        except (zlib.error, EOFError, EngineError) as error:
            problem = f"compressed data is broken: {error}"
            while file.tell() < entry.info.st_size and (block := file.read(BLOCK)):
                sink.write(block)
        read = sink.raw_size
    reader.finish()
    if read < entry.info.st_size:
        problem = f"{entry.info.st_size - read} bytes vanished while it was read"
    bad = list(reader.bad)
    if problem or reader.bad_count:
        why = problem or f"{reader.bad_count} entries are truncated or corrupt, the first: {bad[0]}"
        writer.gap("logs", f"raw/{number:03d}", why)
    return {
        "artifact": writer.artifacts[-1].path, "rotation": number, "facts": facts_of(entry, writer.artifacts[-1].raw_sha256).to_json(),
        "inode": entry.info.st_ino, "entries": reader.count, "corrupt": reader.bad_count, "corrupt_first": bad[:NAMED_LIMIT],
        "first_time": reader.first_time, "last_time": reader.last_time, "replaced_bytes_in": reader.replaced, "problem": problem,
    }  # fmt: skip


def _tee(file: Any, size: int, sink: Any) -> Iterator[bytes]:
    """At most ``size`` bytes: a file that a live container makes grow has an end all the same."""
    while size > 0 and (block := file.read(min(BLOCK, size))):
        size -= len(block)
        sink.write(block)
        yield block


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """gzip, a piece at a time.  Raises ``zlib.error``, ``EOFError``, and ``EngineError`` for what grows without end."""
    total, engine = 0, zlib.decompressobj(wbits=31)
    for block in blocks:
        data = block
        while data:
            if engine.eof:
                engine = zlib.decompressobj(wbits=31)
            piece = engine.decompress(data, BLOCK)
            data = engine.unconsumed_tail or engine.unused_data
            total += len(piece)
            if total > INFLATED_LIMIT:
                raise EngineError(f"more than {INFLATED_LIMIT} bytes come out of it")
            if piece:
                yield piece
    if not engine.eof:
        raise EOFError("it ends too early")
