"""Find the blast radius of a container."""

from __future__ import annotations

from collections.abc import Iterable

from irkit.acquire.host import HostView, locate
from irkit.engine.interface import Container, Engine
from irkit.models import Target
from irkit.scope.connections import find_connections
from irkit.scope.host import find_host
from irkit.scope.model import REASONS, Found, Scope
from irkit.scope.peers import find_peers
from irkit.scope.scene import Scene, gather
from irkit.scope.shared import find_shared


def related(engine: Engine, target: Container) -> Scope:
    """What ``target`` can reach, the worst first, and which containers are related to it by what.

    Containers that vanish meanwhile are left out; connections that can't be seen are a row that says so.  Raises
    ``EngineError`` when the engine can't be asked.
    """
    view = locate(target)
    scene = gather(engine, target, isinstance(view, HostView))
    return collect(scene, engine.endpoint, (*find_static(scene), *find_connections(scene, view)))


def find_static(scene: Scene) -> tuple[Found, ...]:
    """All that follows from what the engine says, without a look at the host."""
    return (*find_host(scene), *find_peers(scene), *find_shared(scene))


def collect(scene: Scene, endpoint: str, found: Iterable[Found]) -> Scope:
    """Rows in their order, each once; related ids by reason, ordered by name."""
    target = scene.target
    names = {one.id: one.name for one in scene.others}
    every = tuple(found)
    groups = {reason: {one.container for one in every if one.reason == reason} for reason in REASONS}
    return Scope(
        Target(target.id, target.name, target.image_ref, target.image_id, endpoint),
        tuple(sorted({one.row for one in every}, key=lambda row: row.order)),
        {reason: tuple(sorted(ids, key=lambda one: (names.get(one, ""), one))) for reason, ids in groups.items()},
        {one: names.get(one, "") for ids in groups.values() for one in sorted(ids)},
    )
