"""Prove the quarantine: build the scene from what was saved, probe, and keep every probe as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.containment import saved_state
from irkit.actions.context import Context, Result
from irkit.clock import now
from irkit.engine.interface import Network
from irkit.errors import NotFound
from irkit.evidence.writer import Origin
from irkit.models import Probe
from irkit.quarantine import prove as proving
from irkit.quarantine.state import SavedState

PEER_LIMIT = 32


def prove_quarantine(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Probe from inside out and from outside in; every probe goes into the evidence."""
    saved = saved_state(ctx)
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
