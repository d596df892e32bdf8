"""Failover's two verbs: prepare a clean replacement, then switch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dateutil.parser import isoparse

from irkit.actions import relaying
from irkit.actions.ahead import Ahead
from irkit.actions.containment import prepare_ahead
from irkit.actions.context import Context, Result
from irkit.clock import now
from irkit.engine.interface import Container, Endpoint, Engine, NetworkSpec
from irkit.errors import EngineError, NotFound, Refused
from irkit.home import read_json, write_json
from irkit.quarantine.release import clear_away
from irkit.quarantine.seal import LABEL, OPTIONS, ROLE, holder_of, network_name
from irkit.quarantine.state import SavedState
from irkit.recover import failover
from irkit.recover.compared import UNEXPECTED, Difference, Meant, differences
from irkit.recover.plan import image_or_none
from irkit.recover.rebuild import wait_healthy
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.recover.failover import Names
    from irkit.recover.plan import Plan

RECORD = "failover.json"
"""In the case's folder: the replacement's id, how it was started, and its recipe's notes."""


def prepare(ctx: Context, args: Mapping[str, Any]) -> Result:
    """The replacement, up to the point where only the target's place is missing to it."""
    before, names = _former(ctx)
    if ctx.engine.container(ctx.target.id).name == names.aside and _exists(ctx, names.name):
        raise Refused(f"{names.name} was replaced already: the compromised container is {names.aside}")
    if _exists(ctx, names.aside) and ctx.engine.container(names.aside).id != ctx.target.id:
        raise Refused(
            f"another container is called {names.aside} already, as {names.name} is to be: nothing was changed",
            hint=f"`docker rename {names.aside} …`",
        )
    plan = _planned(ctx, before, args)
    start, why = failover.start_of(before, str(args["start"]))
    more = [failover.SECOND] if start == failover.WARM and before.network_mode != "none" else []
    _make_ready(ctx, before)
    known = str((ctx.case.read_json(RECORD) or {}).get("id", ""))
    record = {
        "schema": "irkit.failover/v1", "start": start, "why": why, **_for_people(plan, more),
        "secret_names": sorted(_given(plan)), "image_id": str(args["image_id"]),
        "meant": {"secrets": sorted(plan.meant.secrets), "hardened": sorted(plan.meant.hardened)},
    }  # fmt: skip

    def made(new: str) -> None:
        write_json(ctx.case.folder / RECORD, {**record, "id": new})

    nursery = NetworkSpec(names.nursery, True, OPTIONS, {LABEL: ctx.case.id, ROLE: "warm-up"})
    try:
        early = failover.early_places(ctx.engine, plan.recipe, _where(before, names)) if before.running else ()
        new, health = failover.prepare(
            ctx.engine, plan.recipe, names, start, nursery, float(args["health_timeout"]), ctx.checkpoint, known, made, early
        )  # fmt: skip
    except BaseException:
        _unmake_ready(ctx)
        raise
    for note in more:
        ctx.warn(note)
    came_out = plan.checked(ctx.engine.container(new))
    for left in came_out.not_hardened[len(plan.not_hardened) :]:
        ctx.warn(str(left))
    write_json(ctx.case.folder / RECORD, {**record, **_for_people(came_out, more), "id": new, "ready": True})
    ready = f"{health} as {names.temporary}" if health else f"made as {names.temporary}, to be started at the switch"
    return Result("succeeded", f"{ready}: {why}", {"id": new, "start": start})


def _planned(ctx: Context, before: Container, args: Mapping[str, Any]) -> Plan:
    """As for a rebuild: the audit's word, an answer for every secret, a person's word on what is hardened."""
    from irkit.actions.auditing import decide
    from irkit.actions.recovery import agree_to
    from irkit.recover.plan import answered

    plan = failover_plan(ctx.engine, before, args)
    decide(ctx, before.name, plan.recipe.body)
    plan = answered(plan, ctx.ask_secret)
    agree_to(ctx, plan)
    return plan


def failover_plan(engine: Engine, before: Container, args: Mapping[str, Any]) -> Plan:
    """What ``recover.prepare`` would make with these parameters; it only reads.  Raises ``Refused``, ``UsageProblem``."""
    from irkit.actions.recovery import plan_for

    failover.refuse_shared(before)
    plan = plan_for(engine, before, args)
    return replace(plan, recipe=failover.pinned(plan.recipe, before))


def _for_people(plan: Plan, more: list[str]) -> dict[str, Any]:
    told = plan.to_json()
    return {**told, "notes": [*told["notes"], *more]}


def _given(plan: Plan) -> set[str]:
    """The variables whose values are known to no attacker, or are secrets all the same; by name only."""
    return {one.name for one in plan.said.sources} | {one.name for one in plan.burnt if one.answer in ("new", "kept")}


