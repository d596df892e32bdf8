"""irkit's own calls to an engine, recorded for the custody: who reads the evidence can see what irkit itself did."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from irkit.engine.interface import Call
from irkit.errors import storage_error

LIMIT = 100_000
SHOWN = frozenset(
    ("all", "filters", "force", "name", "since", "stderr", "stdout", "t", "tail", "timestamps", "until", "v")
)
"""Parameters whose values are written down; of any other one only the name is."""


class CallLog:
    """An append-only list of calls.  Past ``limit``, calls that only read are counted but not kept."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._kept: list[Call] = []
        self._limit = limit
        self._file: int | None = None
        self.dropped = 0
        self.unwritten = 0

    def append(self, call: Call) -> None:
        """Record one call.  Never raises: a call that was made is not undone by a full disk."""
        if len(self._kept) >= self._limit and call.method in ("GET", "HEAD"):
            self.dropped += 1
            return
        call = call._replace(path=without_secrets(call.path))
        self._kept.append(call)
        self._write(call)

    def record_to(self, path: Path) -> None:
        """Write every call, those so far too, to the end of a file of the case (mode 0600).  Raises ``StorageError``."""
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, f"can't write {path}") from error
        for call in self._kept:
            self._write(call)

    def close(self) -> None:
        """Let go of the case's file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _write(self, call: Call) -> None:
        if self._file is None:
            return
        try:
            os.write(self._file, json.dumps(call.to_json(), sort_keys=True).encode() + b"\n")
        except OSError:
            self.unwritten += 1

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._kept))

    def __len__(self) -> int:
        return len(self._kept)


def without_secrets(path: str) -> str:
    """A request's path with the values of parameters that irkit doesn't know to be harmless left out."""
    plain, mark, query = path.partition("?")
    if not mark:  # nearly always: nothing to take apart on the hot path
        return path
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    return f"{plain}?{urllib.parse.urlencode([(key, value if key in SHOWN else '-') for key, value in pairs])}"
