"""Whether a verified bundle holds a thing, so that it may be removed.

What "holds" means, by kind (docs/recover.md): a **container**: ``inspect`` and its changed files or its whole file system;
an **image**: its identity and the image itself, as the engine saves it; a **volume**: all of its files; a **network**: its
configuration.  The bundle must be complete, verify with a key that is trusted for evidence, and name no gap in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irkit.errors import IrkitError
from irkit.evidence.keys import PublicKey
from irkit.evidence.reader import BundleReader
from irkit.evidence.verify import verify_bundle
from irkit.recover.bad import Item

OF_THE_IMAGE = "what the image has in volumes"
"""A gap of the collector ``volumes`` that is no lack of a volume's own files (``irkit.acquire.volumes``)."""


@dataclass(frozen=True, slots=True)
class Held:
    """The bundle that holds it, or ``bundle`` empty and ``why`` none does.  ``gaps``: what the bundle lacks of it, in words."""

    bundle: str = ""
    digest: str = ""
    case: str = ""
    sealed: str = ""
    why: str = ""
    gaps: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """In a row of ``irkit.eradication/v1``."""
        return {
            "bundle": self.bundle, "digest": self.digest, "case": self.case, "sealed": self.sealed, "why": self.why,
            "gaps": list(self.gaps),
        }  # fmt: skip


@dataclass(slots=True)
class Bundles:
    """Sealed bundles, the newest first.  Each is read through and verified once, when it is first needed.

    ``accept_gaps``: a bundle that names gaps in what it holds counts all the same.
    """

    paths: Sequence[Path]
    keys: Iterable[PublicKey]
    identities: Sequence[Any] = ()
    accept_gaps: bool = False
    _readers: dict[Path, BundleReader | None] = field(default_factory=dict)
    _verified: dict[Path, Held] = field(default_factory=dict)

    def find(self, item: Item) -> Held:
        """The newest bundle that holds it."""
        said = ""
        for path in self.paths:
            why, gaps = self._look(path, item)
            if why is None:
                continue
            if not why and (not gaps or self.accept_gaps):
                held = self._verify(path)
                if held.bundle and self._look(path, item) == (why, gaps):
                    return replace(held, gaps=gaps)
                why = held.why or "it was altered while it was read"
            said = said or (f"{path.name}: {why}" if why else f"{path.name} lacks some of it: {'; '.join(gaps[:3])}")
        return Held(why=said or "no bundle speaks of it")

    def _look(self, path: Path, item: Item) -> tuple[str | None, tuple[str, ...]]:
        """Why the bundle does not hold it (empty: it does, ``None``: it does not speak of it), and its gaps in it."""
        try:
            reader = self._reader(path)
            return _LOOK[item.kind](reader, item) if reader is not None else (None, ())
        except (IrkitError, KeyError, TypeError, ValueError, AttributeError) as error:
            return f"can't be read: {error}", ()

    def _reader(self, path: Path) -> BundleReader | None:
        if path not in self._readers:
            try:
                self._readers[path] = BundleReader(path, self.identities)
            except IrkitError:
                self._readers[path] = None
        return self._readers[path]

    def _verify(self, path: Path) -> Held:
        """Read every byte, once.  What was read of it before that is forgotten: it could have been something else."""
        if path not in self._verified:
            self._verified[path] = self._verify_now(path)
            self._readers.pop(path, None)
        return self._verified[path]

    def _verify_now(self, path: Path) -> Held:
        try:
            found = verify_bundle(path, self.keys, identities=self.identities)
        except IrkitError as error:
            return Held(why=error.message)
        if not found.ok:
            return Held(why=f"it does not verify: {found.problems[0].file}: {found.problems[0].problem}")
        if found.status != "complete":
            return Held(why=f"it is {found.status or 'of no status'}, not complete")
        reader = self._reader(path)
        return Held(str(path), found.digest, str(reader.index.get("case") or "") if reader else "", found.sealed)


Look = tuple[str | None, tuple[str, ...]]


def _container(reader: BundleReader, item: Item) -> Look:
    if _target(reader).get("id") != item.id:
        return None, ()
    if not _whole(reader, "engine/container-before.json"):
        return "it lacks the container's configuration", ()
    files = _whole(reader, "filesystem/changes.jsonl") and (
        _whole(reader, "filesystem/layer.tar") or _whole(reader, "filesystem/export.tar")
    )
    if not files and not _whole(reader, "filesystem/export.tar"):
        return "it lacks the container's files", ()
    return "", _gaps(reader, ("filesystem", "export"))


def _image(reader: BundleReader, item: Item) -> Look:
    if not reader.find("image/identity.json"):
        return (None if _target(reader).get("image_id") != item.id else "it lacks the image's identity"), ()
    identity = reader.json("image/identity.json")
    if item.id not in (identity.get("id"), identity.get("id_of_container")):
        return None, ()
    if not _whole(reader, "image/image.tar"):
        return "it has the image's identity, not the image itself (the collector image-save)", ()
    return "", _gaps(reader, ("image", "image-save"))


def _volume(reader: BundleReader, item: Item) -> Look:
    documents = reader.json("engine/volumes.json") if reader.find("engine/volumes.json") else []
    made = {str(one.get("Name")): str(one.get("CreatedAt") or "") for one in documents if isinstance(one, dict)}
    rows = reader.json("volumes/index.json")["mounts"] if reader.find("volumes/index.json") else []
    mine = [row for row in rows if row.get("type") == "volume" and row.get("name") == item.id]
    if not mine:
        return (
            "it has the volume's configuration, not its files (the collector volumes)" if item.id in made else None
        ), ()
    row = mine[0]
    if item.made and made.get(item.id) and made[item.id] != item.made:
        return (
            f"it holds another volume of this name, or this one before it changed: the engine's time of it was {made[item.id]}",
            (),
        )
    number = int(row["number"])
    if not row.get("taken") or not all(_whole(reader, f"volumes/{number}.{kind}") for kind in ("jsonl", "tar")):
        return f"its files were not taken: {row.get('why') or 'they are incomplete'}", ()
    mine_at = str(row.get("destination") or "").rstrip("/")
    others = [str(one.get("destination") or "").rstrip("/") for one in rows if one is not row]
    gaps = tuple(
        one
        for one in _gaps(reader, ("volumes",))
        if not one.startswith(f"{OF_THE_IMAGE}: ")
        and (_about(one, mine_at) or not any(_about(one, at) for at in others))
    )
    return "", gaps


def _about(gap: str, folder: str) -> bool:
    """Whether a gap's path is a mount's or lies in it."""
    return gap.startswith((f"{folder}/", f"{folder} ", f"{folder}:"))


def _network(reader: BundleReader, item: Item) -> Look:
    rows = reader.json("engine/networks.json") if reader.find("engine/networks.json") else []
    known = any(isinstance(row, dict) and row.get("Id") == item.id for row in rows)
    return ("" if known else None), ()


_LOOK = {"container": _container, "image": _image, "volume": _volume, "network": _network}


def _target(reader: BundleReader) -> dict[str, Any]:
    found = reader.index.get("target")
    return found if isinstance(found, dict) else {}


def _whole(reader: BundleReader, name: str) -> bool:
    entry = reader.find(name)
    return entry is not None and bool(entry.get("complete"))


def _gaps(reader: BundleReader, collectors: tuple[str, ...]) -> tuple[str, ...]:
    rows = reader.index.get("gaps") or ()
    return tuple(f"{row['what']}: {row['why']}" for row in rows if row.get("collector") in collectors)
