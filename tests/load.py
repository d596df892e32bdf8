"""A steady load of requests: a new connection at fixed intervals, whether or not those before it were answered.

So the patience of a client is not measured.  For tests of a switch and for ``bench/failover.py``.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from irkit.netns import in_netns

PATIENCE = 5.0
"""Seconds that a client waits for the connection, and for each piece of the answer."""
EVERY = 0.02


class Asked(NamedTuple):
    """When a request was begun and was over, seconds since the epoch, and what came back; empty when nothing did."""

    begun: float
    ended: float
    answer: str

    @property
    def ok(self) -> bool:
        """Whether it was answered, and by 200."""
        return self.answer.partition("\r\n")[0].split(" ")[1:2] == ["200"]


def get(address: str, port: int, path: str = "/", patience: float = PATIENCE) -> str:
    """The whole answer to one HTTP/1.0 request; empty when there is none, or it broke off."""
    try:
        with socket.create_connection((address, port), patience) as link:
            link.settimeout(patience)
            link.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            found = b""
            while piece := link.recv(4096):
                found += piece
            return found.decode("latin-1")
    except OSError:
        return ""


@contextmanager
def steady(netns: str | None, ask: Callable[[], str], every: float = EVERY, nice: int = 0) -> Iterator[list[Asked]]:
    """Have ``ask`` called every so many seconds from a network namespace; the rows are sorted by their begin at the end.

    ``nice``: the load's own nice value, where clients on other hosts are meant.
    """
    rows: list[Asked] = []
    stop, threads = threading.Event(), list[threading.Thread]()

    def one() -> None:
        begun = time.time()
        answer = ask()
        rows.append(Asked(begun, time.time(), answer))

    def steadily() -> None:
        if nice:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)  # a thread has its maker's, too
        due = time.monotonic()
        while not stop.is_set():
            threads.append(threading.Thread(target=one))
            threads[-1].start()  # a thread is born in its maker's namespaces
            due = max(due + every, time.monotonic() - every)
            time.sleep(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=in_netns, args=(netns, steadily))
    thread.start()
    try:
        yield rows
    finally:
        stop.set()
        thread.join()
        for each in threads:
            each.join()
        rows.sort()
