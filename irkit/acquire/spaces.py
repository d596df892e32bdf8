"""Which process lives in which namespace: one pass over ``/proc``, shared by those who ask while another pass is under way.

A host of many containers has hundreds of processes, and each target of a command has to know which of them are its own.
Whoever asks is given a pass that was begun after the question: what is shared is as fresh as one of its own.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from irkit.mountinfo import PROC, link_of

NS_GET_PARENT = 0xB702
DEPTH_LIMIT = 64
"""Pid namespaces can be nested 32 deep (pid_namespaces(7))."""


class Spaces(NamedTuple):
    """``pids``: the processes of each namespace, by its link (``pid:[inode]``); ``above``: the namespaces that one is beneath.

    ``above`` is of pid namespaces alone, and ends at irkit's own.  ``begun``: when the pass began, monotonic nanoseconds.
    """

    pids: Mapping[str, tuple[int, ...]]
    above: Mapping[str, tuple[str, ...]]
    begun: int


def spaces(kind: str) -> Spaces:
    """All processes by their namespace of a kind: ``pid``, ``net`` or ``mnt``; those that may not be asked are left out."""
    return _PASSES[kind].ask()


class _Passes:
    """Passes for one kind, one at a time."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._last = Spaces({}, {}, -1)

    def ask(self) -> Spaces:
        asked = time.monotonic_ns()
        with self._lock:
            if self._last.begun <= asked:
                self._last = _look(self._kind)
            return self._last


def _look(kind: str) -> Spaces:
    begun = time.monotonic_ns()
    pids: dict[str, list[int]] = {}
    for pid in all_pids():
        if link := link_of(f"{PROC}/{pid}/ns/{kind}") or _of_a_thread(pid, kind):
            pids.setdefault(link, []).append(pid)
    above = {}
    if kind == "pid":
        mine = link_of(f"{PROC}/self/ns/pid")
        above = {link: _above(some, link) for link, some in pids.items() if link != mine}
    return Spaces({link: tuple(some) for link, some in pids.items()}, above, begun)


def _of_a_thread(pid: int, kind: str) -> str:
    """Of a process whose first thread has ended while others live: it has no namespaces any more, they do."""
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")  # noqa: PTH208
    except OSError:
        return ""
    return next((link for one in threads if (link := link_of(f"{PROC}/{pid}/task/{one}/ns/{kind}"))), "")


def _above(pids: list[int], link: str) -> tuple[str, ...]:
    """The pid namespaces that one is beneath, the nearest first; by the first of its processes that is still in it."""
    for pid in pids:
        try:
            space = os.open(f"{PROC}/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        if f"pid:[{os.fstat(space).st_ino}]" == link:
            return _parents(space)
        os.close(space)
    return ()


def _parents(space: int) -> tuple[str, ...]:
    """ioctl_ns(2), ``NS_GET_PARENT``; closes the descriptor."""
    found: list[str] = []
    try:
        while len(found) < DEPTH_LIMIT:
            parent = fcntl.ioctl(space, NS_GET_PARENT)
            os.close(space)
            space = parent
            found.append(f"pid:[{os.fstat(space).st_ino}]")
    except OSError:  # beyond our own there is none that we may see
        pass
    finally:
        os.close(space)
    return tuple(found)


def all_pids() -> list[int]:
    """Every process of this host."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208


_PASSES = {kind: _Passes(kind) for kind in ("pid", "net", "mnt")}
