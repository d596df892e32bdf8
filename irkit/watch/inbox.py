"""Between the sources, each in a thread, and the one that decides: a queue with a limit.  What is dropped is counted."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Reply:
    """For whoever waits for the decision."""

    event: threading.Event = field(default_factory=threading.Event)
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """A line or a body.  ``position``: how far its source was read with it."""

    source: str
    line: bytes
    time: float
    position: Mapping[str, Any] | None = None
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a source that belongs into the journal: ``gap`` or ``source-error``."""

    kind: str
    source: str
    message: str


@dataclass(frozen=True, slots=True)
class Begun:
    """From where a source is read: kept at once, so that what comes while no watch is there is not passed over."""

    position: Mapping[str, Any]


Thing = Received | Note | Begun


@dataclass(slots=True)
class Inbox:
    """At most ``limit`` things wait."""

    limit: int
    stop: threading.Event = field(default_factory=threading.Event)
    _queue: queue.Queue[Thing] = field(init=False)
    _dropped: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._queue = queue.Queue(self.limit)

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, thing: Thing) -> bool:
        """Wait for room; false when the watch ends meanwhile."""
        while not self.stop.is_set():
            try:
                self._queue.put(thing, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def offer(self, thing: Received, timeout: float = 0.0) -> bool:
        """Don't wait, or not longer than ``timeout`` seconds; what finds no room is counted as dropped."""
        try:
            self._queue.put(thing, block=timeout > 0, timeout=timeout or None)
        except queue.Full:
            with self._lock:
                self._dropped[thing.source] += 1
            return False
        return True

    def take(self, timeout: float) -> Thing | None:
        """The next one, if there is one in time."""
        try:
            return self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None

    def dropped(self) -> dict[str, int]:
        """How many were dropped since this was asked last, by source."""
        with self._lock:
            found, self._dropped = dict(self._dropped), Counter()
        return found


def received(source: str, line: bytes, position: Mapping[str, Any] | None = None) -> Received:
    """It came now."""
    return Received(source, line, time.time(), position)
