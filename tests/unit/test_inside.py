"""What lives in a namespace, and what its processes could do, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from irkit.acquire.host import HostView
from irkit.actions.inside import _awake, _strays, mighty

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")
THREAD = """
import ctypes, sys, threading
def elsewhere():
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
    print("ready", flush=True)
    threading.Event().wait()
threading.Thread(target=elsewhere, daemon=True).start()
sys.stdin.read()
"""
DROPPED = """
import ctypes, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
libc = ctypes.CDLL(None)
for bit in (12, 16, 21, 39):
    assert libc.prctl(24, bit, 0, 0, 0) == 0
print("ready", flush=True)
sys.stdin.read()
"""
PLAIN = "import sys; print('ready', flush=True); sys.stdin.read()"


def started(script: str, *before: str) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [*before, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert made.stdout is not None and made.stdout.readline() == "ready\n"
    return made


@pytest.mark.parametrize(("script", "count"), [(THREAD, 1), (PLAIN, 0)])
def test_a_thread_elsewhere_is_a_stray(script: str, count: int) -> None:
    """A thread can leave its process's namespace; ``/proc/PID/ns/net`` tells of the first one only."""
    with started(script) as process:
        found = _strays(HostView("x", process.pid), [process.pid])
        process.kill()
    assert len(found) == count and all(str(process.pid) in one.path and one.result == "unknown" for one in found)


@pytest.mark.parametrize(
    ("before", "power"),
    [
        ((), "NET_ADMIN"),
        (("setpriv", "--bounding-set", "-net_admin,-sys_module,-bpf", "--inh-caps", "-all"), "SYS_ADMIN"),
        (("setpriv", "--bounding-set", "-net_admin,-sys_module,-sys_admin,-bpf", "--inh-caps", "-all"), ""),
        (("unshare", "--user", "--map-root-user"), ""),
    ],
)  # fmt: skip
def test_who_could_make_a_road(before: tuple[str, ...], power: str) -> None:
    """By what it may ever have, and only in the host's user namespace: over the host's network a container's own gives nothing."""
    with started(PLAIN, *before) as process:
        found: Any = mighty([process.pid])
        process.kill()
    assert (found.power if found else "") == power


def test_a_thread_that_kept_what_its_process_gave_up() -> None:
    """The first thread's bounding set tells of that thread alone (PR_CAPBSET_DROP)."""
    with started(DROPPED) as process:
        found = mighty([process.pid])
        process.kill()
    assert found is not None and found.power == "NET_ADMIN"


def test_who_is_frozen_makes_none() -> None:
    with started(PLAIN, "unshare", "--net") as process:
        view = HostView("x", process.pid)
        assert _awake(view, {process.pid}) == []
        assert [one.result for one in _awake(view, set())] == ["unknown"]
        process.kill()


LEADERLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_sharer_whose_first_thread_has_ended_is_seen() -> None:
    """Its ``/proc/PID/ns`` is empty by then: only its threads tell where it is."""
    with started(PLAIN, "unshare", "--net") as process:
        argv = ["nsenter", "--target", str(process.pid), "--net", sys.executable, "-c", LEADERLESS]
        with subprocess.Popen(argv) as sharer:
            space, deadline = Path(f"/proc/{sharer.pid}/ns/net"), time.monotonic() + 10
            while os.path.lexists(space) and time.monotonic() < deadline:
                time.sleep(0.02)
            found = _awake(HostView("x", process.pid), {process.pid})
            sharer.kill()
        process.kill()
    assert [(one.result, str(sharer.pid) in one.path) for one in found] == [("unknown", True)]


def test_a_pid_namespace_beneath_is_the_target_s_as_well() -> None:
    """Whatever its cgroup; one beside it is not."""
    nest = ("unshare", "--pid", "--fork")
    with started(PLAIN, *nest, "unshare", "--pid", "--fork") as process, started(PLAIN, *nest) as other:
        outer = int(
            Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        )  # unshare, in the first namespace
        inner = int(Path(f"/proc/{outer}/task/{outer}/children").read_text())
        stranger = int(Path(f"/proc/{other.pid}/task/{other.pid}/children").read_text())
        found = HostView("no such container", outer).pids()
        for one in (process, other):
            one.kill()
        subprocess.run(["kill", "-9", str(outer), str(stranger)], check=True)
    assert {outer, inner} <= set(found) and stranger not in found and process.pid not in found
