"""rpm's database: its headers in one of three containers (:mod:`.rpm_store`), each header a package (:mod:`.rpm_header`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b

from irkit.compare.files import Files
from irkit.compare.packages.index import CONFFILE, MODE, Row, Table
from irkit.compare.packages.model import ALGORITHMS, Installed, Ownership, Problems
from irkit.compare.packages.rpm_header import ARCH, NAME, BadHeader, Header
from irkit.compare.packages.rpm_store import BadStore, headers
from irkit.package_paths import database_limit, is_plain

FOLDERS = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
NAMES = ("rpmdb.sqlite", "Packages.db", "Packages")
SIZES = {"md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}


class Rpm:
    """The database of one side: the first place that holds one."""

    name = "rpm"

    def __init__(self, files: Files) -> None:
        self._files = files
        self.problems = Problems()

    def _headers(self) -> Iterator[bytes]:
        place, data = self._store or ("", b"")
        if not place:
            return
        try:
            yield from headers(data)
        except BadStore as error:
            self.problems.add(f"rpm: {place}", f"{error}; packages after that are not known")

    @cached_property
    def _store(self) -> tuple[str, bytes] | None:
        for folder in FOLDERS:
            names = self._files.names(folder)
            for name in (one for one in NAMES if one in names):
                place = f"{folder}/{name}"
                data = self._files.read(place, database_limit(place))
                if data is None:
                    self.problems.add(f"rpm: {place}", "it is unreadable or too large")
                    continue
                if not data:
                    continue
                log = f"{place}-wal"
                if self._files.read(log, database_limit(log)) != b"" and f"{name}-wal" in names:
                    self.problems.add(f"rpm: {log}", "what was written last stands in a log that irkit does not read")
                return place, data
        return None

    @cached_property
    def _packages(self) -> tuple[list[tuple[Installed, bytes, str]], Table]:
        """Each package with its mark and the kind of its digests, and their files."""
        found: list[tuple[Installed, bytes, str]] = []
        table = Table()
        place = (self._store or ("", b""))[0]
        for blob in self._headers():
            try:
                header = Header(blob)
                name = header.text(NAME)
                if not name:
                    raise BadHeader("it has no name")
                package = Installed("rpm", name, header.version, header.text(ARCH), entry=place)
                found.append((package, blake2b(blob, digest_size=16).digest(), header.algorithm))
                self._add(table, len(found) - 1, header)
            except BadHeader as error:
                self.problems.add(f"rpm: a header in {place}", str(error))
        return found, table

    def _add(self, table: Table, number: int, header: Header) -> None:
        algorithm = header.algorithm
        size = SIZES.get(algorithm, 0)
        if not algorithm:
            self.problems.add("rpm: digests", "a package's are of an unknown kind")
        for file in header.files():
            if not is_plain(file.path):
                self.problems.add("rpm: files", "a path has `..` or a zero byte, or is too long")
                continue
            digest = bytes.fromhex(file.digest) if len(file.digest) == 2 * size else b""
            flags = MODE | (CONFFILE if file.conffile else 0)
            kind = ALGORITHMS.index(algorithm) if algorithm else 0
            if not table.add(number, file.path, digest, kind, flags, file.mode & 0o7777):
                self.problems.add("rpm: files", "there are more than can be indexed")
                return

    @cached_property
    def installed(self) -> Mapping[tuple[str, str, str, str], list[Installed]]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        found: dict[tuple[str, str, str, str], list[Installed]] = {}
        for package, _, _ in self._packages[0]:
            found.setdefault(package.key, []).append(package)
        return found

    @cached_property
    def algorithms(self) -> frozenset[str]:
        """Digests that files can be looked up by."""
        return frozenset(algorithm for _, _, algorithm in self._packages[0] if algorithm)

    def owners(self, path: bytes) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        return [self._owned(row) for row in self._packages[1].find(path)]

    def copies(self, algorithm: str, digest: str) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        rows = self._packages[1].with_digest(ALGORITHMS.index(algorithm), bytes.fromhex(digest))
        return [self._owned(row) for row in rows]

    def _owned(self, row: Row) -> Ownership:
        package = self._packages[0][row.package][0]
        return Ownership(
            "rpm", package.name, package.version, ALGORITHMS[row.algorithm] if row.digest else "", row.digest.hex(),
            bool(row.flags & CONFFILE), os.fsdecode(row.path), row.mode, package.key,
        )  # fmt: skip

    def mark(self, package: Installed) -> bytes:
        """As in :class:`irkit.compare.packages.model.Manager`: of the header, which holds the time of installation too."""
        return self._marks.get((package.key, package.version), b"")

    @cached_property
    def _marks(self) -> Mapping[tuple[tuple[str, str, str, str], str], bytes]:
        return {(package.key, package.version): mark for package, mark, _ in self._packages[0]}
