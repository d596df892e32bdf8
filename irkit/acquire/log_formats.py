"""Readers of the log drivers' formats: they count, name what is corrupt, and rebuild what the API should have given."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Protocol

from irkit.clock import rfc3339_ns

ENTRY_LIMIT = 4 * 1024 * 1024
NAMED = 20
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


class Rebuilt:
    """What the API's stream must be, by the files: the digest of its first ``wanted`` bytes, and how many there are."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted
        self._digest = hashlib.sha256()
        self.size = 0
        self.entries = 0
        self.lines = 0

    def add(self, time: bytes, text: bytes) -> None:
        """One entry, as the API shows it with ``timestamps``."""
        data = time + b" " + text
        self.size += len(data)
        self.entries += 1
        self.lines += text.count(b"\n")
        if self._left > 0:
            self._digest.update(data[: self._left])
            self._left -= min(self._left, len(data))

    @property
    def sha256(self) -> str:
        """Of the first ``wanted`` bytes, or of as many as there are."""
        return self._digest.hexdigest()


class Reader(Protocol):
    """What both formats' readers tell."""

    count: int
    bad_count: int
    bad: list[str]
    replaced: int
    first_time: str
    last_time: str

    def feed(self, block: bytes) -> None:
        """More of the file."""

    def finish(self) -> None:
        """The file ends here."""


class _Counting:
    def __init__(self, streams: dict[str, Rebuilt]) -> None:
        self._streams = streams
        self._rest = b""
        self._at = 0
        self.count = self.bad_count = self.replaced = 0
        self.bad: list[str] = []
        self.first_time = self.last_time = ""

    def _entry(self, stream: str, time: str, text: bytes) -> None:
        self.count += 1
        self.first_time = self.first_time or time
        self.last_time = time
        if b"\xef\xbf\xbd" in text:
            self.replaced += 1
        if stream in self._streams:
            self._streams[stream].add(time.encode(), text)

    def _corrupt(self, why: str) -> None:
        self.bad_count += 1
        if len(self.bad) < NAMED:
            self.bad.append(why)


class JsonLines(_Counting):
    """json-file."""

    def __init__(self, streams: dict[str, Rebuilt]) -> None:
        super().__init__(streams)
        self._skipping = False

    def feed(self, block: bytes) -> None:
        """More of the file."""
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._at += 1
            if self._skipping:
                self._skipping = False
            else:
                self._line(line)
        if len(self._rest) > ENTRY_LIMIT:
            if not self._skipping:
                self._corrupt(f"line {self._at + 1} is longer than {ENTRY_LIMIT} bytes")
            self._skipping, self._rest = True, b""

    def finish(self) -> None:
        """A last line without an end is a truncated one."""
        if self._rest and not self._skipping:
            self._corrupt(f"line {self._at + 1}, the last one, has no end")

    def _line(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            text, stream, time = row["log"], row["stream"], TIME.fullmatch(row["time"])
            if time is None or not isinstance(text, str) or not isinstance(stream, str):
                raise ValueError
            data = text.encode("utf-8", "replace")
        except (ValueError, KeyError, TypeError, RecursionError):
            self._corrupt(f"line {self._at} is not one of the driver's")
            return
        self._entry(stream, f"{time.group(1)}.{(time.group(2) or ''):0<9}Z", data)


class LocalEntries(_Counting):
    """local, and the cache that the engine keeps beside a driver that can't be read."""

    def __init__(self, streams: dict[str, Rebuilt]) -> None:
        super().__init__(streams)
        self._lost = False

    def feed(self, block: bytes) -> None:
        """More of the file.  After a wrong size nothing more can be told apart."""
        if self._lost:
            return
        data, at = self._rest + block, 0
        while len(data) - at >= 8:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > ENTRY_LIMIT:
                self._give_up(at, "its size is impossible")
                return
            if len(data) - at < size + 8:
                break
            if int.from_bytes(data[at + 4 + size : at + 8 + size], "big") != size:
                self._give_up(at, "its two sizes differ")
                return
            self._message(data[at + 4 : at + 4 + size], self._at + at)
            at += size + 8
        self._at += at
        self._rest = data[at:]

    def finish(self) -> None:
        """Bytes that are left over are a truncated entry."""
        if self._rest and not self._lost:
            self._corrupt(f"the entry at byte {self._at}, the last one, has no end")

    def _give_up(self, at: int, why: str) -> None:
        self._corrupt(f"the entry at byte {self._at + at}: {why}; what follows was not compared")
        self._lost, self._rest = True, b""

    def _message(self, data: bytes, at: int) -> None:
        try:
            fields = protobuf_fields(data)
        except ValueError:
            fields = {}
        source, time, line = fields.get(1), fields.get(2, 0), fields.get(3, b"")
        if not isinstance(source, bytes) or not isinstance(line, bytes) or not isinstance(time, int):
            self._corrupt(f"the entry at byte {at} is not one of the driver's")
            return
        stamp = rfc3339_ns(time - (1 << 64) if time >> 63 else time)
        self._entry(source.decode("utf-8", "replace"), stamp, line if fields.get(4) else line + b"\n")


def protobuf_fields(data: bytes) -> dict[int, int | bytes]:
    """The last value of each field (protobuf.dev, "Encoding"; wire types 0, 1, 2, 5).  Raises ``ValueError``."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            found[key >> 3], at = _varint(data, at)
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("not a wire type")
        if size > len(data) - at:
            raise ValueError("a field is cut off")
        found[key >> 3] = data[at : at + size]
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number is too long")
