"""The engine's events as a source: read in windows that overlap, so that an event which the engine forgot is noticed.

The engine keeps its last 256 events (moby, ``daemon/events/events.go``) and none over a restart.  Each window begins at the
last event that was seen: when the engine does not tell that one again, others may have been lost, and that is said.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from irkit.clock import rfc3339_ns
from irkit.engine.interface import Engine
from irkit.errors import EngineError
from irkit.watch.alert import Malformed, moment, parse_json
from irkit.watch.inbox import Begun, Inbox, Note, received
from irkit.watch.lines import Splitter

WINDOW = 30.0
PATIENCE = 1.0
"""Seconds that an event waits for room: a reader that stands still would lose events within the engine, unseen."""
PAUSE, PAUSE_LIMIT = 0.5, 30.0
NANO = 1_000_000_000
OVERLAP = NANO
"""Events are told in the order in which they were logged, which is not always that of their times."""
RECENT, TOLD = 512, 64
"""How many events are known again, now and after a restart."""
KEY = "events"


class Events:
    """A source.  ``past``: the last event that was handled before, if there was one."""

    source = "events"

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        inbox: Inbox,
        past: Mapping[str, Any] | None,
        *,
        once: bool,
        window: float = WINDOW,
    ) -> None:
        self._open, self._inbox, self._once, self._window = open_engine, inbox, once, window
        self._last = int(past["time_ns"]) if past else 0
        self._recent: dict[str, int] = dict(past["recent"]) if past else {}
        self._pause = PAUSE
        self._down = False
        self.name = "the engine's events"

    def run(self) -> None:
        """Until the watch ends."""
        engine = self._open()
        while not self._inbox.stop.is_set():
            begun = time.monotonic()
            try:
                self._one_window(engine)
                self._pause, self._down = PAUSE, False
            except EngineError as error:
                if not self._down:
                    self._inbox.put(Note("source-error", self.source, f"{error.message}; trying again"))
                self._down, self._pause = True, min(self._pause * 2, PAUSE_LIMIT)
            if self._once:
                return
            if time.monotonic() - begun < self._window:
                self._inbox.stop.wait(self._pause)

    def _one_window(self, engine: Engine) -> None:
        """From the last event on: what the engine remembers, then what happens until the window ends."""
        clock = int(moment(engine.info().system_time) * NANO)
        if not self._last:
            self._last = clock
            self._inbox.put(Begun({"source": KEY, "time_ns": clock, "recent": {}}))
        until = clock if self._once else clock + int(self._window * NANO)
        missing = {digest for digest, stamp in self._recent.items() if stamp == self._last}
        splitter = Splitter()
        for chunk in engine.events(
            _stamp(self._last - OVERLAP if self._recent else self._last), _stamp(until), self._window + 30
        ):
            for line, _ in splitter.feed(chunk):
                if line.strip():
                    self._event(line, missing)
            if self._inbox.stop.is_set():
                return
        self._check(missing)

    def _event(self, line: bytes, missing: set[str]) -> None:
        digest = hashlib.sha256(line).hexdigest()
        if digest in self._recent:
            missing.discard(digest)
            return
        try:
            stamp = parse_json(line).get("timeNano")
        except Malformed:
            stamp = None
        stamp = stamp if isinstance(stamp, int) else self._last
        if stamp > self._last:
            self._check(missing)
            self._last = stamp
        self._recent[digest] = stamp
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        told = dict(list(self._recent.items())[-TOLD:])
        self._inbox.offer(received(self.source, line, {"source": KEY, "time_ns": self._last, "recent": told}), PATIENCE)

    def _check(self, missing: set[str]) -> None:
        """Whether the engine told again what was seen last."""
        if missing:
            missing.clear()
            self._inbox.put(
                Note(
                    "gap", self.source,
                    f"the engine does not remember the event that was seen last ({rfc3339_ns(self._last)}): others since then may be lost",
                )
            )  # fmt: skip


def _stamp(nanoseconds: int) -> str:
    return f"{nanoseconds // NANO}.{nanoseconds % NANO:09d}"
