"""Freeze, seal off, prove, release: the verbs that change what the target can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.engine.interface import Network
from irkit.errors import Conflict, EngineError, NotFound, Refused
from irkit.evidence.writer import Origin
from irkit.home import write_json
from irkit.models import Probe
from irkit.quarantine import prove as proving
from irkit.quarantine import release as releasing
from irkit.quarantine import seal as sealing
from irkit.quarantine.state import SavedState

PEER_LIMIT = 32
SAVED = "quarantine.json"


def freeze(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Pause, and ask the kernel whether it is so."""
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
    ctx.facts.quarantine_state = "frozen-only"
    return Result(
        "succeeded",
        f"{message}; {'the kernel confirms it' if seen else 'by the word of the engine'}",
        {"kernel": seen},
    )


def thaw(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Unpause, unless it was paused before."""
    saved = _saved(ctx)
    if saved.paused or not ctx.before.paused:
        return Result("skipped", "it was frozen before irkit came: left so" if saved.paused else "it is not frozen")
    ctx.engine.unpause(ctx.target.id)
    return Result("succeeded", "thawed")


def seal(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Save what a release needs, then leave every network and join the quarantine."""
    saved = _save_once(ctx)
    if ctx.case.read_json("container.json") is None:
        write_json(ctx.case.folder / "container.json", dict(ctx.before.raw))
    needs_network = not saved.cannot_leave and saved.network_mode != "none"
    network = sealing.prepare_network(ctx.engine, ctx.case.id) if needs_network else None
    done = sealing.seal_off(ctx.engine, saved, network)
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
        ctx.writer.gap("quarantine", "network", f"{saved.cannot_leave}: being frozen is its isolation")
        return Result("degraded", f"{saved.cannot_leave}: it stays frozen, and that is its isolation", {"network": ""})
    left = ", ".join(done.left) or "no network"
    return Result(
        "succeeded",
        f"left {left}; on {done.network} alone" if done.network else "has no network",
        {"network": done.network},
    )


def _save_once(ctx: Context) -> SavedState:
    """A second run on a contained target must not take the quarantine for the former state."""
    raw = ctx.case.read_json(SAVED)
    if raw is not None:
        return SavedState.from_json(raw)
    saved = SavedState.of(ctx.before)
    write_json(ctx.case.folder / SAVED, saved.to_json())
    return saved


def _saved(ctx: Context) -> SavedState:
    raw = ctx.case.read_json(SAVED)
    if raw is None:
        raise Refused(
            f"{ctx.target.name} was never sealed off by this case",
            hint="`irkit case show` tells what was done",
        )
    return SavedState.from_json(raw)


def prove_quarantine(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Probe from inside out and from outside in; every probe goes into the evidence."""
    saved = _saved(ctx)
    proof = _proof(ctx, saved, args)
    ctx.facts.quarantine_state, ctx.facts.probes = proof.state, proof.probes
    document = {
        "schema": "irkit.proof/v1", "state": proof.state, "network": ctx.facts.quarantine_network, "note": ctx.facts.quarantine_note,
        "probes": [probe.to_json() for probe in proof.probes],
    }  # fmt: skip
    ctx.writer.add_json(
        "quarantine/proof.json",
        document,
        Origin("quarantine", "probes", "sockets made by the host in the network namespaces"),
    )
    ctx.writer.add_json(
        "quarantine/saved-state.json",
        saved.to_json(),
        Origin("quarantine", "engine", "inspect before the first change"),
    )
    data = {"state": proof.state, "probes": len(proof.probes)}
    if proof.state == "proven":
        ctx.mark("proven")
        return Result("succeeded", f"proven: {len(proof.probes)} probes tried, all blocked", data)
    return Result("degraded", f"{proof.state}: {_why(proof, ctx.facts.quarantine_note)}", data)


def _proof(ctx: Context, saved: SavedState, args: Mapping[str, Any]) -> proving.Proof:
    if saved.cannot_leave:
        return _frozen_only(ctx, saved)
    if not ctx.before.running:
        return _unknown(ctx, "it is not running: it has no network namespace to probe")
    view = ctx.host_view
    if view is None:
        return _unknown(ctx, ctx.facts.not_seen)
    scene = _scene(ctx, saved, view.pid, str(args["outside"]) or proving.OUTSIDE)
    return proving.prove(scene, int(args["timeout_ms"]) / 1000)


def _frozen_only(ctx: Context, saved: SavedState) -> proving.Proof:
    from irkit.clock import now

    view = ctx.host_view
    frozen = view.frozen() if view else None
    if frozen:
        return proving.Proof(
            "frozen-only",
            (
                Probe(
                    "processes of the target",
                    "out",
                    "blocked",
                    "the kernel says that all of them are frozen",
                    now(),
                ),
            ),
        )
    if not ctx.engine.container(ctx.target.id).running:
        return _unknown(ctx, f"{saved.cannot_leave}; it is not running now")
    result = "reached" if frozen is False else "unknown"
    return proving.Proof(
        "open" if frozen is False else "unproven",
        (
            Probe(
                "processes of the target",
                "out",
                result,
                "they are not frozen" if frozen is False else "the kernel can't be asked whether they are frozen",
                now(),
            ),
        ),
    )


def _unknown(ctx: Context, why: str) -> proving.Proof:
    from irkit.clock import now

    ctx.writer.gap("quarantine", "proof", why)
    return proving.Proof("unproven", (Probe("network namespace of the target", "out", "unknown", why, now()),))


def _scene(ctx: Context, saved: SavedState, pid: int, outside: str) -> proving.Scene:
    container = ctx.engine.container(ctx.target.id)
    old, gateways, peers = [], [], []
    for endpoint in saved.endpoints:
        network = _network(ctx, endpoint.network_id)
        if network is None:
            continue
        gateways += [
            address for address in (endpoint.gateway, *network.gateways) if address and address not in gateways
        ]
        if network.driver == "bridge":
            old += [(address, network.bridge) for address in (endpoint.ipv4, endpoint.ipv6) if address]
        peers += _peers(ctx, network)
    return proving.Scene(
        pid=pid, bridge=ctx.facts.bridge, addresses=tuple(one.ipv4 for one in container.endpoints if one.network == ctx.facts.quarantine_network and one.ipv4),
        old=tuple(old), gateways=tuple(gateways), peers=tuple(peers[:PEER_LIMIT]), ports=saved.ports, outside=outside,
    )  # fmt: skip


def _network(ctx: Context, reference: str) -> Network | None:
    try:
        return ctx.engine.network(reference) if reference else None
    except NotFound:
        return None


def _peers(ctx: Context, network: Network) -> list[proving.Peer]:
    """The running containers on a former network.  Beyond a limit they are a gap, not silence."""
    found = []
    members = [one for one in network.members if one.container_id != ctx.target.id]
    for member in members[:PEER_LIMIT]:
        try:
            pid = ctx.engine.container(member.container_id).pid
        except NotFound:
            continue
        for address in (member.ipv4, member.ipv6):
            if pid and address:
                found.append(proving.Peer(member.name, pid, address))
    if len(members) > PEER_LIMIT:
        ctx.writer.gap(
            "quarantine",
            f"network {network.name}",
            f"{len(members) - PEER_LIMIT} of {len(members)} peers were not probed",
        )
    return found


def _why(proof: proving.Proof, note: str) -> str:
    bad = [probe for probe in proof.probes if probe.result != "blocked"]
    if not bad:
        return note or "frozen"
    return f"{bad[0].path}: {bad[0].detail}" + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else "")


def release(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Networks and restart policy back."""
    saved = _saved(ctx)
    done = releasing.give_back(ctx.engine, saved, ctx.case.id)
    ctx.facts.result["problems"] = list(done.differences)
    networks = ", ".join(done.networks) or "none"
    return Result(
        "degraded" if done.differences else "succeeded",
        f"back on {networks}" + "".join(f"; {one}" for one in done.differences),
    )
