"""Acquisition: each verb calls one collector; what can't be seen is a gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from irkit.actions.context import Context, Result
from irkit.errors import IrkitError
from irkit.profiles import load_profile

if TYPE_CHECKING:
    from irkit.models import Change


def processes(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Processes, their environments, and programs that exist only in memory."""
    from irkit.acquire.processes import acquire_processes

    view = ctx.host_view
    if view is None:
        return _unseen(ctx, "processes")
    ctx.facts.processes = acquire_processes(view, ctx.writer)
    return Result("succeeded", f"{len(ctx.facts.processes)} processes", {"count": len(ctx.facts.processes)})


def network(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Sockets and tables, and the engine's own files of names."""
    from irkit.acquire.engine_files import acquire_engine_files
    from irkit.acquire.netstate import acquire_network

    acquire_engine_files(ctx.before, ctx.engine.local, ctx.writer)
    view = ctx.host_view
    if view is None:
        return _unseen(ctx, "network-state")
    ctx.facts.sockets = acquire_network(view, ctx.writer, ctx.facts.processes)
    return Result("succeeded", f"{len(ctx.facts.sockets)} sockets", {"count": len(ctx.facts.sockets)})


def routes(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Addresses, routes and neighbours, before the target leaves the networks that they belong to."""
    from irkit.acquire.iproute import acquire_routes

    if not ctx.before.running:
        return Result("skipped", "it is not running")
    view = ctx.host_view
    if view is None:
        return _unseen(ctx, "network-state")
    before = len(ctx.writer.gaps)
    return counted(ctx, before, acquire_routes(view, ctx.writer), "tables")


def mapped(ctx: Context, args: Mapping[str, Any]) -> Result:
    """The files that run, and those that are only held open."""
    from irkit.acquire.mapped import acquire_mapped

    view = ctx.host_view
    if view is None:
        return _unseen(ctx, "mapped-files")
    before = len(ctx.writer.gaps)
    rows = acquire_mapped(view, ctx.writer, limit_of(args, "mapped-files"))
    kept = sum(1 for row in rows if row["artifact"])
    return counted(ctx, before, len(rows), f"files, {kept} of them kept" if kept else "files")


def memory(ctx: Context, args: Mapping[str, Any]) -> Result:
    """What its processes hold in memory."""
    from irkit.acquire.memory import Wanted, acquire_memory

    view = ctx.host_view
    if view is None:
        return _unseen(ctx, "memory")
    chosen = load_profile(str(args["profile"])).find("memory")
    if chosen is None:
        return Result("skipped", "the profile does not ask for memory")
    before = len(ctx.writer.gaps)
    rows = acquire_memory(
        view, ctx.writer, Wanted(chosen.which, chosen.limit_bytes or 0, chosen.processes, chosen.rules)
    )
    return counted(ctx, before, sum(int(row["stored"]) for row in rows), "bytes")


def checkpoint(ctx: Context, args: Mapping[str, Any]) -> Result:
    """The engine's own checkpoint."""
    from irkit.acquire.checkpoint import acquire_checkpoint

    if ctx.host_view is None:
        return _unseen(ctx, "checkpoint")
    before = len(ctx.writer.gaps)
    size = acquire_checkpoint(ctx.engine, ctx.before.id, ctx.writer, limit_of(args, "checkpoint"))
    return counted(ctx, before, size, "bytes")


def tmpfs(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Files that exist only in memory."""
    from irkit.acquire.filesystem import acquire_tmpfs, bound

    view = ctx.host_view
    if view is None:
        return _unseen(ctx, "tmpfs")
    before = len(ctx.writer.gaps)
    count = acquire_tmpfs(view, ctx.writer, limit_of(args, "tmpfs"), _ignore, bound(ctx.before))
    return counted(ctx, before, count, "entries")


def filesystem(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Changed files."""
    from irkit.acquire.filesystem import acquire_changes
    from irkit.acquire.layers import find_layers

    layers = find_layers(ctx.before, ctx.host_view, ctx.engine)
    before = len(ctx.writer.gaps)
    if isinstance(layers, str):
        from irkit.acquire.export import acquire_by_api

        ctx.facts.changes = acquire_by_api(ctx.engine, ctx.before, ctx.writer, limit_of(args, "filesystem"), layers)
        return Result(
            "degraded", f"{ctx.facts.changes} changes, by the engine's export: {layers}", {"count": ctx.facts.changes}
        )
    ctx.facts.changes = acquire_changes(
        layers, ctx.writer, limit_of(args, "filesystem"), _ignore, ctx.shared.image_files if ctx.shared else None
    )
    return counted(ctx, before, ctx.facts.changes, "changes")


def host(ctx: Context, _: Mapping[str, Any]) -> Result:
    """The host that the target runs on."""
    from irkit.acquire.host_facts import acquire_host

    if ctx.host_view is None:
        return _unseen(ctx, "host")
    before = len(ctx.writer.gaps)
    return counted(ctx, before, acquire_host(ctx.writer), "kernel modules")


def logs(ctx: Context, args: Mapping[str, Any]) -> Result:
    """What it printed."""
    from irkit.acquire.logs import acquire_logs

    before = len(ctx.writer.gaps)
    count = acquire_logs(ctx.engine, ctx.before, ctx.writer, limit=limit_of(args, "logs"))
    return counted(ctx, before, count, "bytes")


def engine_state(ctx: Context, _: Mapping[str, Any]) -> Result:
    """What the engine knows of it, and what it remembers: the events first, of which it keeps only the latest."""
    from irkit.acquire.engine_state import acquire_engine_state
    from irkit.acquire.events import acquire_events
    from irkit.engine.interface import Container

    raw = ctx.case.read_json("container.json")
    before = len(ctx.writer.gaps)
    acquire_events(ctx.engine, ctx.before, ctx.writer)
    acquire_engine_state(ctx.engine, Container(raw) if raw else ctx.before, ctx.writer)
    return counted(
        ctx,
        before,
        sum(1 for one in ctx.writer.artifacts if one.origin.collector == "engine-state"),
        "documents",
    )


def counted(ctx: Context, gaps_before: int, count: int, what: str) -> Result:
    missing = len(ctx.writer.gaps) - gaps_before
    if missing:
        return Result(
            "degraded",
            f"{count} {what}, {missing} {'gap' if missing == 1 else 'gaps'}: {ctx.writer.gaps[-1].why}",
            {"count": count},
        )
    return Result("succeeded", f"{count} {what}", {"count": count})


def _unseen(ctx: Context, collector: str) -> Result:
    ctx.writer.gap(collector, "everything", ctx.facts.not_seen)
    return Result("skipped", ctx.facts.not_seen)


def _ignore(change: Change) -> None:
    """Nobody needs to see the changes while they are written."""


def limit_of(args: Mapping[str, Any], collector: str) -> int:
    """A collector's limit, in bytes, by the profile; 0 where the profile leaves it out and a playbook asks for it."""
    return load_profile(str(args["profile"])).limit(collector) or 0


def profiled(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Raises ``IrkitError``: the collectors' own steps stand in its place when a playbook runs."""
    raise IrkitError("acquire.profile was not replaced by its collectors' steps")
