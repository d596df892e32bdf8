"""Going into another network namespace, and coming back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from irkit.netns import in_netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.fixture(scope="module")
def spaces() -> Iterator[tuple[str, str]]:
    """Two of them, by their paths."""
    made = [subprocess.Popen(["unshare", "-n", "sleep", "60"]) for _ in range(2)]
    deadline = time.monotonic() + 10
    while any(os.readlink(f"/proc/{one.pid}/ns/net") == here() for one in made) and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"/proc/{made[0].pid}/ns/net", f"/proc/{made[1].pid}/ns/net"
    for one in made:
        one.kill()
        one.wait()


def in_the_main_thread(work: Callable[[], None]) -> None:
    assert threading.current_thread() is threading.main_thread()
    work()


def in_a_thread_of_a_pool(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@pytest.mark.parametrize("anywhere", [in_the_main_thread, in_a_thread_of_a_pool])
def test_there_and_back(spaces: tuple[str, str], anywhere: Callable[[Callable[[], None]], None]) -> None:
    def work() -> None:
        home = here()
        one, other = (os.readlink(path) for path in spaces)
        assert in_netns(spaces[0], here) == one != home
        assert in_netns(spaces[0], lambda: (in_netns(spaces[1], here), here(), in_netns(None, here))) == (
            other,
            one,
            one,
        )
        with pytest.raises(ZeroDivisionError):
            in_netns(spaces[0], lambda: 1 / 0)
        with pytest.raises(OSError, match="No such file"):
            in_netns("/proc/0/ns/net", here)
        with pytest.raises(OSError, match="Invalid argument"):
            in_netns("/proc/self/ns/pid", here)
        assert here() == home

    anywhere(work)


def test_the_main_thread_stays_where_it_is(spaces: tuple[str, str]) -> None:
    """What others read of /proc/self is the main thread's."""
    seen = in_netns(spaces[0], lambda: (here(), os.readlink("/proc/self/ns/net")))
    assert seen == (os.readlink(spaces[0]), here())


def test_who_could_not_come_back_does_not_go() -> None:
    """Root of a user namespace alone may enter networks of its own, and not the host's again: that must end no process."""
    script = """
import os, subprocess, threading
from irkit.netns import in_netns
here = lambda: os.readlink("/proc/thread-self/ns/net")
process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
process.stdout.readline()
found = []
thread = threading.Thread(target=lambda: found.extend((in_netns(f"/proc/{process.pid}/ns/net", here), here())))
thread.start(); thread.join()
assert found == [os.readlink(f"/proc/{process.pid}/ns/net"), here()] and found[0] != found[1], found
process.kill()
print("came back")
"""
    done = subprocess.run(["unshare", "-Ur", sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "came back\n", done.stderr
