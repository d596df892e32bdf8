"""Lines of JSON from a pipe, or from a file that grows, is rotated and is truncated."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.errors import UsageProblem
from irkit.watch.alert import SIZE_LIMIT
from irkit.watch.inbox import Begun, Inbox, Note, received

READ = 64 * 1024
POLL = 0.2
GRACE = 5.0
"""Seconds that a file which was renamed is still read: who writes to it goes on for a while."""
HEAD = 256


@dataclass(slots=True)
class Splitter:
    """Bytes into lines.  One that is too long comes once, cut just over the limit, so that it is said and not kept."""

    _rest: bytearray = field(default_factory=bytearray)
    _over: int = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Whole lines, each with the count of bytes that it took, its newline too."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            yield bytes(self._rest), len(self._rest) + self._over + 1
            self._rest.clear()
            self._over = 0
            start = end + 1
        self._keep(data[start:])

    def rest(self) -> tuple[bytes, int]:
        """What stands there without a newline at the end."""
        line, size = bytes(self._rest), len(self._rest) + self._over
        self._rest.clear()
        self._over = 0
        return line, size

    def _keep(self, data: bytes) -> None:
        room = SIZE_LIMIT + 1 - len(self._rest)
        self._rest += data[:room]
        self._over += max(0, len(data) - room)


class Pipe:
    """A source that reads a descriptor to its end."""

    def __init__(self, source: str, descriptor: int, inbox: Inbox) -> None:
        self.source, self._descriptor, self._inbox = source, descriptor, inbox
        self.name = f"{source} from standard input"

    def run(self) -> None:
        """Until the end."""
        splitter = Splitter()
        while data := os.read(self._descriptor, READ):
            for line, _ in splitter.feed(data):
                if line.strip() and not self._inbox.put(received(self.source, line)):
                    return
        line, _ = splitter.rest()
        if line.strip():
            self._inbox.put(received(self.source, line))


class Follow:
    """A source that follows a file as ``tail -F`` does.  ``past``: how far it was read before, if it ever was.

    It begins at the file's end the first time, or at its beginning with ``once``, which ends at its end.
    """

    def __init__(self, source: str, path: Path, inbox: Inbox, past: Mapping[str, Any] | None, *, once: bool) -> None:
        self.source, self._path, self._inbox, self._past, self._once = source, path, inbox, past, once
        self.name = f"{source} from {path}"
        self._key = f"file:{path}"
        self._descriptor = -1
        self._offset = 0
        self._head = b""
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise UsageProblem(f"{path} is no plain file", hint="a pipe is read from standard input")

    def run(self) -> None:
        """Until the watch ends."""
        said = False
        while not self._inbox.stop.is_set():
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                if not said and (self._once or not isinstance(error, FileNotFoundError)):
                    self._inbox.put(Note("source-error", self.source, f"can't read {self._path}: {error.strerror}"))
                said = True
                self._past = self._past or {}  # one that comes into being while we wait is read from its beginning
            else:
                said = False
                self._offset = self._begin(os.fstat(self._descriptor))
                self._head = os.pread(self._descriptor, min(HEAD, self._offset), 0)
                self._inbox.put(Begun(self._position(self._offset)))
                self._past = {}
                self._read_on()
                os.close(self._descriptor)
            if self._once:
                return
            self._inbox.stop.wait(POLL)

    def _begin(self, found: os.stat_result) -> int:
        past = self._past
        if past is None:
            return 0 if self._once else found.st_size
        if not past:
            return 0
        offset = int(past["offset"])
        head = os.pread(self._descriptor, min(HEAD, offset), 0)
        if (
            offset <= found.st_size
            and hashlib.sha256(head).hexdigest() == past["head"]
            and len(head) == min(HEAD, offset)
        ):
            return offset
        self._inbox.put(
            Note(
                "gap",
                self.source,
                f"{self._path} is not the file that was read before: what that one still had was not read",
            )
        )
        return 0

    def _read_on(self) -> None:
        """Lines until the file is another one, or the watch ends."""
        splitter, handed, replaced = Splitter(), self._offset, 0.0
        while not self._inbox.stop.is_set():
            data = os.pread(self._descriptor, READ, self._offset)
            if len(self._head) < HEAD and data:
                self._head += data[: HEAD - len(self._head)]
            self._offset += len(data)
            for line, size in splitter.feed(data):
                handed += size
                if line.strip() and not self._inbox.put(received(self.source, line, self._position(handed))):
                    return None
            if data:
                continue
            if os.fstat(self._descriptor).st_size < self._offset:
                self._inbox.put(
                    Note("gap", self.source, f"{self._path} was truncated: what was written just before may be lost")
                )
                splitter.rest()
                self._offset = handed = 0
                self._head = b""
                continue
            if self._once:
                return self._last(splitter, handed)
            if not (then := self._replacement()):
                replaced = 0.0
            elif replaced and (then.st_size or time.monotonic() - replaced > GRACE):
                return self._last(splitter, handed)  # read to its end once more after its successor was seen
            else:
                replaced = replaced or time.monotonic()
            self._inbox.stop.wait(POLL)
        return None

    def _last(self, splitter: Splitter, handed: int) -> None:
        """A file that grows no more: what it has without a newline is a line too."""
        line, size = splitter.rest()
        if line.strip():
            self._inbox.put(received(self.source, line, self._position(handed + size)))

    def _replacement(self) -> os.stat_result | None:
        """The file that the name leads to now, when that is another one."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        mine = os.fstat(self._descriptor)
        return found if (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino) else None

    def _position(self, offset: int) -> dict[str, Any]:
        head = self._head[: min(HEAD, offset)]
        return {"source": self._key, "offset": offset, "head": hashlib.sha256(head).hexdigest()}
