"""Work begun before its step is due, in a thread: the engine makes a network while the host's /proc is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from irkit.actions.turns import Turn

Result = TypeVar("Result")


class Ahead(Generic[Result]):
    """``make``, begun at once, or when its ``turn`` comes.

    What it returns or raises comes out of :meth:`result`, whenever that is asked for.
    """

    def __init__(self, make: Callable[[], Result], turn: Turn | None = None) -> None:
        self._make = make
        self._turn = turn
        self._made: list[Result] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="irkit-ahead")
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._turn or contextlib.nullcontext():
                self._made.append(self._make())
        except BaseException as error:  # handed to whoever asks for the result
            self._failure = error

    def result(self) -> Result:
        """Wait for it.  Raises what ``make`` raised."""
        self.wait()
        if self._failure is not None:
            raise self._failure
        return self._made[0]

    def wait(self) -> None:
        """Until it is done, whatever came of it."""
        if self._turn is not None:
            self._turn.hurry()
        self._thread.join()
