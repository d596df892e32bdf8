"""Failover: a clean container that runs already takes over the place of the compromised one.

Before the switch the replacement has another name and none of the target's networks, so nothing of it can clash, and
the target can't reach it; where nothing can clash it joins just before the target is frozen.  An engine publishes a running container's ports when it joins a network that leads
outside (libnetwork keeps them with the container), so that joining is all that is left to do at the switch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from irkit.clock import now
from irkit.engine.interface import Container, Endpoint, Engine, NetworkSpec, PortBinding
from irkit.engine.places import leave
from irkit.environment import variables
from irkit.errors import EngineError, Interrupted, IrkitError, NotFound, Refused
from irkit.recover import swarm
from irkit.recover.config import Recipe, recipe
from irkit.recover.rebuild import blotted, last_words, made_from, wait_healthy
from irkit.recover.secrets import hidden

AUTO, WARM, COLD = "auto", "warm", "cold"
REACHED = 1.0
"""Seconds after a join until others surely reach it: measured, a busy kernel takes up to 0.9 s to forward to a new interface."""
SECOND = "its interface is eth1 until it is restarted: eth0 was that of the warm-up"


@dataclass(frozen=True, slots=True)
class Names:
    """Who is called what: ``name`` is taken over, ``temporary`` the replacement's until then, ``aside`` the target's after."""

    name: str
    temporary: str
    aside: str
    nursery: str

    @classmethod
    def of(cls, name: str, case_id: str) -> Names:
        """By the case's last four digits, so that a run that goes on finds what it made."""
        token = case_id.rpartition("-")[2]
        return cls(name, f"{name}-replacement-{token}", f"{name}-compromised-{token}", f"irkit-warm-up-{token}")


def refuse_shared(before: Container) -> None:
    """Raises ``Refused`` for a target whose ports nobody can take from it while it is only frozen, and for a Swarm task."""
    if swarm.service_of(before):
        raise Refused(
            f"{before.name} is a task of a Swarm service: only Swarm makes another one in its place",
            hint=f"`irkit contain {before.name}`, then `irkit run update-service {before.name} --var image=…`",
        )
    mode = before.network_mode
    if mode == "host" or mode.startswith("container:"):
        whose = "the host's" if mode == "host" else "another container's"
        raise Refused(
            f"{before.name} lives in {whose} network namespace: frozen it keeps its ports there, and no other container can have them",
            hint=f"`irkit contain {before.name}`, then `irkit rebuild` once nothing of it holds the ports",
        )


def start_of(before: Container, asked: str) -> tuple[str, str]:
    """``warm`` or ``cold``, and why.  Two that write to the same files at the same time would damage them."""
    if asked != AUTO:
        return asked, "as it was asked for"
    shared = [
        str(one.get("Destination")) for one in before.raw.get("Mounts") or () if one.get("RW") and _shared(before, one)
    ]
    if shared:
        return COLD, f"both would write to {', '.join(shared)} at the same time"
    return WARM, "nothing that it writes to is shared with the target"


def _shared(before: Container, mount: Mapping[str, Any]) -> bool:
    """Whether the replacement has the same one: a bind mount, or a volume that the target's creator named."""
    named = {str(item).partition(":")[0] for item in before.host_config.get("Binds") or ()}
    named |= {str(item.get("Source")) for item in before.host_config.get("Mounts") or ()}
    return mount.get("Type") == "bind" or mount.get("Name") in named or bool(before.host_config.get("VolumesFrom"))


def pinned(plan: Recipe, before: Container) -> Recipe:
    """The same host ports as the target's, also those that the engine had chosen: clients know them."""
    host = dict(plan.body["HostConfig"])
    asked = {key: list(rows or ()) for key, rows in (host.get("PortBindings") or {}).items()}
    bound = _bound(before.ports)
    chosen = [
        key for key in bound if host.get("PublishAllPorts") or any(not _number(one) for one in asked.get(key, ()))
    ]
    if not chosen:
        return plan
    host["PortBindings"] = {**asked, **{key: bound[key] for key in chosen}}
    host["PublishAllPorts"] = False
    notes = [
        f"{key}: stays on the host's port {', '.join(sorted({one['HostPort'] for one in bound[key]}))}, which the engine had chosen, and which is fixed now"
        for key in chosen
    ]
    return replace(plan, body={**plan.body, "HostConfig": host}, notes=(*plan.notes, *notes))


def _number(binding: Mapping[str, str]) -> bool:
    """Whether a binding names one port: not none, and no range."""
    return str(binding.get("HostPort") or "0").isdecimal() and int(binding.get("HostPort") or 0) > 0


def _bound(ports: tuple[PortBinding, ...]) -> dict[str, list[dict[str, str]]]:
    """``PortBindings`` for the ports as they are.  The engine lists "any address" once for each family."""
    found: dict[str, list[dict[str, str]]] = {}
    for one in ports:
        anywhere = one.host_ip in ("", "0.0.0.0", "::")  # noqa: S104 - what an engine answers
        row = {"HostIp": "" if anywhere else one.host_ip, "HostPort": str(one.host_port)}
        rows = found.setdefault(f"{one.container_port}/{one.protocol}", [])
        if row not in rows:
            rows.append(row)
    return found


