"""Files reached through the magic links of ``/proc`` (``exe``, ``fd/N``, ``map_files/…``; proc(5)): the inode itself.

A file system that is served by a process (FUSE) answers when that process wants to, and never while it is frozen.  What
lies on a device that is not known to be the kernel's own is therefore read in a thread that is given up after a while.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")
BLOCK = 1024 * 1024
PATIENCE = 2.0
"""Seconds for one call on a file whose file system may be served by a process."""
DIGEST_LIMIT = 64 * 1024 * 1024 * 1024
"""Bytes: a sparse file can be made larger than anybody could read."""
GIVEN_UP = "its file system did not answer: a process that is frozen may serve it (FUSE)"


class Magic(NamedTuple):
    """An open regular file.  ``hurried``: every call on it may hang, and is given up after :data:`PATIENCE`."""

    descriptor: int
    info: os.stat_result
    hurried: bool

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, up to the size that it had when it was opened: one that grows would never end.  Raises ``OSError``."""
        offset = 0
        while block := self._read(offset, min(BLOCK, self.info.st_size - offset)):
            yield block
            offset += len(block)

    def _read(self, offset: int, size: int) -> bytes:
        return within(lambda: os.pread(self.descriptor, size, offset), self.hurried)

    def sha256(self, limit: int = DIGEST_LIMIT) -> str:
        """The digest of its bytes.  Raises ``OSError``, for a file of more than ``limit`` bytes too."""
        if self.info.st_size > limit:
            raise OSError(0, f"its {self.info.st_size} bytes are too many to be digested")
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


@contextmanager
def open_magic(path: str, *, hurried: bool) -> Iterator[Magic]:
    """The regular file behind a magic link.  Raises ``OSError``: for anything that is not a regular file too.

    A FIFO or a device is never opened for reading: that could block, or do something.
    """
    place = within(lambda: os.open(path, os.O_PATH | os.O_CLOEXEC), hurried)
    try:
        info = within(lambda: os.fstat(place), hurried)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(0, "it is not a regular file")
        descriptor = within(lambda: os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC), hurried)
    finally:
        os.close(place)
    try:
        yield Magic(descriptor, info, hurried)
    finally:
        os.close(descriptor)


def within(call: Callable[[], Result], hurried: bool) -> Result:
    """``call``'s result; when ``hurried``, ``TimeoutError`` after :data:`PATIENCE` seconds without one.

    The thread that hangs is left behind: the kernel ends it with irkit's own process.
    """
    if not hurried:
        return call()
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # handed to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body, name="irkit-hurried", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(0, GIVEN_UP)
    return outcome[0]
