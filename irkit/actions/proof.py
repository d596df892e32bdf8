"""Prove the quarantine: build the scene from what was saved, probe, and keep every probe as evidence."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from irkit.actions.containment import saved_state
from irkit.actions.context import Context, Result
from irkit.actions.inside import HOLDS_FROZEN, inside, loose, mighty
from irkit.actions.walls import wall_bridge, wall_cables
from irkit.clock import now
from irkit.engine.interface import Container, Member, Network, PortBinding
from irkit.engine.places import leave
from irkit.errors import EngineError, EngineUnreachable, NotFound
from irkit.evidence.writer import Origin
from irkit.models import Probe
from irkit.quarantine.own_rules import OwnRules, Reading
from irkit.quarantine.prove import prove
from irkit.quarantine.resolver import nameservers
from irkit.quarantine.scene import OLD, OUTSIDE, QUARANTINED, Connection, Peer, Proof, Scene, judge
from irkit.quarantine.seal import QUARANTINE, ROLE
from irkit.quarantine.state import SavedState

PEER_LIMIT = 32
NEIGHBOUR_LIMIT = 4
RESOLV_LIMIT = 65536


def prove_quarantine(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Probe from inside out and from outside in; every probe goes into the evidence.

    When a road is open the next defence is put up (freeze, firewall) and everything is probed once more.
    """
    saved = saved_state(ctx)
    if "recover.relay" in ctx.planned:
        from irkit.actions import relaying

        relaying.none_left(ctx)
    attempts = [_proof(ctx, saved, args)]
    for defend in (_freeze_and_wall, _wall_cables, *((_take_off,) if attempts[0].by else ())):
        if attempts[-1].state == "open" and defend(ctx, saved):
            attempts.append(_proof(ctx, saved, args))
    proof = attempts[-1]
    ctx.facts.quarantine_state, ctx.facts.probes = proof.state, proof.probes
    document = {
        "schema": "irkit.proof/v1", "state": proof.state, "network": ctx.facts.quarantine_network, "note": ctx.facts.quarantine_note,
        "firewall": ctx.facts.no_wall or "up", "probes": [probe.to_json() for probe in proof.probes],
        "earlier": [{"state": one.state, "probes": [probe.to_json() for probe in one.probes]} for one in attempts[:-1]],
        **({"by": dict(proof.by)} if proof.by else {}),
    }  # fmt: skip
    way = "helper containers of a trusted image" if proof.by else "the host"
    ctx.writer.add_json(
        "quarantine/proof.json",
        document,
        Origin("quarantine", "probes", f"sockets made by {way} in the network namespaces"),
    )
    ctx.writer.add_json(
        "quarantine/saved-state.json",
        saved.to_json(),
        Origin("quarantine", "engine", "inspect before the first change"),
    )
    data = {"state": proof.state, "probes": len(proof.probes)}
    if proof.state == "proven":
        ctx.mark("proven")
        _while_frozen(ctx, looked=not proof.by)
        how = f" by helper containers of {proof.by['image']['reference']}" if proof.by else ""
        return Result("succeeded", f"proven{how}: {len(proof.probes)} probes tried, all blocked", data)
    bare = f"; no firewall: {ctx.facts.no_wall}" if proof.state == "open" and ctx.facts.no_wall else ""
    return Result("degraded", f"{proof.state}: {_why(proof, ctx.facts.quarantine_note)}{bare}", data)


def _while_frozen(ctx: Context, *, looked: bool) -> None:
    """A proof of a target that could undo it must not be taken for a leave to thaw it.

    ``looked``: the proof has just asked for the target's processes.
    """
    view = ctx.host_view
    one = mighty(view.seen if looked else view.pids()) if view else None
    if one is not None:
        ctx.facts.quarantine_note = f"process {one.pid} ({one.name}) has {one.power}: {HOLDS_FROZEN}"
        ctx.warn(ctx.facts.quarantine_note)


def _take_off(ctx: Context, saved: SavedState) -> bool:
    """On another host irkit can put up no firewall: off the quarantine network too, so that there is no network at all."""
    endpoints = ctx.engine.container(saved.holder_id).endpoints
    try:
        for one in endpoints:
            leave(ctx.engine, one.network_id or one.network, saved.holder_id)
    except EngineUnreachable:
        raise
    except EngineError as error:  # what was found open must be told all the same
        ctx.warn(f"a road is open, and the target could not be taken off its last network: {error.message}")
        return False
    if endpoints and not ctx.engine.container(saved.holder_id).endpoints:
        ctx.facts.quarantine_network, ctx.facts.bridge = "", ""
        ctx.facts.quarantine_note = "it was taken off the quarantine network too: it has no network at all"
        ctx.warn(f"a road was open: {ctx.facts.quarantine_note}")
    return bool(endpoints)


