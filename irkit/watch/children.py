"""Runs as processes of their own, ``irkit run …``: one that crashes ends nothing else, and one outlives the watch.

What it prints goes to files, so that a watch which is killed breaks nobody's pipe.  A variable in its environment names the
job: a watch that starts anew finds by it what is still under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.errors import storage_error
from irkit.home import home, private_folder
from irkit.watch.state import DRY_RUNNING, Job

MARK = "IRKIT_WATCH_JOB"
RESULT_LIMIT = 64 * 1024 * 1024
TOLD = 2000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.  ``code``: unknown (``None``) when another watch had started it.  ``result``: ``irkit.run/v1``, if there was one.

    ``said``: the end of what it told on standard error.
    """

    code: int | None
    result: Mapping[str, Any] | None
    said: str

    @property
    def status(self) -> str:
        """The run's status; ``refused`` or ``failed`` when it never began, ``lost`` when it was killed or nobody knows."""
        if self.result is not None:
            return str(self.result.get("status"))
        if self.code is None or self.code < 0:
            return "lost"
        return "refused" if self.code == 5 else "failed"


@dataclass(slots=True)
class Children:
    """The processes that are under way.  ``options``: words for every run (engine, key, recipients)."""

    options: Sequence[str] = ()
    _own: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _adopted: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def start(self, job: Job) -> None:
        """Begin a job's dry run or run, by its phase.  Raises ``StorageError``."""
        dry = job.phase == DRY_RUNNING
        argv = [
            sys.executable, "-P", "-m", "irkit", "run", job.playbook, job.target, "--json", "--digest", job.digest, "--unless-contained",
            *(["--dry-run"] if dry else []), *self.options, *(word for one in job.vars for word in ("--var", one)),
        ]  # fmt: skip
        environment = {**os.environ, "IRKIT_HOME": str(home()), MARK: job.id, "PYTHONUNBUFFERED": "1"}
        out, err = _files(job)
        try:
            with open(out, "wb", opener=_private) as stdout, open(err, "wb", opener=_private) as stderr:
                self._own[job.id] = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd="/",
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise storage_error(error, f"can't start the run {job.id}") from error

    def adopt(self, job: Job) -> bool:
        """Take up what another watch began; false when nothing of it is left and it had not begun either: start it anew."""
        found = _marked(job.id)
        self._adopted[job.id] = found
        out, err = _files(job)
        return bool(found) or any(path.exists() and path.stat().st_size for path in (out, err))

    def ended(self, job: Job) -> Ended | None:
        """How a job's process ended; ``None`` while it is under way."""
        own = self._own.get(job.id)
        code = own.poll() if own is not None else None
        if own is not None and code is None:
            return None
        if own is None and any(_is_marked(pid, job.id) for pid in self._adopted.get(job.id, ())):
            return None
        out, err = _files(job)
        return Ended(code, _result(out), _tail(err))

    def forget(self, job: Job, phase: str) -> None:
        """What it printed is not needed any more: the state and the journal have it.  ``phase``: of the process that ended."""
        for path in _files(job, phase):
            path.unlink(missing_ok=True)
        self._own.pop(job.id, None)
        self._adopted.pop(job.id, None)

    def tidy(self, jobs: Collection[str]) -> None:
        """Take away what a watch that was killed has left of other jobs than these."""
        for path in private_folder(home() / "watch" / "runs").iterdir():
            if path.name.partition(".")[0] not in jobs:
                path.unlink(missing_ok=True)


def _files(job: Job, phase: str = "") -> tuple[Path, Path]:
    folder = private_folder(home() / "watch" / "runs")
    kind = "dry" if (phase or job.phase) == DRY_RUNNING else "run"
    return folder / f"{job.id}.{kind}.out", folder / f"{job.id}.{kind}.err"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _marked(job: str) -> tuple[int, ...]:
    """The processes of a job, by their environment."""
    return tuple(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_marked(int(entry.name), job)
    )


def _is_marked(pid: int, job: str) -> bool:
    mark = f"{MARK}={job}".encode()
    with contextlib.suppress(OSError):
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _result(path: Path) -> Mapping[str, Any] | None:
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(RESULT_LIMIT))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and value.get("schema") == "irkit.run/v1" else None


def _tail(path: Path) -> str:
    """Its last lines in one, that of the failure first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TOLD))
            lines = file.read(TOLD).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    told = [line for line in lines if line.startswith("irkit: ")] or lines[-1:]
    return " ".join(told).removeprefix("irkit: ")
