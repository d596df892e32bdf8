"""What somebody in the target's network namespace has made there, or could make: roads that no network of the engine's is.

The walls stand on the host's side of the quarantine's bridge.  A tunnel whose lower half is in the host's own namespace
goes past them, and so does a cable plugged in by hand: they are looked for, closed, and told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from irkit.acquire.host import HostView, link_of, read_text
from irkit.acquire.spaces import spaces
from irkit.actions.context import Context
from irkit.clock import now
from irkit.home import write_json
from irkit.models import Probe
from irkit.quarantine.held import Held, held
from irkit.quarantine.links import Link, ends, link_at, links, switch
from irkit.text import printable

TAKEN_DOWN = "taken-down.json"
NAMED = 64
POWERS = {"NET_ADMIN": 12, "SYS_MODULE": 16, "SYS_ADMIN": 21, "BPF": 39}
"""Capabilities (capabilities(7), their bits) that make a road into the host's network, held in the host's user namespace."""
HOLDS_FROZEN = "the quarantine holds only while it is frozen: thawed it could make itself a road past all walls"


class Process(NamedTuple):
    """A process in the target's network namespace that has ``power``."""

    pid: int
    name: str
    power: str


def inside(ctx: Context, view: HostView) -> list[Probe]:
    """Close the roads that the namespace has beside the quarantine, and tell of each; to be called before others are tried."""
    pids, asleep = view.pids(), view.frozen() is True
    return [
        *_strays(view, pids), *_held(ctx, view, pids), *_interfaces(ctx, view), *(loose(view, pids) if asleep else ()), *_awake(view, set(pids) if asleep else set()),
    ]  # fmt: skip


def mighty(pids: Iterable[int]) -> Process | None:
    """The first of these processes that could make itself a road into the host's network.

    By what each of its threads may ever have (the bounding set), and only in the host's own user namespace.
    """
    mine = link_of("/proc/self/ns/user")
    for pid in pids:
        for thread in _threads(pid):
            place = f"/proc/{pid}/task/{thread}"
            status = dict(line.partition(":\t")[::2] for line in read_text(f"{place}/status").splitlines())
            try:
                bounds = int(status.get("CapBnd", ""), 16)
            except ValueError:  # it is gone
                continue
            power = next((name for name, bit in POWERS.items() if bounds >> bit & 1), "")
            if power and link_of(f"{place}/ns/user") == mine:
                return Process(pid, printable(status.get("Name", ""), 32), power)
    return None


def _awake(view: HostView, asleep: set[int]) -> list[Probe]:
    """Who is in the namespace, is not frozen, and could make a road at any moment: a sharer, a process that came by setns(2)."""
    own = link_of(view.netns)
    others = [pid for pid in spaces("net").pids.get(own, ()) if pid not in asleep]
    one = mighty(pid for pid in others if HostView("", pid).frozen() is not True)
    if one is None:
        return []
    detail = (
        f"it is not frozen, and with {one.power} it can make itself a road past all walls at any moment: freeze it too"
    )
    return [Probe(f"process {one.pid} ({one.name}) in the target's network namespace", "out", "unknown", detail, now())]


def loose(view: HostView, pids: list[int]) -> list[Probe]:
    """Processes of the target that its freeze does not hold: they left its cgroup, or are another container's in its pid namespace."""
    cgroups = {read_text(f"/proc/{view.pid}/cgroup"): True, "": True}
    found = []
    for pid in pids:
        for thread in _threads(pid):  # of cgroup v1 each has its own
            cgroup = read_text(f"/proc/{pid}/task/{thread}/cgroup")
            if cgroup not in cgroups:
                cgroups[cgroup] = HostView("", int(thread)).frozen() is True
            if not cgroups[cgroup] and pid not in found:
                found.append(pid)
    if not found:
        return []
    path = f"processes {', '.join(map(str, found[:8]))} in the target's pid namespace, outside its cgroup"
    return [Probe(path, "out", "unknown", f"{len(found)} of them are not frozen", now())]


def _interfaces(ctx: Context, view: HostView) -> list[Probe]:
    """Each interface that leads out of the namespace and is not the quarantine's own cable."""
    begun = now()
    try:
        found = [one for one in links(view.netns) if one.leaves]
        cables = ends(view.netns, found)
        here = {one: link_at(one) for one in {end.master for end in cables.values()} - {0}}
    except OSError as error:
        why = f"the kernel can't be asked: {error.strerror or error}"
        return [Probe("interfaces of the target's own", "out", "unknown", why, begun)]
    foreign = []
    for one in found:
        end = cables.get(one.number)
        bridge = here.get(end.master) if end else None
        if bridge is None or not ctx.facts.bridge or bridge.name != ctx.facts.bridge:
            foreign.append((one, end, bridge))
    probes = [_judged(ctx, view, *one, begun) for one in foreign[:NAMED]]
    if len(foreign) > NAMED:
        more = f"{len(foreign) - NAMED} more were not looked at"
        probes.append(Probe("interfaces of the target's own", "out", "unknown", more, begun))
    return probes