def _wall_cables(ctx: Context, saved: SavedState) -> bool:
    """The last one: the target's own cables are cut by firewall, wherever they lead."""
    view = ctx.host_view
    why = wall_cables(saved.sealed_by or ctx.case.id, ctx.facts.bridge, view) if view else ctx.facts.not_seen
    ctx.warn(f"a road is open: {'its cables could not be cut: ' + why if why else 'its cables were cut by a firewall'}")
    ctx.facts.no_wall = why
    ctx.facts.cables_cut = not why
    return not why


def _freeze_and_wall(ctx: Context, saved: SavedState) -> bool:
    """Freeze what still runs, wall in what is not; whether anything was left to be tried."""
    tried = False
    container = ctx.engine.container(ctx.target.id)
    if container.running and not container.paused:
        ctx.engine.pause(ctx.target.id)
        ctx.warn("a road was open: the target was frozen")
        tried = True
    if ctx.facts.no_wall and ctx.facts.bridge:
        ctx.facts.no_wall = wall_bridge(saved.sealed_by or ctx.case.id, ctx.facts.bridge)
        ctx.warn(
            f"a road was open: {'no firewall: ' + ctx.facts.no_wall if ctx.facts.no_wall else 'a firewall was put up'}"
        )
        tried = tried or not ctx.facts.no_wall
    return tried


def _proof(ctx: Context, saved: SavedState, args: Mapping[str, Any]) -> Proof:
    if saved.cannot_leave:
        return _frozen_only(ctx, saved)
    if not ctx.before.running:
        return unknown(ctx, "it is not running: it has no network namespace to probe")
    view = ctx.host_view
    if view is None or args["by"] == "helper":
        from irkit.actions.afar import prove_by_helpers

        return prove_by_helpers(ctx, saved, args)
    own_roads = inside(ctx, view)
    scene = _scene(ctx, saved, view.pid, str(args["outside"]) or OUTSIDE)
    former = {address for one in saved.endpoints for address in (one.ipv4, one.ipv6) if address} - set(scene.addresses)
    reading = Reading(view.netns, view.pid, frozenset(former))
    proof = prove(scene, int(args["timeout_ms"]) / 1000)
    probes = (*_unless_dropped(ctx, reading.result(), proof.probes), *own_roads)
    return proof if probes == proof.probes else Proof(judge(probes), probes)


