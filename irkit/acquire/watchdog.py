"""A stream that stops sending must not stop the run: an own watchdog, whatever way the stream comes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

from irkit.errors import EngineError

AHEAD = 4 * 1024 * 1024
GRACE = 1.0
"""Seconds that an engine's own socket has more, so that it is the one to shut and to say why."""


class _Pump:
    """Reads a stream in a thread, at most ``AHEAD`` bytes ahead of who takes them."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._turn = threading.Condition()
        threading.Thread(target=self._run, name="irkit-stream", daemon=True).start()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                with self._turn:
                    self._turn.wait_for(lambda: self._size < AHEAD or self._stopped)
                    if self._stopped:
                        break
                    self._parts.append(chunk)
                    self._size += len(chunk)
                    self._turn.notify_all()
        except BaseException as error:
            self._error = error  # handed on to who reads
        finally:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
            with self._turn:
                self._ended = True
                self._turn.notify_all()

    def take(self, patience: float) -> bytes | None:
        """What has come; empty at the end; ``None`` when nothing came for ``patience`` seconds.  Raises its errors."""
        with self._turn:
            if not self._turn.wait_for(lambda: self._parts or self._ended, patience):
                return None
            data, self._parts, self._size = b"".join(self._parts), [], 0
            self._turn.notify_all()
        if not data and self._error is not None:
            raise self._error
        return data

    def stop(self) -> None:
        """Let the thread end with the next thing that it gets."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()


def guarded(chunks: Iterator[bytes], idle: float, what: str) -> Generator[bytes, None, None]:
    """The bytes of ``chunks``, in larger pieces.  Raises ``EngineError`` when none came for ``idle`` seconds.

    All that came before is given out first.  The thread that reads is left behind when it hangs; it ends with its
    socket's own timeout.
    """
    pump = _Pump(chunks)
    try:
        while data := pump.take(idle + GRACE):
            yield data
        if data is None:
            raise EngineError(
                f"{what} hung: nothing came for {idle:g} s",
                hint="`irkit doctor` tells whether the engine still answers",
            )
    finally:
        pump.stop()
