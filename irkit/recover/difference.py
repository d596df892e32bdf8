"""What differs between a suspect volume, as its evidence lists it, and the restored one."""

from __future__ import annotations

from typing import Any

from irkit.text import text_fields

Facts = tuple[str, str, int, int, int]
"""Kind, digest (of a link: its target), mode, owner, group."""
Listing = dict[str, Facts]
"""By the path in the volume."""


def difference(before: Listing, after: Listing) -> dict[str, Any]:
    """``added`` and ``removed`` as the restored one has them, ``changed``: another kind or content, ``attributes``: mode, owner, group."""
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    both = sorted(before.keys() & after.keys())
    changed = [path for path in both if before[path][:2] != after[path][:2]]
    other = [path for path in both if before[path][:2] == after[path][:2] and before[path][2:] != after[path][2:]]
    rows = {
        "added": [_row(path, None, after[path]) for path in added], "removed": [_row(path, before[path], None) for path in removed],
        "changed": [_row(path, before[path], after[path]) for path in changed],
        "attributes": [_row(path, before[path], after[path]) for path in other],
    }  # fmt: skip
    return {**rows, "counts": {name: len(found) for name, found in rows.items()}}


def _row(path: str, before: Facts | None, after: Facts | None) -> dict[str, Any]:
    return {**text_fields("path", path), "suspect": _facts(before), "restored": _facts(after)}


def _facts(one: Facts | None) -> dict[str, Any] | None:
    if one is None:
        return None
    kind, digest, mode, uid, gid = one
    shown = text_fields("target", digest) if kind == "symlink" else {"sha256": digest}
    return {"kind": kind, **shown, "mode": f"{mode:04o}", "uid": uid, "gid": gid}