def switch(ctx: Context, args: Mapping[str, Any]) -> Result:
    """From the frozen target to the replacement.  Repeated after a kill it does what is left."""
    before, names = _former(ctx)
    record = ctx.case.read_json(RECORD)
    if record is None:
        raise Refused(f"no replacement of {names.name} was prepared")
    current = ctx.engine.container(ctx.target.id)
    if current.running and not current.paused:
        raise Refused(f"{names.name} is not frozen", hint="container.freeze comes before recover.switch")
    new, start = str(record["id"]), str(record["start"])
    secrets = frozenset(map(str, record.get("secret_names") or ()))
    where = _where(before, names)
    stale = Ahead(lambda: relaying.drop_stale(ctx)) if ctx.diversion is None else None
    try:
        served = failover.take_over(ctx.engine, current, new, where, names, start, network_name(ctx.case.id), secrets)
    except BaseException:
        relaying.give_up(ctx)
        raise
    if stale is not None:
        stale.result()
    relaying.hand_over(ctx, ctx.engine.container(new))
    until = "started" if start == failover.COLD else "connected"
    try:
        health = wait_healthy(ctx.engine, new, float(args["health_timeout"]), ctx.checkpoint)
    except EngineError as error:
        failover.step_back(ctx.engine, ctx.target.id, new, names, error, secrets)
        raise
    if start == failover.COLD and health == "healthy":
        served, until = now(), "healthy"
    return _told(ctx, before, names, record, health, served, until)


def _where(before: Container, names: Names) -> tuple[Endpoint, ...]:
    return tuple(failover.named(one, names.name) for one in failover.places(before))


def _told(
    ctx: Context, before: Container, names: Names, record: Mapping[str, Any], health: str, served: str, until: str
) -> Result:
    fresh = ctx.engine.container(str(record["id"]))
    missing = failover.missing_ports(before.ports, fresh)
    differs = _differences(ctx, before, names, fresh, record)
    for port in missing:
        ctx.warn(f"the port {port} is not published by the replacement")
    silent = _silent_since(ctx, before)
    seconds = _between(silent, served)
    spent = {"from": silent or None, "to": served, "until": until, "seconds": seconds}
    if relaying.all_relayed(ctx, before, silent):
        spent = {"from": silent, "to": silent, "until": "relayed", "seconds": 0.0, "networks": seconds}
    ctx.facts.result["failover"] = {
        "id": fresh.id, "name": names.name, "old_name": names.aside, "health": health, "start": record["start"], "why": record["why"],
        "downtime": spent, "relay": ctx.diversion.to_json() if ctx.diversion else None,
        "missing_ports": missing, "differs": [one.to_json() for one in differs], **{key: list(record.get(key) or ()) for key in ("secrets", "hardened", "not_hardened", "notes")},
    }  # fmt: skip
    took = f" after {seconds:.3f} s" if seconds is not None else ""
    if spent["until"] == "relayed":
        took += ", while new connections to its ports were relayed"
    return Result(
        "degraded"
        if missing or record.get("not_hardened") or any(one.why == UNEXPECTED for one in differs)
        else "succeeded",
        f"{names.name} is {health} in {fresh.id[:12]}, {until}{took}; the compromised one is {names.aside}",
        {"id": fresh.id, "seconds": seconds},
    )


def _differences(
    ctx: Context, before: Container, names: Names, fresh: Container, record: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """The replacement held against the target, field by field, as after a rebuild."""
    said, images = record.get("meant") or {}, [image_or_none(ctx.engine, one.image_id) for one in (before, fresh)]
    old, new = (one.config if one else {} for one in images)
    meant = Meant(frozenset(said.get("secrets") or ()), frozenset(said.get("hardened") or ()), old, new)
    warm = record.get("start") == failover.WARM  # a cold one is found by its name alone: it has that when it is started
    found = differences(failover.expected(before, _where(before, names) if warm else ()), fresh, meant)
    for one in found:
        if one.why == UNEXPECTED:
            ctx.warn(f"{printable(one.path, 300)} is not as it was, and nothing that irkit did explains it")
    return found


def _between(silent: str, served: str) -> float | None:
    return round((isoparse(served) - isoparse(silent)).total_seconds(), 3) if silent else None


def _silent_since(ctx: Context, before: Container) -> str:
    """The last moment at which the target could answer: the first freeze of the case began; empty if it did not run."""
    if not before.running or before.paused:
        return ""
    for run in ctx.case.runs:
        steps = (read_json(ctx.case.folder / "runs" / run / "result.json") or {}).get("steps") or ()
        for step in steps:
            if step["uses"] == "container.freeze" and step["outcome"] == "succeeded":
                return str(step["started"])
    return next((str(step["started"]) for step in ctx.steps if step["uses"] == "container.freeze"), "")


def _former(ctx: Context) -> tuple[Container, Names]:
    """The target as it was before irkit touched it, and the names of the failover."""
    raw = ctx.case.read_json("container.json")
    before = Container(raw) if raw else ctx.before
    return before, failover.Names.of(before.name, ctx.case.id)


def _make_ready(ctx: Context, before: Container) -> None:
    """What would cost time between the freeze and the switch: the quarantine network, the probes, the view of the host."""
    if ctx.before.running:
        _ = ctx.host_view
    if ctx.case.read_json("quarantine.json") is None:
        prepare_ahead(ctx, SavedState.of(before, *holder_of(ctx.engine, before)))


def _unmake_ready(ctx: Context) -> None:
    """Nothing is contained: its quarantine network and the firewall's tables go again."""
    if ctx.network_ahead is None or ctx.case.read_json("quarantine.json") is not None:
        return
    try:
        with contextlib.suppress(EngineError):
            ctx.network_ahead.result()
        problems = clear_away(ctx.engine, ctx.case.id)
    except EngineError as error:
        problems = [f"what was made for the quarantine could not be removed: {error.message}"]
    ctx.network_ahead = None
    for one in problems:
        ctx.warn(f"{one}; `irkit release --leftovers` tries again")


def _exists(ctx: Context, name: str) -> bool:
    try:
        ctx.engine.container(name)
    except NotFound:
        return False
    return True
