"""A Swarm task is not made anew by itself: its service is updated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.errors import Refused
from irkit.home import read_json, write_json
from irkit.recover import swarm

RECORD = "service.json"
"""In the run's folder: the update that was asked for, so that a run that goes on does not ask again."""


def update_service(ctx: Context, args: Mapping[str, Any]) -> Result:
    """By the digest that was verified in this run.  The update ends the compromised task: its evidence must be sealed."""
    service = swarm.service_of(ctx.before)
    if not service:
        raise Refused(f"{ctx.target.name} is no task of a Swarm service", hint="recover.rebuild makes a container anew")
    if ctx.case.state != "contained" or not ctx.case.bundles:
        raise Refused(
            f"{ctx.target.name} is not contained with sealed evidence, and Swarm ends it when its service is updated",
            hint=f"`irkit contain {ctx.target.name}` first: evidence before recovery",
        )
    image = _verified(ctx)
    record = ctx.run_folder / RECORD
    raw = read_json(record)
    done = swarm.update(
        ctx.engine, service, image, float(args["timeout"]), ctx.checkpoint,
        swarm.Begun.from_json(raw) if raw else None, lambda begun: write_json(record, begun.to_json()),
    )  # fmt: skip
    ctx.facts.result["service"] = {"id": done.id, "name": done.name, "old_image": done.old_image, "image": done.image}
    return Result(
        "degraded" if done.unsure else "succeeded",
        f"Swarm has updated the service {done.name} to {done.image}, from {done.old_image}"
        + (f"; but {done.unsure}" if done.unsure else ""),
        {"id": done.id, "running": done.running, "wanted": done.wanted},
    )


def _verified(ctx: Context) -> str:
    """``repository@digest`` where a registry has it, so that every node gets the same; else the id, on this node alone."""
    verdict = ctx.facts.result.get("image") or {}
    if not verdict.get("ok"):
        raise Refused("no image was verified in this run", hint="image.verify comes before recover.update-service")
    if verdict.get("resolved"):
        reference = str(verdict["reference"]).partition("@")[0]
        head, slash, last = reference.rpartition("/")
        return f"{head}{slash}{last.partition(':')[0]}@{verdict['resolved']}"
    ctx.warn("the image is in no registry: only this node has it, and other nodes can't start it")
    return str(verdict["image_id"])
