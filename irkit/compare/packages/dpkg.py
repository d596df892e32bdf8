"""dpkg's database: ``/var/lib/dpkg``, or ``status.d`` in distroless images.

Formats: deb822(5), dpkg(1) FILES, dpkg-divert(1), deb-md5sums(5), deb-conffiles(5).  A path belongs to the packages
whose ``.list`` names it; ``.md5sums`` holds digests only, and may name paths that another package took over since
(Replaces).  Digests of conffiles stand in ``status``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from irkit.compare.files import Files
from irkit.compare.packages.index import TextIndex
from irkit.compare.packages.model import Installed, Ownership, Problems
from irkit.package_paths import database_limit, is_plain
from irkit.text import printable

ROOT = "/var/lib/dpkg"
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,254}")
FIELD = re.compile(rb"^(Package|Status|Version|Config-Version|Architecture|Conffiles):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)  # fmt: skip
MD5_LINE = re.compile(rb"([0-9a-f]{32})  (\S.*)")
HEX_MD5 = re.compile(r"[0-9a-f]{32}")
ABSENT = ("not-installed", "config-files")
PACKAGES_LIMIT = 100_000
VERSION_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Stanza:
    """A package in ``status``, and where its lists are; empty when they are not there."""

    package: Installed
    present: bool
    """Not only its configuration files are left."""
    conffiles: bytes
    listed: str
    sums: str


@dataclass(frozen=True, slots=True)
class Diversion:
    """``contested`` belongs to ``package``; everybody else's copy of it lies at ``altered``."""

    contested: bytes
    altered: bytes
    package: str
    """Empty for one of the administrator's: nobody's copy lies at ``contested``."""


