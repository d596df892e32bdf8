"""What the container printed, and what the engine knows of it."""

from __future__ import annotations

from collections.abc import Callable

from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter, Origin

READABLE = ("json-file", "local", "journald")


def acquire_logs(engine: Engine, container: Container, writer: BundleWriter) -> int:
    """Write ``logs/stdout.log.zst`` and ``logs/stderr.log.zst``, each line with its time; bytes read."""
    driver = str((container.host_config.get("LogConfig") or {}).get("Type") or "")
    total = 0
    for stream in ("stdout", "stderr"):
        origin = Origin(
            "logs",
            f"log driver {driver or 'unknown'}, {stream}",
            f"engine API: logs, {stream}, timestamps",
            "text/plain",
        )
        try:
            total += writer.add(f"logs/{stream}.log", engine.logs(container.id, stream), origin).raw_size
        except EngineError as error:
            writer.gap("logs", stream, f"the engine can't read logs of driver {driver!r}: {error.message}")
    return total


def acquire_engine_state(engine: Engine, before: Container, writer: BundleWriter) -> None:
    """Write what the engine says: the container (as it was before irkit touched it, and now), image, networks, engine."""
    writer.add_json(
        "engine/container-before.json",
        before.raw,
        Origin("engine-state", f"container {before.id}", "engine API: inspect, before the first change"),
    )
    queries: dict[str, Callable[[], object]] = {
        "container-now": lambda: engine.container(before.id).raw,
        "image": lambda: engine.image(before.image_id).raw,
        "image-history": lambda: list(engine.image_history(before.image_id)),
        "networks": lambda: [engine.network(one.network_id).raw for one in before.endpoints if one.network_id],
        "info": lambda: engine.info().raw,
        "version": lambda: engine.info().version_raw,
    }
    for name, query in queries.items():
        try:
            writer.add_json(f"engine/{name}.json", query(), Origin("engine-state", name, "engine API"))
        except EngineError as error:
            writer.gap("engine-state", name, error.message)
