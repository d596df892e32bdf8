"""Several targets by one command: a thread each, so that all are frozen before the first one's evidence is taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import click

from irkit.cases import Case
from irkit.cli.options import Signals, print_json
from irkit.cli.running import Finished, RunConfig, run_playbook, signing_key
from irkit.engine.interface import Container, Engine
from irkit.errors import ExitCode, IrkitError, NotFound
from irkit.events import Event, Observer
from irkit.text import printable

WORKERS = 64
GATE_SECONDS = 60.0
WORST_FIRST = (
    ExitCode.INTERRUPTED, ExitCode.CHECK_FAILED, ExitCode.FAILED, ExitCode.USAGE, ExitCode.REFUSED, ExitCode.GAPS, ExitCode.DONE,
)  # fmt: skip
SHARED = "container:"


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended for one target: a run, or the error that kept it from one."""

    target: str
    finished: Finished | None
    error: IrkitError | None

    @property
    def code(self) -> int:
        """Its exit code, as if it had been contained alone."""
        if self.error is not None:
            return int(self.error.exit_code)
        return self.finished.outcome.exit_code if self.finished is not None else int(ExitCode.FAILED)


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
    config: RunConfig, containers: Sequence[Container], signals: Signals, admit: Callable[[Case | None, Container], None],
    after: Callable[[Finished], None],
) -> list[Ended]:  # fmt: skip
    """Run the playbook on every target; what fails for one is no reason to leave out another."""
    shared = replace(config, signer=signing_key(config))
    progress = _Progress(len(containers))

    chosen = groups(containers)
    gate = Gate(min(len(chosen), WORKERS))

    def one(container: Container, first: bool) -> Ended:
        arrived = [not first]

        def arrive() -> None:
            if not arrived[0]:
                arrived[0] = True
                gate.arrive()

        def sealed_off() -> None:
            arrive()
            if first:
                gate.wait()

        mine = replace(
            shared, target=container.id, observer=_prefixed(config.observer, container.name), sealed_off=sealed_off
        )
        try:
            finished = run_playbook(mine, signals.fork(), admit)
            after(finished)
            ended = Ended(container.name, finished, None)
        except IrkitError as error:
            ended = Ended(container.name, None, error)
        except Exception as error:  # one target's trouble must not hide what became of the others
            ended = Ended(container.name, None, IrkitError(f"irkit's own fault: {type(error).__name__}: {error}"))
        finally:
            arrive()
        progress.done(ended)
        return ended

    with ThreadPoolExecutor(WORKERS, "irkit-target") as pool:
        work = [pool.submit(lambda group=group: [one(item, item is group[0]) for item in group]) for group in chosen]  # type: ignore[misc]
        return [ended for future in work for ended in future.result()]


class Gate:
    """Isolation first: whoever is sealed off waits here until all are, or have failed to be."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._condition = threading.Condition()

    def arrive(self) -> None:
        """One more is sealed off, or never will be."""
        with self._condition:
            self._missing -= 1
            self._condition.notify_all()

    def wait(self) -> None:
        """Until nobody is missing, but not for ever: an engine may keep one of them waiting."""
        with self._condition:
            self._condition.wait_for(lambda: self._missing <= 0, GATE_SECONDS)


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
    if ended.error is not None:
        return click.style(printable(ended.error.message), fg="red")
    if ended.finished is None:
        return "nothing was done"
    facts = ended.finished.context.facts
    state = facts.quarantine_state or "not isolated"
    colour = {"proven": "green", "frozen-only": "yellow"}.get(state, "red")
    evidence = facts.sealed.status if facts.sealed is not None else "no"
    return f"{click.style(state, fg=colour)}, {evidence} evidence, {len(facts.findings)} findings"


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
    proven = sum(1 for one in results if one.finished and one.finished.context.facts.quarantine_state == "proven")
    click.echo(f"{proven} of {len(results)} isolated, and proven", err=as_json)
    for one in results:
        if one.error is not None and one.error.hint:
            click.echo(f"  {printable(one.target)}: hint: {printable(one.error.hint)}", err=True)
        if one.finished is not None and one.finished.context.facts.sealed is not None:
            click.echo(f"  {printable(one.target)}: {one.finished.context.facts.sealed.path}", err=as_json)
    return code


def document(results: Sequence[Ended], code: int) -> dict[str, Any]:
    """``irkit.runs/v1``."""
    return {
        "schema": "irkit.runs/v1", "exit_code": code, "targets": len(results),
        "runs": [one.finished.to_json() for one in results if one.finished is not None],
        "errors": [
            {"target": one.target, "message": one.error.message, "hint": one.error.hint, "exit_code": one.code}
            for one in results
            if one.error is not None
        ],
    }  # fmt: skip
