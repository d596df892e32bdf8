"""Stopping and removing: only when a sealed bundle of this very run, read back and whole, holds what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.errors import NotFound, Refused


def stop(ctx: Context, args: Mapping[str, Any]) -> Result:
    """SIGTERM, the grace time, SIGKILL.  A frozen one is thawed by that for its last seconds: seal it off before."""
    found = _target(ctx)
    if found is None or not found.running:
        return Result("skipped", "it does not run", {"was": "stopped"})
    if found.paused:
        if ctx.case.state != "contained" and ctx.facts.quarantine_state != "proven":
            raise Refused("it is frozen and not proven to be isolated: to stop it, it would have to run again")
        ctx.engine.unpause(ctx.target.id)
    ctx.engine.stop(ctx.target.id, int(args["grace"]))
    return Result("succeeded", "stopped", {"was": "frozen" if found.paused else "running"})


def remove_container(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Volumes are kept."""
    _evidence_first(ctx)
    found = _target(ctx)
    if found is None:
        return Result("skipped", "it is gone already", {"removed": ""})
    if found.running and not found.paused:
        raise Refused(f"{ctx.target.name} runs", hint="container.stop or container.freeze before it")
    ctx.engine.remove(ctx.target.id, force=True)
    return Result("succeeded", f"removed {ctx.target.name}", {"removed": ctx.target.id})


def remove_image(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Every name of the target's image, and it; refused while any other container was made from it."""
    _evidence_first(ctx)
    try:
        image = ctx.engine.image(ctx.target.image_id)
    except NotFound:
        return Result("skipped", "the image is gone already", {"removed": "", "names": []})
    users = [one for one in (ctx.engine.container(ref) for ref in ctx.engine.containers()) if one.image_id == image.id]
    if users:
        made = ", ".join(sorted(one.name for one in users)[:10])
        raise Refused(f"{len(users)} containers are made from this image: {made}", hint="remove or rebuild them first")
    names = [*image.tags, *(one for one in image.repo_digests if "<none>" not in one)]
    for name in image.tags[1:]:
        ctx.engine.remove_image(name)
    ctx.engine.remove_image(image.tags[0] if image.tags else image.id)
    try:
        ctx.engine.image(image.id)
    except NotFound:
        return Result("succeeded", f"removed {', '.join(names) or image.id}", {"removed": image.id, "names": names})
    ctx.engine.remove_image(image.id)
    return Result("succeeded", f"removed {', '.join(names) or image.id}", {"removed": image.id, "names": names})


def _target(ctx: Context) -> Any:
    try:
        return ctx.engine.container(ctx.target.id)
    except NotFound:
        return None


def _evidence_first(ctx: Context) -> None:
    """Raises ``Refused`` unless a complete bundle of this run is sealed and was read back."""
    verified = any(one["uses"] == "evidence.verify" and one["outcome"] == "succeeded" for one in ctx.steps)
    sealed = ctx.facts.sealed
    if sealed is None or sealed.status != "complete" or not verified:
        raise Refused(
            "nothing is removed before a complete bundle of it is sealed and verified",
            hint="the playbook needs evidence.seal and evidence.verify before this step, and no collector may fail",
        )
