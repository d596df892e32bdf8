"""Verify an image, rebuild from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irkit.actions.context import Context, Result
from irkit.errors import NotFound, Refused
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.cases import Case
    from irkit.engine.interface import Container, Engine
    from irkit.recover.plan import Plan


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
    from irkit.recover.compared import UNEXPECTED
    from irkit.recover.plan import answered
    from irkit.recover.rebuild import rebuild as run

    plan = rebuild_plan(ctx.engine, ctx.case, args)
    before = plan.before
    current = ctx.engine.container(ctx.target.id)
    aside = _aside(ctx.case, before.name)
    decide(ctx, before.name, plan.recipe.body)
    plan = answered(plan, ctx.ask_secret)
    agree_to(ctx, plan)
    done = run(ctx.engine, current, before.name, plan.recipe, aside, float(args["health_timeout"]), ctx.checkpoint)
    after = ctx.engine.container(done.id)
    differs, told_before = plan.compared(after), plan.not_hardened
    plan = plan.checked(after)
    for left in plan.not_hardened[len(told_before) :]:
        ctx.warn(str(left))
    unexpected = [one for one in differs if one.why == UNEXPECTED]
    for one in unexpected:
        ctx.warn(f"{printable(one.path, 300)} is not as it was, and nothing that irkit did explains it")
    ctx.facts.result["rebuilt"] = {
        "id": done.id, "name": done.name, "old_name": done.old_name, "health": done.health, **plan.to_json(),
        "differs": [one.to_json() for one in differs],
    }  # fmt: skip
    told = f"; {len(unexpected)} fields differ and should not" if unexpected else ""
    if plan.not_hardened:
        told += f"; not hardened: {', '.join(one.name for one in plan.not_hardened)}"
    return Result(
        "degraded" if unexpected or plan.not_hardened else "succeeded",
        f"{done.name} is {done.health} from {args['image_id']}; the compromised one is {done.old_name}{told}",
        {"id": done.id},
    )


def rebuild_plan(engine: Engine, case: Case, args: Mapping[str, Any]) -> Plan:
    """What ``recover.rebuild`` would do with these parameters; it only reads.

    Raises ``Refused`` unless the case holds its target with sealed evidence, and when it was rebuilt already;
    ``UsageProblem``.
    """
    from irkit.engine.interface import Container

    raw = case.read_json("container.json")
    if raw is None or case.state != "contained":
        raise Refused(
            f"{case.target.name} is not contained",
            hint=f"`irkit contain {case.target.name}` first: evidence before recovery",
        )
    if not case.bundles:
        raise Refused(f"the case {case.id} has no sealed evidence", hint=f"`irkit contain {case.target.name} --again`")
    before = Container(raw)
    refuse_task(before, case.target.name)
    aside = _aside(case, before.name)
    if engine.container(case.target.id).name == aside and _exists(engine, before.name):
        raise Refused(f"{before.name} was rebuilt already: the compromised container is {aside}")
    return plan_for(engine, before, args)


def refuse_task(before: Container, name: str) -> None:
    """Raises ``Refused`` for a Swarm task: a container made anew would be none, and Swarm starts another one besides."""
    from irkit.recover.swarm import service_of

    if service_of(before):
        raise Refused(
            f"{name} is a task of a Swarm service: only Swarm makes another one in its place",
            hint=f"`irkit run update-service {name} --var image=…` updates the service to a verified image",
        )


def plan_for(engine: Engine, before: Container, args: Mapping[str, Any]) -> Plan:
    """With what the parameters say of secrets and of hardening.  Raises ``UsageProblem``."""
    from irkit.recover.harden import chosen
    from irkit.recover.plan import make_plan
    from irkit.recover.secrets import parse_answers

    hardening = chosen(_names(args.get("harden", ())), _names(args.get("keep", ())))
    return make_plan(engine, before, str(args["image_id"]), parse_answers(args), hardening)


def agree_to(ctx: Context, plan: Plan) -> None:
    """Tell what differs, and ask for agreement to what is hardened.  Raises ``Refused``."""
    for note in plan.notes:
        ctx.warn(note)
    if plan.hardened and not ctx.agree("make these changes?"):
        raise Refused("the changes were not agreed to", hint="--yes agrees, --plan shows them, --keep NAME exempts one")


def _names(value: Iterable[Any]) -> frozenset[str]:
    return frozenset(str(one) for one in value)


def _aside(case: Case, name: str) -> str:
    """What the compromised container is called once the clean one has its name."""
    return f"{name}-compromised-{case.id.rpartition('-')[2]}"


def was_rebuilt(ctx: Context, args: Mapping[str, Any]) -> Result | None:
    """After a kill: whether the clean container bears the name, and the compromised one is aside.

    Raises ``Refused`` when what bears the name is of another image: somebody else made it meanwhile.
    """
    raw = ctx.case.read_json("container.json")
    if raw is None:
        return None
    name = str(raw.get("Name", "")).lstrip("/")
    aside, image = _aside(ctx.case, name), str(args["image_id"])
    if ctx.engine.container(ctx.target.id).name != aside or not _exists(ctx.engine, name):
        return None
    made = ctx.engine.container(name)
    if made.image_id not in (image, ctx.engine.image(image).id):
        raise Refused(
            f"{name} is made from {made.image_id} by now, not from the verified image {image}",
            hint=f"something else made it while the run was dead: look at it; the compromised container is {aside}",
        )
    if not made.running:
        return None
    return Result("succeeded", f"{name} was rebuilt already; the compromised one is {aside}", {"id": made.id})


def _exists(engine: Engine, name: str) -> bool:
    """Whether anything bears the name; nothing does when an engine died in the middle of a rebuild."""
    try:
        engine.container(name)
    except NotFound:
        return False
    return True
