"""A container as it was, with a fresh volume in the place of a suspect one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from irkit.recover.config import Recipe


def with_volume(plan: Recipe, point: str, old: str, fresh: str) -> Recipe:
    """The same recipe, but ``fresh`` is mounted at ``point``, where the volume ``old`` was; elsewhere ``old`` is mounted no more either."""
    host = dict(plan.body.get("HostConfig") or {})
    binds = [_bind(str(one), old, fresh) for one in host.get("Binds") or ()]
    mounts = [_mount(one, old, fresh) for one in host.get("Mounts") or ()]
    there = [one.split(":")[1] for one in binds if ":" in one] + [str(one.get("Target")) for one in mounts]
    if point not in there:  # an anonymous volume, of the image or of `-v /data`, or one by --volumes-from
        binds.append(f"{fresh}:{point}")
    host["Binds"], host["Mounts"] = binds or None, mounts or None
    notes = tuple(one for one in plan.notes if not one.startswith(f"{point}: "))
    return replace(plan, body={**plan.body, "HostConfig": host}, notes=notes)


def _bind(bind: str, old: str, fresh: str) -> str:
    source, separator, rest = bind.partition(":")
    return f"{fresh}{separator}{rest}" if source == old else bind


def _mount(mount: Mapping[str, Any], old: str, fresh: str) -> dict[str, Any]:
    changed = dict(mount)
    if mount.get("Type") == "volume" and mount.get("Source") == old:
        changed["Source"] = fresh
        changed.pop("VolumeOptions", None)  # they made the old one; the fresh one is there already
    return changed
