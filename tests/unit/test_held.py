"""What processes hold of other network namespaces: tried with processes of our own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.quarantine import held as module
from irkit.quarantine.held import _mounted, held

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")
HOLDER = """
import ctypes, os, socket, sys, threading
libc = ctypes.CDLL(None)
CLONE_NEWNET, CLONE_FILES = 0x40000000, 0x400
def elsewhere(make):
    found = []
    def body():
        assert libc.unshare(CLONE_NEWNET) == 0
        found.append(make())
    thread = threading.Thread(target=body); thread.start(); thread.join()
    return found[0]
def apart():
    assert libc.unshare(CLONE_FILES) == 0
    print("ready", flush=True)
    threading.Event().wait()
what, keep = sys.argv[1], []
if what == "socket": keep.append(elsewhere(lambda: socket.socket()))
elif what == "packet": keep.append(elsewhere(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))
elif what == "unix": keep.append(elsewhere(lambda: socket.socketpair()))
elif what == "space": keep.append(elsewhere(lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY)))
elif what == "own": keep += [socket.socket(), socket.socketpair(), os.open("/proc/self/ns/net", os.O_RDONLY)]
elif what == "thread": threading.Thread(target=apart, daemon=True).start(); threading.Event().wait()
print("ready", flush=True)
sys.stdin.read()
"""


def look(what: str, monkeypatch: pytest.MonkeyPatch) -> module.Held:
    monkeypatch.setattr(module, "_mounted", lambda text: [])  # this machine may have some of its own
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            return held([process.pid], f"/proc/{process.pid}/ns/net")
        finally:
            process.kill()


@pytest.mark.parametrize("what", ["socket", "packet"])
def test_a_socket_of_another_namespace(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(what, monkeypatch)
    assert [one.partition(",")[0] for one in found.roads] == [
        "a socket of another network namespace"
    ] and not found.unread


def test_a_namespace_that_no_process_lives_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look("space", monkeypatch)
    assert [one.partition(",")[0] for one in found.roads] == [
        "another network namespace"
    ] and "descriptor" in found.roads[0]


@pytest.mark.parametrize("what", ["own", "unix"])
def test_nothing_of_others(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(what, monkeypatch) == module.Held()


def test_a_thread_with_descriptors_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "has descriptors of its own" in look("thread", monkeypatch).unread


def test_a_kernel_that_can_t_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(module.os, "pidfd_open", refuse)
    assert look("own", monkeypatch) == module.Held(unable="the descriptors")


def test_limits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DESCRIPTORS", 2)
    assert look("own", monkeypatch).unread == "more than 2 descriptors"


def test_a_mounted_namespace() -> None:
    text = "36 35 0:4 net:[4026532000] /run/x rw,nosuid - nsfs nsfs rw\n37 35 0:4 mnt:[4026532001] /run/y rw - nsfs nsfs rw\n38 1 8:1 / / rw - ext4 /dev/sda rw\n"
    assert list(_mounted(text)) == ["net:[4026532000]"]


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    assert all(one.startswith("net:[") for one in _mounted(text))
