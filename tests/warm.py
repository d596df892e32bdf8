"""irkit as a process of its own that need not import irkit first: forked from one that has.

To import Python, click, the Docker SDK and irkit takes a command most of its CPU time, and the integration tests start a thousand of
them.  A test worker starts this module once; it imports all of irkit, and then forks a process for each command, which runs
``python -m irkit``'s own module with the command's arguments, environment and files.  What that does not show - that a command imports
what it needs, and how fast it starts - the unit tests and those that start a command themselves show; ``IRKIT_TEST_COLD=1`` starts every
command anew (make test-matrix).
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

FILES = 4
"""Sent with each request: standard input, output and error, and where the process's number and then its exit status are written."""
REQUEST_LIMIT = 200_000
"""Bytes: a socket's message may be no longer, so a longer command line is run in the usual way."""
INTERPRETER = ("PYTHON", "LD_", "MALLOC_")
"""What the interpreter or the loader reads when it starts: a command with other ones of these is started anew."""


# -- the tests' side ------------------------------------------------------------------------------------------------


@dataclass
class Warm:
    """Starts commands; its process is started with the first one."""

    link: socket.socket | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, argv: Sequence[str], env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
        """As subprocess.run with its output captured, without input.

        Raises:
            subprocess.TimeoutExpired: It was killed.
        """
        message = json.dumps([list(argv), dict(env), os.getcwd()]).encode()
        if os.environ.get("IRKIT_TEST_COLD") or len(message) > REQUEST_LIMIT or _startup(env) != _startup(os.environ):
            return subprocess.run(
                [sys.executable, "-m", "irkit", *argv], capture_output=True, text=True, timeout=seconds, check=False, env=dict(env),
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        with contextlib.ExitStack() as stack:
            null = stack.enter_context(open(os.devnull, "rb"))
            pairs = [_pipe(stack) for _ in range(FILES - 1)]
            self._ask(message, [null.fileno(), *(write.fileno() for _, write in pairs)])
            for _, write in pairs:
                write.close()
            out, err, status = (read for read, _ in pairs)
            pid = int(status.read(8) or b"0")
            try:
                texts = _read_all([out, err, status], time.monotonic() + seconds)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["irkit", *argv], seconds) from None
        assert texts[2], "the warm process ended"
        return subprocess.CompletedProcess(["irkit", *argv], int(texts[2]), texts[0].decode(), texts[1].decode())

    def _ask(self, message: bytes, files: list[int]) -> None:
        with self.lock:
            if self.link is None:
                self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.warm", str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                    )  # fmt: skip
            self.link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])


def _startup(env: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(INTERPRETER)}


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return stack.enter_context(open(read, "rb", buffering=0)), stack.enter_context(open(write, "wb", buffering=0))


def _read_all(files: list[IO[bytes]], end: float) -> list[bytes]:
    """What is written to each until all are closed.

    Raises:
        TimeoutError: They were not by then.
    """
    found = [bytearray() for _ in files]
    with selectors.DefaultSelector() as selector:
        for number, file in enumerate(files):
            selector.register(file, selectors.EVENT_READ, number)
        while selector.get_map():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                if data := os.read(key.fd, 1 << 16):
                    found[key.data] += data
                else:
                    selector.unregister(key.fileobj)
    return [bytes(one) for one in found]


# -- the warm process -----------------------------------------------------------------------------------------------


def serve(link: socket.socket) -> None:
    """Fork a process for each request until the tests' side is gone.  Returns in each of those processes, to run the command."""
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not link:
                    selector.unregister(key.fileobj)
                    _ended(key.fd, *key.data)
                    continue
                message, files, _, _ = socket.recv_fds(link, REQUEST_LIMIT + 1, FILES)
                if not message:
                    os._exit(0)
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    link.close()
                    _become(message, files)
                    return
                for one in files[:-1]:
                    os.close(one)
                os.write(files[-1], b"%08d" % pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, files[-1]))


def _ended(pidfd: int, pid: int, status: int) -> None:
    os.close(pidfd)
    _, code = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):  # the test has given it up
        os.write(status, b"%d" % os.waitstatus_to_exitcode(code))
    os.close(status)


def _become(message: bytes, files: list[int]) -> None:
    """Take over the arguments, the environment, the folder and the files of the command."""
    argv, env, folder = json.loads(message)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, max(files) + 64)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    random.seed()
    sys.argv[1:] = argv


def preload() -> None:
    """Import all that a command may need, and hold on to it: what a fork does not touch stays shared."""
    import irkit

    for module in pkgutil.walk_packages(irkit.__path__, "irkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("docker", "yara_x"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork takes no threads along"
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("irkit", run_name="__main__", alter_sys=True)
