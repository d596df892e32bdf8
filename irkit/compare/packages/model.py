"""What a package database tells: who owns a file, what is installed, what was changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
"""Digests that a database may hold, as :mod:`hashlib` names them."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A package that a database calls installed."""

    manager: str
    """``dpkg``, ``apk``, ``rpm``, ``pip`` or ``npm``."""
    name: str
    version: str
    architecture: str = ""
    folder: str = ""
    """Where it is, for managers that have several places (pip, npm)."""
    entry: str = field(default="", compare=False)
    """The file of the database that says so."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What stays the same when the version changes."""
        return (self.manager, self.name, self.architecture, self.folder)


@dataclass(frozen=True, slots=True)
class Ownership:
    """A package's claim on a file."""

    manager: str
    package: str
    version: str
    algorithm: str = ""
    """Of :data:`ALGORITHMS`; empty when the database holds no digest."""
    digest: str = ""
    """Hexadecimal, lower case.  Of a symbolic link apk holds the digest of the link's text."""
    conffile: bool = False
    """The package expects that administrators change it."""
    path: str = ""
    """As the database writes it: before the merge of ``/usr``, or before a diversion."""
    mode: int | None = None
    """Permission bits that the package gives it, where the database says so (apk, rpm)."""
    key: tuple[str, str, str, str] = ("", "", "", "")
    """As :attr:`Installed.key`."""


@dataclass(frozen=True, slots=True)
class PackageState:
    """Whether a file still is what its package brought.

    ``state``: ``intact`` (it matches the image's own database) · ``upgraded`` (its package was installed or changed in
    the container, and it matches the container's database, which the attacker could write) · ``altered`` (owned, and
    matches neither) · ``unknown`` (owned, but there is no digest to hold it against) · ``unowned``.
    """

    state: str
    owner: Ownership | None = None
    detail: str = ""
    """One sentence on what this rests upon."""
    claimed: bool = False
    """The container's database claims or vouches for what the image's database, of the same version, does not."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that is not as the image's database has it.

    ``change``: ``installed``, ``removed``, ``upgraded``, ``downgraded``, ``reinstalled`` (the same version, but its
    entry in the database differs), or ``changed`` where the order of two versions can't be told.
    """

    change: str
    manager: str
    name: str
    version: str
    """Now; empty when it was removed."""
    before: str
    """In the image; empty when it was not there."""
    architecture: str = ""
    folder: str = ""

    def to_json(self) -> dict[str, str]:
        """One flat object."""
        return {
            "manager": self.manager, "name": self.name, "change": self.change, "version": self.version,
            "before": self.before, "architecture": self.architecture, "folder": self.folder,
        }  # fmt: skip


class Problems:
    """What could not be read, or is no honest entry: said once each, counted, and bounded."""

    LIMIT = 200

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], int] = {}

    def add(self, what: str, why: str) -> None:
        """``what`` could not be read, because ``why``."""
        key = (what[:300], why)
        if key in self._found or len(self._found) < self.LIMIT:
            self._found[key] = self._found.get(key, 0) + 1

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for (what, why), times in self._found.items():
            yield what, why if times == 1 else f"{why} ({times} times)"
        if len(self._found) >= self.LIMIT:
            yield "package databases", f"more than {self.LIMIT} problems: the others are not listed"


class Manager(Protocol):
    """One kind of database.  Nothing is read before it is asked for; nothing that it reads makes it raise."""

    name: str
    problems: Problems

    @property
    def installed(self) -> Mapping[tuple[str, str, str, str], list[Installed]]:
        """``key → versions`` (several of one key can be installed: kernels)."""

    def owners(self, path: bytes) -> list[Ownership]:
        """Every claim on an absolute path.  ``/bin`` and ``/usr/bin`` are two places here."""

    def copies(self, algorithm: str, digest: str) -> list[Ownership]:
        """The files that have a digest: a few of them."""

    @property
    def algorithms(self) -> frozenset[str]:
        """Digests that :meth:`copies` can be asked for."""

    def mark(self, package: Installed) -> bytes:
        """What changes when the package's entry in the database is written anew with other contents."""
