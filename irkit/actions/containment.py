"""Freeze, seal off, prove, release: the verbs that change what the target can do."""

from __future__ import annotations

from collections.abc import Mapping, Set
from importlib import import_module
from typing import Any

from irkit.actions.ahead import Ahead
from irkit.actions.context import Context, Result
from irkit.engine.interface import Network
from irkit.errors import Conflict, EngineError, Refused
from irkit.home import write_json
from irkit.quarantine import seal as sealing
from irkit.quarantine.procfs import exists
from irkit.quarantine.state import SavedState

SAVED = "quarantine.json"
SOON = {
    "acquire.processes": "irkit.acquire.processes", "acquire.network": "irkit.acquire.netstate",
    "quarantine.seal": "irkit.actions.walls", "quarantine.prove": "irkit.actions.proof",
}  # fmt: skip
"""Actions that run between the freeze and the proof, and what is slow to import for them."""


def freeze(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Pause, and ask the kernel whether it is so."""
    try:
        return _freeze(ctx)
    except BaseException:
        if ctx.diversion is not None:  # the target serves on, and its clients are its own
            from irkit.actions.relaying import give_up

            give_up(ctx)
        raise


def _freeze(ctx: Context) -> Result:
    if not ctx.before.running:
        ctx.writer.gap(
            "freeze",
            ctx.target.name,
            "it is not running: there is nothing to freeze, and no volatile state to acquire",
        )
        return Result("skipped", "not running: nothing to freeze")
    _save_once(ctx)
    message = "frozen"
    if ctx.before.paused:
        message = "was frozen already"
    else:
        Ahead(lambda: _load_soon(ctx.planned))
        try:
            ctx.engine.pause(ctx.target.id)
        except Conflict as error:
            if not ctx.engine.container(ctx.target.id).paused:
                raise
            message = f"was frozen already ({error.message})"
    view = ctx.host_view
    seen = view.frozen() if view else None
    if seen is False:
        raise EngineError(
            f"the engine says that {ctx.target.name} is paused, but the kernel says that it is not frozen"
        )
    ctx.mark("frozen")
    prepare_ahead(ctx, saved_state(ctx))
    ctx.facts.quarantine_state = "frozen-only"
    return Result(
        "succeeded",
        f"{message}; {'the kernel confirms it' if seen else 'by the word of the engine'}",
        {"kernel": seen},
    )


def _load_soon(planned: Set[str]) -> None:
    """While the engine pauses the target this process has nothing to do: it loads what the next steps need."""
    for action, module in SOON.items():
        if action in planned:
            import_module(module)


def prepare_ahead(ctx: Context, saved: SavedState) -> None:
    """While the target's processes are read, the engine makes the quarantine network and Python loads the probes."""
    if (
        ctx.network_ahead is not None
        or "quarantine.seal" not in ctx.planned
        or not ctx.engine.local
        or not _needs_network(saved)
    ):
        return

    def make() -> Network:
        network = _make_network(ctx, saved)
        import irkit.actions.proof  # noqa: F401

        return network

    ctx.network_ahead = Ahead(make)


def _needs_network(saved: SavedState) -> bool:
    return not saved.cannot_leave and saved.holder_mode != "none"


def _make_network(ctx: Context, saved: SavedState) -> Network:
    """The case's quarantine network, walled in before it is there: its bridge has a name of irkit's choice."""
    from irkit.actions.walls import wall_bridge  # not before the target is frozen

    case = saved.sealed_by or ctx.case.id
    name = sealing.bridge_name(case)
    ctx.facts.no_wall = wall_bridge(case, name, later=True) if ctx.engine.local else "it is remote"
    network = sealing.prepare_network(ctx.engine, case)
    if not ctx.facts.no_wall and (network.bridge != name or not exists(name)):  # an engine that chooses for itself
        ctx.facts.no_wall = wall_bridge(case, network.bridge)
    return network


def _network(ctx: Context, saved: SavedState) -> Network:
    """Prepared ahead, or made now."""
    return ctx.network_ahead.result() if ctx.network_ahead is not None else _make_network(ctx, saved)


def thaw(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Unpause, unless it was paused before."""
    saved = saved_state(ctx)
    if saved.paused or not ctx.engine.container(ctx.target.id).paused:  # this very run may have frozen it
        return Result("skipped", "it was frozen before irkit came: left so" if saved.paused else "it is not frozen")
    ctx.engine.unpause(ctx.target.id)
    return Result("succeeded", "thawed")


def seal(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Save what a release needs, then leave every network and join the quarantine."""
    saved = _save_once(ctx)
    if ctx.case.read_json("container.json") is None:
        write_json(ctx.case.folder / "container.json", dict(ctx.before.raw))
    network = (lambda: _network(ctx, saved)) if _needs_network(saved) else None
    done = sealing.seal_off(ctx.engine, saved, ctx.case.id, network)
    ctx.facts.quarantine_network, ctx.facts.bridge, ctx.facts.quarantine_note = (
        done.network,
        done.bridge,
        done.reason,
    )
    ctx.mark("sealed_off")
    if saved.auto_remove:
        ctx.writer.gap(
            "quarantine",
            "--rm",
            "the engine removes this container by itself as soon as it stops: keep it frozen",
        )
    if saved.cannot_leave:
        sealing.stop_restarts(ctx.engine, saved)
        return _stay(ctx, saved)
    left = ", ".join(done.left) or "no network"
    message = f"left {left}; on {done.network} alone" if done.network else "has no network"
    if saved.shared:
        message = f"its namespace is that of {saved.holder_name}, which {message}"
        ctx.warn(
            f"{saved.holder_name} shares the target's network namespace: it is quarantined with it, but not frozen"
        )
    return Result("succeeded", message, {"network": done.network})


def _stay(ctx: Context, saved: SavedState) -> Result:
    """It can't leave: frozen, and with its traffic dropped by cgroup where the kernel can do that."""
    from irkit.actions.walls import wall_cgroup

    ctx.facts.no_wall = wall_cgroup(ctx.case.id, ctx.host_view)
    ctx.writer.gap("quarantine", "network", f"{saved.cannot_leave}: being frozen is its isolation")
    also = "" if ctx.facts.no_wall else ", and a firewall rule drops what its cgroup sends or is sent"
    return Result(
        "degraded", f"{saved.cannot_leave}: it stays frozen, and that is its isolation{also}", {"network": ""}
    )


def _save_once(ctx: Context) -> SavedState:
    """A second run on a contained target must not take the quarantine for the former state."""
    raw = ctx.case.read_json(SAVED)
    if raw is not None:
        return SavedState.from_json(raw)
    saved = SavedState.of(ctx.before, *sealing.holder_of(ctx.engine, ctx.before))
    write_json(ctx.case.folder / SAVED, saved.to_json())
    return saved


def saved_state(ctx: Context) -> SavedState:
    """The place that the target had before.  Raises ``Refused`` when this case never sealed it off."""
    raw = ctx.case.read_json(SAVED)
    if raw is None:
        raise Refused(
            f"{ctx.target.name} was never sealed off by this case",
            hint="`irkit case show` tells what was done",
        )
    return SavedState.from_json(raw)


def release(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Networks and restart policy back."""
    from irkit.actions.inside import set_up_again
    from irkit.quarantine import release as releasing

    saved = saved_state(ctx)
    done = releasing.give_back(ctx.engine, saved, ctx.case.id)
    problems = [*done.differences, *releasing.clear_away(ctx.engine, ctx.case.id), *set_up_again(ctx)]
    ctx.facts.result["problems"] = problems
    networks = ", ".join(done.networks) or "none"
    return Result(
        "degraded" if problems else "succeeded", f"back on {networks}" + "".join(f"; {one}" for one in problems)
    )
