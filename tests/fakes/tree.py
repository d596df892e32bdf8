"""A folder of this machine as one side of a comparison; links are not followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tree:
    """``root`` is the container's ``/``."""

    root: Path

    def read(self, path: str, limit: int) -> bytes | None:
        try:
            facts = os.lstat(f"{self.root}{path}")
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
                return None
            return Path(f"{self.root}{path}").read_bytes()
        except OSError:
            return None

    def names(self, folder: str) -> tuple[str, ...]:
        place = f"{self.root}{folder}"
        try:
            return () if os.path.islink(place) else tuple(sorted(os.listdir(place)))
        except OSError:
            return ()

    def files(self) -> Iterator[str]:
        """Everything that is no folder."""
        for folder, below, names in os.walk(self.root):
            for name in (*names, *(one for one in below if os.path.islink(os.path.join(folder, one)))):
                yield "/" + os.path.relpath(os.path.join(folder, name), self.root)
