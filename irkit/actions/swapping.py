"""Restore's last step: the container anew with the fresh volume; also when a killed run had done half of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irkit.acquire.volumes import Mounted
from irkit.actions.context import Context
from irkit.engine.interface import Container
from irkit.errors import EngineError, EngineUnreachable, NotFound, Refused

if TYPE_CHECKING:
    from irkit.recover.config import Recipe


@dataclass(frozen=True, slots=True)
class _Place:
    """Whose configuration is taken, from which image, and what the old one is called afterwards."""

    before: Container
    image_id: str
    aside: str


def swap(
    ctx: Context, mount: Mounted, fresh: str, args: Mapping[str, Any], again: bool, planned: Recipe | None = None
) -> tuple[str, str]:
    """The container anew, with the fresh volume; the names of the new and of the old one.

    ``again``: a killed run of the same id came this far before.  The container that it has left is taken as it is when
    it runs, and made anew when it does not.  Raises ``Refused``, ``CheckFailed``, ``EngineError``; all is as before then.
    """
    from irkit.recover.rebuild import rebuild
    from irkit.recover.swap import with_volume

    place = _place(ctx, args)
    if again and _stands(ctx, place, fresh, float(args["health_timeout"])):
        return place.before.name, place.aside
    plan = with_volume(planned or plan_swap(ctx, args), mount.destination, mount.name, fresh)
    old = ctx.engine.container(ctx.target.id)
    done = rebuild(ctx.engine, old, place.before.name, plan, place.aside, float(args["health_timeout"]), ctx.checkpoint)
    for note in plan.notes:
        ctx.warn(note)
    return done.name, done.old_name


def plan_swap(ctx: Context, args: Mapping[str, Any]) -> Recipe:
    """What is to be made, but for the volume.  Of a contained container no secret is carried over silently.

    Raises ``Refused``, ``CheckFailed``, ``UsageProblem``.
    """
    from irkit.actions.auditing import decide
    from irkit.actions.recovery import plan_for, refuse_task
    from irkit.recover.config import recipe
    from irkit.recover.plan import answered

    refuse_task(ctx.before, ctx.before.name)
    place = _place(ctx, args)
    if ctx.before.name == place.aside:
        raise Refused(
            f"{place.before.name} was rebuilt already",
            hint=f"`irkit restore {place.before.name}` restores for the clean one",
        )
    if ctx.case.state == "contained" or any(args.get(one) for one in ("secrets", "keep_secrets", "drop_secrets")):
        wanted = plan_for(ctx.engine, place.before, {**args, "image_id": place.image_id})
        if ctx.case.state == "contained":  # it is a rebuild, and the audit's gate is one's
            decide(ctx, place.before.name, wanted.recipe.body)
        plan = answered(wanted, ctx.ask_secret)
        for one in plan.burnt:
            ctx.warn(str(one))
        return plan.recipe
    try:
        old_image = ctx.engine.image(place.before.image_id)
    except NotFound:
        old_image = None
    return recipe(place.before, old_image, place.image_id)


def _stands(ctx: Context, place: _Place, fresh: str, timeout: float) -> bool:
    """Whether the new container runs already; one that does not, or is not well, is removed."""
    from irkit.recover.rebuild import made_from, wait_healthy

    try:
        found = ctx.engine.container(place.before.name)
    except NotFound:
        return False
    if found.id == ctx.target.id or not mounts(found, fresh):
        return False
    made_from(ctx.engine, found.id, place.image_id)
    if found.running:
        try:
            wait_healthy(ctx.engine, found.id, timeout, ctx.checkpoint)
        except EngineUnreachable:
            raise
        except EngineError as error:
            ctx.warn(f"{found.name} was made before the kill and is not well, so it is made anew: {error.message}")
        else:
            return True
    ctx.engine.remove(found.id, force=True, volumes=True)
    return False


def mounts(container: Container, volume: str) -> bool:
    """Whether a container has a volume."""
    return any(row.get("Type") == "volume" and row.get("Name") == volume for row in container.raw.get("Mounts") or ())


def _place(ctx: Context, args: Mapping[str, Any]) -> _Place:
    """By what the target was called when the run began: a killed run may have renamed it."""
    suffix = ctx.case.id.rpartition("-")[2]
    raw = ctx.case.read_json("container.json")
    if ctx.case.state == "contained" and raw is not None:
        before = Container(raw)
        return _Place(before, _verified(ctx, str(args["image"])), f"{before.name}-compromised-{suffix}")
    from irkit.actions.restorable import not_denied

    image = _verified(ctx, str(args["image"])) if args["image"] else ctx.before.image_id
    not_denied(ctx.before, image)
    return _Place(ctx.before, image, f"{ctx.before.name}-before-restore-{ctx.run.rpartition('-')[2]}")


def _verified(ctx: Context, image: str) -> str:
    """The image's id, from ``image.verify`` of this very run.  Raises ``Refused``."""
    verdict = ctx.facts.result.get("image") or {}
    if verdict.get("ok") and verdict.get("image_id"):
        return str(verdict["image_id"])
    raise Refused(f"{image} was not verified in this run", hint="the playbook needs image.verify before this step")
