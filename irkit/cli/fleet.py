"""Several targets by one command: a thread each, spread over a process a core, and what became of each."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import click

from irkit.actions.shared import Shared
from irkit.cases import Case
from irkit.cli import workers
from irkit.cli.options import Signals, print_json
from irkit.cli.running import RunConfig, key_for_all, read_playbook, run_playbook, signing_key
from irkit.engine.interface import Container, Engine
from irkit.errors import ExitCode, IrkitError, NotFound
from irkit.events import Event, Observer
from irkit.text import printable

WORKERS = 64
LATER = 10
"""How much nicer a thread is to others once its target is sealed off (setpriority(2)): isolation first."""
WORST_FIRST = (
    ExitCode.INTERRUPTED, ExitCode.CHECK_FAILED, ExitCode.FAILED, ExitCode.USAGE, ExitCode.REFUSED, ExitCode.GAPS, ExitCode.DONE,
)  # fmt: skip
SHARED = "container:"


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended for one target: a run (``irkit.run/v1``), or the error that kept it from one."""

    target: str
    code: int
    run: Mapping[str, Any] | None = None
    message: str = ""
    hint: str | None = None

    @classmethod
    def failed(cls, target: str, error: IrkitError) -> Ended:
        """There was no run."""
        return cls(target, int(error.exit_code), None, error.message, error.hint)

    @property
    def state(self) -> str:
        """The quarantine's."""
        return str(self.run["quarantine"]["state"] or "") if self.run else ""

    @property
    def bundle(self) -> Mapping[str, Any] | None:
        """``{"path", "digest", "status"}`` of its evidence."""
        found: Mapping[str, Any] | None = self.run["bundle"] if self.run else None
        return found

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {"target": self.target, "code": self.code, "run": self.run, "message": self.message, "hint": self.hint}


def select(engine: Engine, names: Iterable[str], labels: Iterable[str]) -> list[Container]:
    """The containers named and those with all of the labels, each once.  Raises ``NotFound`` when a name has none."""
    found = {one.id: one for one in map(engine.container, names)}
    wanted = list(labels)
    if wanted:
        ids = set.intersection(*(set(engine.containers(label)) for label in wanted))
        for reference in sorted(ids - set(found)):
            try:
                found[reference] = engine.container(reference)
            except NotFound:
                continue  # gone in the meantime
    return list(found.values())


def groups(containers: Sequence[Container]) -> list[list[Container]]:
    """Those that share a network namespace follow one another, its holder first; the others go side by side."""
    made: dict[str, list[Container]] = {}
    for one in containers:
        mode = one.network_mode
        holder = mode.removeprefix(SHARED) if mode.startswith(SHARED) else one.id
        made.setdefault(holder, []).append(one)
    return [sorted(group, key=lambda one, holder=holder: one.id != holder) for holder, group in made.items()]  # type: ignore[misc]


def contain_all(
    config: RunConfig, containers: Sequence[Container], signals: Signals, admit: Callable[[Case | None, Container], None]
) -> list[Ended]:  # fmt: skip
    """Run the playbook on every target; what fails for one is no reason to leave out another."""
    progress = _Progress(len(containers))
    chosen = groups(containers)
    config = replace(
        config, together=frozenset(one.id for one in containers), read=read_playbook(config), shared=Shared()
    )
    count = min(len(chosen), workers.cores()) if key_for_all(config) else 1
    ended: dict[str, Ended] = {}

    def heard(message: Mapping[str, Any]) -> None:
        one = Ended(**message["ended"])
        ended[message["id"]] = one
        progress.done(one)

    def part(some: list[list[Container]], signals: Signals, tell: workers.Tell) -> None:
        _contain(replace(config, signer=signing_key(config)), some, signals, admit, tell)

    if count > 1:
        workers.spread([chosen[number::count] for number in range(count)], part, signals, heard)
    else:
        part(chosen, signals, heard)
    lost = IrkitError("irkit's own fault: the process that worked on it died", hint="run again with IRKIT_DEBUG=1")
    return [ended.get(one.id) or Ended.failed(one.name, lost) for group in chosen for one in group]


