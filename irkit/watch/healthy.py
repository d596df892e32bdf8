"""How many replicas of a container would remain if it were contained."""

from __future__ import annotations

from collections.abc import Collection

from irkit import cases
from irkit.engine.interface import Container, Engine
from irkit.errors import IrkitError, NotFound
from irkit.watch.model import PROJECT, Healthy, service_of


class NoReplicas(IrkitError):
    """Nothing says whose replica a container is."""


def remaining(engine: Engine, target: Container, rule: Healthy, taken: Collection[str]) -> int:
    """The replicas, without the target and those of ``taken`` (ids that runs under way may contain), that run and are healthy.

    Healthy: not frozen, not starting anew, its health check, where it has one, content, and no case holds it.
    Raises ``NoReplicas``, and what the engine raises.
    """
    return sum(1 for one in _replicas(engine, target, rule.by) if one.id not in {target.id, *taken} and _healthy(one))


def _replicas(engine: Engine, target: Container, by: str) -> list[Container]:
    if by == "image":
        return [one for one in _inspected(engine, "") if one.image_id == target.image_id]
    if by.startswith("label:"):
        label = by.removeprefix("label:")
        if label not in target.labels:
            raise NoReplicas(f"{target.name} has no label {label!r}")
        return _inspected(engine, f"{label}={target.labels[label]}")
    service = service_of(target)
    if service is None:
        raise NoReplicas(f"no label of {target.name} says which service it is a replica of")
    found = _inspected(engine, f"{service[0]}={service[1]}")
    return [one for one in found if one.labels.get(PROJECT) == target.labels.get(PROJECT)]


def _inspected(engine: Engine, label: str) -> list[Container]:
    found = []
    for reference in engine.containers(label):
        try:
            found.append(engine.container(reference))
        except NotFound:
            continue  # gone meanwhile
    return found


def _healthy(container: Container) -> bool:
    health = str((container.state.get("Health") or {}).get("Status") or "none")
    if (
        not container.running
        or container.paused
        or container.state.get("Restarting")
        or health not in ("none", "healthy")
    ):
        return False
    case = cases.active_case(container.id)
    return case is None or case.state != "contained"
