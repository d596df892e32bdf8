"""What the engine says of the target and of everybody else, gathered once; all that follows is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from irkit.engine.interface import Container, Endpoint, Engine, Json, Network
from irkit.errors import EngineError, NotFound
from irkit.host_paths import of_engine
from irkit.mounts import followed, seen_at, seen_through, volumes_of
from irkit.scope.contained import Containment

NO_NETWORKS = ("host", "none")
SPACES = {"network": "NetworkMode", "pid": "PidMode", "ipc": "IpcMode", "uts": "UTSMode"}
HOST = "host"
SHARED = "container:"


@dataclass(frozen=True, slots=True)
class Scene:
    """The target among the others.  ``networks`` by id and by name; ``image_env``: what the target's image brings."""

    target: Container
    others: tuple[Container, ...]
    contain: Containment
    networks: Mapping[str, Network] = field(default_factory=dict)
    image_env: frozenset[str] = frozenset()
    root_dir: str = ""

    def by_ref(self, ref: str) -> Container | None:
        """A container by its id, a beginning of it, or its name: the engine keeps what its user wrote."""
        for one in (self.target, *self.others):
            if ref and (one.name == ref or one.id.startswith(ref)):
                return one
        return None

    def owner(self, container: Container, space: str) -> str:
        """Whose namespace it lives in: a container's id, ``host``, or the text of a reference that leads nowhere."""
        for _ in range(8):  # containers may be chained; a circle can't be made, but nothing here should hang on one
            mode = str(container.host_config.get(SPACES[space]) or "")
            if mode == HOST:
                return HOST
            if not mode.startswith(SHARED):
                break
            found = self.by_ref(mode.removeprefix(SHARED))
            if found is None:
                return mode
            container = found
        return container.id

    @property
    def network_owner(self) -> Container | None:
        """The container whose networks the target is on: mostly itself; ``None`` on the host's network."""
        owner = self.owner(self.target, "network")
        return None if owner == HOST else self.by_ref(owner)

    def network_of(self, endpoint: Endpoint) -> Network | None:
        """The network of an endpoint, when the engine still knows it."""
        return self.networks.get(endpoint.network_id) or self.networks.get(endpoint.network)


def gather(engine: Engine, target: Container, visible: bool) -> Scene:
    """Ask the engine.  What vanishes meanwhile is left out.  Raises ``EngineError`` when the engine can't be asked."""
    target, *found = _seen_through(engine, (target, *_containers(engine, target.id)))
    others = tuple(found)
    scene = with_containment(target, others, visible)
    owner = scene.network_owner
    networks: dict[str, Network] = {}
    for endpoint in usable(owner) if owner else ():
        try:
            network = engine.network(endpoint.network_id or endpoint.network)
        except NotFound:
            continue
        networks[network.id] = networks[network.name] = network
    return Scene(target, others, scene.contain, networks, _image_env(engine, target), engine.info().root_dir)


def _seen_through(engine: Engine, containers: Sequence[Container]) -> list[Container]:
    """With volumes that are folders of the host in disguise as what they are; each volume is asked about once."""
    volumes = volumes_of(engine, [row for one in containers for row in one.raw.get("Mounts") or ()])
    host = of_engine(engine.endpoint)

    def rows(one: Container) -> list[Json]:
        return followed(seen_through(one.raw.get("Mounts") or (), volumes), partial(seen_at, host, one))

    return [Container({**one.raw, "Mounts": rows(one)}) for one in containers]


def with_containment(target: Container, others: tuple[Container, ...], visible: bool) -> Scene:
    """A scene without networks."""
    scene = Scene(target, others, Containment.of(target, visible))
    if not target.network_mode.startswith(SHARED):
        return scene
    holder = scene.by_ref(target.network_mode.removeprefix(SHARED))
    return Scene(target, others, Containment.of(target, visible, holder))


def _containers(engine: Engine, but: str) -> Iterator[Container]:
    for one in engine.containers():
        if one == but:
            continue
        try:
            yield engine.container(one)
        except NotFound:
            continue  # removed between the list and the question


def _image_env(engine: Engine, target: Container) -> frozenset[str]:
    try:
        return frozenset(engine.image(target.image_id).config.get("Env") or ())
    except EngineError:
        return frozenset()  # the image may be gone while its container lives: then nothing is taken for public


def usable(container: Container) -> tuple[Endpoint, ...]:
    """Its places on networks that lead to others: not ``host``, not ``none``."""
    return tuple(one for one in container.endpoints if one.network not in NO_NETWORKS)


def mounts(container: Container) -> Sequence[Json]:
    """``Mounts`` of an inspect that have a source: ``Type``, ``Name``, ``Source``, ``Destination``, ``RW`` …"""
    return [one for one in container.raw.get("Mounts") or () if one.get("Type") in ("bind", "volume")]


def items(container: Container, name: str) -> tuple[str, ...]:
    """A list of strings of ``HostConfig``; empty when it is null or absent."""
    return tuple(str(one) for one in container.host_config.get(name) or ())
