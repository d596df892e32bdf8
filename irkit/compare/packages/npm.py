"""npm packages: a folder beneath ``node_modules`` with a ``package.json``.

npm keeps no digest of a file, and no list of files: what lies in a package's folder is its own, as far as anyone can
tell offline.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property

from irkit.compare.files import Files
from irkit.compare.packages.model import Installed, Ownership, Problems
from irkit.compare.packages.walk import Places
from irkit.package_paths import database_limit
from irkit.text import printable

MODULES = b"/node_modules/"
TEXT_LIMIT = 256
CACHED = 10_000


class Npm:
    """The packages of one side."""

    name = "npm"
    algorithms: frozenset[str] = frozenset()

    def __init__(self, files: Files, places: Places) -> None:
        self._files = files
        self._places = places
        self.problems = Problems()
        self._read: dict[str, Installed | None] = {}

    def _package(self, folder: str) -> Installed | None:
        if folder not in self._read:
            if len(self._read) >= CACHED:
                self._read.clear()
            self._read[folder] = self._parsed(folder)
        return self._read[folder]

    def _parsed(self, folder: str) -> Installed | None:
        path = f"{folder}/package.json"
        text = self._files.read(path, database_limit(path))
        if text is None:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            self.problems.add(f"npm: {printable(path, 200)}", f"it is no JSON: {printable(str(error), 100)}")
            return None
        name, version = (found.get(key) if isinstance(found, dict) else None for key in ("name", "version"))
        if not isinstance(name, str) or not isinstance(version, str):
            return None  # many folders inside packages have a package.json that names only a type
        name, version = (one.encode("utf-8", "replace").decode()[:TEXT_LIMIT] for one in (name, version))
        return Installed("npm", name, version, folder=folder, entry=path)

    @cached_property
    def installed(self) -> Mapping[tuple[str, str, str, str], list[Installed]]:
        """As in :class:`irkit.compare.packages.model.Manager`."""
        packages = (self._package(folder) for folder in self._places.modules)
        return {package.key: [package] for package in packages if package is not None}

    def owners(self, path: bytes) -> list[Ownership]:
        """The package in whose folder a path lies."""
        before, found, rest = path.rpartition(MODULES)
        names = rest.split(b"/")
        count = 2 if names[0].startswith(b"@") else 1
        if not found or len(names) <= count or not names[0] or names[0].startswith(b"."):
            return []
        folder = os.fsdecode(before + MODULES + b"/".join(names[:count]))
        package = self._package(folder)
        if package is None:
            return []
        return [Ownership("npm", package.name, package.version, path=os.fsdecode(path), key=package.key)]

    def copies(self, _algorithm: str, _digest: str) -> list[Ownership]:
        """None: npm keeps no digests."""
        return []

    def mark(self, _package: Installed) -> bytes:
        """Nothing that could tell one installation from another."""
        return b""
