"""A few at a time, the urgent ones first, and nobody waits for one that is stuck."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from irkit.actions import turns as module
from irkit.actions.ahead import Ahead
from irkit.actions.turns import Turn, Turns


def begun(turn: Turn, work: Callable[[], object]) -> threading.Thread:
    def body() -> None:
        with turn:
            work()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def test_in_order_and_the_urgent_ones_first() -> None:
    turns, done, gate = Turns(1), [], threading.Event()
    first = begun(turns.ask(urgent=False), gate.wait)
    asked = {name: turns.ask(urgent=name.startswith("u")) for name in ("a", "b", "c", "u1", "u2")}
    asked["c"].hurry()
    threads = [begun(turn, lambda name=name: done.append(name)) for name, turn in asked.items()]
    assert not done, "it is somebody else's turn"
    gate.set()
    for one in (first, *threads):
        one.join(10)
    assert done == ["u1", "u2", "c", "a", "b"]


def test_no_more_at_a_time_than_there_are_slots() -> None:
    turns, running, most, lock = Turns(3), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    threads = [begun(turns.ask(urgent=number % 2 == 0), work) for number in range(30)]
    for one in threads:
        one.join(10)
    assert most == 3
    assert turns.ask(urgent=False).called.is_set(), "and all of them were given back"


def test_one_that_is_stuck_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED", 0.05)
    monkeypatch.setattr(module, "LOOK", 0.01)
    turns, gate, done = Turns(1), threading.Event(), []
    stuck = begun(turns.ask(urgent=True), gate.wait)
    others = [begun(turns.ask(urgent=number == 0), lambda number=number: done.append(number)) for number in range(3)]
    for one in others:
        one.join(10)
    assert sorted(done) == [0, 1, 2] and stuck.is_alive()
    gate.set()
    stuck.join(10)
    free = [turns.ask(urgent=False) for _ in range(2)]
    assert [one.called.is_set() for one in free] == [True, False], "no slot was lost, none was won"


def test_work_ahead_waits_for_its_turn_and_is_hurried_by_who_needs_it() -> None:
    turns, gate, done = Turns(1), threading.Event(), []
    first = begun(turns.ask(urgent=True), gate.wait)
    ahead = [Ahead(lambda number=number: done.append(number), turns.ask(urgent=False)) for number in range(2)]
    waiting = threading.Thread(target=ahead[1].wait, daemon=True)
    waiting.start()
    while ahead[1]._turn in turns._others:
        pass
    assert not done
    gate.set()
    for one in (first, waiting):
        one.join(10)
    ahead[0].wait()
    assert done == [1, 0]


def test_a_turn_in_which_something_fails_is_given_back() -> None:
    turns = Turns(1)
    ahead = Ahead(lambda: 1 / 0, turns.ask(urgent=False))
    ahead.wait()
    with pytest.raises(ZeroDivisionError):
        ahead.result()
    assert turns.ask(urgent=False).called.is_set()
