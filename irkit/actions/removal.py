"""Stopping and removing: only when a sealed bundle, read back and whole, holds what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.errors import Conflict, NotFound, Refused
from irkit.recover.bad import Item


def stop(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Its stop signal, its grace time, SIGKILL.  A frozen one is thawed by that for its last seconds: seal it off before."""
    found = _target(ctx)
    if found is None or not found.running:
        return Result("skipped", "it does not run", {"was": "stopped"})
    if found.paused:
        if ctx.case.state != "contained" and ctx.facts.quarantine_state != "proven":
            raise Refused("it is frozen and not proven to be isolated: to stop it, it would have to run again")
        ctx.engine.unpause(ctx.target.id)
    from irkit.recover.eradicate import stop as gracefully

    grace = args["grace"]
    how = gracefully(ctx.engine, found, None if grace is None else int(grace))
    return Result("succeeded", how, {"was": "frozen" if found.paused else "running"})


def remove_container(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Volumes are kept."""
    _evidence_first(ctx, Item("container", ctx.target.id, ctx.target.name, ""))
    found = _target(ctx)
    if found is None:
        return Result("skipped", "it is gone already", {"removed": ""})
    if found.running and not found.paused:
        raise Refused(f"{ctx.target.name} runs", hint="container.stop or container.freeze before it")
    ctx.engine.remove(ctx.target.id, force=True)
    return Result("succeeded", f"removed {ctx.target.name}", {"removed": ctx.target.id})


def remove_image(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Every name of the target's image, and it; refused while any other container was made from it."""
    from irkit.recover.eradicate import remove_image as remove

    _evidence_first(ctx, Item("image", ctx.target.image_id, ctx.target.image, ""))
    try:
        names = remove(ctx.engine, ctx.target.image_id)
    except NotFound:
        return Result("skipped", "the image is gone already", {"removed": "", "names": []})
    except Conflict as error:
        raise Refused(error.message, hint="remove or rebuild them first") from error
    words = ", ".join(names) or ctx.target.image_id
    return Result("succeeded", f"removed {words}", {"removed": ctx.target.image_id, "names": list(names)})


def _target(ctx: Context) -> Any:
    try:
        return ctx.engine.container(ctx.target.id)
    except NotFound:
        return None


def _evidence_first(ctx: Context, item: Item) -> None:
    """Raises ``Refused`` unless a complete bundle of this run was sealed and read back, or one of any case holds it."""
    verified = any(one["uses"] == "evidence.verify" and one["outcome"] == "succeeded" for one in ctx.steps)
    sealed = ctx.facts.sealed
    if sealed is not None and sealed.status == "complete" and verified:
        return
    from irkit.actions.listing import stored_bundles

    held = stored_bundles(ctx.writer.identities).find(item)
    if not held.bundle:
        raise Refused(
            f"nothing is removed before a complete bundle of it is sealed and verified: {held.why}",
            hint="the playbook needs evidence.seal and evidence.verify before this step, and no collector may fail",
        )
    ctx.note(f"{item.kind} {item.name} is in the bundle {held.digest} of the case {held.case}")
