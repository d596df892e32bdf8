"""Many targets by one command: who waits for whom."""

from __future__ import annotations

import threading
import time

import pytest

from irkit.cli import fleet
from irkit.cli.options import Signals


def test_who_is_sealed_off_waits_for_the_others() -> None:
    turnstile, order = fleet._Turnstile(2), list[str]()

    def first() -> None:
        turnstile.passed()
        turnstile.wait(Signals())
        order.append("evidence")

    thread = threading.Thread(target=first)
    thread.start()
    time.sleep(0.05)
    order.append("the other is sealed off")
    turnstile.passed()
    thread.join(5)
    assert order == ["the other is sealed off", "evidence"]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "WAIT", 0.01)
    fleet._Turnstile(2).wait(Signals())


def test_a_signal_ends_the_wait() -> None:
    signals = Signals()
    signals.caught = "SIGINT"
    began = time.monotonic()
    fleet._Turnstile(2).wait(signals)
    assert time.monotonic() - began < fleet.WAIT / 2
