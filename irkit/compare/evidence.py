"""One side of a comparison: what a bundle holds of a container, its changes and their contents, in one pass each.

A live container is compared in the same way: what is needed of it is taken into an unsealed bundle first
(:mod:`irkit.acquire.comparison`), so that a live result and that of a bundle can't differ.
"""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, BinaryIO

from irkit.compare.engine_files import EngineFile, altered
from irkit.compare.files import MemoryFiles
from irkit.compare.holes import Zeros
from irkit.compare.originals import Originals
from irkit.compare.volume_image import VolumeImage
from irkit.errors import EvidenceAltered, UsageProblem
from irkit.evidence.reader import BundleReader
from irkit.models import Change, FileFacts, Gap
from irkit.mounts import followed, recorded, seen_through
from irkit.streams import StreamReader
from irkit.text import printable, text_from

ORIGINALS = "filesystem/originals.tar"
LAYER = "filesystem/layer.tar"
EXPORT = "filesystem/export.tar"
LISTS = (("filesystem/changes.jsonl", LAYER), ("tmpfs/entries.jsonl", "tmpfs/contents.tar"))
"""The lists of changes, and where the contents of what they list lie: both in the order of one walk."""
SOURCES = "filesystem/sources.jsonl"
VOLUMES = "volumes/index.json"
VOLUME_IMAGE, VOLUME_ORIGINALS = "volumes/image.jsonl", "volumes/originals.tar"
SMALL = 1024 * 1024
"""Files up to this size are given to readers whole."""
HELD = 384 * 1024 * 1024
"""Bytes of the image's files that are held in memory at most."""
COLLECTORS = (
    "filesystem",
    "tmpfs",
    "volumes",
    "processes",
    "mapped-files",
    "network-state",
    "engine-state",
    "comparison",
)
"""Whose gaps bear on a comparison."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A change, and the bytes of what is there now as a stream; ``None`` where the side does not hold them."""

    change: Change
    stream: BinaryIO | None


@dataclass(slots=True)
class Inventory:
    """What the lists say, gathered in a first reading: names and digests only."""

    files: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By origin: every regular file that is there now."""
    moved: dict[str, str] = field(default_factory=dict)
    """The digest of each file that no longer lies where the image has it, deleted or, of programs, replaced by other bytes → its path."""
    gone: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    """Every path of the disk that is there now and is listed."""
    count: int = 0
    """All changes."""

    def named(self, change: Change) -> Change:
        """An added file of the disk with the image's name of the same bytes, if they no longer lie there.  Empty files tell nothing."""
        after = change.after
        if change.change != "added" or change.origin != "layer" or after is None or after.sha256 not in self.moved:
            return change
        return replace(change, moved_from=change.moved_from or self.moved[after.sha256])

    def hidden(self, path: str) -> bool:
        """Whether it was deleted, or a folder above it."""
        if not self.gone:
            return False
        return path in self.gone or any(parent in self.gone for parent in parents(path))


