"""Python distributions: ``*.dist-info`` (PyPA specification "Recording installed projects") and the older ``*.egg-info``.

``RECORD`` is CSV: path (relative to the folder that holds the ``.dist-info``, or absolute), ``algorithm=digest`` in
URL-safe base64 without padding, size.  Bytecode and RECORD itself have no digest.
"""

from __future__ import annotations

import base64
import binascii
import csv
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b

from irkit.compare.files import Files
from irkit.compare.packages.index import Row, Table
from irkit.compare.packages.model import ALGORITHMS, Installed, Ownership, Problems
from irkit.compare.packages.walk import Places
from irkit.package_paths import database_limit, joined
from irkit.text import printable

HEADER = re.compile(rb"^(Name|Version):[ \t]*([^\r\n]{1,200})", re.MULTILINE)
HEAD = 65536
"""Name and version stand at the beginning of METADATA."""
FILES_LIMIT = 2_000_000
LINE_LIMIT = 16_384
SIZES = {"sha256": 32, "sha384": 48, "sha512": 64, "sha224": 28, "sha1": 20, "md5": 16}


class Pip:
    """The distributions of one side, wherever they are: system, user, virtual environments."""

    name = "pip"
    algorithms = frozenset({"sha256"})

    def __init__(self, files: Files, places: Places) -> None:
        self._files = files
        self._places = places
        self.problems = Problems()

    def _read(self, path: str) -> bytes | None:
        return self._files.read(path, database_limit(path))

    @cached_property
    def packages(self) -> list[Installed]:
        """Each distribution; ``entry`` is the folder or file of its metadata."""
        return [found for place in self._places.metadata if (found := self._package(place)) is not None]

    def _package(self, place: str) -> Installed | None:
        folder, _, last = place.rpartition("/")
        text = next(
            (one for name in ("/METADATA", "/PKG-INFO", "") if (one := self._read(place + name)) is not None), None
        )
        if text is None:
            if self._files.names(place):
                self.problems.add(f"pip: {printable(place, 200)}", "its METADATA is missing, unreadable or too large")
            else:
                return None
        fields: dict[bytes, bytes] = {}
        for key, value in HEADER.findall((text or b"")[:HEAD].split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0]):
            fields.setdefault(key, value)
        stem = last.rpartition(".")[0].split("-")
        name = fields[b"Name"].decode("utf-8", "replace") if b"Name" in fields else stem[0]
        version = fields[b"Version"].decode("utf-8", "replace") if b"Version" in fields else "-".join(stem[1:2])
        return Installed("pip", normalised(name), version.strip(), folder=folder or "/", entry=place)

    @cached_property
    def installed(self) -> Mapping[tuple[str, str, str, str], list[Installed]]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        found: dict[tuple[str, str, str, str], list[Installed]] = {}
        for package in self.packages:
            found.setdefault(package.key, []).append(package)
        return found

    @cached_property
    def _table(self) -> Table:
        table = Table()
        left = FILES_LIMIT
        for number, package in enumerate(self.packages):
            for path, algorithm, digest in self._listed(package):
                left -= 1
                if left < 0 or not table.add(number, os.fsencode(path), digest, algorithm):
                    self.problems.add("pip: files", "there are more than can be indexed")
                    return table
        return table

    def _listed(self, package: Installed) -> Iterator[tuple[str, int, bytes]]:
        """``(path, algorithm, digest)``."""
        record = self._read(f"{package.entry}/RECORD")
        if record is not None:
            yield from self._record(package, record)
            return
        files = self._read(f"{package.entry}/installed-files.txt")
        for line in (files or b"").split(b"\n")[:FILES_LIMIT]:
            path = joined(package.entry, os.fsdecode(line.strip()))
            if path is not None:
                yield path, 0, b""

    def _record(self, package: Installed, record: bytes) -> Iterator[tuple[str, int, bytes]]:
        what = f"pip: RECORD of {printable(package.name, 100)}"
        try:
            for row in csv.reader(self._plain_lines(what, record)):
                path = joined(package.folder, row[0]) if row else None
                if path is not None:
                    yield path, *self._digest(what, row[1] if len(row) > 1 else "")
                elif row:
                    self.problems.add(what, "a path is none, or too long")
        except csv.Error as error:
            self.problems.add(what, f"it breaks off: {error}")

    def _plain_lines(self, what: str, record: bytes) -> Iterator[str]:
        for line in os.fsdecode(record).split("\n", FILES_LIMIT):
            if len(line) <= LINE_LIMIT and "\0" not in line:
                yield line
            else:
                self.problems.add(what, "a line is too long, or has a zero byte")

    def _digest(self, what: str, text: str) -> tuple[int, bytes]:
        if not text:
            return 0, b""
        name, _, value = text.partition("=")
        try:
            digest = base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            digest = b""
        if not digest or SIZES.get(name) != len(digest):
            self.problems.add(what, "a digest is not of a known form")
            return 0, b""
        return ALGORITHMS.index(name), digest

    def owners(self, path: bytes) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        return [self._owned(row) for row in self._table.find(path)]

    def copies(self, algorithm: str, digest: str) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        rows = self._table.with_digest(ALGORITHMS.index(algorithm), bytes.fromhex(digest))
        return [self._owned(row) for row in rows]

    def _owned(self, row: Row) -> Ownership:
        package = self.packages[row.package]
        return Ownership(
            "pip", package.name, package.version, ALGORITHMS[row.algorithm] if row.digest else "", row.digest.hex(),
            path=os.fsdecode(row.path), key=package.key,
        )  # fmt: skip

    def mark(self, package: Installed) -> bytes:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        return blake2b(self._read(f"{package.entry}/RECORD") or b"", digest_size=16).digest()


def normalised(name: str) -> str:
    """As the PyPA specification "Names and normalization" says."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
