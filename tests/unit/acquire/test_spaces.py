"""Passes over /proc that tell which process lives in which namespace."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from irkit.acquire import spaces as module
from irkit.acquire.spaces import Spaces, spaces


@pytest.mark.parametrize("kind", ["pid", "net", "mnt"])
def test_a_process_is_in_its_namespace(kind: str) -> None:
    assert os.getpid() in spaces(kind).pids[os.readlink(f"/proc/self/ns/{kind}")]


@pytest.mark.skipif(os.geteuid() != 0, reason="makes pid namespaces")
def test_namespaces_within_namespaces() -> None:
    """The second is beneath the first, and both are beneath our own."""
    argv = ["unshare", "-pf", "--kill-child", "unshare", "-pf", "--kill-child", "sleep", "60"]
    with subprocess.Popen(argv) as process:
        try:
            chain = _chain(process.pid)
            found = spaces("pid")
            first, second = (os.readlink(f"/proc/{pid}/ns/pid") for pid in chain)
            mine = os.readlink("/proc/self/ns/pid")
            assert found.above[first] == (mine,) and found.above[second] == (first, mine)
            assert chain[1] in found.pids[second] and mine not in found.above
        finally:
            process.kill()


def _chain(outer: int) -> tuple[int, int]:
    """The first processes of both namespaces."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        inner = _child(outer)
        last = _child(inner) if inner else 0
        if last and len({os.readlink(f"/proc/{pid}/ns/pid") for pid in (outer, inner, last)}) == 3:
            return inner, last
        time.sleep(0.02)
    raise AssertionError("no namespaces")


def _child(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int((file.read().split() or ["0"])[0])


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Passes that take a while; when each began."""
    begun: list[int] = []

    def look(kind: str) -> Spaces:
        begun.append(time.monotonic_ns())
        made = Spaces({}, {}, begun[-1])
        time.sleep(0.05)
        return made

    monkeypatch.setattr(module, "_look", look)
    yield begun


def test_who_asks_is_given_what_was_begun_after_the_question(slow: list[int]) -> None:
    passes = module._Passes("pid")
    wrong: list[tuple[int, int]] = []

    def ask() -> None:
        for _ in range(3):
            asked = time.monotonic_ns()
            got = passes.ask().begun
            if got <= asked:
                wrong.append((asked, got))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
    assert len(slow) < 12, "24 questions: those that waited together were answered together"
