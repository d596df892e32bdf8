"""Verify an image, rebuild from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irkit.actions.context import Context, Result
from irkit.errors import NotFound, Refused


def verify_image(ctx: Context, args: Mapping[str, Any]) -> Result:
    """The image must be trusted: by the trust policy where there is one, else by a key that is trusted for images."""
    from irkit.trust.policy import load_policy
    from irkit.trust.verify import verify

    signature = Path(str(args["signature"])) if args["signature"] else None
    verdict = verify(str(args["image"]), load_policy(), ctx.engine, signature=signature)
    ctx.facts.result["image"] = verdict.to_json()
    verdict.require()
    return Result(
        "succeeded",
        f"signed by {', '.join(one.key for one in verdict.keys)} for this repository; {len(verdict.layers)} layers read and as signed",
        {"image_id": verdict.image_id},
    )


def rebuild(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Only a target that can do no more harm, and whose evidence is sealed, is replaced."""
    from irkit.actions.auditing import decide
    from irkit.engine.interface import Container
    from irkit.recover.config import recipe
    from irkit.recover.rebuild import rebuild as run

    raw = ctx.case.read_json("container.json")
    if raw is None or ctx.case.state != "contained":
        raise Refused(
            f"{ctx.target.name} is not contained",
            hint=f"`irkit contain {ctx.target.name}` first: evidence before recovery",
        )
    if not ctx.case.bundles:
        raise Refused(
            f"the case {ctx.case.id} has no sealed evidence",
            hint=f"`irkit contain {ctx.target.name} --again`",
        )
    before = Container(raw)
    try:
        old_image = ctx.engine.image(before.image_id)
    except NotFound:
        old_image = None
    plan = recipe(before, old_image, str(args["image_id"]))
    current = ctx.engine.container(ctx.target.id)
    aside = f"{before.name}-compromised-{ctx.case.id.rpartition('-')[2]}"
    if current.name == aside and _exists(ctx, before.name):
        raise Refused(f"{before.name} was rebuilt already: the compromised container is {aside}")
    decide(ctx, before.name, plan.body)
    done = run(ctx.engine, current, before.name, plan, aside, float(args["health_timeout"]), ctx.checkpoint)
    for note in plan.notes:
        ctx.warn(note)
    ctx.facts.result["rebuilt"] = {
        "id": done.id,
        "name": done.name,
        "old_name": done.old_name,
        "health": done.health,
        "notes": list(plan.notes),
    }
    return Result(
        "succeeded",
        f"{done.name} is {done.health} from {args['image_id']}; the compromised one is {done.old_name}",
        {"id": done.id},
    )


def was_rebuilt(ctx: Context, _: Mapping[str, Any]) -> Result | None:
    """After a kill: whether the clean container bears the name, and the compromised one is aside."""
    raw = ctx.case.read_json("container.json")
    if raw is None:
        return None
    name = str(raw.get("Name", "")).lstrip("/")
    aside = f"{name}-compromised-{ctx.case.id.rpartition('-')[2]}"
    if ctx.engine.container(ctx.target.id).name != aside or not _exists(ctx, name):
        return None
    made = ctx.engine.container(name)
    if not made.running:
        return None
    return Result("succeeded", f"{name} was rebuilt already; the compromised one is {aside}", {"id": made.id})


def _exists(ctx: Context, name: str) -> bool:
    """Whether anything bears the name; nothing does when an engine died in the middle of a rebuild."""
    try:
        ctx.engine.container(name)
    except NotFound:
        return False
    return True
