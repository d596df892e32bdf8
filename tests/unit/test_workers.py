"""Worker processes: what they tell arrives, one that dies costs the others nothing, a signal reaches all."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from irkit.cli.options import Signals, catching_signals
from irkit.cli.workers import Tell, spread
from irkit.errors import EngineError, Interrupted
from irkit.quarantine import firewall


def test_each_part_is_worked_on_in_a_process_of_its_own() -> None:
    heard: list[Mapping[str, Any]] = []

    def work(part: int, _: Signals, tell: Tell) -> None:
        tell({"part": part, "pid": os.getpid(), "long": "x" * 300_000})

    spread([1, 2, 3], work, Signals(), heard.append)
    assert sorted(one["part"] for one in heard) == [1, 2, 3]
    assert len({one["pid"] for one in heard} | {os.getpid()}) == 4


def test_one_that_dies_costs_the_others_nothing() -> None:
    heard: list[Mapping[str, Any]] = []

    def work(part: int, _: Signals, tell: Tell) -> None:
        if part == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if part == 2:
            raise RuntimeError("irkit's own fault")
        time.sleep(0.1)
        tell({"part": part})

    spread([1, 2, 3], work, Signals(), heard.append)
    assert heard == [{"part": 3}]


def test_a_signal_is_told_to_all_workers() -> None:
    heard: list[Mapping[str, Any]] = []

    def work(part: int, signals: Signals, tell: Tell) -> None:
        mine = signals.fork()
        shielded = signals.fork()
        shielded.shield()
        tell({"part": part, "ready": True})
        try:
            for _ in range(100):
                mine.checkpoint()
                time.sleep(0.05)
        except Interrupted as error:
            shielded.checkpoint()
            tell({"part": part, "said": error.message})

    def hear(message: Mapping[str, Any]) -> None:
        heard.append(message)
        if len(heard) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with catching_signals() as signals:
        spread([1, 2], work, signals, hear)
    assert sorted(one["part"] for one in heard if one.get("said") == "stopped by SIGTERM") == [1, 2]


def test_a_second_signal_ends_all_at_once() -> None:
    def work(part: int, _: Signals, tell: Tell) -> None:
        tell({"part": part})
        time.sleep(60)

    began = time.monotonic()
    with catching_signals() as signals, pytest.raises(KeyboardInterrupt):
        signals.caught = "SIGINT"
        spread([1, 2], work, signals, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert time.monotonic() - began < 10


def test_rules_that_come_at_once_are_loaded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    first = threading.Event()

    def nft(_: list[str], rules: str = "") -> str:
        calls.append(rules)
        if len(calls) == 1:
            first.set()
            time.sleep(0.2)
        if "bad-rule" in rules:
            raise EngineError("nft refused: bad-rule")
        return ""

    monkeypatch.setattr(firewall, "nft", nft)
    failed: list[str] = []

    def load(case: str) -> None:
        try:
            firewall.load(case, "bad-rule\n" if case == "bad" else f"rules of {case}\n")
        except EngineError:
            failed.append(case)

    threads = [threading.Thread(target=load, args=(case,)) for case in ("first", "a", "b")]
    for thread in threads:
        thread.start()
        first.wait(5)
    for thread in threads:
        thread.join(5)
    assert len(calls) == 2
    assert "rules of a" in calls[1]
    assert "rules of b" in calls[1]

    first.clear()
    calls.clear()
    threads = [threading.Thread(target=load, args=(case,)) for case in ("first", "bad", "c", "d")]
    for thread in threads:
        thread.start()
        first.wait(5)
    for thread in threads:
        thread.join(5)
    assert failed == ["bad"]  # and what stood in the queue with it is loaded all the same
    assert all(any(f"rules of {case}" in one and "bad-rule" not in one for one in calls) for case in ("c", "d"))
