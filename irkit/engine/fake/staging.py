"""What a test stages between the calls of the fake engine, and what it asks about them afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from irkit.clock import rfc3339
from irkit.engine.interface import Call
from irkit.errors import EngineError, EngineUnreachable


@dataclass(frozen=True, slots=True)
class Mutation:
    """A call that changes something: the method's name, what it was asked, and why it failed, if it did."""

    method: str
    args: tuple[object, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a test has staged for some of a method's calls; ``done``: after the engine has done as asked."""

    method: str
    first: int
    last: int | None
    done: bool
    act: Callable[[], None]

    def due(self, method: str, number: int, done: bool) -> bool:
        fits = self.method == method and self.done == done
        return fits and number >= self.first and (self.last is None or number <= self.last)


@dataclass(slots=True)
class Answer:
    """The HTTP status of the call that is being served."""

    status: int


class FakeStaging:
    """Every call goes through :meth:`_served`: it is counted and recorded, and what is staged for it happens."""

    def __init__(self, endpoint: str) -> None:
        self.mutations: list[Mutation] = []
        self._endpoint = endpoint
        self._calls: list[Call] = []
        self._counts: Counter[str] = Counter()
        self._events: list[Event] = []
        self._lock = threading.RLock()
        self._quiet = self._dead = False
        self._made = 0

    def before(
        self, method: str, act: Callable[[], None], *, at: int = 1, times: int | None = 1, done: bool = False
    ) -> None:
        """Call ``act`` in front of the ``at``-th call of ``method`` from now on, and of the next ones up to ``times``.

        ``times=None``: of all that follow.  With ``done`` it is called after the engine has done as asked, before it
        answers.  ``act`` may raise, and may use the engine within :meth:`unrecorded`.
        """
        with self._lock:
            first = self._counts[method] + at
            self._events.append(Event(method, first, None if times is None else first + times - 1, done, act))

    def fail(self, method: str, error: EngineError, *, at: int = 1, times: int | None = 1, done: bool = False) -> None:
        """Let the ``at``-th call of ``method`` from now on raise ``error``; ``done``: although it was done as asked."""

        def act() -> None:
            raise error

        self.before(method, act, at=at, times=times, done=done)

    def die(self, method: str = "", *, at: int = 1, done: bool = False) -> None:
        """Nobody answers any more: at once, or from the ``at``-th call of ``method`` on."""

        def act() -> None:
            self._dead = True
            raise self._unreachable()

        if method:
            self.before(method, act, at=at, done=done)
        else:
            self._dead = True

    def revive(self) -> None:
        """It answers again, with all that it knew; nothing that was staged is left."""
        with self._lock:
            self._dead = False
            self._events.clear()

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[Self]:
        """For what somebody else does to the engine: no call is recorded or counted, and nothing staged comes in between."""
        with self._lock:
            before, self._quiet = self._quiet, True
            try:
                yield self
            finally:
                self._quiet = before

    def changed(self, *methods: str) -> list[tuple[object, ...]]:
        """What the mutations were, in order, as ``(method, argument, ...)``; only of ``methods``, if any are named."""
        return [(one.method, *one.args) for one in self.mutations if not methods or one.method in methods]

    @contextlib.contextmanager
    def _served(self, name: str, method: str, path: str, status: int = 200, *args: object) -> Iterator[Answer]:
        with self._lock:
            answer = Answer(status)
            if self._quiet:
                yield answer
                return
            self._counts[name] += 1
            number, started, said, shown = self._counts[name], time.time(), "", 0
            try:
                if self._dead:
                    raise self._unreachable()
                self._happen(name, number, False)
                yield answer
                self._happen(name, number, True)
                shown = answer.status
            except EngineError as error:
                said, shown = error.message, error.status or 0
                raise
            finally:
                spent = round((time.time() - started) * 1000, 3)
                self._calls.append(Call(method, f"/v1.41{path}", shown, rfc3339(started), spent))
                if method != "GET":
                    self.mutations.append(Mutation(name, args, said))

    def _happen(self, name: str, number: int, done: bool) -> None:
        for event in tuple(self._events):
            if event.due(name, number, done):
                event.act()

    def _unreachable(self) -> EngineUnreachable:
        return EngineUnreachable(f"no engine at {self._endpoint}: the socket is there, but nobody listens")

    def _new_id(self, kind: str) -> str:
        self._made += 1
        return hashlib.sha256(f"{kind} {self._made}".encode()).hexdigest()