def places(before: Container) -> tuple[Endpoint, ...]:
    """Where the replacement belongs after the switch: the networks that the target was on.  No secret is needed for it."""
    plan = recipe(before, None, before.image_id)
    first = (plan.body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    found = (*(Endpoint.from_inspect(name, raw) for name, raw in first.items()), *plan.networks)
    if any(one.network == "bridge" for one in before.endpoints) and not any(one.network == "bridge" for one in found):
        found = (Endpoint("bridge", "", "", "", "", ""), *found)
    return found


def named(place: Endpoint, name: str) -> Endpoint:
    """With the name that is taken over as one more alias, so that nobody waits for the renaming.  The default bridge has none."""
    if place.network == "bridge" or name in place.aliases:
        return place
    return place._replace(aliases=(*place.aliases, name))


def early_places(engine: Engine, plan: Recipe, where: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """The places that the replacement can have while the target still has its own: no address or port is claimed twice.

    An engine publishes no ports on an internal network.
    """
    publishes = _publishes(plan.body["HostConfig"])
    return tuple(
        one
        for one in where
        if one.network != "bridge" and not _claims(one)
        if not publishes or engine.network(one.network_id or one.network).raw.get("Internal")
    )


def _claims(place: Endpoint) -> bool:
    """Whether the target has something on the network that nobody else can have at the same time."""
    return bool(place.fixed_ipv4 or place.fixed_ipv6 or place.mac)


def secrets_in(container: Container, names: Collection[str]) -> tuple[str, ...]:
    """The texts that must stand in no message: the values that a container has for these variables."""
    return hidden(value for name, value in variables(container.config) if name in names)


def prepare(
    engine: Engine, plan: Recipe, names: Names, start: str, nursery: NetworkSpec, timeout: float,
    checkpoint: Callable[[], None], known: str = "", made: Callable[[str], None] = lambda new: None,
    early: tuple[Endpoint, ...] = (),
) -> tuple[str, str]:  # fmt: skip
    """Make the replacement, and with ``warm`` have it run until it is healthy; its id and health (``""`` when cold).

    ``known``: the id of one that a killed run made; it is removed first.  ``made`` is told the new id.  ``early``: the
    networks that a warm one joins at the end, to answer beside the target (:func:`early_places`).  On failure nothing of it stays; the target is not touched.  Raises the ``EngineError`` family and ``NotTrusted``.
    """
    image = str(plan.body["Image"])
    discard(engine, names.temporary, known, image)
    new = ""
    try:
        new = engine.create(plan.body, names.temporary)
        made(new)
        made_from(engine, new, image)
        if start == COLD:
            for network in plan.leave:
                leave(engine, network, new)
        health = "" if start == COLD else _warm_up(engine, new, nursery, timeout, checkpoint)
        for endpoint in plan.networks if start == COLD else early:
            engine.connect(endpoint.network, new, endpoint)
        if start != COLD and early:
            time.sleep(REACHED)
    except BaseException as error:
        said = last_words(engine, new, plan.hidden)
        with contextlib.suppress(EngineError):
            discard(engine, names.temporary, new or known, image)
        if start != COLD:
            _clear(engine, nursery.name)
        if isinstance(error, EngineError):
            error.message = f"{blotted(error.message, plan.hidden)}; {names.name} was not touched{said}"
            error.args = (error.message,)
            error.hint = error.hint or "`--start cold` starts it on the target's own networks, at the switch"
        raise
    return new, health


def _warm_up(engine: Engine, new: str, nursery: NetworkSpec, timeout: float, checkpoint: Callable[[], None]) -> str:
    """Run it on a network of its own, internal and empty, then on none: nothing is left to do after the switch."""
    if engine.container(new).network_mode == "none":
        engine.start(new)
        return wait_healthy(engine, new, timeout, checkpoint)
    network = _nursery(engine, nursery)
    for one in engine.container(new).endpoints:
        leave(engine, one.network, new)
    engine.connect(network, new)
    engine.start(new)
    health = wait_healthy(engine, new, timeout, checkpoint)
    with contextlib.suppress(EngineError):
        leave(engine, nursery.name, new)
    _clear(engine, nursery.name)
    return health


def _clear(engine: Engine, nursery: str) -> None:
    """Remove the warm-up's network.  One that can't be removed is found again by its label.

    After a failure the container goes first: one that its restart policy starts over and over joins again at any moment.
    """
    with contextlib.suppress(EngineError):
        engine.remove_network(nursery)


def _nursery(engine: Engine, nursery: NetworkSpec) -> str:
    try:
        return engine.network(nursery.name).id
    except NotFound:
        return engine.create_network(nursery)


def discard(engine: Engine, temporary: str, known: str, image: str) -> None:
    """Remove a replacement that never served: the one that was written down, or one made whose answer was lost."""
    try:
        found = engine.container(temporary)
    except NotFound:
        return
    if found.id == known or (found.state.get("Status") == "created" and found.image_ref == image):
        with contextlib.suppress(NotFound):
            engine.remove(found.id, force=True, volumes=True)


def take_over(
    engine: Engine, target: Container, new: str, where: tuple[Endpoint, ...], names: Names, start: str, quarantine: str,
    secrets: Collection[str] = (),
) -> str:  # fmt: skip
    """The switch; the moment from which the replacement can answer (cold: is started), RFC 3339.

    What is done already is not done again.  ``target``: as it is now.

    When the engine refuses, the replacement is removed and the target has its name back; it stays off its networks,
    as no failure undoes a containment, and the error says so.  ``secrets``: names of variables whose values it must not
    repeat.
    """
    try:
        if start == COLD:
            _leave(engine, target, quarantine)
            _rename(engine, target, new, names)
            engine.start(new)
            served = now()
        else:
            _change_places(engine, target, new, where, quarantine)
            served = now()
            _rename(engine, target, new, names)
    except Interrupted:
        raise
    except IrkitError as error:
        step_back(engine, target.id, new, names, error, secrets)
        raise
    return served


def _leave(engine: Engine, target: Container, quarantine: str) -> None:
    for one in target.endpoints:
        if one.network != quarantine:
            leave(engine, one.network_id or one.network, target.id)


def _rename(engine: Engine, target: Container, new: str, names: Names) -> None:
    if target.name != names.aside:
        engine.rename(target.id, names.aside)
    if engine.container(new).name != names.name:
        engine.rename(new, names.name)


def _change_places(engine: Engine, target: Container, new: str, where: tuple[Endpoint, ...], quarantine: str) -> None:
    """The target leaves while the replacement joins, where they have nothing to clash over; else the target is off first.

    Nothing is tried that an engine may refuse as taken: Docker 20.10 leaves a half-made interface of such a try behind.
    """
    fresh = engine.container(new)
    present = {one.network for one in fresh.endpoints}
    with ThreadPoolExecutor(1) as beside:
        off = beside.submit(_leave, engine, target, quarantine)
        for one in where:
            if one.network in present:
                continue
            if _claims(one) or _publishes(fresh.host_config):
                off.result()
            engine.connect(one.network, new, one)
        off.result()


def _publishes(host: Mapping[str, Any]) -> bool:
    return bool(host.get("PortBindings") or host.get("PublishAllPorts"))


def step_back(
    engine: Engine, old: str, new: str, names: Names, error: IrkitError, secrets: Collection[str] = ()
) -> None:
    """Names as they were and no replacement, as far as the engine lets; ``error`` then says what is and what is not."""
    known, left = _known(engine, new, secrets), []
    said = last_words(engine, new, known)
    try:
        with contextlib.suppress(NotFound):
            made = engine.container(new)
            if made.id == old or made.name not in (names.name, names.temporary):
                raise Refused(f"it is {made.name}, which is none")  # whatever a record says
            engine.remove(made.id, force=True, volumes=True)
    except IrkitError as refused:
        left.append(f"the replacement {new[:12]} could not be removed ({refused.message})")
    try:
        if engine.container(old).name != names.name:
            engine.rename(old, names.name)
    except EngineError as refused:
        left.append(f"the target could not be given its name back ({refused.message})")
    back = f"the replacement is gone and {names.name} has its name back" if not left else "; ".join(left)
    error.message = (
        f"{blotted(error.message, known)}; {back}; the target stays contained, and nothing serves in its place{said}"
    )
    error.args = (error.message,)
    error.hint = (
        error.hint or f"`irkit failover` once more, or `irkit release {names.name}` to let the compromised one serve"
    )


def _known(engine: Engine, new: str, secrets: Collection[str]) -> tuple[str, ...]:
    with contextlib.suppress(EngineError):
        return secrets_in(engine.container(new), secrets)
    return ()


def expected(before: Container, where: tuple[Endpoint, ...]) -> Container:
    """The target as it was, with what a failover is known to change: the ports that are fixed now, the name as an alias."""
    host = pinned(Recipe({"HostConfig": before.host_config}, (), ()), before).body["HostConfig"]
    settings = before.raw.get("NetworkSettings") or {}
    networks = dict(settings.get("Networks") or {})
    for one in where:
        if one.network in networks and one.network != "bridge":
            row = dict(networks[one.network] or {})
            row["Aliases"] = [*one.aliases, *(each for each in row.get("Aliases") or () if each not in one.aliases)]
            networks[one.network] = row
    return Container({**before.raw, "HostConfig": host, "NetworkSettings": {**settings, "Networks": networks}})


def missing_ports(asked: tuple[PortBinding, ...], fresh: Container) -> list[str]:
    """Host ports that the target had and the replacement has not."""
    have = {(one.container_port, one.protocol, one.host_port) for one in fresh.ports}
    return sorted(
        {
            f"{one.host_port}/{one.protocol}"
            for one in asked
            if (one.container_port, one.protocol, one.host_port) not in have
        }
    )
