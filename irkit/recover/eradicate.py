"""Removing one bad thing: what is there is looked at first, so that doing it again does nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from irkit.engine.interface import Container, Engine
from irkit.errors import Conflict, EngineUnreachable, NotFound
from irkit.recover.bad import Item, on_networks, volumes_of

GRACE = 10
"""Seconds that an engine gives a container that was given no stop timeout of its own."""
KILLED = 128 + 9
"""The exit code of a process that SIGKILL has ended."""
POLL = 0.2


@dataclass(frozen=True, slots=True)
class Gone:
    """``outcome``: ``removed``, ``gone`` (it was not there any more) or ``kept`` (``why``: somebody uses it)."""

    outcome: str
    why: str = ""


def remove(engine: Engine, item: Item) -> Gone:
    """Remove it, unless somebody uses it by now.  Raises ``EngineError`` for what else the engine refuses."""
    try:
        return {"container": _container, "network": _network, "volume": _volume, "image": _image}[item.kind](
            engine, item
        )
    except NotFound:
        return Gone("gone")
    except Conflict as error:
        return Gone("kept", error.message)


def _container(engine: Engine, item: Item) -> Gone:
    """A frozen one is killed as it is, so that it never runs again; a running one is stopped by its own signal first."""
    found = engine.container(item.id)
    how = "killed, frozen as it was" if found.paused else ""
    if found.running and not found.paused:
        how = stop(engine, found)
    with suppress(NotFound):  # one that the engine removes by itself (`--rm`) is gone by now
        engine.remove(item.id, force=True)
    return Gone("removed", how)


def stop(engine: Engine, container: Container, grace: int | None = None) -> str:
    """``docker stop``: the container's stop signal, its grace time (or ``grace`` seconds), SIGKILL.  How it ended, in words.

    An engine that is silent for a long grace time is waited for.  Raises ``EngineError``.
    """
    own = container.config.get("StopTimeout")
    seconds = grace if grace is not None else int(own) if own is not None else GRACE
    began = time.monotonic()
    try:
        engine.stop(container.id, grace)
    except EngineUnreachable:
        while engine.container(container.id).running:
            if time.monotonic() - began > seconds + GRACE:
                raise
            time.sleep(POLL)
    signal = str(container.config.get("StopSignal") or "SIGTERM")
    with suppress(NotFound):
        code = engine.container(container.id).state.get("ExitCode")
        if code == KILLED and signal not in ("SIGKILL", "9"):
            return f"asked to end by {signal}, ended by SIGKILL (exit code {code})"
        return f"stopped by {signal}, exit code {code}"
    return f"stopped by {signal}"


def _network(engine: Engine, item: Item) -> Gone:
    network = engine.network(item.id)
    users = _users(engine, lambda one: bool(on_networks(one) & {network.id, network.name}))
    if users or network.members:
        return Gone("kept", f"used by {', '.join(users) or network.members[0].name}")
    engine.remove_network(item.id)
    return Gone("removed")


def _volume(engine: Engine, item: Item) -> Gone:
    made = str(engine.volume(item.id).get("CreatedAt") or "")
    if made != item.made:
        return Gone("gone", f"another volume of this name was made, or this one changed, {made or 'since'}: left alone")
    users = _users(engine, lambda one: item.id in volumes_of(one))
    if users:
        return Gone("kept", f"used by {', '.join(users)}")
    engine.remove_volume(item.id)
    return Gone("removed")


def _image(engine: Engine, item: Item) -> Gone:
    names = remove_image(engine, item.id)
    return Gone("removed", f"with its names {', '.join(names)}" if names else "")


def remove_image(engine: Engine, ref: str) -> tuple[str, ...]:
    """An image and all of its names, tags and digests; the names.  Raises ``Conflict`` while any container is made from it."""
    image = engine.image(ref)
    users = _users(engine, lambda one: one.image_id == image.id)
    if users:
        raise Conflict(f"{len(users)} containers are made from this image: {', '.join(users[:10])}", status=409)
    names = (*image.tags, *(one for one in image.repo_digests if "<none>" not in one))
    for name in names:
        with suppress(NotFound):  # the last tag takes its repository's digests with it
            if engine.image(name).id == image.id:  # else somebody gave the name to another image meanwhile
                engine.remove_image(name)
    with suppress(NotFound):
        engine.remove_image(engine.image(image.id).id)
    return names


def _users(engine: Engine, uses: Callable[[Container], bool]) -> list[str]:
    found = []
    for ref in engine.containers():
        with suppress(NotFound):
            one = engine.container(ref)
            if uses(one):
                found.append(one.name)
    return sorted(found)
