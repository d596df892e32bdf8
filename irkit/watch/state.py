"""What a watch must not forget when it is killed: what was handled, when runs began, how far each source was read, which runs are under way.

``IRKIT_HOME/watch/state.json``, mode 0600, replaced in one step before anything that it speaks of is done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irkit.errors import IrkitError
from irkit.home import write_json
from irkit.watch.model import Rate

SCHEMA = "irkit.watch-state/v1"
SEEN_LIMIT = 10_000
DRY_DUE, DRY_RUNNING, WAITING, DUE, RUNNING = "dry-due", "dry-running", "waiting", "due", "running"
PHASES = (DRY_DUE, DRY_RUNNING, WAITING, DUE, RUNNING)


@dataclass(slots=True)
class Job:
    """A run that a rule asked for, until it has ended.

    ``alert``: what the journal says of the alert.  ``vars``: ``NAME=VALUE``.  ``reasons``: why somebody must agree.
    ``request``: the approval's file.  ``expires``: when that is denied, seconds since the epoch.
    """

    id: str
    rule: str
    alert: dict[str, Any]
    alert_time: float
    key: str
    playbook: str
    playbook_id: str
    digest: str
    target: str
    name: str
    image: str
    vars: list[str]
    changes: bool
    phase: str
    reasons: list[str] = field(default_factory=list)
    few_accepted: bool = False
    case: str = ""
    run: str = ""
    request: str = ""
    expires: float = 0.0
    plan: list[dict[str, str]] = field(default_factory=list)

    @property
    def under_way(self) -> bool:
        """Whether a process of irkit's works on it, or did when the watch was killed."""
        return self.phase in (DRY_RUNNING, RUNNING)


@dataclass(slots=True)
class State:
    """All of it.  ``seen``: until when (seconds since the epoch) a key counts as handled."""

    path: Path
    seen: dict[str, float] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    positions: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    untold: list[dict[str, Any]] = field(default_factory=list)
    """Records that belong to the state as it is, and may not be in the journal yet."""
    dirty: bool = False

    @classmethod
    def load(cls, path: Path) -> State:
        """What was kept, or nothing.  Raises ``IrkitError`` when it can't be read: guessing would handle alerts twice."""
        try:
            raw = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        try:
            if raw["schema"] != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            jobs = [Job(**one) for one in raw["jobs"]]
            if any(one.phase not in PHASES for one in jobs):
                raise ValueError("a job is in no known phase")
            return cls(
                path, {str(key): float(until) for key, until in raw["seen"].items()},
                {str(rule): [float(one) for one in times] for rule, times in raw["starts"].items()},
                dict(raw["positions"]), {one.id: one for one in jobs}, [dict(one) for one in raw["untold"]],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error

    def save(self) -> None:
        """On the disk when this returns.  Raises ``StorageError``."""
        jobs = [asdict(one) for one in self.jobs.values()]
        write_json(
            self.path,
            {
                "schema": SCHEMA,
                "seen": self.seen,
                "starts": self.starts,
                "positions": self.positions,
                "jobs": jobs,
                "untold": self.untold,
            },
        )
        self.dirty = False

    def prune(self, now: float) -> None:
        """Forget what has no meaning any more."""
        self.seen = {key: until for key, until in self.seen.items() if until > now}

    def handled(self, key: str, now: float) -> bool:
        """Whether it was handled within its window."""
        return self.seen.get(key, 0.0) > now

    def remember(self, key: str, until: float) -> bool:
        """Count it as handled; false when there is no room: then nothing may be started, because it could be twice."""
        if key not in self.seen and len(self.seen) >= SEEN_LIMIT:
            return False
        self.seen[key] = until
        return True

    def allowed(self, name: str, rate: Rate, now: float) -> bool:
        """Whether another run may begin within a rate."""
        recent = [one for one in self.starts.get(name, []) if now - rate.seconds < one <= now]
        self.starts[name] = recent
        return len(recent) < rate.runs

    def started(self, name: str, now: float) -> None:
        """A run began."""
        self.starts.setdefault(name, []).append(now)

    def place(self, position: Mapping[str, Any]) -> None:
        """How far a source was read: ``{"source": …, …}``."""
        self.positions[str(position["source"])] = dict(position)
        self.dirty = True


def _damaged(path: Path, error: Exception) -> IrkitError:
    return IrkitError(
        f"can't read the watch's state {path}: {error}",
        hint="without it alerts may be handled twice; move it away to begin with an empty one",
    )
