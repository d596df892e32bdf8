"""The image's files that a bundle holds, for targets of one command that were made from the same image.

Why what one bundle held is as true of the next: it is found by the sha256 of the whole archive, which the next bundle's
index names as well; and that index was verified against its seal, and the archive against the index, before findings
are looked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from irkit.compare.files import MemoryFiles

LIMIT = 16 * 1024 * 1024
"""Bytes of one archive's files that are held at most; and only the last archive is."""


class Originals:
    """The files of the archive that was read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digest = ""
        self._files = MemoryFiles()

    def of(self, digest: str, read: Callable[[], tuple[dict[str, bytes], bool]]) -> MemoryFiles:
        """The files of the archive with this sha256.  ``read`` gives them, and whether they are all that it holds.

        One thread reads at a time: those that wait want the same, more often than not.
        """
        with self._lock:
            if digest == self._digest:
                return self._files
            files, whole = read()
            found = MemoryFiles(files)
            if whole and sum(map(len, files.values())) <= LIMIT:
                self._digest, self._files = digest, found
            return found
