"""The host that the engine runs on: file attributes, small files, the engine's own command line.

Read through ``/proc/PID/root`` of the engine's process, which an engine in a tree of its own has too.  The process is
the one that made the socket (SO_PEERCRED, unix(7)); under socket activation that is systemd, and it is not guessed at.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from irkit.host_paths import engine_process

READ_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of a file: ``mode`` (permission bits) and owner ids."""

    mode: int
    uid: int
    gid: int


class Host(Protocol):
    """What checks ask of a host.  Each method raises ``OSError`` for what can't be read."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The engine's command line."""

    def attributes(self, path: str) -> Attributes | None:
        """A file's; ``None`` when there is none."""

    def names(self, path: str) -> list[str]:
        """The names in a folder; none when there is no folder."""

    def text(self, path: str) -> str | None:
        """A small file's text; ``None`` when there is none."""


@dataclass(frozen=True, slots=True)
class LiveHost:
    """A host seen from here.  ``argv``: the engine's command line."""

    root: str
    argv: tuple[str, ...] = field(default=())

    def attributes(self, path: str) -> Attributes | None:
        """A file's own, links not followed: they could lead out of the root."""
        try:
            found = os.lstat(self.root + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, f"{path} is a symbolic link")
        return Attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def names(self, path: str) -> list[str]:
        """Sorted names."""
        try:
            return sorted(one.name for one in Path(self.root + path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def text(self, path: str) -> str | None:
        """At most ``READ_LIMIT`` bytes of a regular file."""
        try:
            descriptor = os.open(self.root + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, f"{path} is no regular file")
            data = file.read(READ_LIMIT + 1)
        if len(data) > READ_LIMIT:
            raise OSError(errno.EFBIG, f"{path} is larger than {READ_LIMIT} bytes")
        return data.decode("utf-8", "surrogateescape")


def find_host(endpoint: str) -> LiveHost | str:
    """The host of the engine behind ``unix://PATH``, or why it can't be seen from here."""
    if not endpoint.startswith("unix://"):
        return "the engine is remote: its host can't be read from here"
    try:
        pid, argv = engine_process(endpoint)
        if Path(argv[0]).name != "dockerd":
            return f"the socket was not made by dockerd but by {argv[0]!r}"
        Path(f"/proc/{pid}/root/.").stat()
    except (OSError, ValueError) as error:
        return f"the engine's process can't be read: {error}"
    return LiveHost(f"/proc/{pid}/root", argv)


def options(host: Host) -> dict[str, Any]:
    """The engine's settings: ``daemon.json`` and its command line, by the command line's names (``-H`` is ``hosts``).

    The engine refuses to start when both set one thing (docs.docker.com/engine/daemon), so neither hides the other.
    Raises ``OSError`` or ``ValueError`` for a file that can't be read.
    """
    found = _flags(host.argv)
    path = str(found.get("config-file") or "/etc/docker/daemon.json")
    text = host.text(path)
    if text is not None and text.strip():
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise ValueError(f"{path} is no JSON object")
        found.update(raw)
    return found


ALIASES = {"H": "hosts", "host": "hosts", "l": "log-level", "s": "storage-driver", "D": "debug", "g": "data-root"}
LISTS = ("hosts", "authorization-plugin", "insecure-registry", "default-ulimit")
SWITCHES = ("debug", "D", "experimental", "live-restore", "no-new-privileges", "selinux-enabled", "tls", "tlsverify", "icc", "iptables", "ip6tables", "ip-forward", "ip-masq", "ipv6", "init", "raw-logs", "rootless", "userland-proxy", "validate")  # fmt: skip
"""Of dockerd(8): options that need no value."""


def _flags(argv: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name_long = ALIASES.get(name, name)
        result: Any = value
        if name in SWITCHES or name_long in SWITCHES:
            result = value.lower() in ("1", "t", "true") if equals else True
        elif not equals:
            result = next(words, "")
        if name_long in LISTS:
            found.setdefault(name_long, []).append(result)
        else:
            found[name_long] = result
    return found


def group_members(host: Host, group: str) -> tuple[str, ...] | None:
    """Who is in a group by ``/etc/group`` of that host; ``None`` when there is no such group."""
    for line in (host.text("/etc/group") or "").splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[0] == group:
            return tuple(name for name in fields[3].split(",") if name)
    return None
