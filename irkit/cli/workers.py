"""Worker processes for many targets at once: one a core, since Python's threads share one.

They are forked before any thread is begun, and tell what became of each target by a pipe, as lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import selectors
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irkit.cli.options import Signals

Tell = Callable[[Mapping[str, Any]], None]
NAME_BYTES = 16
POLL_SECONDS = 0.1


def cores() -> int:
    """How many processes of irkit's can run at once here."""
    return len(os.sched_getaffinity(0))


class Told(Signals):
    """A worker's signals: it ignores its own, and asks what its parent has caught."""

    def __init__(self, board: mmap.mmap) -> None:
        super().__init__()
        self._board = board

    def checkpoint(self) -> None:
        """Raise ``Interrupted`` when the parent caught a signal."""
        self.caught = self._board[:NAME_BYTES].rstrip(b"\0").decode()
        super().checkpoint()

    def fork(self) -> Signals:
        """For one of several runs."""
        return Told(self._board)


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    pipe: int


def spread(parts: Sequence[Any], work: Callable[[Any, Signals, Tell], None], signals: Signals, heard: Tell) -> None:
    """Run ``work(part, signals, tell)`` in a process of its own for each part; ``heard`` gets here what they tell.

    A worker that dies has told nothing more: the caller knows what is missing.  A second signal kills them all.
    """
    board = mmap.mmap(-1, NAME_BYTES)
    workers: list[_Worker] = []
    try:
        for part in parts:
            workers.append(_begin(part, work, board, [one.pipe for one in workers]))
        for message in _messages(workers, signals, board):
            heard(message)
    except BaseException:
        for one in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        raise
    finally:
        for one in workers:
            os.close(one.pipe)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(one.pid, 0)


def _begin(part: Any, work: Callable[[Any, Signals, Tell], None], board: mmap.mmap, others: Sequence[int]) -> _Worker:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Worker(pid, reading)
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the parent hears it for all, and tells by the board
        for one in (reading, *others):
            os.close(one)
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            work(part, Told(board), lambda message: _send(pipe.fileno(), message))
        code = 0
    except BaseException:
        if os.environ.get("IRKIT_DEBUG"):
            traceback.print_exc()
    finally:
        os._exit(code)


def _send(pipe: int, message: Mapping[str, Any]) -> None:
    """One line.  Called by one thread at a time; the parent may be gone, and then nobody needs to know."""
    data = json.dumps(message).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(pipe, data) :]


def _messages(workers: Sequence[_Worker], signals: Signals, board: mmap.mmap) -> Iterator[Mapping[str, Any]]:
    """What the workers tell, as it comes, until all have ended."""
    rest = {one.pipe: b"" for one in workers}
    with selectors.DefaultSelector() as selector:
        for one in workers:
            selector.register(one.pipe, selectors.EVENT_READ)
        while selector.get_map():
            if signals.caught and not signals.shielded:
                board[:NAME_BYTES] = signals.caught.encode().ljust(NAME_BYTES, b"\0")
            for key, _ in selector.select(POLL_SECONDS):
                data = os.read(key.fd, 1 << 20)
                if not data:
                    selector.unregister(key.fd)
                lines = (rest[key.fd] + data).split(b"\n")
                rest[key.fd] = lines.pop()
                yield from map(json.loads, lines)
