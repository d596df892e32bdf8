"""Deadlines of steps and of the whole run, asked for wherever work can stop safely."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from irkit.errors import DeadlinePassed

TICK = 0.2


class Stopwatch:
    """In front of a run's checkpoint: signals first, then the deadlines, the innermost last."""

    def __init__(self, signals: Callable[[], None]) -> None:
        self._signals = signals
        self._shared: list[tuple[float, float, str]] = []
        self._own = threading.local()

    @contextmanager
    def limit(self, seconds: float | None, what: str, *, shared: bool = False) -> Iterator[None]:
        """From here on ``what`` has so many seconds (``None``: as many as it wants), in this thread or in all."""
        if seconds is None:
            yield
            return
        limits = self._shared if shared else self._limits()
        limits.append((time.monotonic() + seconds, seconds, what))
        try:
            yield
        finally:
            limits.pop()

    def _limits(self) -> list[tuple[float, float, str]]:
        if not hasattr(self._own, "limits"):
            self._own.limits = []
        limits: list[tuple[float, float, str]] = self._own.limits
        return limits

    def check(self) -> None:
        """Raise ``Interrupted`` when a signal came, ``DeadlinePassed`` when a deadline has passed."""
        self._signals()
        for ends, seconds, what in (*self._shared, *self._limits()):
            if time.monotonic() >= ends:
                raise DeadlinePassed(f"{what} took longer than the {seconds:g} seconds that the playbook gives it")

    def sleep(self, seconds: float) -> None:
        """Wait.  Raises what :meth:`check` raises, as soon as it would."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.check()
            time.sleep(min(TICK, left))
        self.check()