def _judged(ctx: Context, view: HostView, one: Link, end: Link | None, bridge: Link | None, begun: str) -> Probe:
    name, kind = printable(one.name), printable(one.kind) or "no virtual one"
    path = f"interface {name} ({kind}), which leads out of the target's namespace"
    seen_by_nft = bridge is None or bridge.kind == "bridge"  # what is routed, or goes through a bridge
    if end is not None and seen_by_nft:
        place = f"the bridge {printable(bridge.name)}" if bridge else "the host"
        if ctx.facts.cables_cut:
            return Probe(path, "out", "blocked", f"plugged into {place}; cut by a firewall", begun)
        if one.up and end.up:
            return Probe(path, "out", "reached", f"it is plugged into {place}, not into the quarantine's bridge", begun)
    if not one.up:
        return Probe(path, "out", "blocked", "it is down", begun)
    try:
        switch(view.netns, one.number, False)
    except OSError as error:
        why = f"it could not be set down: {error.strerror or error}"
        return Probe(path, "out", "unknown", why, begun)
    _keep(ctx, one)
    ctx.warn(f"the {path}, was set down")
    if view.frozen() is not True:
        return Probe(
            path, "out", "unknown", "irkit has set it down, but the target is not frozen: it can undo that", begun
        )
    return Probe(path, "out", "blocked", "irkit has set it down, and the target is frozen", begun)


def _keep(ctx: Context, one: Link) -> None:
    """For the release.  An interface of hardware or a tunnel loses its routes by this; they are in the evidence."""
    kept = ctx.case.read_json(TAKEN_DOWN) or {"schema": "irkit.taken-down/v1", "interfaces": []}
    kept["interfaces"].append({"index": one.number, "name": printable(one.name), "kind": printable(one.kind)})
    write_json(ctx.case.folder / TAKEN_DOWN, kept)


def set_up_again(ctx: Context) -> list[str]:
    """Give back, at a release, the interfaces that were set down; what that can't bring back, in words."""
    kept: Any = ctx.case.read_json(TAKEN_DOWN)
    view = ctx.host_view
    if not kept or view is None:
        return []
    problems = []
    for row in kept["interfaces"]:
        name = str(row["name"])
        try:
            if any(one.number == row["index"] and printable(one.name) == name for one in links(view.netns)):
                switch(view.netns, int(row["index"]), True)
                problems.append(
                    f"the interface {name} was set down and is up again, perhaps without its routes and IPv6 addresses"
                )
        except OSError as error:
            problems.append(f"the interface {name} could not be set up again: {error.strerror or error}")
    write_json(ctx.case.folder / TAKEN_DOWN, {**kept, "interfaces": []})
    return problems


def _strays(view: HostView, pids: list[int]) -> list[Probe]:
    """Threads of the target that live in another network namespace: what is probed says nothing about them."""
    own = link_of(view.netns)
    found: dict[str, dict[str, None]] = {}
    for pid in pids:
        for thread in _threads(pid):
            other = link_of(f"/proc/{pid}/task/{thread}/ns/net")
            if other and other != own:
                found.setdefault(other, {})[str(pid)] = None
    return [
        Probe(
            f"another network namespace, of the target's processes {', '.join(list(some)[:8])}", "out", "unknown",
            "it was not left nor probed: don't thaw the target", now(),
        )
        for some in found.values()
    ]  # fmt: skip


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - a hot path of plain strings
    except OSError:
        return []


def _held(ctx: Context, view: HostView, pids: list[int]) -> list[Probe]:
    """What the target's processes hold of other network namespaces, though they live in their own."""
    begun = now()
    try:
        found = held(pids, view.netns)
    except OSError as error:
        found = Held(unread=error.strerror or str(error))
    if found.unable and not ctx.facts.own_rules_kept:
        ctx.writer.gap(
            "quarantine", "what the target holds of other network namespaces", f"this kernel can't tell: {found.unable}"
        )
    probes = [
        Probe(one, "out", "unknown", "it was not probed; the target is frozen: don't thaw it", begun)
        for one in found.roads
    ]
    if found.unread:
        probes.append(Probe("what the target holds of other network namespaces", "out", "unknown", found.unread, begun))
    return probes