class Dpkg:
    """The database of one side."""

    name = "dpkg"
    algorithms = frozenset({"md5"})

    def __init__(self, files: Files) -> None:
        self._files = files
        self.problems = Problems()
        self._sums: dict[str, TextIndex] = {}
        self._looked: set[str] = set()

    def _read(self, path: str) -> bytes | None:
        return self._files.read(path, database_limit(path)) if path else None

    def _text(self, path: str, what: str) -> bytes:
        found = self._read(path)
        if found is None:
            self.problems.add(f"dpkg: {printable(what)}", "it is missing, unreadable or too large")
        return found or b""

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self._files.names(f"{ROOT}/info"))

    @cached_property
    def stanzas(self) -> tuple[Stanza, ...]:
        """All packages that are not wholly absent, in the order of the file."""
        return (*self._status(), *self._distroless())

    def _status(self) -> Iterator[Stanza]:
        """``/var/lib/dpkg/status``."""
        path = f"{ROOT}/status"
        text = self._read(path)
        if text is None:
            if "status" in self._files.names(ROOT) or self._names:
                self._text(path, path)
            return
        blocks = text.split(b"\n\n", PACKAGES_LIMIT)
        if len(blocks) > PACKAGES_LIMIT and blocks[-1].strip():
            self.problems.add(f"dpkg: {path}", f"it names more than {PACKAGES_LIMIT} packages; the others are not read")
        for block in blocks[:PACKAGES_LIMIT]:
            package, present, conffiles = self._stanza(block, path) or (None, False, b"")
            if package is not None:
                yield Stanza(package, present, conffiles, self._info(package, "list"), self._info(package, "md5sums"))

    def _distroless(self) -> Iterator[Stanza]:
        """A file a package, and its md5sums beside it: no lists (GoogleContainerTools/distroless, PACKAGE_METADATA)."""
        folder = f"{ROOT}/status.d"
        names = frozenset(self._files.names(folder))
        for name in sorted(names)[:PACKAGES_LIMIT]:
            if name.endswith(".md5sums"):
                continue
            package, present, conffiles = self._stanza(self._text(f"{folder}/{name}", name), name) or (None, False, b"")
            if package is not None:
                sums = f"{folder}/{name}.md5sums" if f"{name}.md5sums" in names else ""
                yield Stanza(package, present, conffiles, "", sums)

    def _stanza(self, block: bytes, entry: str) -> tuple[Installed, bool, bytes] | None:
        fields: dict[bytes, bytes] = {}
        for key, value in FIELD.findall(block):
            fields.setdefault(key, value)
        if not fields:
            return None
        name = fields.get(b"Package", b"").decode("latin-1").strip()
        if not NAME.fullmatch(name):
            self.problems.add("dpkg: status", "a package has no name, or none of a package's form")
            return None
        words = fields.get(b"Status", b"install ok installed").split()
        state = words[-1].decode("latin-1") if words else "installed"
        if state == "not-installed":
            return None
        version = (fields.get(b"Version") or fields.get(b"Config-Version", b"")).decode("utf-8", "replace").strip()
        architecture = fields.get(b"Architecture", b"").decode("latin-1").strip()
        package = Installed("dpkg", name, version[:VERSION_LIMIT], architecture[:64], entry=entry)
        return package, state not in ABSENT, fields.get(b"Conffiles", b"")

    def _info(self, package: Installed, ending: str) -> str:
        """Packages that can be installed for several architectures at once have theirs in the file's name."""
        for name in (f"{package.name}:{package.architecture}.{ending}", f"{package.name}.{ending}"):
            if name in self._names:
                return f"{ROOT}/info/{name}"
        return ""

    @cached_property
    def installed(self) -> Mapping[tuple[str, str, str, str], list[Installed]]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        found: dict[tuple[str, str, str, str], list[Installed]] = {}
        for one in self.stanzas:
            if one.present:
                found.setdefault(one.package.key, []).append(one.package)
        return found

    @cached_property
    def _by_list(self) -> Mapping[str, Stanza]:
        return {one.listed: one for one in self.stanzas if one.listed}

    @cached_property
    def _by_sums(self) -> Mapping[str, Stanza]:
        return {one.sums: one for one in self.stanzas if one.sums}

    @cached_property
    def _lists(self) -> TextIndex:
        missing = sum(1 for one in self.stanzas if one.present and not one.listed and not one.sums)
        if missing:
            self.problems.add("dpkg: lists of files", f"{missing} packages have none: their files can't be told")
        return self._index(self._by_list, self._list)

    def _index(
        self, names: Iterable[str], read: Callable[[str], bytes], start: int = 0, stop: int | None = None
    ) -> TextIndex:
        found = TextIndex(names, read, start, stop)
        if not found.whole:
            self.problems.add("dpkg: lists of files", "there are more lines than can be indexed")
        return found

    def _list(self, path: str) -> bytes:
        return self._text(path, path)

    @cached_property
    def _unlisted(self) -> TextIndex:
        """Digests of packages without a list (distroless), by path."""
        return self._index((one.sums for one in self.stanzas if one.sums and not one.listed), self._checked, 34)

    def _checked(self, path: str) -> bytes:
        """A package's md5sums; what is odd in them is said."""
        text = self._text(path, path)
        if path in self._looked:
            return text
        self._looked.add(path)
        if b"\0" in text or b"/../" in text or b"  ../" in text:
            self.problems.add(
                f"dpkg: {printable(path)}", "it names paths with `..` or a zero byte, which dpkg never writes"
            )
        return text

    @cached_property
    def _diversions(self) -> tuple[Diversion, ...]:
        text = self._read(f"{ROOT}/diversions") or b""
        lines = text.split(b"\n")[: 3 * PACKAGES_LIMIT]
        found = (
            Diversion(one, two, os.fsdecode(by))
            for one, two, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)
        )
        return tuple(Diversion(one.contested, one.altered, "" if one.package == ":" else one.package) for one in found)

    @cached_property
    def _contested(self) -> Mapping[bytes, Diversion]:
        return {one.contested: one for one in self._diversions}

    @cached_property
    def _altered(self) -> Mapping[bytes, Diversion]:
        return {one.altered: one for one in self._diversions}

    def owners(self, path: bytes) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`; diversions are seen through."""
        diverted = self._altered.get(path)
        if diverted is not None:
            return [one for one in self._owners(diverted.contested) if one.package != diverted.package]
        contested = self._contested.get(path)
        return [one for one in self._owners(path) if contested is None or one.package == contested.package]

    def _owners(self, path: bytes) -> list[Ownership]:
        if not path or len(path) > 4096 or b"\n" in path:
            return []
        found = {name: self._by_list[name] for name, line in self._lists.find(path) if line == path}
        bare = [self._by_sums[name] for name, _ in self._lines(self._unlisted, path)] if len(self._unlisted) else ()
        return [self._owned(one, path) for one in (*found.values(), *bare)]

    def _lines(self, index: TextIndex, path: bytes) -> Iterator[tuple[str, str]]:
        """``(file, digest)`` for each line of md5sums that names a path: without the leading slash, or with ``./``."""
        for key in (path[1:], b"." + path):
            for name, line in index.find(key):
                match = MD5_LINE.fullmatch(line)
                if match is not None and match[2] == key:
                    yield name, match[1].decode()

    def _owned(self, one: Stanza, path: bytes) -> Ownership:
        conffile = self._conffile(one, path)
        digest = conffile if conffile is not None else self._digest(one, path)
        package = one.package
        return Ownership(
            "dpkg", package.name, package.version, "md5" if digest else "", digest, conffile is not None,
            os.fsdecode(path), key=package.key,
        )  # fmt: skip

    def _digest(self, one: Stanza, path: bytes) -> str:
        if not one.sums:
            return ""
        index = self._sums.get(one.sums)
        if index is None:
            index = self._sums[one.sums] = self._index((one.sums,), self._checked, 34)
        return next((digest for _, digest in self._lines(index, path)), "")

    @staticmethod
    def _conffile(one: Stanza, path: bytes) -> str | None:
        """The digest with which the package brought a conffile; empty when ``status`` has none yet."""
        at = one.conffiles.find(b" " + path + b" ")
        if at < 0:
            return None
        words = one.conffiles[at + len(path) + 2 : at + len(path) + 80].split(b"\n")[0].split()
        digest = words[0].decode("latin-1") if words else ""
        return digest if HEX_MD5.fullmatch(digest) else ""

    @cached_property
    def _by_digest(self) -> TextIndex:
        return self._index(self._by_sums, self._checked, 0, 32)

    def copies(self, algorithm: str, digest: str) -> list[Ownership]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        if algorithm != "md5" or not HEX_MD5.fullmatch(digest):
            return []
        return list(self._copies(digest.encode()))

    def _copies(self, digest: bytes) -> Iterator[Ownership]:
        for name, line in self._by_digest.find(digest):
            match = MD5_LINE.fullmatch(line)
            if match is None or match[1] != digest:
                continue
            path = b"/" + match[2].removeprefix(b"./")
            one = self._by_sums[name]
            if is_plain(path) and any(owner.key == one.package.key for owner in self._owners(path)):
                yield Ownership(
                    "dpkg", one.package.name, one.package.version, "md5", digest.decode(), False, os.fsdecode(path),
                    key=one.package.key,
                )  # fmt: skip

    def mark(self, package: Installed) -> bytes:
        """As in :class:`irkit.compare.packages.model.Manager`: of its lists, and of the digests of its conffiles."""
        one = self._by_key.get(package.key)
        return b"" if one is None else _mark((one.conffiles, self._read(one.listed), self._read(one.sums)))

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str, str, str], Stanza]:
        return {one.package.key: one for one in self.stanzas}


def _mark(parts: Iterable[bytes | None]) -> bytes:
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(b"%d:" % len(part or b""))
        found.update(part or b"")
    return found.digest()
