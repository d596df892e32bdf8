"""Two whole trees, of two images or of what came from them, as an unsealed bundle: the first as if it were the other's image.

So that what is compared, and by which rules, is the same as for a container against its own image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from irkit.acquire import tarwriter
from irkit.acquire.filesystem import LAYER_TYPE, LINES_TYPE
from irkit.acquire.taker import ORIGINAL_LIMIT, ORIGINALS_LIMIT
from irkit.acquire.tarwriter import Member, TarWriter
from irkit.evidence.writer import BundleWriter, Origin, Sink
from irkit.models import Change, FileFacts
from irkit.package_paths import database_limit

COLLECTOR = "filesystem"
METHOD = "the images as the engine saves them"
BLOCK = 1024 * 1024
FILE_LIMIT = 256 * BLOCK
CONTENT_LIMIT = 4096 * BLOCK
"""Bytes of one file, and of all together, that are kept for a look at their contents."""


@dataclass(slots=True)
class Contents:
    """Files by their digest, in one file on disk: each once."""

    spool: BinaryIO
    wanted: Mapping[str, int]
    """Digest → size."""
    places: dict[str, int] = field(default_factory=dict)
    end: int = 0

    @property
    def sizes(self) -> frozenset[int]:
        """Which sizes are worth a look."""
        return frozenset(self.wanted.values())

    def see(self, stream: BinaryIO) -> None:
        """Keep a file if it is wanted and not there yet."""
        digest, size = hashlib.sha256(), 0
        self.spool.seek(self.end)
        while block := stream.read(BLOCK):
            digest.update(block)
            size += len(block)
            self.spool.write(block)
        name = digest.hexdigest()
        if name in self.wanted and name not in self.places:
            self.places[name], self.end = self.end, self.end + size

    def into(self, tar: TarWriter, path: str, facts: FileFacts) -> bool:
        """Write a file as a member; whether it is there."""
        place = self.places.get(facts.sha256)
        if place is None:
            return False
        tar.add(Member(path.lstrip("/"), tarwriter.FILE, facts.mode, facts.uid, facts.gid, facts.size, facts.mtime_ns))
        self.spool.seek(place)
        left = facts.size
        while left and (block := self.spool.read(min(BLOCK, left))):
            tar.data(block)
            left -= len(block)
        tar.end(facts.size)
        return True


def wanted(changes: Iterable[Change], databases: Mapping[str, FileFacts]) -> dict[str, int]:
    """Digest → size of each file whose contents are to be looked at, within the limits: small ones of the image first."""
    found = {facts.sha256: facts.size for facts in databases.values()}
    left = CONTENT_LIMIT
    for change in changes:
        for facts, limit in ((change.before, ORIGINAL_LIMIT), (change.after, FILE_LIMIT)):
            if facts is not None and facts.kind == "file" and facts.sha256 and facts.size <= min(limit, left):
                left -= facts.size if facts.sha256 not in found else 0
                found[facts.sha256] = facts.size
    return found


def databases_of(tree: Mapping[str, FileFacts]) -> dict[str, FileFacts]:
    """The package databases of a tree, within their limits."""
    return {
        path: facts for path, facts in tree.items()
        if facts.kind == "file" and facts.sha256 and facts.size <= database_limit(path)
    }  # fmt: skip


def write_trees(
    changes: Sequence[Change], databases: Mapping[str, FileFacts], contents: Contents, writer: BundleWriter
) -> None:
    """Write the list of changes and the contents, in the list's order.  What could not be had is a gap."""
    origin = Origin(COLLECTOR, "two trees", METHOD, LAYER_TYPE)
    with writer.sink("filesystem/changes.jsonl", Origin(COLLECTOR, origin.source, METHOD, LINES_TYPE)) as lines:
        for change in changes:
            lines.write(json.dumps(change.to_json(), separators=(",", ":")).encode() + b"\n")
    with writer.sink("filesystem/originals.tar", origin) as sink:
        _originals(changes, databases, contents, sink)
    missing = []
    with writer.sink("filesystem/layer.tar", origin) as sink:
        tar = TarWriter(sink)
        for change in changes:
            after = change.after
            if after is not None and after.kind == "file" and not contents.into(tar, change.path, after):
                missing.append(change.path)
        tar.close()
    if missing:
        why = f"their contents were not looked at: over the limits, or in no layer; the first is {missing[0]!a}"
        writer.gap(COLLECTOR, f"{len(missing)} files", why)


def _originals(
    changes: Sequence[Change], databases: Mapping[str, FileFacts], contents: Contents, sink: Sink
) -> None:  # fmt: skip
    tar, left = TarWriter(sink), ORIGINALS_LIMIT
    for path, facts in databases.items():
        contents.into(tar, path, facts)
    for change in changes:
        before = change.before
        if (
            before is None
            or before.kind != "file"
            or before.size > min(ORIGINAL_LIMIT, left)
            or change.path in databases
        ):
            continue
        left -= before.size if contents.into(tar, change.path, before) else 0
    tar.close()
