"""Where a path of the engine's host leads: its links followed as the engine follows them, and what a container has mounted.

A bind mount's source, or the device of a volume that is one, may be a symbolic link, or lie behind one.  mount(2) follows
it at the moment at which the container starts; the engine tells only the name.  So both are looked at: where the name leads
now, in the root folder of the engine's own process, and what the kernel has mounted in a container that runs.
"""

from __future__ import annotations

import errno
import os
import posixpath
import socket
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from irkit.engine.interface import Container
from irkit.mountinfo import PROC, Mount, parse_mountinfo, read_text

LINKS = 40
"""As many links as the kernel follows in one path (path_resolution(7))."""
GONE = "//deleted"
"""What the kernel writes after the root of a mount whose folder has no name any more."""
ENGINES = ("dockerd", "podman")


class HostPaths:
    """The file system of an engine's host, read through ``/proc/PID/root`` of a process that has its root and mounts."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        """The host's, in their order."""
        return parse_mountinfo(read_text(f"{PROC}/{self.pid}/mountinfo"))

    def follow(self, path: str) -> str:
        """The path without a link in it; what is not there is left as it is.  Raises ``OSError``.

        Every link is read by name and followed here, never by the kernel, so that none leads out of that root.
        """
        left, done, links = path.split("/")[::-1], "", 0
        while left:
            part = left.pop()
            if part in ("", ".", ".."):
                done = posixpath.dirname(done).rstrip("/") if part == ".." else done
                continue
            if self._served(f"{done}/{part}"):  # whoever answers for it may be frozen, or be the attacker
                raise OSError(errno.EIO, "a process answers for the file system that it is on (FUSE)", path)
            try:
                target = os.readlink(f"{PROC}/{self.pid}/root{done}/{part}")  # noqa: PTH115
            except (FileNotFoundError, NotADirectoryError):
                target = ""
            except OSError as error:
                if error.errno != errno.EINVAL:  # it is no link
                    raise
                target = ""
            if not target:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > LINKS:
                raise OSError(errno.ELOOP, "too many links", path)
            done = "" if target.startswith("/") else done
            left += target.split("/")[::-1]
        return done or "/"

    def mounted(self, container: Container, place: str, source: str) -> str | None:
        """What of the host a running container has mounted at ``place``, where that is not ``source``.

        Empty when it is ``source`` or nothing can be said of it (it does not run), ``None`` when it is on no file system
        that the host has mounted.
        """
        table = read_text(f"{PROC}/{container.pid}/mountinfo") if container.running and container.pid else ""
        if not table or container.id not in read_text(f"{PROC}/{container.pid}/cgroup"):
            return ""
        rows = [one for one in parse_mountinfo(table) if one.point == posixpath.normpath(place)]
        if not rows:
            return ""
        wanted = (rows[-1].device, rows[-1].root.removesuffix(GONE))
        if wanted == self._inner(source):
            return ""
        return min(self._places(*wanted), key=lambda one: (len(one), one), default=None)

    def _served(self, path: str) -> bool:
        return any(one.served and one.point != "/" and _within(path, one.point) for one in self.mounts)

    def _inner(self, path: str) -> tuple[str, str]:
        """The device (``major:minor``) of a path's file system, and its path within that."""
        over = [one for one in self.mounts if _within(path, one.point)]
        if not over:
            return "", path
        best = max(enumerate(over), key=lambda one: (len(one[1].point), one[0]))[1]
        return best.device, _join(best.root, path[len(best.point.rstrip("/")) :])

    def _places(self, device: str, inner: str) -> Iterator[str]:
        """Where the host has it; a part of a file system may be mounted in several places."""
        for one in self.mounts:
            if one.device == device and _within(inner, one.root):
                yield _join(one.point, inner[len(one.root.rstrip("/")) :])


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _join(folder: str, rest: str) -> str:
    return posixpath.normpath(folder.rstrip("/") + "/" + rest.lstrip("/"))


def engine_process(endpoint: str) -> tuple[int, tuple[str, ...]]:
    """The process that made the socket ``unix://PATH`` (SO_PEERCRED, unix(7)), and its command line.

    Under socket activation that is systemd: then the engine of the pid file.  Raises ``OSError``, ``ValueError``.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(endpoint.removeprefix("unix://"))
        raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = int.from_bytes(raw[:4], "little", signed=True)
    argv = _argv(pid)
    if Path(argv[0]).name == "systemd" or pid == 1:
        pid = int(Path("/run/docker.pid").read_text(encoding="ascii"))
        argv = _argv(pid)
    return pid, argv


def _argv(pid: int) -> tuple[str, ...]:
    words = Path(f"{PROC}/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return tuple(word.decode("utf-8", "surrogateescape") for word in words)


def of_engine(endpoint: str) -> HostPaths | str:
    """The host of the engine behind a URL, or why it can't be seen from here.  A socket may be an ssh tunnel's."""
    if not endpoint.startswith("unix://"):
        return "the engine is on another host"
    try:
        pid, argv = engine_process(endpoint)
        if Path(argv[0]).name not in ENGINES:
            return f"the socket was not made by an engine but by {argv[0]!r}"
        Path(f"{PROC}/{pid}/root/.").stat()
    except (OSError, ValueError) as error:
        return f"the engine's process can't be read: {error}"
    return HostPaths(pid)
