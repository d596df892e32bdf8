"""The image's package databases: kept beside the changes, so that these can be judged without the image.

They lie in fixed places, but for those of Python and Node, which lie where their packages do: in the usual folders, and
in every folder of packages that a change lies in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from irkit.acquire.beneath import Entry
from irkit.acquire.lower import Hit, Lower
from irkit.package_paths import BYTECODE, DATABASE_BUDGET, DATABASE_PATHS, is_database

FIXED = tuple(one.pattern for one in DATABASE_PATHS if "*" not in one.pattern)
FOLDERS = ("/var/lib/dpkg/status.d", "/var/lib/dpkg/info")
PYTHONS = ("/usr/lib", "/usr/local/lib")
PYTHON = re.compile(r"python3(\.\d+)?")
PACKAGES = re.compile(r".*?/(?:site-packages|dist-packages)(?=/|$)")
NODE = re.compile(r"(.*/node_modules/(?:@[^/]+/)?[^/@][^/]*)(?=/|$)")
ENDINGS = (".dist-info", ".egg-info")


class Places:
    """Where packages of languages lie, as the changes tell."""

    def __init__(self) -> None:
        self._python: set[str] = set()
        self._node: set[str] = set()

    def see(self, path: str) -> None:
        """One more change."""
        if "-packages" in path and (found := PACKAGES.match(path)):
            self._python.add(found[0])
        if "/node_modules/" in path and (found := NODE.match(path)):
            self._node.add(found[1])

    @property
    def key(self) -> tuple[frozenset[str], frozenset[str]]:
        """What the changes told."""
        return frozenset(self._python), frozenset(self._node)

    def heads(self) -> set[str]:
        """The folders of the root beneath which databases are looked for."""
        return {path.split("/")[1] for path in (*FIXED, *FOLDERS, *PYTHONS, *self._python, *self._node)}

    def files(self, lower: Lower) -> Iterator[Entry]:
        """Every file of a database of the image.  An entry can be used until the next one is asked for."""
        for path in FIXED:
            if (hit := at(lower, path)) is not None:
                yield hit.entry
        for folder in FOLDERS:
            yield from _wanted(lower, folder)
        for folder in sorted({*self._python, *_pythons(lower)}):
            for name in _names(lower, folder):
                if name.endswith(ENDINGS):
                    yield from _wanted(lower, f"{folder}/{name}")
        for folder in sorted(self._node):
            yield from _wanted(lower, folder)


def keep(lower: Lower, places: Places, take: Callable[[Entry], object], gap: Callable[[str, str], None]) -> None:
    """Give every file of the databases to ``take``, within their limits; what is over them is told to ``gap``."""
    left = DATABASE_BUDGET
    for entry in places.files(lower):
        known = is_database(entry.path)
        if known is None or entry.kind != "file":
            continue
        if entry.size > min(known.limit, left):
            gap(entry.path, f"{entry.size} bytes of a package database are over the limit: its packages are not known")
            continue
        left -= entry.size
        take(entry)


SOURCES_LIMIT = 200_000


class Sources:
    """The image's sources of bytecode that is new or changed, so that it can be told whether it fits to one."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._count = 0

    def see(self, path: str) -> None:
        """One more change."""
        if path.endswith(".pyc") and self._count < SOURCES_LIMIT and (found := BYTECODE.fullmatch(path)):
            self._names.setdefault(found["folder"], set()).add(f"{found['name']}.py")
            self._count += 1

    def files(self, lower: Lower) -> Iterator[Entry]:
        """Those that the image has.  An entry can be used until the next one is asked for."""
        for folder, names in sorted(self._names.items()):
            hit = at(lower, folder)
            for name in sorted(names) if hit is not None and hit.below else ():
                found = lower.find(hit.below, f"{folder}/{name}", name) if hit is not None else None
                if found is not None and found.entry.kind == "file":
                    yield found.entry


def at(lower: Lower, path: str) -> Hit | None:
    """What the image has under an absolute path; no link is followed."""
    below, seen, hit = lower.root, "", None
    for part in path.strip("/").split("/"):
        seen += f"/{part}"
        hit = lower.find(below, seen, part) if below else None
        if hit is None:
            return None
        below = hit.below
    return hit


def _names(lower: Lower, folder: str) -> list[str]:
    hit = at(lower, folder)
    return lower.names(hit.below) if hit is not None and hit.below else []


def _wanted(lower: Lower, folder: str) -> Iterator[Entry]:
    hit = at(lower, folder)
    if hit is None:
        return
    if not hit.below:
        yield hit.entry
        return
    for name in lower.names(hit.below, lambda name: is_database(f"{folder}/{name}") is not None):
        if (found := lower.find(hit.below, f"{folder}/{name}", name)) is not None:
            yield found.entry


def _pythons(lower: Lower) -> Iterable[str]:
    for base in PYTHONS:
        for name in _names(lower, base):
            if PYTHON.fullmatch(name):
                yield from (f"{base}/{name}/{kind}" for kind in ("site-packages", "dist-packages"))
