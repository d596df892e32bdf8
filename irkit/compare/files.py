"""The files of one side of a comparison, wherever they are: on this host, in a bundle, in memory."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Files that are held in memory: ``path → bytes``."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    def read(self, path: str, limit: int) -> bytes | None:
        """As :meth:`Files.read`."""
        found = self.files.get(path)
        return found if found is not None and len(found) <= limit else None

    def names(self, folder: str) -> tuple[str, ...]:
        """As :meth:`Files.names`."""
        start = folder.rstrip("/") + "/"
        return tuple(sorted({path[len(start) :].split("/")[0] for path in self.files if path.startswith(start)}))
