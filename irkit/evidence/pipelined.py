"""An artifact that is hashed and compressed beside its collector: large blocks go to threads, small writes are gathered.

SHA-256 and zstd let go of the interpreter's lock, so reading, hashing and compressing run side by side.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from irkit.errors import StorageError, storage_error
from irkit.evidence.writer import Sink

GATHER = 512 * 1024
AHEAD = 4
"""Blocks that may wait for a thread: what bounds the memory."""


class PipelinedSink(Sink):
    """As :class:`irkit.evidence.writer.Sink`; what goes wrong on the disk is raised by a later write, or by ``close``."""

    def __init__(self, file: BinaryIO, compress: bool, checkpoint: Callable[[], None]) -> None:
        super().__init__(file, compress, checkpoint)
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._error: StorageError | None = None
        self._lanes = [_Lane(self._raw.update), _Lane(self._store)]

    def write(self, data: bytes) -> int:
        """Add bytes.  Raises ``Interrupted`` when the run was interrupted, ``StorageError`` when the disk is full."""
        if self._closed or self.failed:
            return len(data)
        self._checkpoint()
        self.raw_size += len(data)
        if len(data) < GATHER:
            self._gathered.append(data)
            self._waiting += len(data)
            if self._waiting >= GATHER:
                self._pass_on()
            return len(data)
        self._pass_on()
        self._hand_out(data)
        return len(data)

    def _pass_on(self) -> None:
        if self._gathered:
            data, self._gathered, self._waiting = b"".join(self._gathered), [], 0
            self._hand_out(data)

    def _hand_out(self, data: bytes) -> None:
        if self._error is not None:
            self._fail(self._error)
        for lane in self._lanes:
            if lane.fault is not None:
                self._stop()
                raise lane.fault
            lane.put(data)

    def _fail(self, error: StorageError) -> None:
        self._stop()
        self.failed = True
        raise error

    def _store(self, data: bytes) -> None:
        """In its thread: compress, hash, write; once the disk is full, nothing more."""
        if self._error is not None:
            return
        try:
            self._put(self._compressor.compress(data) if self._compressor else data)
        except StorageError as error:
            self._error = error

    def _give_up(self, error: OSError) -> StorageError:
        """As the plain sink; ``failed`` is for the collector's thread to set, once it has stopped the others."""
        self.reason = error.strerror or str(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)
        return storage_error(error, "can't write evidence")

    def _stop(self) -> None:
        for lane in self._lanes:
            lane.end()

    def close(self) -> None:
        """End the stream.  Raises ``StorageError``."""
        if self._closed or self.failed:
            self._closed = True
            return
        if self._error is None:
            self._pass_on()
        self._stop()
        for lane in self._lanes:
            if lane.fault is not None:
                raise lane.fault
        if self._error is not None:
            self._closed = True
            self._fail(self._error)
        try:
            super().close()
        except StorageError:
            self.failed = True
            raise


class _Lane:
    """A thread that does one thing with block after block."""

    def __init__(self, work: Callable[[bytes], object]) -> None:
        self._work = work
        self._blocks: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self.fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            if self.fault is None:
                try:
                    self._work(block)
                except BaseException as error:  # the collector's thread raises it; this one goes on taking blocks
                    self.fault = error

    def put(self, block: bytes) -> None:
        self._blocks.put(block)

    def end(self) -> None:
        """Wait until all that was given is done; once."""
        if self._thread.is_alive():
            self._blocks.put(None)
            self._thread.join()
