"""The actions ``recover.bad`` and ``recover.eradicate``.  ``irkit eradicate``, which has no run, calls what they call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.actions.eradicating import NotHeld, carry_out, sentence
from irkit.actions.listing import judged_anew, survey
from irkit.errors import EngineError, UsageProblem
from irkit.recover.record import Eradication, Request, begun

KEEP = ("image", "network", "volume")


def bad(ctx: Context, args: Mapping[str, Any]) -> Result:
    """What a ``recover.eradicate`` with the same parameters would do."""
    plan = survey(
        ctx.engine, _request(ctx, args), identities=ctx.writer.identities, run=ctx.run, checkpoint=ctx.checkpoint
    )
    ctx.facts.result["bad"] = plan.to_json()
    for row in plan.rows:
        ctx.note(sentence(row))
    counts = {name: plan.count(name) for name in ("remove", "keep", "refuse")}
    words = f"{counts['remove']} to remove, {counts['keep']} stay, {counts['refuse']} are in no evidence"
    names = [row.item.name for row in plan.rows if row.decision == "remove"]
    return Result(
        "degraded" if counts["refuse"] or plan.unseen else "succeeded",
        words,
        {**counts, "names": names, "digests": list(plan.digests)},
    )


def eradicate(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Deny and remove; goes on with what this run began before it was killed.  Raises ``NotHeld`` for what stays unheld."""
    identities = ctx.writer.identities
    plan = begun(ctx.engine, run=ctx.run)
    if plan is not None:
        plan = judged_anew(plan, identities)
    else:
        plan = survey(ctx.engine, _request(ctx, args), identities=identities, run=ctx.run, checkpoint=ctx.checkpoint)
    carry_out(ctx.engine, plan, tell=lambda row: ctx.note(sentence(row)), checkpoint=ctx.checkpoint, own=ctx.target.id)
    return _told(ctx, plan)


def was_eradicated(ctx: Context, _: Mapping[str, Any]) -> Result | None:
    """After a kill: whether this run's eradication came to its end."""
    plan = begun(ctx.engine, run=ctx.run, finished=True)
    return _told(ctx, plan) if plan is not None else None


def _told(ctx: Context, plan: Eradication) -> Result:
    from irkit.quarantine.release import clear_away

    ctx.facts.result["eradication"] = plan.to_json()
    mine = next((row for row in plan.rows if row.item.id == ctx.target.id), None)
    if mine is not None and mine.outcome in ("removed", "gone"):
        for problem in clear_away(ctx.engine, ctx.case.id):
            ctx.warn(problem)
    for one in plan.gaps:
        ctx.warn(one)
    failed = [row for row in plan.rows if row.outcome == "failed"]
    if failed:
        raise EngineError(f"{failed[0].item.name} could not be removed: {failed[0].why}")
    refused = [row for row in plan.rows if row.decision == "refuse"]
    if refused:
        raise NotHeld(
            f"{len(refused)} of {len(plan.rows)} stay, no evidence holds them: "
            + "; ".join(f"{row.item.kind} {row.item.name}: {row.why}" for row in refused[:3])
        )
    removed, kept = plan.count("removed", "gone"), plan.count("kept", "keep")
    words = f"{removed} removed, {kept} kept; {len(plan.digests)} digests denied"
    return Result(
        "degraded" if plan.gaps else "succeeded",
        words,
        {"removed": removed, "kept": kept, "denied": list(plan.digests)},
    )


def _request(ctx: Context, args: Mapping[str, Any]) -> Request:
    keep = tuple(str(one) for one in args["keep"])
    unknown = [one for one in keep if one not in KEEP]
    if unknown:
        raise UsageProblem(f"not a kind that can be kept: {unknown[0]!r}", hint=f"one of {', '.join(KEEP)}")
    digests = tuple(str(one) for one in args["file_digests"])
    return Request(ctx.target.id, str(args["base"]), digests, keep, bool(args["accept_gaps"]))
