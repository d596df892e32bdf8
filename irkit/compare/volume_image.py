"""Volumes against the image: what the engine copied into a volume at its first use is no change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from irkit.compare.against import differ
from irkit.models import Change, FileFacts


@dataclass(frozen=True, slots=True)
class VolumeImage:
    """``path → facts`` of what the image has where volumes are mounted."""

    files: Mapping[str, FileFacts]

    def against(self, changes: Iterator[Change], *, whole: bool) -> Iterator[Change]:
        """The entries of one volume, its own folder first, as changes of the image's.

        What the image has there and the volume has not was deleted only if the volume was made of the image's content:
        if at least one of the image's files is in it, changed or not.  ``whole``: all of it was listed.
        """
        point = ""
        seen: set[str] = set()
        for number, change in enumerate(changes):
            point = point if number else change.path
            before = self.files.get(change.path)
            if before is None or change.after is None:
                yield change
                continue
            seen.add(change.path)
            if differ(before, change.after):
                yield replace(change, change="changed", before=before)
        if not whole or not seen - {point}:
            return
        for path, before in self.files.items():
            if path.startswith(f"{point}/") and path not in seen:
                yield Change(path, "deleted", before, None, "volume")
