"""Looking at a container's changes without taking them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.text import printable

KINDS = ("added", "changed", "deleted")
UNSEEN_LIMIT = 3


def changes(ctx: Context, args: Mapping[str, Any]) -> Result:
    """How many files were added, changed and deleted since the image; what can't be seen is told, and counted."""
    from irkit.acquire.filesystem import bound, live_changes
    from irkit.acquire.host import HostView, locate
    from irkit.acquire.layers import find_layers

    container = (
        ctx.engine.container(str(args["container"])) if args["container"] else ctx.engine.container(ctx.target.id)
    )
    found = locate(container)
    view = found if isinstance(found, HostView) else None
    unseen = [] if view is not None else [f"tmpfs: {found}"]
    counts = dict.fromkeys(KINDS, 0)

    def note(path: str, why: str) -> None:
        unseen.append(f"{path}: {why}")

    for change in live_changes(find_layers(container, view, ctx.engine), view, note, bound(container)):
        ctx.checkpoint()
        counts[change.change] += 1
    words = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS)
    if unseen:
        words += f"; {len(unseen)} not seen: {printable('; '.join(unseen[:UNSEEN_LIMIT]), 300)}"
    return Result("degraded" if unseen else "succeeded", words, {**counts, "unseen": len(unseen)})
