"""A few at a time: an engine that is asked by many at once answers none of them soon.

It has one lock for its networks.  Thirty targets that all ask for everything at once are all sealed off at the end;
taking turns, the first are sealed off early, and their proof and evidence go on while the engine works for the others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

STALLED = 3.0
"""Seconds without any turn ending: whoever waits goes on without one, since one target's trouble is not another's."""
LOOK = 0.5


class Turns:
    """``slots`` turns at the same time, in the order of asking; those who are urgent go first."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lock = threading.Lock()
        self._urgent: deque[Turn] = deque()
        self._others: deque[Turn] = deque()
        self._moved = time.monotonic()

    def ask(self, *, urgent: bool) -> Turn:
        """A place in the queue.  To be used by ``with``, once."""
        turn = Turn(self)
        with self._lock:
            if self._free > 0:
                self._free -= 1
                turn.called.set()
            else:
                (self._urgent if urgent else self._others).append(turn)
        return turn

    def hurry(self, turn: Turn) -> None:
        """It has become urgent."""
        with self._lock:
            if turn in self._others:
                self._others.remove(turn)
                self._urgent.append(turn)

    def wait(self, turn: Turn) -> None:
        """Until it is called, or nothing moves any more."""
        while not turn.called.wait(LOOK):
            with self._lock:
                if not turn.called.is_set() and time.monotonic() - self._moved > STALLED:
                    (self._urgent if turn in self._urgent else self._others).remove(turn)
                    self._free -= 1  # one more than there are: it is given back like the others
                    turn.called.set()

    def give_back(self) -> None:
        """The next one's turn."""
        with self._lock:
            self._moved = time.monotonic()
            self._free += 1
            if self._free > 0 and (queue := self._urgent or self._others):
                self._free -= 1
                queue.popleft().called.set()


class Turn:
    """A place in the queue: ``with`` waits for it, and gives it back."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.called = threading.Event()

    def hurry(self) -> None:
        """Somebody waits for what will be done in it."""
        self._turns.hurry(self)

    def __enter__(self) -> None:
        self._turns.wait(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.give_back()
