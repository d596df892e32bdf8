"""What both stages share.  Runs in the container, on Debian's minimal Python: the standard library's small part only."""

from __future__ import annotations

import hashlib
import os

MOUNTS = {"/run": "tmpfs", "/dev/shm": "tmpfs", "/var/lib/app": "volume"}


def origin(path: str) -> str:
    """Where a path lies: ``layer``, ``tmpfs``, ``volume``."""
    return next((kind for point, kind in MOUNTS.items() if path == point or path.startswith(point + "/")), "layer")


def noise(seed: str, size: int) -> bytes:
    """Bytes that look random, the same each time."""
    found = b""
    number = 0
    while len(found) < size:
        found += hashlib.sha512(f"{seed}{number}".encode()).digest()
        number += 1
    return found[:size]


def content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class Stage:
    """Makes changes, and remembers each: ``[path, change, origin, group]``."""

    def __init__(self) -> None:
        self.done: dict[str, list[str]] = {}

    def note(self, path: str, change: str, group: str) -> None:
        self.done.setdefault(path, [path, change, origin(path), group])

    def folder(self, path: str, group: str) -> None:
        if not os.path.isdir(path):
            self.folder(os.path.dirname(path), group)
            os.mkdir(path, 0o755)
            self.note(path, "added", group)

    def write(self, path: str, data: bytes, group: str, mode: int = 0o644, owner: int = 0) -> None:
        self.folder(os.path.dirname(path), group)
        known = os.path.lexists(path)
        with open(path, "wb") as file:
            file.write(data)
        if not known:
            os.chmod(path, mode)
            os.chown(path, owner, owner)
        self.note(path, "changed" if known and origin(path) == "layer" else "added", group)

    def append(self, path: str, data: bytes, group: str) -> None:
        with open(path, "ab") as file:
            file.write(data)
        self.note(path, "changed", group)

    def remove(self, path: str, group: str) -> None:
        os.unlink(path)
        self.note(path, "deleted", group)

    def tell(self) -> None:
        print(list(self.done.values()))  # no json in this Python
