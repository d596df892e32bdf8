"""Passes over /proc that tell which process lives in which namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

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


class Slow:
    """Passes that take as long as is wished; when each began."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.go_on = threading.Event()

    def look(self, kind: str) -> Spaces:
        self.begun.append(time.monotonic_ns())
        made = Spaces({}, {}, self.begun[-1])
        self.go_on.wait(10)
        return made


def test_who_asks_is_given_what_was_begun_after_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, slow, wrong = module._Passes("pid"), Slow(), []
    monkeypatch.setattr(module, "_look", slow.look)
    asking = threading.Semaphore(0)

    def ask() -> None:
        asked = time.monotonic_ns()
        asking.release()
        if passes.ask().begun <= asked:
            wrong.append(asked)

    threads = [threading.Thread(target=ask) for _ in range(9)]
    for one in threads:
        one.start()
        asking.acquire()
    time.sleep(0.05)  # until they wait: the first for its pass, the others for the next one
    slow.go_on.set()
    for one in threads:
        one.join()
    assert not wrong
    assert 2 <= len(slow.begun) < 6, "those that waited together were answered together"


@pytest.mark.parametrize("kind", ["pid", "net", "mnt"])
def test_a_process_whose_first_thread_has_ended(kind: str) -> None:
    script = "import threading, time, ctypes; threading.Thread(target=time.sleep, args=(60,)).start(); print(flush=True); ctypes.CDLL(None).pthread_exit(None)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            deadline = time.monotonic() + 10
            while os.path.exists(f"/proc/{process.pid}/ns/net") and time.monotonic() < deadline:
                time.sleep(0.01)
            assert process.pid in spaces(kind).pids[os.readlink(f"/proc/self/ns/{kind}")]
        finally:
            process.kill()
