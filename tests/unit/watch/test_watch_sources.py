"""Pipes, files that rotate, and the engine's events with its gaps."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.engine.fake.engine import FakeEngine
from irkit.errors import UsageProblem
from irkit.watch import lines
from irkit.watch.alert import SIZE_LIMIT
from irkit.watch.events import Events
from irkit.watch.inbox import Begun, Inbox, Note, Received
from irkit.watch.lines import Follow, Pipe, Splitter


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_lines_are_the_same_however_they_come(chunks: list[bytes]) -> None:
    splitter, found, taken = Splitter(), [], 0
    for chunk in chunks:
        for line, size in splitter.feed(chunk):
            found.append(line)
            taken += size
    rest, size = splitter.rest()
    whole = b"".join(chunks)
    assert b"\n".join([*found, rest]) == whole and taken + size == len(whole)


def test_a_line_that_is_too_long_is_cut_and_counted_whole() -> None:
    splitter = Splitter()
    found = [*splitter.feed(b"x" * (3 * SIZE_LIMIT)), *splitter.feed(b"y\nnext\n")]
    assert [(len(line), size) for line, size in found] == [(SIZE_LIMIT + 1, 3 * SIZE_LIMIT + 2), (4, 5)]


@contextmanager
def running(source: Any, inbox: Inbox) -> Iterator[None]:
    thread = threading.Thread(target=source.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        inbox.stop.set()
        thread.join(20)
        assert not thread.is_alive()


def take(inbox: Inbox) -> Any:
    while isinstance(found := inbox.take(20.0), Begun):
        continue
    return found


def line(inbox: Inbox) -> bytes:
    found = take(inbox)
    assert isinstance(found, Received), found
    return found.line


def test_a_pipe_to_its_end() -> None:
    inbox = Inbox(10)
    reading, writing = os.pipe()
    os.write(writing, b'{"a": 1}\n\n{"b": 2}')
    os.close(writing)
    Pipe("falco", reading, inbox).run()
    assert [line(inbox), line(inbox)] == [b'{"a": 1}', b'{"b": 2}'] and inbox.take(0) is None


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "POLL", 0.01)


def test_a_file_is_followed_through_rotation_and_truncation(tmp_path: Path, fast: None) -> None:
    path, inbox = tmp_path / "a.log", Inbox(10)
    path.write_bytes(b"old\n")
    with running(Follow("falco", path, inbox, None, once=False), inbox):
        assert isinstance(inbox.take(10.0), Begun)
        with path.open("ab") as file:
            file.write(b"one\ntw")
            file.flush()
            assert line(inbox) == b"one"
            file.write(b"o\n")
            file.flush()
            assert line(inbox) == b"two"
            path.rename(tmp_path / "a.log.1")
            file.write(b"three\n")  # who writes has not noticed yet
            file.flush()
            assert line(inbox) == b"three"
            path.write_bytes(b"four\n")
            file.write(b"late\n")
        assert sorted([line(inbox), line(inbox)]) == [b"four", b"late"]
        os.truncate(path, 0)
        assert "truncated" in take(inbox).message
        with path.open("ab") as file:
            file.write(b"five\n")
        assert line(inbox) == b"five"


def test_a_file_that_is_not_there_yet(tmp_path: Path, fast: None) -> None:
    path, inbox = tmp_path / "a.log", Inbox(10)
    source = Follow("falco", path, inbox, None, once=False)
    with running(source, inbox):
        while source._past is None:
            time.sleep(0.01)
        path.write_bytes(b"one\n")
        assert line(inbox) == b"one"


def test_a_file_is_gone_on_with_where_it_was_left(tmp_path: Path, fast: None) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\n")
    inbox = Inbox(10)
    Follow("falco", path, inbox, None, once=True).run()
    first = take(inbox)
    assert first.line == b"one" and line(inbox) == b"two"
    again = Inbox(10)
    Follow("falco", path, again, first.position, once=True).run()
    assert line(again) == b"two" and again.take(0) is None
    path.write_bytes(b"another\nfile\n")
    third = Inbox(10)
    Follow("falco", path, third, first.position, once=True).run()
    told = take(third)
    assert isinstance(told, Note) and told.kind == "gap"
    assert [line(third), line(third)] == [b"another", b"file"]


def test_what_is_written_while_no_watch_is_there_is_read(tmp_path: Path, fast: None) -> None:
    path, inbox = tmp_path / "a.log", Inbox(10)
    path.write_bytes(b"old\n")
    with running(Follow("falco", path, inbox, None, once=False), inbox):
        begun = inbox.take(5.0)
    assert isinstance(begun, Begun) and begun.position["offset"] == 4
    with path.open("ab") as file:
        file.write(b"meanwhile\n")
    again = Inbox(10)
    Follow("falco", path, again, begun.position, once=True).run()
    assert line(again) == b"meanwhile"


def test_a_file_must_be_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageProblem, match="no plain file"):
        Follow("falco", tmp_path / "pipe", Inbox(1), None, once=False)
    inbox = Inbox(10)
    Follow("falco", tmp_path / "none", inbox, None, once=True).run()
    assert take(inbox).kind == "source-error"


MS = 10**6


def event(engine: FakeEngine, action: str, stamp: int) -> None:
    engine.remember("container", action, "a" * 64, stamp, {"name": "web-1"})


def actions(inbox: Inbox, count: int) -> list[str]:
    return [json.loads(line(inbox))["Action"] for _ in range(count)]


@pytest.fixture
def events(engine: FakeEngine) -> Callable[..., tuple[Events, Inbox]]:
    def make(past: Any = None, *, once: bool = True) -> tuple[Events, Inbox]:
        inbox = Inbox(1000)
        return Events(lambda: engine, inbox, past, once=once, window=0.05), inbox

    return make


def test_events_are_told_once_and_none_is_lost_over_a_restart(engine: FakeEngine, events: Callable[..., Any]) -> None:
    base = time.time_ns() - 5 * 10**9
    for number in range(3):
        event(engine, f"a{number}", base + number * MS)
    source, inbox = events({"source": "events", "time_ns": base - MS, "recent": {}})
    source.run()
    found = [take(inbox) for _ in range(3)]
    assert [json.loads(one.line)["Action"] for one in found] == ["a0", "a1", "a2"] and inbox.take(0) is None
    event(engine, "a3", base + 3 * MS)
    source, inbox = events(found[1].position)
    source.run()
    assert actions(inbox, 2) == ["a2", "a3"] and inbox.take(0) is None


def test_events_while_no_watch_is_there_are_read(engine: FakeEngine, events: Callable[..., Any]) -> None:
    source, inbox = events()
    source.run()
    begun = inbox.take(5.0)
    assert isinstance(begun, Begun)
    event(engine, "meanwhile", time.time_ns() + MS)
    time.sleep(0.01)
    source, inbox = events(begun.position)
    source.run()
    assert actions(inbox, 1) == ["meanwhile"] and inbox.take(0) is None


def test_an_engine_that_forgot_is_said(engine: FakeEngine, events: Callable[..., Any]) -> None:
    base = time.time_ns() - 5 * 10**9
    event(engine, "a0", base)
    source, inbox = events({"source": "events", "time_ns": base - MS, "recent": {}})
    source.run()
    position = take(inbox).position
    engine.remembered = []
    source, inbox = events(position)
    source.run()
    assert "does not remember" in take(inbox).message
    event(engine, "b0", base + 10 * MS)
    source, inbox = events(position)
    source.run()
    assert "does not remember" in take(inbox).message and actions(inbox, 1) == ["b0"]


def test_events_out_of_order_are_neither_lost_nor_a_gap(engine: FakeEngine, events: Callable[..., Any]) -> None:
    base = time.time_ns() - 5 * 10**9
    event(engine, "late", base + 20 * MS)
    event(engine, "early", base + 10 * MS)
    source, inbox = events({"source": "events", "time_ns": base - MS, "recent": {}})
    source.run()
    found = [take(inbox), take(inbox)]
    assert [json.loads(one.line)["Action"] for one in found] == ["late", "early"]
    source, inbox = events(found[1].position)
    source.run()
    assert inbox.take(0) is None


@pytest.mark.thorough
def test_it_goes_on_when_the_engine_comes_back(engine: FakeEngine, events: Callable[..., Any]) -> None:
    source, inbox = events(once=False)
    with running(source, inbox):
        assert isinstance(inbox.take(10.0), Begun)
        event(engine, "a0", time.time_ns())
        assert actions(inbox, 1) == ["a0"]
        engine.die()
        told = take(inbox)
        assert isinstance(told, Note) and told.kind == "source-error"
        engine.revive()
        event(engine, "a1", time.time_ns())
        assert actions(inbox, 1) == ["a1"]


def test_an_inbox_that_is_full_counts_what_it_drops() -> None:
    inbox = Inbox(1)
    one = Received("events", b"{}", 1.0)
    assert inbox.offer(one) and not inbox.offer(one) and not inbox.offer(one, 0.01)
    assert inbox.dropped() == {"events": 2} and inbox.dropped() == {}
    inbox.stop.set()
    assert not inbox.put(one)