def _contain(
    config: RunConfig, chosen: Sequence[list[Container]], signals: Signals, admit: Callable[[Case | None, Container], None],
    tell: workers.Tell,
) -> None:  # fmt: skip
    """One process's share, a thread a group."""
    lock = threading.Lock()

    def one(container: Container) -> None:
        mine = replace(
            config, target=container.id, observer=_prefixed(config.observer, container.name), sealed_off=_nice
        )
        _nice(0)
        try:
            finished = run_playbook(mine, signals.fork(), admit)
            ended = Ended(container.name, finished.outcome.exit_code, finished.to_json())
        except IrkitError as error:
            ended = Ended.failed(container.name, error)
        except Exception as error:  # one target's trouble must not hide what became of the others
            ended = Ended.failed(container.name, IrkitError(f"irkit's own fault: {type(error).__name__}: {error}"))
        with lock:
            tell({"id": container.id, "ended": ended.to_json()})

    with ThreadPoolExecutor(WORKERS, "irkit-target") as pool:
        list(pool.map(lambda group: list(map(one, group)), chosen))


def _nice(value: int = LATER) -> None:
    """The calling thread's priority: who is sealed off lets those go first who are not."""
    with contextlib.suppress(OSError):  # without root a thread that went back stays back
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), value)


class _Progress:
    """A line for each target that is done."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._lock = threading.Lock()

    def done(self, ended: Ended) -> None:
        with self._lock:
            self._count += 1
            click.echo(f"  [{self._count}/{self._total}] {printable(ended.target)}: {summary(ended)}", err=True)


def summary(ended: Ended) -> str:
    """One target in a few words."""
    if ended.run is None:
        return click.style(printable(ended.message), fg="red")
    state = ended.state or "not isolated"
    colour = {"proven": "green", "frozen-only": "yellow"}.get(state, "red")
    evidence = ended.bundle["status"] if ended.bundle else "no"
    return f"{click.style(state, fg=colour)}, {evidence} evidence, {len(ended.run['findings'])} findings"


def _prefixed(observer: Observer, name: str) -> Observer:
    """Of many runs at once only what went wrong is told as it happens."""

    def tell(event: Event) -> None:
        if event.kind == "warning" or event.outcome in ("failed", "interrupted"):
            step = f"{event.step}: " if event.step else ""
            observer(Event("warning", f"{name}: {step}{event.message}"))

    return tell


def worst(codes: Iterable[int]) -> int:
    """The exit code of the whole."""
    present = set(codes)
    return next((int(code) for code in WORST_FIRST if code in present), int(ExitCode.DONE))


def report(results: Sequence[Ended], *, as_json: bool) -> int:
    """Print what became of all of them; the exit code."""
    code = worst(one.code for one in results)
    if as_json:
        print_json(document(results, code))
    proven = sum(1 for one in results if one.state == "proven")
    click.echo(f"{proven} of {len(results)} isolated, and proven", err=as_json)
    for one in results:
        if one.run is None and one.hint:
            click.echo(f"  {printable(one.target)}: hint: {printable(one.hint)}", err=True)
        if one.bundle:
            click.echo(f"  {printable(one.target)}: {one.bundle['path']}", err=as_json)
    return code


def document(results: Sequence[Ended], code: int) -> dict[str, Any]:
    """``irkit.runs/v1``."""
    return {
        "schema": "irkit.runs/v1", "exit_code": code, "targets": len(results),
        "runs": [one.run for one in results if one.run is not None],
        "errors": [
            {"target": one.target, "message": one.message, "hint": one.hint, "exit_code": one.code}
            for one in results
            if one.run is None
        ],
    }  # fmt: skip
