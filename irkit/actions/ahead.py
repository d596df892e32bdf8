"""Work begun before its step is due, in a thread: the engine makes a network while the host's /proc is read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Ahead(Generic[Result]):
    """``make``, begun at once.  What it returns or raises comes out of :meth:`result`, whenever that is asked for."""

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = make
        self._made: list[Result] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="irkit-ahead")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made.append(self._make())
        except BaseException as error:  # handed to whoever asks for the result
            self._failure = error

    def result(self) -> Result:
        """Wait for it.  Raises what ``make`` raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._made[0]