def _unless_dropped(ctx: Context, rules: OwnRules, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
    """Silence proves nothing where the target's own rules may have dropped the try; an answer still does."""
    if not ctx.facts.own_rules_kept:
        ctx.facts.own_rules_kept = True
        document = {"foreign": list(rules.foreign), "unread": rules.unread, "ruleset": dict(rules.ruleset)}
        ctx.writer.add_json(
            "network/netfilter.json", document, Origin("quarantine", "nft list ruleset", "the host's nft and netlink, in the target's network namespace")
        )  # fmt: skip
        if rules.unread and not rules.foreign:
            ctx.writer.gap("quarantine", "firewall rules of the target's own namespace", rules.unread)
    if not rules.foreign:
        return probes
    why = f"the target's own rules may have dropped it ({rules.foreign[0]})"
    return tuple(
        replace(one, result="unknown", detail=f"{why}; {one.detail}") if one.result == "blocked" else one
        for one in probes
    )


def _frozen_only(ctx: Context, saved: SavedState) -> Proof:
    view = ctx.host_view
    frozen = view.frozen() if view else None
    if view and frozen and (lost := loose(view, view.pids())):
        return Proof("unproven", tuple(lost))
    if frozen:
        return Proof(
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
        return unknown(ctx, f"{saved.cannot_leave}; it is not running now")
    result = "reached" if frozen is False else "unknown"
    return Proof(
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


def unknown(ctx: Context, why: str) -> Proof:
    """No proof, and why; a gap."""
    ctx.writer.gap("quarantine", "proof", why)
    return Proof("unproven", (Probe("network namespace of the target", "out", "unknown", why, now()),))


def _scene(ctx: Context, saved: SavedState, pid: int, outside: str) -> Scene:
    holder = ctx.engine.container(saved.holder_id)
    old, gateways, peers, heirs = [], [], [], []
    for endpoint in saved.endpoints:
        network = network_of(ctx, endpoint.network_id)
        if network is None:
            continue
        gateways += [
            address for address in (endpoint.gateway, *network.gateways) if address and address not in gateways
        ]
        owners = {
            address: one.name
            for one in network.members
            for address in (one.ipv4, one.ipv6)
            if one.container_id not in (ctx.target.id, saved.holder_id)
        }
        former = [address for address in (endpoint.ipv4, endpoint.ipv6) if address]
        heirs += [(address, owners[address]) for address in former if address in owners]
        if network.driver == "bridge":
            old += [(address, network.bridge) for address in former if address not in owners]
        peers += _peers(ctx, network, saved, OLD)
    peers += _neighbours(ctx, saved)
    taken, heir = taken_ports(ctx, saved, holder)
    mine = [one for one in holder.endpoints if one.network == ctx.facts.quarantine_network]
    return Scene(
        pid=pid, bridge=ctx.facts.bridge, addresses=tuple(address for one in mine for address in (one.ipv4, one.ipv6) if address),
        old=tuple(old), gateways=tuple(gateways), peers=tuple(dict.fromkeys(peers)), ports=saved.ports, outside=outside,
        connections=established(ctx.facts.sockets), nameservers=nameservers(_resolv_conf(holder)), heirs=tuple(heirs),
        taken=taken, heir=heir,
    )  # fmt: skip


def taken_ports(ctx: Context, saved: SavedState, holder: Container) -> tuple[tuple[PortBinding, ...], str]:
    """Which of the ports the container has that took the target's place, and its name, which was the target's."""
    raw = ctx.case.read_json("container.json")
    name = Container(raw).name if raw else ctx.before.name
    if not saved.ports or saved.shared or holder.name == name:
        return (), ""
    try:
        heir = ctx.engine.container(name)
    except NotFound:
        return (), ""
    have = {(one.host_port, one.protocol) for one in heir.ports}
    return tuple(one for one in saved.ports if (one.host_port, one.protocol) in have), heir.name


def _neighbours(ctx: Context, saved: SavedState) -> list[Peer]:
    """Who is quarantined as well: all on the target's own network, and a few on those of other cases."""
    own: list[Peer] = []
    others: list[Peer] = []
    for network in ctx.engine.networks(f"{ROLE}={QUARANTINE}"):
        mine = network.name == ctx.facts.quarantine_network
        if mine or len(others) < NEIGHBOUR_LIMIT:
            full = network_of(ctx, network.id)
            (own if mine else others).extend(_peers(ctx, full, saved, QUARANTINED) if full is not None else ())
    return own + others[:NEIGHBOUR_LIMIT]


def network_of(ctx: Context, reference: str) -> Network | None:
    """A network, unless it is gone."""
    try:
        return ctx.engine.network(reference) if reference else None
    except NotFound:
        return None


def established(sockets: Iterable[Mapping[str, Any]]) -> tuple[Connection, ...]:
    """The connections that the target had when it was frozen, IPv4 ones in their own form (RFC 4291, 2.5.5.2)."""
    return tuple(
        Connection(row["protocol"][:3], _plain(row["local"]), row["local_port"], _plain(row["remote"]), row["remote_port"])
        for row in sockets
        if row.get("state") == "established" and row["protocol"].startswith(("tcp", "udp"))
    )  # fmt: skip


def _plain(address: str) -> str:
    mapped = ipaddress.ip_address(address)
    inner = mapped.ipv4_mapped if isinstance(mapped, ipaddress.IPv6Address) else None
    return str(inner or mapped)


def _resolv_conf(container: Container) -> str:
    """The engine's copy of the container's resolver configuration, on this host: data, and only a little of it."""
    path = str(container.raw.get("ResolvConfPath") or "")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) if path else -1
    except OSError:
        return ""
    if descriptor < 0:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(RESOLV_LIMIT).decode("utf-8", "replace")


def _peers(ctx: Context, network: Network, saved: SavedState, role: str) -> list[Peer]:
    """The running containers on a network.  Beyond a limit they are a gap, not silence."""
    found = []
    members = worth_probing(
        ctx, [one for one in network.members if one.container_id not in (ctx.target.id, saved.holder_id)]
    )
    for member in members[:PEER_LIMIT]:
        try:
            pid = ctx.engine.container(member.container_id).pid
        except NotFound:
            continue
        for address in (member.ipv4, member.ipv6):
            if pid and address:
                found.append(Peer(member.name, pid, address, role))
    not_probed(ctx, network, len(members), PEER_LIMIT)
    return found


def not_probed(ctx: Context, network: Network, count: int, limit: int) -> None:
    """A gap, when there are more peers than are tried."""
    if count > limit:
        ctx.writer.gap("quarantine", f"network {network.name}", f"{count - limit} of {count} peers were not probed")


def worth_probing(ctx: Context, members: list[Member]) -> list[Member]:
    """Of those that are being contained by the same command only a few, as of other quarantined ones."""
    fellows = [one for one in members if one.container_id in ctx.together]
    return [one for one in members if one.container_id not in ctx.together] + fellows[:NEIGHBOUR_LIMIT]


def _why(proof: Proof, note: str) -> str:
    bad = [probe for probe in proof.probes if probe.result != "blocked"]
    bad.sort(key=lambda probe: probe.result != "reached")
    if not bad:
        return note or "frozen"
    return f"{bad[0].path}: {bad[0].detail}" + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else "")
