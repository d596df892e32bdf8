"""The ground truth: ``truth.yaml`` as types, and the raw facts of a change as it names them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SEEN = ("disk", "tmpfs", "volume", "process", "mount", "settings")
ACL = "system.posix_acl_"


@dataclass(frozen=True)
class Expected:
    """One raw change.  ``differs``: exactly what differs; ``None``: not laid down."""

    path: str
    change: str
    differs: frozenset[str] | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def wrong(self, found: Mapping[str, Any] | None) -> str:
        """What is wrong with a row of ``changes``; empty when it is right."""
        if found is None:
            return f"{self.path}: not in the list"
        if found["change"] != self.change:
            return f"{self.path}: {found['change']}, not {self.change}"
        if self.differs is not None and (aspects := differing(found["before"], found["after"])) != self.differs:
            return f"{self.path}: {sorted(aspects)} differ, not {sorted(self.differs)}"
        for side in ("before", "after"):
            for name, value in getattr(self, side).items():
                if (is_value := (found[side] or {}).get(name)) != value:
                    return f"{self.path}: {side} {name} is {is_value!r}, not {value!r}"
        return ""


@dataclass(frozen=True)
class Plant:
    """One planted change, and what a finding about it must say."""

    id: str
    seen: str
    changes: tuple[Expected, ...]
    also: tuple[str, ...]
    match: tuple[str, ...]
    attack: frozenset[str]
    severity: str


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
    """Which aspects of two facts differ; of two kinds, only that."""
    if before["kind"] != after["kind"]:
        return frozenset({"kind"})
    pairs = {
        "content": [(one.get("sha256"), one.get("size") if one["kind"] == "file" else 0) for one in (before, after)],
        "mode": [one["mode"] for one in (before, after)],
        "owner": [(one["uid"], one["gid"]) for one in (before, after)],
        "target": [one.get("target") for one in (before, after)],
        "xattrs": [_attributes(one, False) for one in (before, after)],
        "acl": [_attributes(one, True) for one in (before, after)],
        "mtime": [one["mtime_ns"] if one["kind"] != "directory" else 0 for one in (before, after)],
    }
    return frozenset(name for name, (old, new) in pairs.items() if old != new)


def _attributes(facts: Mapping[str, Any], acl: bool) -> dict[str, str]:
    return {name: value for name, value in facts.get("xattrs", {}).items() if name.startswith(ACL) == acl}


def load() -> tuple[Plant, ...]:
    """All of ``truth.yaml``."""
    text = Path(__file__).with_name("truth.yaml").read_text()
    return tuple(_plant(row) for row in yaml.safe_load(text)["plants"])


def library() -> str:
    """Debian's folder of shared libraries."""
    return f"/usr/lib/{platform.machine()}-linux-gnu"


def _plant(row: dict[str, Any]) -> Plant:
    changes = tuple(
        Expected(
            one["path"].replace("{lib}", library()),
            one["change"],
            frozenset(one["differs"]) if "differs" in one else None,
            one.get("before", {}),
            one.get("after", {}),
        )
        for one in row.get("changes", ())
    )
    match = tuple(row.get("match") or (one.path for one in changes))
    seen = row.get("seen", "disk")
    if seen not in SEEN or not match:
        raise ValueError(f"{row['id']}: {seen}, {match}")
    return Plant(row["id"], seen, changes, tuple(row.get("also", ())), match, frozenset(row["attack"]), row["severity"])
