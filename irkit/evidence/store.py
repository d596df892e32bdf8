"""Where a bundle lies, a folder or one plain tar file: what its readers need, whichever it is.

Everything here was perhaps altered: names are compared before they are opened, no link is followed, and nothing is
unpacked in order to be read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from irkit.errors import CheckFailed, UsageProblem
from irkit.evidence import names
from irkit.home import sync_folder, write_file

SMALL = 64 * 1024 * 1024
START = 32 * 1024
FOLDER = -2


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not hold, and of which file."""

    file: str
    problem: str

    def to_json(self) -> dict[str, str]:
        """As in ``irkit bundle verify --json``."""
        return {"file": self.file, "problem": self.problem}


class Store(Protocol):
    """A bundle's files, by their names inside it."""

    path: Path

    def entries(self) -> dict[str, int]:
        """Every entry that is not a folder: its size in bytes, -1 when it is no regular file."""

    def folders(self) -> tuple[str, ...]:
        """Every folder's name."""

    def has(self, name: str) -> bool:
        """Whether there is anything, of whatever kind, at a top-level name."""

    def faults(self, digest: str) -> tuple[Problem, ...]:
        """What is wrong with the container itself, once the bundle's digest (hex) is known."""

    def open(self, name: str) -> BinaryIO:
        """A regular file as a stream.  Raises ``CheckFailed`` for anything else."""

    def replace(self, files: Mapping[str, bytes]) -> None:
        """Write top-level files, all or none, on the disk before this returns.  Raises ``StorageError``."""


def open_store(path: Path, identities: Sequence[Any] = ()) -> Store:
    """The bundle at ``path``; with ``identities`` the plain one inside an encrypted one.

    Raises ``UsageProblem`` when there is none.
    """
    from irkit.evidence.tar import TarStore, looks_like_tar

    if path.is_dir():
        store: Store = FolderStore(path)
    elif path.is_file() and looks_like_tar(path):
        store = TarStore(path)
    elif path.is_file():
        raise UsageProblem(f"{path} is neither a bundle's folder nor a plain tar file of one")
    else:
        raise UsageProblem(f"{path} is not a bundle's folder or tar file")
    if identities:
        from irkit.evidence.age import PlainStore, is_encrypted

        if is_encrypted(store):
            return PlainStore(store, identities)
    return store


def read_small(store: Store, name: str, limit: int = SMALL) -> bytes:
    """A small file, whole.  Raises ``CheckFailed``."""
    with store.open(name) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise CheckFailed(f"can't be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise CheckFailed("too large to be what it claims to be")
    return data


def digest_of(store: Store, name: str) -> str:
    """The sha256 of a file, in hex.  Raises ``CheckFailed``."""
    with store.open(name) as file:
        try:
            start = file.read(START)
            if len(start) < START:  # most files are small: no large buffer for each
                return hashlib.sha256(start).hexdigest()
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise CheckFailed(f"can't be read: {error.strerror or error}") from error


class FolderStore:
    """A bundle as a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> dict[str, int]:
        """As :class:`Store`."""
        return {name: size for name, size in self._walk() if size != FOLDER}

    def folders(self) -> tuple[str, ...]:
        """As :class:`Store`; links to folders are entries, not folders."""
        return tuple(sorted(name for name, size in self._walk() if size == FOLDER))

    def _walk(self) -> Iterator[tuple[str, int]]:
        waiting = [""]
        while waiting:
            parent = waiting.pop()
            with os.scandir(self.path / parent) as found:
                for entry in found:
                    name = f"{parent}/{entry.name}" if parent else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                        yield name, FOLDER
                    else:
                        plain = entry.is_file(follow_symlinks=False)
                        yield name, entry.stat(follow_symlinks=False).st_size if plain else -1

    def has(self, name: str) -> bool:
        """As :class:`Store`."""
        return os.path.lexists(self.path / name)

    def faults(self, _: str) -> tuple[Problem, ...]:
        """None: a folder has no bytes of its own."""
        return ()

    def open(self, name: str) -> BinaryIO:
        """As :class:`Store`; through no link in any part of the name."""
        try:
            file = os.fdopen(_open_beneath(self.path, name), "rb", START)
        except OSError as error:
            raise CheckFailed(f"can't be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise CheckFailed("not a regular file")
        return file

    def replace(self, files: Mapping[str, bytes]) -> None:
        """As :class:`Store`; each file in one step, in the order given."""
        for name, data in files.items():
            write_file(self.path / name, data)
        sync_folder(self.path)


def _open_beneath(root: Path, name: str) -> int:
    *parents, last = name.split("/")
    if {"", ".", ".."} & {*parents, last}:
        raise OSError(0, "not a name of irkit's")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A FIFO must not hang the reader, whatever it is opened for.
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def is_bundle(store: Store) -> bool:
    """Whether there is something that could be a bundle's."""
    for name in (names.SEAL, names.BAGIT):
        with suppress(CheckFailed), store.open(name):
            return True
    return False
