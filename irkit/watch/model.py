"""The operator's rules as types.  :mod:`irkit.watch.rules` reads them from YAML."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.engine.interface import Container
from irkit.playbook.conditions import Condition
from irkit.watch.alert import PRIORITIES, Alert, Mapped, nested

SERVICES = ("com.docker.compose.service", "com.docker.swarm.service.name")
"""Labels that name the service a container is a replica of: Compose's, with its project, and Swarm's."""
PROJECT = "com.docker.compose.project"


@dataclass(frozen=True, slots=True)
class Match:
    """What an alert must be like: all that is said.  Globs, of which one must fit; ``tags``: all of them.

    ``priority``: at least this bad.
    """

    sources: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    priority: str = ""
    tags: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def alert(self, alert: Alert) -> bool:
        """Whether what the alert itself says fits."""
        return (
            (not self.sources or alert.source in self.sources)
            and _fits(alert.rule, self.rules)
            and (not self.priority or PRIORITIES.index(alert.priority) <= PRIORITIES.index(self.priority))
            and set(self.tags) <= set(alert.tags)
        )

    def container(self, container: Container) -> bool:
        """Whether the container fits, by what the engine says of it."""
        return (
            _fits(container.name, self.containers)
            and _fits(container.image_ref, self.images)
            and all(
                name in container.labels and fnmatch.fnmatchcase(container.labels[name], glob)
                for name, glob in self.labels.items()
            )
        )


def _fits(text: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatch.fnmatchcase(text, glob) for glob in globs)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``runs`` in any ``seconds``."""

    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Healthy:
    """How many replicas must remain.  ``by``: ``image``, ``service`` or ``label:KEY``; ``otherwise``: ``ask`` or ``refuse``."""

    count: int
    by: str = "service"
    otherwise: str = "ask"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who must agree before a run that changes anything.  ``needed``: false only where the rule says ``none``."""

    needed: bool = True
    by: tuple[str, ...] = ()
    minimum: int = 1
    timeout: float = 3600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what fits, which playbook, and within which limits.

    ``digest``: the playbook's when the rules were read; a run of another one is refused.  ``changes``: whether any of its
    steps does more than read.
    """

    id: str
    match: Match
    when: Condition | None
    playbook: Path
    playbook_id: str
    digest: str
    changes: bool
    vars: Mapping[str, Any]
    window: float
    by: tuple[str, ...]
    rate: Rate | None
    healthy: Healthy | None
    dry_run_first: bool
    approval: Approval

    @property
    def asks(self) -> bool:
        """Whether somebody must agree first."""
        return self.changes and self.approval.needed


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file.  ``queue``: how many alerts may wait; ``running``: how many runs at a time; ``max_age``: seconds."""

    rules: tuple[Rule, ...]
    rate: Rate
    mapped: Mapped | None
    queue: int
    running: int
    max_age: float
    digest: str
    path: Path
    remarks: tuple[str, ...] = ()


def container_scope(container: Container) -> dict[str, Any]:
    """``container``, as conditions of rules name it."""
    state = container.state
    return {
        "container": {
            "id": container.id, "name": container.name, "image": container.image_ref, "image_id": container.image_id,
            "running": container.running, "paused": container.paused, "labels": nested(container.labels),
            "health": (state.get("Health") or {}).get("Status"), "privileged": bool(container.host_config.get("Privileged")),
        }
    }  # fmt: skip


CONTAINER_NAMES = ("id", "name", "image", "image_id", "running", "paused", "labels", "health", "privileged")


def service_of(container: Container) -> tuple[str, str] | None:
    """The label, with its value, that says whose replica it is; ``None`` when there is none."""
    for label in SERVICES:
        if container.labels.get(label):
            return label, container.labels[label]
    return None
