"""What the engine knows of the container, of what belongs to it, and of itself.  Peers are named, not described."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError, NotFound
from irkit.evidence.writer import BundleWriter, Origin
from irkit.host_paths import of_engine
from irkit.mounts import record, seen_at, seen_through, volumes_of

SWARM_LABELS = {
    "service": "com.docker.swarm.service.id",
    "task": "com.docker.swarm.task.id",
    "node": "com.docker.swarm.node.id",
}
SETTINGS = (
    "LiveRestoreEnabled", "SecurityOptions", "RegistryConfig", "ExperimentalBuild", "Debug", "LoggingDriver", "CgroupDriver",
    "CgroupVersion", "DefaultRuntime", "Runtimes", "Isolation", "InitBinary", "Plugins", "Warnings", "KernelVersion", "OperatingSystem",
    "DockerRootDir", "SystemTime",
)  # fmt: skip
MASK = "***"


def acquire_image_record(engine: Engine, image_id: str, writer: BundleWriter) -> None:
    """Write what the engine says of an image and of itself, under the names that :func:`acquire_engine_state` gives."""
    about = functools.cache(engine.info)
    queries: dict[str, Callable[[], object]] = {
        "image": lambda: engine.image(image_id).raw,
        "image-history": lambda: list(engine.image_history(image_id)),
        "info": lambda: about().raw,
        "version": lambda: about().version_raw,
    }
    for name, query in queries.items():
        _one(writer, name, query)


def acquire_engine_state(engine: Engine, before: Container, writer: BundleWriter) -> None:
    """Write what the engine says: the container (before irkit touched it, and now), image, networks, volumes, engine.

    ``engine/*.json``; environment values are evidence and stay in it (:func:`masked` is for output).  Never raises an
    ``EngineError``: what the engine doesn't tell is a gap.
    """
    writer.add_json(
        "engine/container-before.json",
        before.raw,
        Origin("engine-state", f"container {before.id}", "engine API: inspect, before the first change"),
    )
    about = functools.cache(engine.info)
    queries: dict[str, Callable[[], object]] = {
        "container-now": lambda: engine.container(before.id).raw,
        "image": lambda: engine.image(before.image_id).raw,
        "image-history": lambda: list(engine.image_history(before.image_id)),
        "info": lambda: about().raw,
        "version": lambda: about().version_raw,
        "settings": lambda: settings(about().raw),
        "plugins": lambda: _plugins(engine),
        "peers": lambda: _peers(engine, before),
    }
    if before.running and not engine.local:  # from afar the only view of processes; it starts `ps` on the engine's host
        queries["top"] = lambda: engine.top(before.id)
    for name, query in queries.items():
        _one(writer, name, query)
    _several(
        writer,
        "networks",
        {one.network: one.network_id for one in before.endpoints},
        lambda ref: engine.network(ref).raw,
    )
    acquire_volume_records(engine, before, writer)
    _swarm(engine, before, writer)


def acquire_volume_records(engine: Engine, before: Container, writer: BundleWriter) -> None:
    """``engine/volumes.json``: what the engine says of each of its volumes; their options tell what they show of the host."""
    _several(writer, "volumes", {name: name for name in volume_names(before)}, engine.volume)
    _sources(engine, before, writer)


def _sources(engine: Engine, before: Container, writer: BundleWriter) -> None:
    """``engine/sources.json``: where links among the sources of its mounts lead on the host."""
    rows = list(before.raw.get("Mounts") or ())
    rows = [one for one in seen_through(rows, volumes_of(engine, rows)) if one.get("Type") == "bind"]
    if not rows:
        return
    host = of_engine(engine.endpoint)
    found = [record(one, seen_at(host, before, one)) for one in rows]
    origin = Origin("engine-state", "sources of mounts", "host-side reads of links and mount tables")
    writer.add_json("engine/sources.json", found, origin)


def _plugins(engine: Engine) -> object:
    """The managed plugins; an engine that has no such thing (Podman: "Path … is not supported") says so, and lacks nothing."""
    try:
        return list(engine.plugins())
    except NotFound as error:
        if "is not supported" not in error.message:
            raise
        return {"not_supported": error.message}


def acquire_calls(engine: Engine, writer: BundleWriter) -> int:
    """Write ``custody/calls.jsonl``: every call that irkit made to the engine so far; how many.

    Call it last, right before the seal.  A call's duration ends with the answer's head where the answer is a stream.
    """
    origin = Origin("custody", engine.endpoint, "irkit's own calls, as they were made", "application/jsonl")
    count = 0
    with writer.sink("custody/calls.jsonl", origin, compress=False) as sink:
        for line in recorded_calls(engine):
            sink.write(line)
            count += 1
    if engine.calls_dropped:
        writer.gap("custody", "calls", f"{engine.calls_dropped} more reading calls were made than are listed")
    return count


def recorded_calls(engine: Engine) -> Iterator[bytes]:
    """Every call that irkit made to ``engine`` so far, oldest first, as lines of JSON.

    ``{"method", "path", "status", "started", "ms"}``; status 0: no answer came.  Paths hold no secrets.
    """
    for call in engine.calls:
        yield json.dumps(call.to_json(), sort_keys=True).encode() + b"\n"


def volume_names(container: Container) -> tuple[str, ...]:
    """The names of its volumes (``Mounts`` of type ``volume``)."""
    mounts = container.raw.get("Mounts") or ()
    return tuple(sorted({str(one["Name"]) for one in mounts if one.get("Type") == "volume" and one.get("Name")}))


def settings(info: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``GET /info`` what bears on the engine's safety: registries, live-restore, user namespaces, what it warns of."""
    registries = info.get("RegistryConfig") or {}
    options = [str(one) for one in info.get("SecurityOptions") or ()]
    hosts = registries.get("IndexConfigs") or {}
    return {
        "schema": "irkit.engine-settings/v1",
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "userns_remap": any("name=userns" in one for one in options),
        "rootless": any("name=rootless" in one for one in options),
        "seccomp": any("name=seccomp" in one for one in options),
        "insecure_registries": sorted(
            {str(one) for one in registries.get("InsecureRegistryCIDRs") or ()}
            | {str(name) for name, one in hosts.items() if not (one or {}).get("Secure", True)}
        ),
        "registry_mirrors": [str(one) for one in registries.get("Mirrors") or ()],
        "swarm": str((info.get("Swarm") or {}).get("LocalNodeState") or ""),
        "warnings": [str(one) for one in info.get("Warnings") or ()],
        "reported": {key: info[key] for key in SETTINGS if key in info},
    }


def masked(raw: Mapping[str, Any]) -> dict[str, Any]:
    """An inspect document for output: every environment value of it replaced, names kept.

    Covers ``Config.Env``, ``ContainerConfig.Env`` and a swarm service's or task's ``ContainerSpec.Env``, wherever they
    stand.
    """
    return {str(key): _masked_item(str(key), value) for key, value in raw.items()}


def _masked_item(key: str, value: object) -> object:
    if key == "Env" and isinstance(value, list | tuple):
        return [f"{str(one).partition('=')[0]}={MASK}" for one in value]
    if isinstance(value, Mapping):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_masked_item("", one) for one in value]
    return value


def _peers(engine: Engine, before: Container) -> list[dict[str, str]]:
    """Who else is on its networks: names and ids only."""
    return [
        {"network": endpoint.network, "id": one.container_id, "name": one.name}
        for endpoint in before.endpoints
        if endpoint.network_id
        for one in engine.network(endpoint.network_id).members
        if one.container_id != before.id
    ]


def _one(writer: BundleWriter, name: str, query: Callable[[], object]) -> None:
    try:
        writer.add_json(f"engine/{name}.json", query(), Origin("engine-state", name, "engine API"))
    except EngineError as error:
        writer.gap("engine-state", name, error.message)


def _several(writer: BundleWriter, what: str, refs: Mapping[str, str], query: Callable[[str], object]) -> None:
    """A list of documents; one that can't be had does not cost the others."""
    found = []
    for name, ref in refs.items():
        try:
            found.append(query(ref or name))
        except EngineError as error:
            writer.gap("engine-state", what, f"{name}: {error.message}")
    writer.add_json(f"engine/{what}.json", found, Origin("engine-state", what, "engine API"))


def _swarm(engine: Engine, before: Container, writer: BundleWriter) -> None:
    """Service, task and node of a task."""
    for kind, label in SWARM_LABELS.items():
        ref = before.labels.get(label)
        if not ref:
            continue
        try:
            writer.add_json(
                f"engine/swarm-{kind}.json", engine.swarm(kind, ref), Origin("engine-state", kind, "engine API")
            )
        except EngineError as error:
            writer.gap(
                "engine-state", f"swarm {kind}", f"{error.message} (only a manager tells; ask one of the swarm's)"
            )
