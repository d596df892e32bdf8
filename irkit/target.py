"""What a run speaks of before the target is frozen: cheap to import (ADR 2).  The other types are in :mod:`irkit.models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Target(NamedTuple):
    """A container on an engine, or an image alone (``kind``: ``image``; ``id`` and ``image_id`` are both the image's)."""

    id: str
    name: str
    image: str
    image_id: str
    engine: str
    kind: str = "container"

    @property
    def short(self) -> str:
        """The beginning of its id, for people."""
        return self.id.removeprefix("sha256:")[:12]

    def to_json(self) -> dict[str, str]:
        """As in ``irkit contain --json``; ``kind`` is there only for an image."""
        told = {
            "id": self.id,
            "name": self.name,
            "image": self.image,
            "image_id": self.image_id,
            "engine": self.engine,
        }
        return told if self.kind == "container" else {**told, "kind": self.kind}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Target:
        """The reverse of :meth:`to_json`."""
        text = {name: str(raw[name]) for name in ("id", "name", "image", "image_id", "engine")}
        return cls(**text, kind=str(raw.get("kind") or "container"))


class Gap(NamedTuple):
    """Something that could not be captured, checked or undone: never silently skipped."""

    collector: str
    what: str
    why: str

    def to_json(self) -> dict[str, str]:
        """As in ``data/index.json``."""
        return {"collector": self.collector, "what": self.what, "why": self.why}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Gap:
        """The reverse."""
        return cls(str(raw["collector"]), str(raw["what"]), str(raw["why"]))
