"""apk's database: one text, ``lib/apk/db/installed`` (apk-tools 2 and 3, ``src/database.c``: ``apk_db_index_read``).

A block a package: ``P:`` name, ``V:`` version, ``A:`` architecture, ``C:`` its identity; then ``F:`` a folder, ``M:``
its owner and mode, ``R:`` a file in it, ``a:`` the file's owner and mode, ``Z:`` its digest (``Q1`` SHA-1 and ``Q2``
SHA-256 in base64, else MD5 in hexadecimal).  Of a symbolic link the digest is that of its text.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b

from irkit.compare.files import Files
from irkit.compare.packages.index import LINES_LIMIT, MODE, Row, Table
from irkit.compare.packages.model import ALGORITHMS, Installed, Ownership, Problems
from irkit.package_paths import database_limit, is_plain

PLACES = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
KINDS = {b"Q1": ("sha1", 20), b"Q2": ("sha256", 32)}
CONFIGURATION = b"/etc/"
"""apk has no list of configuration files: what is beneath /etc is protected (``apk(8)``, ``etc/apk/protected_paths.d``)."""
PACKAGES_LIMIT = 100_000
DEFAULT_MODE = 0o644
"""Of a file without an ``a:`` line (``apk_default_acl_file``)."""


class Apk:
    """The database of one side."""

    name = "apk"

    def __init__(self, files: Files) -> None:
        self._files = files
        self.problems = Problems()

    @cached_property
    def _blocks(self) -> list[tuple[Installed, bytes]]:
        """Each package, and its block of lines: of the first place that has any (one may be a link to the other)."""
        return next((found for place in PLACES if (found := list(self._place(place)))), [])

    def _place(self, place: str) -> Iterator[tuple[Installed, bytes]]:
        text = self._files.read(place, database_limit(place))
        if text is None:
            folder, _, name = place.rpartition("/")
            if name in self._files.names(folder):
                self.problems.add(f"apk: {place}", "it is unreadable or too large")
            return
        blocks = text.split(b"\n\n", PACKAGES_LIMIT)
        if len(blocks) > PACKAGES_LIMIT and blocks[-1].strip():
            self.problems.add(f"apk: {place}", f"it names more than {PACKAGES_LIMIT} packages; the others are not read")
        for block in blocks[:PACKAGES_LIMIT]:
            fields = {
                line[:1]: line[2:] for line in block[:65536].split(b"\nF:", 1)[0].split(b"\n") if line[1:2] == b":"
            }
            name = fields.get(b"P", b"").decode("utf-8", "replace")[:256]
            if name:
                version, architecture = (fields.get(key, b"").decode("utf-8", "replace")[:256] for key in (b"V", b"A"))
                yield Installed("apk", name, version, architecture, entry=place), block
            elif block.strip():
                self.problems.add(f"apk: {place}", "a block has no package's name")

    @cached_property
    def installed(self) -> Mapping[tuple[str, str, str, str], list[Installed]]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        found: dict[tuple[str, str, str, str], list[Installed]] = {}
        for package, _ in self._blocks:
            found.setdefault(package.key, []).append(package)
        return found

    @cached_property
    def _table(self) -> Table:
        table = Table()
        for number, (package, block) in enumerate(self._blocks):
            for path, mode, digest, algorithm in self._files_of(package, block):
                if not table.add(number, path, digest, algorithm, MODE, mode):
                    self.problems.add("apk: its files", "there are more than can be indexed")
                    return table
        return table

    def _files_of(self, package: Installed, block: bytes) -> Iterator[tuple[bytes, int, bytes, int]]:
        """``(path, mode, digest, algorithm)``."""
        folder = b"/"
        for part in block.split(b"\nF:")[1:]:
            head, *names = part.split(b"\nR:", LINES_LIMIT)
            folder = b"/" + head.split(b"\n", 1)[0]
            for lines in names:
                name, _, facts = lines.partition(b"\n")
                path = (folder if folder != b"/" else b"") + b"/" + name
                if is_plain(path):
                    yield path, *self._facts(facts)
                else:
                    self.problems.add(f"apk: files of {package.name}", "a path has `..` or a zero byte, or is too long")

    def _facts(self, lines: bytes) -> tuple[int, bytes, int]:
        mode, digest, algorithm = DEFAULT_MODE, b"", 0
        for line in lines.split(b"\n"):
            if line[:2] == b"a:":
                fields = line[2:64].split(b":")
                if (
                    len(fields) >= 3
                    and len(fields[2]) <= 6
                    and fields[2].isdigit()
                    and not fields[2].strip(b"01234567")
                ):
                    mode = int(fields[2], 8) & 0o7777
            elif line[:2] == b"Z:":
                digest, algorithm = self._digest(line[2:200])
        return mode, digest, algorithm

    def _digest(self, text: bytes) -> tuple[bytes, int]:
        name, size = KINDS.get(text[:2], ("md5", 16))
        try:
            digest = base64.b64decode(text[2:], validate=True) if name != "md5" else binascii.unhexlify(text)
        except (binascii.Error, ValueError):
            digest = b""
        if len(digest) != size:
            self.problems.add("apk: digests", "a digest is not of a known form")
            return b"", 0
        return digest, ALGORITHMS.index(name)

    @property
    def algorithms(self) -> frozenset[str]:
        """Digests that files can be looked up by."""
        return frozenset({"sha1"}) if self._blocks else frozenset()

    def owners(self, path: bytes) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        return [self._owned(row) for row in self._table.find(path)]

    def copies(self, algorithm: str, digest: str) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        if algorithm not in ("sha1", "sha256"):
            return []
        return [self._owned(row) for row in self._table.with_digest(ALGORITHMS.index(algorithm), bytes.fromhex(digest))]

    def _owned(self, row: Row) -> Ownership:
        package = self._blocks[row.package][0]
        return Ownership(
            "apk", package.name, package.version, ALGORITHMS[row.algorithm] if row.digest else "", row.digest.hex(),
            row.path.startswith(CONFIGURATION), os.fsdecode(row.path), row.mode, package.key,
        )  # fmt: skip

    def mark(self, package: Installed) -> bytes:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        return self._marks.get(package.key, b"")

    @cached_property
    def _marks(self) -> Mapping[tuple[str, str, str, str], bytes]:
        return {package.key: blake2b(block, digest_size=16).digest() for package, block in self._blocks}
