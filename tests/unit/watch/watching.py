"""What the watch's tests share: containers on a fake engine, alerts, runs that are no processes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from irkit.clock import now
from irkit.engine.fake.engine import FakeEngine
from irkit.watch.children import Children, Ended
from irkit.watch.service import Watch
from irkit.watch.state import DRY_RUNNING, Job

HEAD = "apiVersion: irkit/v1\nkind: Watch\n"
RULE = "rules:\n  - {id: shell, match: {source: falco, rule: 'Terminal shell*'}, playbook: contain}\n"


def container(engine: FakeEngine, name: str, *, start: bool = True, **labels: str) -> str:
    named = {key.replace("_", "."): value for key, value in labels.items()}
    made = engine.create({"Image": "shop/web:1", "Labels": named, "HostConfig": {}}, name)
    if start:
        engine.start(made)
    return made


def falco(identity: str, rule: str = "Terminal shell in container", **more: Any) -> bytes:
    fields = {"container.id": identity[:12], "container.name": "web-1", "proc.name": "sh", **more.pop("fields", {})}
    row = {
        "rule": rule,
        "priority": "Notice",
        "time": now(),
        "tags": ["shell"],
        "output": "x",
        "output_fields": fields,
        **more,
    }
    return json.dumps(row).encode()


@dataclass
class NoChildren(Children):
    """Runs that are no processes: each ends as ``ends`` says, by phase."""

    began: list[tuple[str, str, list[str]]] = field(default_factory=list)
    ends: dict[str, Ended | None] = field(default_factory=dict)
    alive: bool = False

    def start(self, job: Job) -> None:
        self.began.append((job.phase, job.target, job.vars))

    def adopt(self, job: Job) -> bool:
        return self.alive

    def ended(self, job: Job) -> Ended | None:
        default = Ended(
            0,
            {"status": "succeeded", "case": "c-1", "run": "r-1", "quarantine": {"state": "proven"}, "steps": STEPS},
            "",
        )
        return self.ends.get(job.phase, default)


STEPS = [{"id": "freeze", "uses": "container.freeze", "outcome": "planned", "message": "would be done"}]
DRY = DRY_RUNNING


TOLD: dict[int, list[Any]] = {}


def told(watch: Watch, *words: str) -> list[dict[str, Any]]:
    return [row for row in TOLD[id(watch)] if not words or row["decision"] in words]
