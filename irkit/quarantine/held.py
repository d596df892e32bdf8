"""What processes hold of other network namespaces than their own: sockets, and namespaces that no process lives in.

A socket stays in the namespace that it was made in, whoever holds it and wherever its holder's networks went: one that was
passed by ``SCM_RIGHTS`` (unix(7)), made before a setns(2), or inherited from the engine's host (socket activation) is a
road that no quarantine closes.  The kernel tells each socket's namespace by ``SIOCGSKNS``; nothing runs in the container.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from irkit.quarantine.procfs import read

SYS_PIDFD_GETFD = 438
"""pidfd_getfd(2), Linux 5.6: the same number on every architecture."""
SYS_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "ppc64le": 354, "s390x": 343}
"""kcmp(2)."""
KCMP_FILES = 2
SIOCGSKNS = 0x894C
SO_DOMAIN = 39
DESCRIPTORS, SOCKETS, NAMED = 65536, 4096, 16
_libc = ctypes.CDLL(None, use_errno=True)


class Held(NamedTuple):
    """``roads``: what is held of other namespaces, in words; ``unread``: what of the target was not looked at.

    ``unable``: what this kernel can't tell of anybody; empty when it can.
    """

    roads: tuple[str, ...] = ()
    unread: str = ""
    unable: str = ""


class _Look:
    """One pass over the descriptors of some processes."""

    def __init__(self, own: int) -> None:
        self.own = own
        self.roads: dict[str, None] = {}
        self.unread: dict[str, None] = {}
        self.unable: dict[str, None] = {}
        self._descriptors = 0
        self._sockets: set[str] = set()
        self._mounts: set[str] = set()

    def process(self, pid: int) -> None:
        """Its descriptors, and its mounts if no other process had the same."""
        space = _link(f"/proc/{pid}/ns/mnt")
        if space and space not in self._mounts:
            self._mounts.add(space)
            for name in _mounted(read(f"/proc/{pid}/mountinfo")):
                self._space(pid, name, "a mount")
        try:
            handle = os.pidfd_open(pid)
        except OSError as error:
            self._failed("the descriptors", error)
            return
        try:
            self._table(pid, handle)
        finally:
            os.close(handle)
        for thread in _numbers(f"/proc/{pid}/task"):
            if int(thread) != pid:
                self._thread(pid, int(thread))

    def _table(self, pid: int, handle: int) -> None:
        for number in _numbers(f"/proc/{pid}/fd"):
            self._descriptors += 1
            if self._descriptors > DESCRIPTORS:
                self.unread[f"more than {DESCRIPTORS} descriptors"] = None
                return
            name = _link(f"/proc/{pid}/fd/{number}")
            if name.startswith("net:["):
                self._space(pid, name, f"its descriptor {number}")
            elif name.startswith("socket:[") and name not in self._sockets:
                self._sockets.add(name)
                self._socket(pid, int(number), handle)

    def _thread(self, pid: int, thread: int) -> None:
        """A thread may have descriptors of its own (unshare(2), ``CLONE_FILES``)."""
        number = SYS_KCMP.get(platform.machine())
        if number is None:
            self.unable["whether threads have descriptors of their own"] = None
            return
        same = _libc.syscall(number, pid, thread, KCMP_FILES, 0, 0)
        if same < 0:
            self._failed("whether threads have descriptors of their own", OSError(ctypes.get_errno(), ""))
        elif same:
            self.unread[f"thread {thread} of process {pid} has descriptors of its own"] = None

    def _failed(self, what: str, error: OSError) -> None:
        if error.errno == errno.ENOSYS:
            self.unable[what] = None
        elif error.errno not in (errno.ESRCH, errno.EBADF):  # it is gone, or closed by a process that is not frozen
            self.unread[f"{what}: {os.strerror(error.errno or errno.EIO)}"] = None

    def _space(self, pid: int, name: str, by: str) -> None:
        if name != f"net:[{self.own}]":
            self.roads[f"another network namespace, which process {pid} holds by {by}"] = None

    def _socket(self, pid: int, number: int, handle: int) -> None:
        if len(self._sockets) > SOCKETS:
            self.unread[f"more than {SOCKETS} sockets"] = None
            return
        try:
            family, space = _namespace(handle, number)
        except OSError as error:
            self._failed("the namespaces of sockets", error)
            return
        if space != self.own and family != socket.AF_UNIX:  # an accepted one has the namespace of who connected
            self.roads[f"a socket of another network namespace, descriptor {number} of process {pid}"] = None


def held(pids: Iterable[int], netns: str) -> Held:
    """What these processes hold of other namespaces than that of ``netns``.  Raises ``OSError`` when that one is gone."""
    look = _Look(os.stat(netns).st_ino)  # noqa: PTH116 - a hot path of plain strings
    for pid in pids:
        look.process(pid)
    roads = list(look.roads)
    more = [f"{len(roads) - NAMED} more of other network namespaces"] if len(roads) > NAMED else []
    return Held((*roads[:NAMED], *more), "; ".join(look.unread), "; ".join(look.unable))


def _mounted(mountinfo: str) -> Iterator[str]:
    """``net:[inode]`` of each network namespace that is mounted (proc(5): the fourth field of a mount of ``nsfs``)."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if right.startswith("nsfs ") and len(fields) > 3 and fields[3].startswith("net:["):
            yield fields[3]


def _numbers(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def _namespace(handle: int, number: int) -> tuple[int, int]:
    """A socket's family and the inode of its namespace, by a copy of the descriptor.  Raises ``OSError``."""
    copy = _libc.syscall(SYS_PIDFD_GETFD, handle, number, 0)
    if copy < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=copy) as sock:  # whatever it is: only to be asked
        space = fcntl.ioctl(sock, SIOCGSKNS)
        try:
            return sock.getsockopt(socket.SOL_SOCKET, SO_DOMAIN), os.fstat(space).st_ino
        finally:
            os.close(space)
