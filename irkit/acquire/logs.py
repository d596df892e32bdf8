"""What the container printed: by the engine, both streams in one pass, and the log driver's own files beside it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from irkit.acquire.engine_state import acquire_engine_state
from irkit.acquire.frames import STDERR, STDOUT, SYSTEM, Piece, split_frames
from irkit.acquire.log_files import Comparison, acquire_files, find_folder
from irkit.acquire.watchdog import guarded
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter, Origin, Sink
from irkit.streams import IDLE
from irkit.text import printable

__all__ = ["acquire_engine_state", "acquire_logs"]
READABLE = ("json-file", "local", "journald")
CHUNK = 16 * 1024
"""The engine's copier cuts lines at this size (moby, ``daemon/logger/copier.go``: ``defaultBufSize``)."""
TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")
STAMP = 31


class _Stream:
    """One stream on its way to its artifact: long lines joined again, what ended without a newline ended."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.size = self.messages = self.lines = self.joined = self.unterminated = 0
        self.first_time = self.last_time = ""
        self._open = self._continued = False
        self._text = 0

    def piece(self, piece: Piece) -> tuple[bytes, ...]:
        """What to write for a frame, or a part of one."""
        data = piece.data
        self.digest.update(data)
        self.size += len(data)
        out: tuple[bytes, ...] = (data,)
        if piece.first:
            self.messages += 1
            self._text = 0
            stamp = STAMP if data[STAMP - 1 : STAMP] == b" " and TIME.match(data) else 0
            if stamp:
                self.last_time = data[: STAMP - 1].decode("ascii")
                self.first_time = self.first_time or self.last_time
            self._text = -stamp
            if self._open and self._continued:
                self.joined += 1
                out = (data[stamp:],)
            elif self._open:
                self.unterminated += 1
                self.lines += 1
                out = (b"\n", data)
        self._text += len(data)
        self.lines += data.count(b"\n")
        self._open = not data.endswith(b"\n")
        if piece.last:
            self._continued = self._text >= CHUNK
        return out

    def to_json(self) -> dict[str, Any]:
        """As in ``logs/index.json``; ``size`` and ``sha256`` are of what the API sent, before lines were joined."""
        return {
            "messages": self.messages, "lines": self.lines + self._open, "size": self.size, "sha256": self.digest.hexdigest(),
            "first_time": self.first_time, "last_time": self.last_time, "chunks_joined": self.joined,
            "without_newline": self.unterminated + self._open,
        }  # fmt: skip


def acquire_logs(
    engine: Engine, container: Container, writer: BundleWriter, *, idle: float = IDLE, limit: int | None = None
) -> int:
    """Write ``logs/stdout.log``, ``logs/stderr.log``, ``logs/raw/NNN.*`` and ``logs/index.json``; bytes that the API gave.

    Each line has its time.  With a TTY there is one stream only, which is ``logs/stdout.log``.  ``idle``: seconds
    without a byte after which the engine counts as hung.  ``limit``: bytes of raw files in total.  Never raises an
    ``EngineError``: what can't be had is a gap.
    """
    driver = str((container.host_config.get("LogConfig") or {}).get("Type") or "")
    tty = bool(container.config.get("Tty"))
    streams = {"stdout": _Stream()} if tty else {"stdout": _Stream(), "stderr": _Stream()}
    complete = _by_engine(engine, container, writer, streams, driver, tty, idle)
    raw = _raw_files(engine, container, writer, {name: one.size for name, one in streams.items()}, limit)
    frozen = not container.running or container.paused
    compared = _compare(writer, streams, raw, tty, complete, frozen) if raw else {}
    _known_losses(writer, driver, container, raw, bool(sum(one.size for one in streams.values())))
    writer.add_json(
        "logs/index.json",
        {
            "schema": "irkit.logs/v1", "driver": driver, "options": dict((container.host_config.get("LogConfig") or {}).get("Config") or {}),
            "tty": tty, "complete": complete, "streams": {name: one.to_json() for name, one in streams.items()},
            "files": raw.files if raw else [], "compared": compared, "notes": _notes(driver, tty, raw, container, streams),
        },
        Origin("logs", f"container {container.id}", "irkit's own record of the logs"),
    )  # fmt: skip
    return sum(one.size for one in streams.values())


def _by_engine(
    engine: Engine, container: Container, writer: BundleWriter, streams: dict[str, _Stream], driver: str, tty: bool, idle: float
) -> bool:  # fmt: skip
    """Whether the engine sent all of it."""
    try:
        chunks = guarded(engine.raw_logs(container.id, idle), idle, "the engine's log stream")
        first = next(chunks, b"")
    except EngineError as error:
        writer.gap("logs", "stdout and stderr", _refused(driver, error))
        return False
    said: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            sinks = {
                name: stack.enter_context(writer.sink(f"logs/{name}.log", _origin(driver, name, tty)))
                for name in streams
            }
            everything = _chain(first, chunks)
            if tty:
                for chunk in everything:
                    _write(streams["stdout"], sinks["stdout"], [Piece(STDOUT, chunk, False, False)])
            else:
                _split(everything, streams, sinks, said)
    except EngineError:
        return False  # each sink has told its gap
    finally:
        chunks.close()
        for text in said[:5]:
            writer.gap("logs", "stdout and stderr", f"the engine says in the middle of the stream: {text}")
    return not said


def _split(chunks: Iterator[bytes], streams: dict[str, _Stream], sinks: dict[str, Sink], said: list[str]) -> None:
    for pieces in split_frames(chunks):
        for number, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
            _write(streams[name], sinks[name], [one for one in pieces if one.stream == number])
        for one in pieces:
            if one.stream == SYSTEM and len(said) < 100:
                said.append(printable(one.data.strip(), 300))


def _write(stream: _Stream, sink: Sink, pieces: list[Piece]) -> None:
    if pieces:
        sink.write(b"".join([part for piece in pieces for part in stream.piece(piece)]))


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _origin(driver: str, stream: str, tty: bool) -> Origin:
    what = "stdout and stderr as one: the container has a TTY" if tty else stream
    return Origin("logs", f"log driver {driver or 'unknown'}, {what}", "engine API: logs, one stream of frames, timestamps", "text/plain")  # fmt: skip


def _refused(driver: str, error: EngineError) -> str:
    hint = {
        "none": "nothing was kept: what it printed can't be had from anywhere",
        "journald": "`journalctl CONTAINER_ID_FULL=…` on the engine's host may have it",
    }.get(driver, "" if driver in READABLE else "ask the system that the driver sends to")
    return f"the engine can't read logs of driver {driver!r}: {error.message}" + (f" ({hint})" if hint else "")


def _raw_files(
    engine: Engine, container: Container, writer: BundleWriter, wanted: dict[str, int], limit: int | None
) -> Comparison | None:
    if not engine.local:
        writer.gap("logs", "raw", "the log driver's files are on the engine's host, which is another one")
        return None
    where = find_folder(container)
    if isinstance(where, str):
        writer.gap("logs", "raw", where)
        return None
    return acquire_files(where, writer, wanted, limit)


def _compare(
    writer: BundleWriter, streams: dict[str, _Stream], raw: Comparison, tty: bool, complete: bool, frozen: bool
) -> dict[str, Any]:
    """Whether the API gave what is in the files.  A container that runs on may have written more since."""
    found: dict[str, Any] = {}
    known = raw.readable and all(one["artifact"].split(".")[1] != "text" for one in raw.files)
    for name, stream in streams.items():
        kept = raw.rebuilt[name]
        same = kept.sha256 == stream.digest.hexdigest() and (kept.size == stream.size or not frozen)
        found[name] = {
            "same": same if known else None, "in_files": kept.size, "by_engine": stream.size, "entries_in_files": kept.entries,
            "lines_in_files": kept.lines,
        }  # fmt: skip
        if known and complete and not same:
            writer.gap(
                "logs",
                name,
                f"the engine and its files differ: {stream.size} bytes by the engine, {kept.size} in the files "
                f"({kept.entries} entries); both were taken",
            )
    return found


def _known_losses(
    writer: BundleWriter, driver: str, container: Container, raw: Comparison | None, anything: bool
) -> None:
    """What was lost before irkit came, as far as can be known."""
    if driver not in (*READABLE, "none", "", "k8s-file") and anything:
        why = (
            f"driver {driver!r} sends elsewhere; what was taken is the engine's own cache of the last lines, which drops lines "
            "when it can't keep up (ask the system that the driver sends to for all of them)"
        )
        writer.gap("logs", "stdout and stderr", why)
    options = (container.host_config.get("LogConfig") or {}).get("Config") or {}
    keeps = str(options.get("max-file") or {"json-file": 1, "local": 5}.get(driver, 0))
    if raw and keeps.isdigit() and 1 < int(keeps) <= len(raw.files):
        why = f"the driver keeps {keeps} files, and all are there: older lines may have been deleted before"
        writer.gap("logs", "rotation", why)


def _notes(
    driver: str, tty: bool, raw: Comparison | None, container: Container, streams: dict[str, _Stream]
) -> list[str]:
    """What a reader must know."""
    notes = []
    if tty:
        notes.append(
            "The container has a TTY: the engine has one raw stream, stderr is in stdout.log, times stand where they came."
        )
    if any(one.joined for one in streams.values()):
        notes.append("Lines over 16 KiB came in pieces; they were joined, and only the first piece's time was kept.")
    if raw and any(one["replaced_bytes_in"] for one in raw.files):
        notes.append("Bytes that are not UTF-8 were replaced (U+FFFD) by the driver as it wrote, or the container printed that sign.")  # fmt: skip
    if raw and (hint := _wiped(raw, container)):
        notes.append(hint)
    return notes


def _wiped(raw: Comparison, container: Container) -> str:
    """An empty current file that was changed well after the start: a truncation leaves that."""
    started = str(container.state.get("StartedAt") or "")
    for one in raw.files:
        facts = one["facts"]
        if one["rotation"] == 0 and not facts["size"] and started and len(raw.files) == 1:
            from irkit.clock import rfc3339_ns

            changed = rfc3339_ns(int(facts["mtime_ns"]) - 5_000_000_000)
            if changed > started:
                return f"The log file is empty, but was changed at {rfc3339_ns(facts['mtime_ns'])}, after the start: it may have been wiped."  # fmt: skip
    return ""
