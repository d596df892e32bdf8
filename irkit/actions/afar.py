"""Prove a quarantine where irkit can't look itself: by helper containers of an image that a trusted key has signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from irkit.acquire.netstate import parse_table
from irkit.actions.context import Context
from irkit.actions.proof import (
    NEIGHBOUR_LIMIT,
    established,
    network_of,
    not_probed,
    taken_ports,
    unknown,
    worth_probing,
)
from irkit.config import load_config
from irkit.engine.interface import Container, Network
from irkit.errors import EngineError, EngineUnreachable, NotFound, NotTrusted
from irkit.quarantine.afar import prove_afar
from irkit.quarantine.farscene import FarPeer, FarScene
from irkit.quarantine.helpers import Helpers, is_helper
from irkit.quarantine.scene import OLD, OUTSIDE, QUARANTINED, Connection, Proof
from irkit.quarantine.seal import QUARANTINE, ROLE
from irkit.quarantine.state import SHARED, SavedState
from irkit.trust.model import Verdict
from irkit.trust.policy import load_policy
from irkit.trust.verify import verify

PEER_LIMIT = 8
"""Peers of a network that get a helper; locally it costs nothing, here two containers' start and end."""
HOW = "helper containers of a signed image can probe there: --helper IMAGE, or probes.image in config.yaml (docs/quarantine.md)"
POWERS = frozenset({"ALL", "NET_ADMIN", "SYS_ADMIN", "SYS_MODULE", "BPF"})
"""Capabilities that can drop irkit's probes and not the target's own traffic (capabilities(7))."""
NOT_TRIED = (
    "firewall rules in the target's namespace by the engine's host, a privileged exec, or a container that shared it and is gone",
    "the firewalls of the host and of the peers, and connection tracking",
    "interfaces of the target's own making, or plugged in by hand, that lead out of its namespace",
    "processes of the target in other network namespaces than the container's",
    "roads into the engine's host from elsewhere: published ports were tried from the host's own network",
)
NO_FRAMES = "raw frames past the target's routes: they need a helper on the host's own network"


def prove_by_helpers(ctx: Context, saved: SavedState, args: Mapping[str, Any]) -> Proof:
    """Verify the helper image, try every road, remove the helpers.  Without a trusted image nothing is started."""
    why = ctx.facts.not_seen or "helpers were asked for"
    reference = str(args["helper"]) or load_config().helper_image
    if not reference:
        return unknown(ctx, f"{why}; {HOW}")
    try:
        image = _trusted(ctx, reference)
    except EngineUnreachable:
        raise
    except (NotTrusted, EngineError) as error:
        ctx.warn(
            f"the helper image {reference} is refused: {error.message}" + (f" ({error.hint})" if error.hint else "")
        )
        return unknown(ctx, f"{why}; the helper image {reference} is refused: {error.message}")
    missed: list[str] = []
    scene = _scene(ctx, saved, str(args["outside"]) or OUTSIDE, missed)
    with Helpers(ctx.engine, image.image_id, ctx.case.id) as helpers:
        proof = prove_afar(scene, helpers, int(args["timeout_ms"]) / 1000)
        used = [{"id": one.id, "place": one.place} for one in helpers.running]
    for problem in helpers.problems:
        ctx.warn(f"{problem}; `irkit release --leftovers` tries again")
        ctx.writer.gap("quarantine", "helper container", problem)
    if scene.network and not any(" by a raw frame " in one.path for one in proof.probes):
        missed.append(NO_FRAMES)
    not_tried, first = [*NOT_TRIED, *missed], image.keys[0]
    by = {
        "way": "helper containers", "why": why, "image": {
            "reference": reference, "id": image.image_id, "config": image.config, "key": {"id": first.key_id, "name": first.key},
            "signed": first.time,
        }, "helpers": used, "not_tried": not_tried,
    }  # fmt: skip
    ctx.note(
        f"probed by {len(used)} helper containers of {reference}, signed by {first.key or first.key_id}; not tried: {'; '.join(not_tried)}"
    )
    return Proof(proof.state, proof.probes, by)


def _trusted(ctx: Context, reference: str) -> Verdict:
    """Raises ``NotTrusted``, and ``EngineError`` when there is no such image."""
    if ctx.facts.helper is not None and ctx.facts.helper.reference == reference:
        return ctx.facts.helper
    image = verify(reference, load_policy(), ctx.engine).require()
    if ctx.engine.image(image.image_id).config.get("Volumes"):
        raise NotTrusted("it declares volumes; a helper has no mounts", hint="take an image without VOLUME")
    ctx.facts.helper = image
    return image


