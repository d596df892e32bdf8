"""All package databases of one side, asked as one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property

from irkit.compare.files import Files
from irkit.compare.packages.apk import Apk
from irkit.compare.packages.dpkg import Dpkg
from irkit.compare.packages.model import Installed, Manager, Ownership, Problems
from irkit.compare.packages.npm import Npm
from irkit.compare.packages.pip import Pip
from irkit.compare.packages.rpm import Rpm
from irkit.compare.packages.walk import Places, find_places
from irkit.models import Gap
from irkit.package_paths import is_plain, other_name

COLLECTOR = "packages"


class Packages:
    """Who owns what.  Databases are read when they are first asked for; what they hold never makes a method raise.

    System databases (dpkg, apk, rpm) are asked before those of languages (pip, npm), whose packages the former bring too.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._system: tuple[Manager, ...] = (Dpkg(files), Apk(files), Rpm(files))
        self._walked = Problems()
        self._merged: dict[str, bool] = {}

    @cached_property
    def _languages(self) -> tuple[Manager, ...]:
        places: Places = find_places(self._files, self._walked)
        return Pip(self._files, places), Npm(self._files, places)

    def _managers(self) -> Iterator[Manager]:
        yield from self._system
        yield from self._languages

    def owner(self, path: str) -> Ownership | None:
        """The package that a path belongs to; of several claims one with a digest.  ``None``: no database names it."""
        return next(iter(self.owners(path)), None)

    def owners(self, path: str) -> tuple[Ownership, ...]:
        """Every claim of the first database that names a path, those with a digest first."""
        try:
            exact = os.fsencode(path)
        except UnicodeEncodeError:
            return ()  # no bytes are decoded to such a name
        if not is_plain(exact):
            return ()
        names = self._names(exact)
        for manager in self._managers():
            for name in names:
                if found := manager.owners(name):
                    return tuple(sorted(found, key=lambda one: not one.digest))
        return ()

    def _names(self, path: bytes) -> tuple[bytes, ...]:
        """A path, and the other name under which a database may have it where ``/usr`` is merged."""
        found = other_name(path)
        if found is None:
            return (path,)
        folder, other = found
        if folder not in self._merged:
            here, there = self._files.names(f"/{folder}"), self._files.names(f"/usr/{folder}")
            self._merged[folder] = not here or here == there  # a folder of its own has names of its own
        return (path, other) if self._merged[folder] else (path,)

    @cached_property
    def installed(self) -> tuple[Installed, ...]:
        """Every package, sorted; those of languages that a system package brought are left out."""
        found = (one for manager in self._managers() for some in manager.installed.values() for one in some)
        return tuple(sorted((one for one in found if not self._brought(one)), key=lambda one: (*one.key, one.version)))

    @property
    def managers(self) -> tuple[str, ...]:
        """The databases that name a package.  Where there is no ``dpkg``, ``apk`` or ``rpm``, "unowned" means little."""
        return tuple(one.name for one in self._managers() if one.installed)

    def _brought(self, package: Installed) -> bool:
        """Whether a system database owns a language package's own metadata."""
        if package.manager not in ("pip", "npm"):
            return False
        ends = ("", "/METADATA", "/PKG-INFO") if package.manager == "pip" else ("",)
        paths = [os.fsencode(package.entry + end) for end in ends]
        return any(manager.owners(path) for manager in self._system for path in paths)

    def versions(self, key: tuple[str, str, str, str]) -> tuple[str, ...]:
        """The versions in which a package (:attr:`Installed.key`) is installed; none when it is not."""
        for manager in self._managers():
            if manager.name == key[0]:
                return tuple(one.version for one in manager.installed.get(key, ()))
        return ()

    def mark(self, package: Installed) -> bytes:
        """What changes when the package's entry in its database is written anew with other contents."""
        return next((one.mark(package) for one in self._managers() if one.name == package.manager), b"")

    def algorithms(self, path: str) -> frozenset[str]:
        """The digests of a file that are needed to judge it: by :mod:`hashlib`'s names, none for a file without one."""
        return frozenset(one.algorithm for one in self.owners(path) if one.digest)

    @cached_property
    def copy_algorithms(self) -> frozenset[str]:
        """The digests of an added file that :func:`find_copy` can use, of the databases that hold a package."""
        found = (one.algorithms for one in self._managers() if one.installed)
        return frozenset(name for names in found for name in names)

    def copies(self, algorithm: str, digest: str) -> list[Ownership]:
        """A few of the files that have a digest."""
        return [found for manager in self._managers() for found in manager.copies(algorithm, digest)]

    @property
    def problems(self) -> tuple[Gap, ...]:
        """What could not be read, or is no honest entry, of what was asked for until now."""
        managers = [*self._system, *(self._languages if "_languages" in self.__dict__ else ())]
        found = (pair for one in managers for pair in one.problems)
        return tuple(Gap(COLLECTOR, what, why) for what, why in (*found, *self._walked))


def read_packages(files: Files) -> Packages:
    """The package databases of one side: dpkg, apk, rpm, pip, npm.  Nothing is read yet."""
    return Packages(files)
