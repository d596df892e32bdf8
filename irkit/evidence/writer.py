"""Writing a bundle: each artifact once, in one pass: sha256 (raw) → zstd → sha256 (stored) → disk."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from irkit import __version__
from irkit.clock import now
from irkit.errors import IrkitError, StorageError, storage_error
from irkit.evidence import names
from irkit.home import json_rows, private_folder, sync_folder, write_file
from irkit.target import Gap

BLOCK = 1024 * 1024
INTERRUPTED = "interrupted"
"""The collector of what was half written when a run was killed: kept beside what was taken anew."""


class Origin(NamedTuple):
    """Where an artifact comes from: which collector, what it read, and how."""

    collector: str
    source: str
    method: str
    media_type: str = "application/octet-stream"


class Artifact(NamedTuple):
    """A stored artifact.  ``raw`` is what was read, ``stored`` what lies in the bundle; sizes in bytes."""

    path: str
    origin: Origin
    encoding: str
    raw_size: int
    raw_sha256: str
    stored_size: int
    stored_sha256: str
    started: str
    finished: str
    complete: bool

    def to_json(self) -> dict[str, Any]:
        """One entry of ``data/index.json``."""
        return {
            "path": self.path, "collector": self.origin.collector, "source": self.origin.source, "method": self.origin.method,
            "media_type": self.origin.media_type, "encoding": self.encoding,
            "raw": {"size": self.raw_size, "sha256": self.raw_sha256},
            "stored": {"size": self.stored_size, "sha256": self.stored_sha256},
            "started": self.started, "finished": self.finished, "complete": self.complete,
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Artifact:
        """The reverse."""
        origin = Origin(*(str(raw[name]) for name in ("collector", "source", "method", "media_type")))
        return cls(
            str(raw["path"]), origin, str(raw["encoding"]), int(raw["raw"]["size"]), str(raw["raw"]["sha256"]),
            int(raw["stored"]["size"]), str(raw["stored"]["sha256"]), str(raw["started"]), str(raw["finished"]), bool(raw["complete"]),
        )  # fmt: skip


class Sink:
    """An artifact while it is written."""

    def __init__(self, file: BinaryIO, compress: bool, checkpoint: Callable[[], None]) -> None:
        self._file = file
        self._checkpoint = checkpoint
        self._raw = hashlib.sha256()
        self._stored = hashlib.sha256()
        self.raw_size = 0
        self.stored_size = 0
        self._compressor = _zstd() if compress else None
        self.failed = False
        self.reason = ""
        self._closed = False

    def write(self, data: bytes) -> int:
        """Add bytes.  Raises ``Interrupted`` when the run was interrupted, ``StorageError`` when the disk is full."""
        if self._closed or self.failed:
            return len(data)  # what tarfile still wants to say when it is thrown away after a failure
        self._checkpoint()
        self._raw.update(data)
        self.raw_size += len(data)
        self._put(self._compressor.compress(data) if self._compressor else data)
        return len(data)

    def _put(self, data: bytes) -> None:
        if not data:
            return
        self._stored.update(data)
        self.stored_size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise self._give_up(error) from error

    def _give_up(self, error: OSError) -> StorageError:
        """Half an artifact is none: give its room back at once, for those that are written beside it."""
        self.failed, self.reason = True, error.strerror or str(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)
        return storage_error(error, "can't write evidence")

    def close(self) -> None:
        """End the stream.  Raises ``StorageError``."""
        self._closed = True
        if self.failed:
            return
        if self._compressor:
            self._put(self._compressor.flush())
        try:
            self._file.flush()
        except OSError as error:
            raise self._give_up(error) from error

    @property
    def digests(self) -> tuple[str, str]:
        """sha256 of the raw and of the stored bytes."""
        return self._raw.hexdigest(), self._stored.hexdigest()


def _sink_type(threads: bool) -> type[Sink]:
    if not threads:
        return Sink
    from irkit.evidence.pipelined import PipelinedSink

    return PipelinedSink


def _zstd() -> Any:
    import zstandard

    return zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()


class BundleWriter:
    """A bundle being filled.  Not sealed until :func:`irkit.evidence.seal.seal_bundle` has run."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Callable[[], None] = lambda: None,
        on_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder = private_folder(folder)
        private_folder(folder / "data")
        self.checkpoint = checkpoint
        self.on_full = on_full
        self.artifacts: list[Artifact] = []
        self.gaps: list[Gap] = []
        self.lost: list[str] = []
        self.about: dict[str, Any] = {}
        self._unsynced: list[str] = []
        self._folders: set[Path] = set()
        self._earlier: Sequence[Artifact] = ()
        self.identities: list[Any] = []
        """What reads an encrypted bundle back; none for a plain one."""

    def place(self, path: str) -> Path:
        """Where a file of the bundle lies on the disk."""
        return self.folder / path

    def open(self, path: str) -> BinaryIO:
        """A new file of the bundle, to be written.  Raises ``OSError``."""
        return self.place(path).open("xb", buffering=BLOCK)

    def put(self, name: str, data: bytes) -> None:
        """One of the bundle's own small files, on the disk before this returns.  Raises ``StorageError``."""
        write_file(self.place(name), data)

    def discard(self, path: str) -> None:
        """Remove a file, if it is there."""
        self.place(path).unlink(missing_ok=True)

    def around(self, digest: str) -> BundleWriter | None:
        """The writer of a bundle around this one, which has just been sealed; ``None`` for a plain one."""
        return None

    def beside(self) -> BundleWriter:
        """A writer into the same bundle for one of several collectors at the same time, each in its own thread.

        What it writes and misses is its own until :meth:`absorb`; until then this writer must write nothing itself.
        """
        made = copy.copy(self)
        made._earlier = self.artifacts
        made.artifacts, made.gaps, made.lost, made._unsynced = [], [], [], []
        return made

    def absorb(self, beside: BundleWriter) -> None:
        """Take over what a writer made by :meth:`beside` has written, once its collector has ended."""
        self.artifacts += beside.artifacts
        self.gaps += beside.gaps
        self.lost += beside.lost
        self._unsynced += beside._unsynced

    def gap(self, collector: str, what: str, why: str) -> None:
        """Record what could not be captured."""
        self.gaps.append(Gap(collector, what, why))

    @contextmanager
    def sink(self, name: str, origin: Origin, *, compress: bool = True, threads: bool = False) -> Iterator[Sink]:
        """Write one artifact ``data/NAME`` (``.zst`` is added when compressed); ``threads`` for large ones.

        When the body raises, what was read so far stays, marked incomplete, with a gap; the error goes on.  When the
        disk is full the half-written file is removed to make room, the gap says so, and ``StorageError`` is raised.
        The bytes are on the disk after :meth:`sync`, which a run calls as soon as the target is isolated.
        """
        path = f"data/{name}.zst" if compress else f"data/{name}"
        if not names.is_payload(path) or any(one.path == path for one in (*self._earlier, *self.artifacts)):
            raise IrkitError(f"not a new artifact name: {path}")
        folder = self.place(path).parent
        if folder not in self._folders:  # shared with those beside it: at worst it is made twice
            private_folder(folder)
            self._folders.add(folder)
        started = now()
        try:
            file = self.open(path)
        except OSError as error:
            self._lost(path, origin, error.strerror or str(error))
            raise storage_error(error, f"can't write {self.place(path)}") from error
        sink = _sink_type(threads)(file, compress, self.checkpoint)
        try:
            yield sink
            sink.close()
        except BaseException as error:
            self._rescue(path, origin, compress, sink, started, error)
            raise
        else:
            if sink.failed:  # its collector went on without it
                self._drop(path, origin, sink.reason)
            else:
                self._record(path, origin, compress, sink, started, complete=True)
        finally:
            _close_quietly(file)

    def _rescue(
        self, path: str, origin: Origin, compress: bool, sink: Sink, started: str, error: BaseException
    ) -> None:
        """Keep what was read so far, unless its own file could not be written."""
        if not sink.failed:
            with contextlib.suppress(StorageError):
                sink.close()
        if sink.failed:
            self._drop(path, origin, str(error))
            return
        self._record(path, origin, compress, sink, started, complete=False)
        self.gap(
            origin.collector,
            path,
            f"incomplete, {sink.raw_size} bytes were read: {error or type(error).__name__}",
        )

    def forget(self, prefix: str) -> None:
        """Take back irkit's own records of a seal that failed, so that they can be written anew."""
        for one in [one for one in self.artifacts if one.path.startswith(prefix)]:
            self.discard(one.path)
            self.artifacts.remove(one)
            if one.path in self._unsynced:
                self._unsynced.remove(one.path)

    def _drop(self, path: str, origin: Origin, why: str) -> None:
        self.discard(path)
        self._lost(path, origin, why)

    def _lost(self, path: str, origin: Origin, why: str) -> None:
        self.lost.append(path)
        self.gap(origin.collector, path, f"could not be written: {why}")
        self.on_full()

    def sync(self) -> None:
        """Put on the disk what is not yet there.  Raises ``StorageError``."""
        pending, self._unsynced = self._unsynced, []
        for path in pending:
            try:
                descriptor = os.open(self.place(path), os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise storage_error(error, f"can't write {path}") from error

    def _record(self, path: str, origin: Origin, compress: bool, sink: Sink, started: str, *, complete: bool) -> None:
        raw, stored = sink.digests
        self._unsynced.append(path)
        self.artifacts.append(
            Artifact(
                path,
                origin,
                "zstd" if compress else "identity",
                sink.raw_size,
                raw,
                sink.stored_size,
                stored,
                started,
                now(),
                complete,
            )
        )

    def add(self, name: str, chunks: Iterable[bytes], origin: Origin, *, compress: bool = True) -> Artifact:
        """One artifact from a stream."""
        with self.sink(name, origin, compress=compress) as sink:
            for chunk in chunks:
                sink.write(chunk)
        return self.artifacts[-1]

    def add_json(self, name: str, value: object, origin: Origin) -> Artifact:
        """One JSON document, stored as it is so that any tool can read it."""
        return self.add(
            name,
            (json_rows(value),),
            Origin(origin.collector, origin.source, origin.method, "application/json"),
            compress=False,
        )

    def index(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """``data/index.json``."""
        return {
            "schema": "irkit.index/v1",
            "tool": {"name": "irkit", "version": __version__},
            **facts,
            **self.about,
            "artifacts": [one.to_json() for one in self.artifacts],
            "gaps": [one.to_json() for one in self.gaps],
        }


def _close_quietly(file: BinaryIO) -> None:
    """Close without a second complaint: what could not be flushed has been dealt with."""
    with contextlib.suppress(OSError):
        file.close()


def sync_tree(folder: Path) -> None:
    """Put every folder entry of a bundle on the disk."""
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))
