"""The files of one side of a comparison, wherever they are: on this host, in a bundle, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Files(Protocol):
    """The files of one side: before (the image), or after (what is compared with it).

    Paths are absolute and as the container sees them.  Nothing is followed out of the side's root.
    """

    def read(self, path: str, limit: int) -> bytes | None:
        """A regular file's bytes; ``None`` when it is not there, no regular file, unreadable, or over ``limit`` bytes."""

    def names(self, folder: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none when it is no folder."""


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """Files that are held in memory: ``path → bytes``.  They stay as they are once :meth:`names` was asked."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    _folders: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def read(self, path: str, limit: int) -> bytes | None:
        """As :meth:`Files.read`."""
        found = self.files.get(path)
        return found if found is not None and len(found) <= limit else None

    def names(self, folder: str) -> tuple[str, ...]:
        """As :meth:`Files.names`."""
        if self.files and not self._folders:
            self._folders.update(_folders(self.files))
        return self._folders.get(folder.rstrip("/"), ())


def _folders(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """``folder → names`` of every folder that the paths imply; the root is the empty string."""
    found: dict[str, set[str]] = {}
    for path in paths:
        while path:
            folder, _, name = path.rpartition("/")
            names = found.setdefault(folder, set())
            if name in names:
                break
            names.add(name)
            path = folder  # noqa: PLW2901 - upwards, until a folder that is known
    return {folder: tuple(sorted(names)) for folder, names in found.items()}
