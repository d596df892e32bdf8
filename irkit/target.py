"""What a run speaks of before the target is frozen: cheap to import (ADR 2).  The other types are in :mod:`irkit.models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Target(NamedTuple):
    """A container on an engine."""

    id: str
    name: str
    image: str
    image_id: str
    engine: str

    def to_json(self) -> dict[str, str]:
        """As in ``irkit contain --json``."""
        return {
            "id": self.id,
            "name": self.name,
            "image": self.image,
            "image_id": self.image_id,
            "engine": self.engine,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Target:
        """The reverse of :meth:`to_json`."""
        return cls(**{name: str(raw[name]) for name in ("id", "name", "image", "image_id", "engine")})


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