def _each(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, none of which is kept: ``tarfile`` holds all that it has read, one or two kilobytes each."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        yield member


def parents(path: str) -> Iterator[str]:
    """The folders above a path, the nearest first, without the root."""
    while (path := path.rpartition("/")[0]) != "":
        yield path


class Evidence:
    """What a bundle tells of a container."""

    def __init__(self, reader: BundleReader, originals: Originals | None = None) -> None:
        self.reader = reader
        self._originals = originals
        self._zeros = Zeros()
        self.missed: list[Gap] = []
        """What was not looked at, because there is a limit; grows while the side is read."""

    @cached_property
    def gaps(self) -> list[Gap]:
        """What could not be taken, of what bears on a comparison."""
        return [Gap.from_json(one) for one in self.reader.index["gaps"] if one["collector"] in COLLECTORS]

    @property
    def image_id(self) -> str:
        """The image's id, as the engine named it."""
        return str(self.container.get("Image") or (self.reader.index.get("target") or {}).get("image_id") or "")

    @cached_property
    def container(self) -> Mapping[str, Any]:
        """``inspect``, before irkit touched it; empty when it is not there."""
        return self._document("engine/container-before.json")

    @cached_property
    def described(self) -> Mapping[str, Any]:
        """The same, with volumes that are folders of the host in disguise as what they are."""
        rows = self.container.get("Mounts")
        seen = seen_through([one for one in rows or () if isinstance(one, dict)], self.rows("engine/volumes.json"))
        seen = followed(seen, recorded(self.rows("engine/sources.json")))
        return {**self.container, "Mounts": seen} if self.container else {}

    @cached_property
    def image(self) -> Mapping[str, Any]:
        """The image's ``inspect``."""
        return self._document("engine/image.json")

    def _document(self, name: str) -> Mapping[str, Any]:
        found = self.reader.json(name) if self.reader.find(name) else {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def processes(self) -> list[dict[str, Any]]:
        """Rows of ``process/processes.json``."""
        return self.rows("process/processes.json")

    def rows(self, name: str) -> list[dict[str, Any]]:
        """A JSON artifact that is a list of objects; empty when it is not there."""
        found = self.reader.json(name) if self.reader.find(name) else []
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @cached_property
    def mounts(self) -> frozenset[str]:
        """Where something is mounted, by the mount table of each of its mount namespaces, and by the engine."""
        found, tables = set(self._engine_mounts), self._tables
        for table in tables.values():
            found.update(text_from(row, "point") for row in table)
        if not tables and self.container:  # not running: what the engine mounts over every container (libnetwork)
            found.update(("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))
        return frozenset(found)

    @cached_property
    def covers(self) -> frozenset[str]:
        """Where something is mounted for the container's first process, and by the engine.

        Not for those in a mount namespace of their own (a service with a private /tmp, a sandbox): there a mount hides nothing from the others.
        """
        pid = int((self.container.get("State") or {}).get("Pid") or 0)
        own = next(
            (
                str(one["namespaces"]["mnt"])
                for one in self.processes
                if pid and one.get("pid") == pid and "namespaces" in one
            ),
            "",
        )
        return self._engine_mounts | {text_from(row, "point") for row in self._tables.get(own, ())}

    @cached_property
    def _engine_mounts(self) -> frozenset[str]:
        return frozenset(
            str(one["Destination"]) for one in self.container.get("Mounts") or () if one.get("Destination")
        )

    @cached_property
    def _tables(self) -> Mapping[str, list[Mapping[str, Any]]]:
        """The mount table of each mount namespace."""
        found = self.reader.json("process/mounts.json") if self.reader.find("process/mounts.json") else {}
        return found if isinstance(found, dict) else {}

    def lists(self) -> list[tuple[str, str]]:
        """The lists of changes that are there, each with its archive."""
        found = [pair for pair in LISTS if self.reader.find(pair[0])]
        if found and found[0][1] == LAYER and not self.reader.find(LAYER):
            found[0] = (found[0][0], EXPORT)  # taken by the engine's API
        rows = self._document(VOLUMES).get("mounts") or ()
        taken = (f"volumes/{row.get('number')}" for row in rows if isinstance(row, dict) and row.get("taken"))
        return [*found, *((f"{name}.jsonl", f"{name}.tar") for name in taken if self.reader.find(f"{name}.jsonl"))]

    def required(self) -> Evidence:
        """Itself.  Raises ``UsageProblem`` when it holds no list of changes."""
        if not self.lists():
            raise UsageProblem(
                "the bundle holds no list of changes", hint="its index names the gap: `irkit report BUNDLE`"
            )
        return self

    def changes(self) -> Iterator[Change]:
        """Every change, on disk first, then tmpfs, then volumes, then the files that the engine mounts."""
        for name, _ in self.lists():
            yield from self._list(name)
        yield from (one.change for one in self.engine_files.values())

    @cached_property
    def engine_files(self) -> Mapping[str, EngineFile]:
        """By path: the files of the engine's that are not as it writes them."""
        found = {}
        for row in self._document("network/files.json").get("files") or ():
            if row.get("artifact"):
                one = altered(row, b"".join(self.reader.stream(str(row["artifact"]))), self.container)
                if one is not None:
                    found[one.change.path] = one
        return found

    def _list(self, name: str) -> Iterator[Change]:
        """The changes of a list; a volume's are held against what the image has under its path."""
        changes = self._rows(name)
        if not name.startswith("volumes/"):
            return changes
        rows = self._document(VOLUMES).get("mounts") or ()
        row: Mapping[str, Any] = next((one for one in rows if f"volumes/{one.get('number')}.jsonl" == name), {})
        if row.get("type") != "volume":
            return changes
        return self.volume_image.against(changes, whole=row.get("whole") is True)

    @cached_property
    def sources(self) -> Mapping[str, tuple[int, int]]:
        """``path → (size, mtime in seconds)`` of the image's sources of changed bytecode."""
        rows = self.reader.lines(SOURCES) if self.reader.find(SOURCES) else ()
        return {text_from(row, "path"): (int(row["size"]), int(row["mtime_ns"]) // 1_000_000_000) for row in rows}

    @cached_property
    def volume_image(self) -> VolumeImage:
        """What the image has where volumes are mounted."""
        rows = self.reader.lines(VOLUME_IMAGE) if self.reader.find(VOLUME_IMAGE) else ()
        return VolumeImage({text_from(row, "path"): FileFacts.from_json(row) for row in rows})

    def _rows(self, name: str) -> Iterator[Change]:
        for row in self.reader.lines(name):
            try:
                yield Change.from_json(row)
            except (KeyError, TypeError, ValueError) as error:
                raise EvidenceAltered(f"{name} holds a line that is not a change: {error}") from error

    @cached_property
    def inventory(self) -> Inventory:
        """Names and digests of all that is listed."""
        found = Inventory()
        for change in self.changes():
            found.count += 1
            if change.displaced:
                found.moved.setdefault(change.displaced, change.path)
            if change.after is None:
                found.gone.add(change.path)
                continue
            if change.origin == "layer":
                found.paths.add(change.path)
            if change.after.kind == "file":
                found.files[change.origin].add(change.path)
        return found

    def taken(self) -> Iterator[Taken]:
        """Every change with its contents: one pass over each list and its archive, in step.

        A stream can be read until the next one is asked for.
        """
        self._zeros = Zeros()
        for name, archive in self.lists():
            if self._whole(archive):
                yield from self._in_step(name, archive)
            else:
                yield from (Taken(change, None) for change in self._list(name))
        yield from (Taken(one.change, io.BytesIO(one.data)) for one in self.engine_files.values())

    def _whole(self, archive: str) -> bool:
        entry = self.reader.find(archive)
        return entry is not None and bool(entry["complete"])

    def _in_step(self, name: str, archive: str) -> Iterator[Taken]:
        """Both are written by one walk: a member that is listed comes before every later one that is."""
        changes = self._list(name)
        origin = {"filesystem": "layer", "tmpfs": "tmpfs"}.get(archive.partition("/")[0], "volume")
        listed = self.inventory.files[origin]
        for path, stream in self._members(archive):
            if path not in listed:
                continue
            for change in changes:
                if change.path == path and change.after is not None:
                    yield Taken(change, stream)
                    break
                yield Taken(change, None)
        yield from (Taken(change, None) for change in changes)

    def _members(self, archive: str) -> Iterator[tuple[str, BinaryIO]]:
        with self._tar(archive) as tar:
            for member in _each(tar):
                if member.isreg() and (file := tar.extractfile(member)) is not None:
                    yield f"/{member.name}", self._zeros.opened(member, file)

    def _tar(self, archive: str) -> tarfile.TarFile:
        stream = io.BufferedReader(StreamReader(self.reader.stream(archive)), 1024 * 1024)
        return tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape")

    def pick(self, archive: str, wanted: Callable[[str], bool], limit: int = SMALL) -> dict[str, bytes]:
        """The files of an archive that are wanted, each up to ``limit`` bytes, in memory: ``HELD`` bytes at most.

        What is over that is one of :attr:`missed`.
        """
        found: dict[str, bytes] = {}
        over: list[str] = []
        held = 0
        if not self._whole(archive):
            return found
        with self._tar(archive) as tar:
            for member in _each(tar):
                path = f"/{member.name}"
                if not member.isreg() or member.size > limit or not wanted(path):
                    continue
                if held + member.size > HELD:
                    over.append(path)
                elif (file := tar.extractfile(member)) is not None:
                    found[path] = file.read()
                    held += member.size
        if over:
            why = f"more than the {HELD} bytes that are held in memory: judged without them; the first is {printable(over[0])}"
            self.missed.append(Gap("comparison", f"{len(over)} files of {archive}", why))
        return found

    @cached_property
    def before(self) -> MemoryFiles:
        """The image's files that the bundle holds: what was changed of it, and its package databases."""
        entry = self.reader.find(ORIGINALS)
        if self._originals is None or entry is None or not entry["complete"]:
            return MemoryFiles(self._picked()[0])
        return self._originals.of(str(entry["raw"]["sha256"]), self._picked)

    def _picked(self) -> tuple[dict[str, bytes], bool]:
        """The files of the image, and whether none was left out."""
        missed = len(self.missed)
        return self.pick(ORIGINALS, lambda _: True, HELD), missed == len(self.missed)

    @cached_property
    def volumes_before(self) -> MemoryFiles:
        """The image's files where volumes are mounted."""
        return MemoryFiles(self.pick(VOLUME_ORIGINALS, lambda _: True, HELD))

    def after(self, wanted: Callable[[str], bool]) -> MemoryFiles:
        """The same files as they are now, of those that are ``wanted``: changed ones from the layer, the others as they were."""
        seen = self.inventory
        kept = {
            path: data for path, data in self.before.files.items() if path not in seen.paths and not seen.hidden(path)
        }
        if any(wanted(path) for path in seen.paths):
            kept.update(self.pick(LAYER, wanted, HELD))
        return MemoryFiles(kept)
