"""What the runner itself costs a step: journal records on the disk before and after, against writing and syncing the same lines."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from irkit import cases
from irkit.actions.context import Context, Result
from irkit.actions.registry import Action
from irkit.engine.fake.engine import FakeEngine
from irkit.events import silent
from irkit.evidence.writer import BundleWriter
from irkit.models import Target
from irkit.playbook.journal import Journal
from irkit.playbook.model import Playbook, Step
from irkit.playbook.runner import Runner

STEPS, GOAL_MS = 200, 5.0


def runner() -> None:
    """Print milliseconds a step: all of it, and of that two lines written and synced."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IRKIT_HOME"] = folder
        whole = statistics.median(_played(Path(folder), number) for number in range(3))
        alone = statistics.median(_synced(Path(folder) / f"lines-{number}") for number in range(3))
    word = "ok" if whole <= GOAL_MS else "MISSED"
    print(
        f"runner, a step that does nothing   {whole:.2f} ms (goal {GOAL_MS:.1f}: {word}); two lines with fdatasync alone {alone:.2f} ms"
    )


def _played(folder: Path, number: int) -> float:
    engine = FakeEngine("bench:1", endpoint="tcp://nowhere.invalid:1")
    target = engine.container(engine.create({"Image": "bench:1"}, f"bench-{number}"))
    action = Action("bench.nothing", "read", "", lambda ctx, args: Result("succeeded", "done", {"x": 1}))
    steps = tuple(Step(f"s{one}", f"step {one}", action, {}, "", "abort") for one in range(STEPS))
    case = cases.open_case(Target(target.id, target.name, "bench:1", target.image_id, engine.endpoint))
    run, where = case.new_run()
    context = Context(
        engine,
        case,
        run,
        case.target,
        target,
        BundleWriter(case.folder / "bundles" / run),
        silent,
        lambda: None,
        _no_key,
    )
    journal = Journal(where / "journal.jsonl")
    begun = time.monotonic()
    Runner(
        Playbook("bench", "bench", "", {}, steps, "sha256:0", Path("bench")), context, journal, {}, lambda: None
    ).run()
    seconds = time.monotonic() - begun
    journal.close()
    return seconds / STEPS * 1000


def _no_key() -> Any:
    raise SystemExit("no key is needed")


def _synced(path: Path) -> float:
    line = b"x" * 400 + b"\n"
    begun = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(2 * STEPS):
            file.write(line)
            os.fdatasync(file.fileno())
    return (time.monotonic() - begun) / STEPS * 1000
