"""The journal of a run: append-only, hash-chained, on the disk before the next thing happens.

One JSON object a line; ``prev`` is the sha256 of the line before, without its newline (64 zeros in the first).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from irkit.clock import now
from irkit.errors import EvidenceAltered, storage_error

FIRST = "0" * 64


class Journal:
    """A journal being written.  ``on_full`` makes room on a full disk; whether it could."""

    def __init__(self, path: Path, on_full: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self._on_full = on_full
        self._prev = FIRST
        self._seq = 0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, f"can't begin the journal {path}") from error

    @classmethod
    def reopen(cls, path: Path, on_full: Callable[[], bool] = lambda: False) -> Journal:
        """Go on with a journal that a crash has left; half a last line is cut off.

        Raises ``EvidenceAltered`` when its chain does not hold, ``StorageError``.
        """
        seq, prev, size = 0, FIRST, 0
        for line in _lines(path):
            seq, prev, size = seq + 1, hashlib.sha256(line).hexdigest(), size + len(line) + 1
        self = cls.__new__(cls)
        self.path, self._on_full, self._prev, self._seq = path, on_full, prev, seq
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            os.ftruncate(self._file, size)
        except OSError as error:
            raise storage_error(error, f"can't go on with the journal {path}") from error
        return self

    @property
    def head(self) -> str:
        """The sha256 of its last line, 64 zeros when it has none."""
        return self._prev

    def write(self, kind: str, **facts: Any) -> None:
        """One record, on the disk when this returns.  Raises ``StorageError``."""
        row = {"seq": self._seq, "time": now(), "prev": self._prev, "type": kind, **facts}
        line = json.dumps(row, separators=(",", ":")).encode()
        try:
            self._append(line)
        except OSError as error:
            if not self._on_full():
                raise storage_error(error, f"can't write the journal {self.path}") from error
            try:
                self._append(line)
            except OSError as again:
                raise storage_error(again, f"can't write the journal {self.path}") from again
        self._prev = hashlib.sha256(line).hexdigest()
        self._seq += 1

    def _append(self, line: bytes) -> None:
        start = os.fstat(self._file).st_size
        data = line + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, start)
            raise

    def close(self) -> None:
        """No more records."""
        os.close(self._file)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Every record, checked.  Raises ``EvidenceAltered`` at the first that does not follow from the one before.

    A last line without its newline is what a crash leaves: it is passed over.
    """
    return (json.loads(line) for line in _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    """The records as they are written, each checked."""
    prev = FIRST
    with path.open("rb") as file:
        for number, raw in enumerate(file):
            if not raw.endswith(b"\n"):
                return
            line = raw[:-1]
            try:
                row = json.loads(line)
                good = row["prev"] == prev and row["seq"] == number
            except (ValueError, KeyError, TypeError, RecursionError):
                good = False
            if not good:
                raise EvidenceAltered(f"{path}: line {number + 1} does not follow from the one before")
            prev = hashlib.sha256(line).hexdigest()
            yield line