def _scene(ctx: Context, saved: SavedState, outside: str, missed: list[str]) -> FarScene:
    holder = ctx.engine.container(saved.holder_id)
    old, gateways, peers = [], [], []
    for endpoint in saved.endpoints:
        network = network_of(ctx, endpoint.network_id)
        if network is None:
            continue
        gateways += [one for one in (endpoint.gateway, *network.gateways) if one and one not in gateways]
        taken = {
            one for member in network.members if member.container_id != holder.id for one in (member.ipv4, member.ipv6)
        }
        for address in (endpoint.ipv4, endpoint.ipv6) if network.driver == "bridge" else ():
            if address and address in taken:
                missed.append(
                    f"the former address {address}: another container of {network.name} has it now, and would answer for it"
                )
            elif address:
                old.append((address, network.bridge))
        peers += _peers(ctx, network, saved, OLD)
    peers += _neighbours(ctx, saved)
    ports, heir = taken_ports(ctx, saved, holder)
    missed += [
        f"the published port {one.host_port}/{one.protocol}: {heir} has it now, and would answer" for one in ports
    ]
    mine = [one for one in holder.endpoints if one.network == ctx.facts.quarantine_network]
    return FarScene(
        holder=holder.id, network=mine[0].network if mine else "", bridge=ctx.facts.bridge if mine else "",
        addresses=tuple(one for endpoint in mine for one in (endpoint.ipv4, endpoint.ipv6) if one), old=tuple(old), gateways=tuple(gateways),
        peers=tuple(dict.fromkeys(peers)), ports=tuple(one for one in saved.ports if one not in ports), outside=outside, doubt=_doubt(ctx, saved), established=_connections,
    )  # fmt: skip


def _connections(tables: Mapping[str, str]) -> tuple[Connection, ...]:
    return established(row for name, text in tables.items() for row in parse_table(name, text))


def _neighbours(ctx: Context, saved: SavedState) -> list[FarPeer]:
    """Who is quarantined as well: all on the target's own network, and a few on those of other cases."""
    own: list[FarPeer] = []
    others: list[FarPeer] = []
    for network in ctx.engine.networks(f"{ROLE}={QUARANTINE}"):
        mine = network.name == ctx.facts.quarantine_network
        full = network_of(ctx, network.id) if mine or len(others) < NEIGHBOUR_LIMIT else None
        if full is not None:
            (own if mine else others).extend(_peers(ctx, full, saved, QUARANTINED))
    return own + others[:NEIGHBOUR_LIMIT]


def _peers(ctx: Context, network: Network, saved: SavedState, role: str) -> list[FarPeer]:
    """The running containers on a network, without irkit's own helpers.  Beyond a limit they are a gap, not silence."""
    found, count = [], 0
    others = [one for one in network.members if one.container_id not in (ctx.target.id, saved.holder_id)]
    for member in worth_probing(ctx, others):
        try:
            container = ctx.engine.container(member.container_id)
        except NotFound:
            continue
        if not container.running or is_helper(container):
            continue
        count += 1
        if count <= PEER_LIMIT:
            found += [FarPeer(member.name, container.id, one, role) for one in (member.ipv4, member.ipv6) if one]
    not_probed(ctx, network, count, PEER_LIMIT)
    return found


def _doubt(ctx: Context, saved: SavedState) -> str:
    """Whether somebody in the namespace may have rules there that drop irkit's probes: they can't be read from afar."""
    for one in _sharers(ctx, saved):
        powers = sorted(_powers(one))
        if powers:
            return f"{one.name} has {powers[0]}: firewall rules of its own, which can't be read from afar, may have dropped it"
    return ""


def _powers(container: Container) -> frozenset[str]:
    if container.host_config.get("Privileged"):
        return frozenset({"all privileges"})
    return POWERS & {str(one).upper().removeprefix("CAP_") for one in container.host_config.get("CapAdd") or ()}


def _sharers(ctx: Context, saved: SavedState) -> Iterator[Container]:
    """Every container whose processes are in the namespace."""
    for reference in ctx.engine.containers():
        try:
            one = ctx.engine.container(reference)
        except NotFound:
            continue
        shares = one.network_mode.removeprefix(SHARED) == saved.holder_id and one.network_mode.startswith(SHARED)
        if one.id == saved.holder_id or (shares and not is_helper(one)):
            yield one
