"""Options that several commands share, and how they print."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from irkit.errors import Interrupted, KeyProblem, UsageProblem
from irkit.events import Event
from irkit.text import printable

Function = TypeVar("Function", bound=Callable[..., Any])

engine_option = click.option(
    "--engine",
    metavar="URL",
    help="The engine's endpoint.  [default: DOCKER_HOST, the Docker context, the local socket]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
recipient_option = click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="AGE|SSH|FILE",
    help="Encrypt the evidence as it is written: age1…, an ssh public key, or a file with one a line.",
)
identity_option = click.option(
    "--identity",
    "identity",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="An age identity (or an ssh private key) that opens an encrypted bundle.",
)


def signing_options(function: Function) -> Function:
    """``--key``, ``--passphrase-file`` and ``--passphrase-fd``."""
    decorators = (
        click.option(
            "--key",
            default="default",
            show_default=True,
            metavar="NAME|FILE",
            help="The private key that signs.",
        ),
        click.option(
            "--passphrase-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Read the key's passphrase from a file's first line.",
        ),
        click.option(
            "--passphrase-fd", type=int, metavar="N", help="Read the key's passphrase from a file descriptor."
        ),
    )
    return functools.reduce(lambda wrapped, decorate: decorate(wrapped), reversed(decorators), function)


def passphrase_source(file: Path | None, descriptor: int | None) -> Callable[[str], bytes | None]:
    """A passphrase from a file, a descriptor, or a terminal; asked for once.  Never from the command's words."""

    @functools.lru_cache(maxsize=8)
    def ask(name: str) -> bytes | None:
        try:
            if file is not None:
                return file.read_bytes().partition(b"\n")[0].rstrip(b"\r")
            if descriptor is not None:
                with os.fdopen(descriptor, "rb", closefd=False) as source:
                    return source.read().partition(b"\n")[0].rstrip(b"\r")
        except OSError as error:
            raise KeyProblem(f"the passphrase can't be read: {error.strerror}") from error
        if sys.stdin.isatty():
            return str(click.prompt(f"Passphrase of the key {name}", hide_input=True, err=True)).encode()
        return None

    return ask


def ask_secret(name: str) -> str | None:
    """A variable's new value, hidden and asked for twice; ``None`` without a terminal to ask at."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    question = f"New value of {printable(name, 128)}"
    try:
        return str(click.prompt(question, hide_input=True, confirmation_prompt=True, err=True))
    except click.Abort:
        return None


def parse_recipients(words: tuple[str, ...]) -> tuple[Any, ...]:
    """``--recipient`` options.  Raises ``UsageProblem``."""
    if not words:
        return ()  # nothing is imported for it: every import counts before the target is frozen
    from irkit.evidence.age import recipients_from

    return tuple(recipients_from(words))


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(value, indent=1))


def parse_vars(pairs: tuple[str, ...]) -> dict[str, str]:
    """``--var name=value`` options; the playbook says what type each is of.  Raises ``UsageProblem``."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageProblem(f"not name=value: {pair!r}")
        found[name] = value
    return found


MARKS = {
    "succeeded": ("✓", "green"),
    "degraded": ("~", "yellow"),
    "failed": ("✗", "red"),
    "skipped": ("-", None),
    "undecided": ("?", "yellow"),
    "planned": ("·", None),
    "interrupted": ("!", "red"),
}


def show_event(event: Event) -> None:
    """Progress on standard error, a line each; colours only on a terminal (click sees to that)."""
    if event.kind == "step-started":
        if sys.stderr.isatty():
            click.echo(f"  … {event.message}\r", err=True, nl=False)
    elif event.kind == "step-finished":
        mark, colour = MARKS.get(event.outcome, ("?", None))
        clear = "\x1b[2K" if sys.stderr.isatty() else ""
        line = f"{clear}  {click.style(mark, fg=colour)} {event.step:<14} {printable(event.message, 300)}"
        click.echo(line + click.style(f"  ({event.seconds * 1000:.0f} ms)", dim=True), err=True)
    elif event.kind == "warning":
        click.echo(f"  {click.style('!', fg='yellow')} {printable(event.message)}", err=True)
    else:
        click.echo(f"  {printable(event.message)}", err=True)


class Signals:
    """SIGINT, SIGTERM and SIGHUP as a question that is asked at safe points; a second one ends at once."""

    def __init__(self) -> None:
        self.caught = ""
        self.shielded = False

    def checkpoint(self) -> None:
        """Raise ``Interrupted`` when a signal came."""
        if self.caught and not self.shielded:
            raise Interrupted(f"stopped by {self.caught}")

    def shield(self) -> None:
        """From here on only a second signal ends the run: what was acquired is being sealed."""
        self.shielded = True

    def fork(self) -> Signals:
        """For one of several runs at once: it hears the same signals, and shields itself alone."""
        return _Fork(self)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = signal.Signals(number).name
        os.write(2, b"\n  stopping at the next safe point; once more to stop at once\n")


class _Fork(Signals):
    """One run's own shield in front of the process's signals."""

    def __init__(self, parent: Signals) -> None:
        super().__init__()
        self._parent = parent

    def checkpoint(self) -> None:
        """Raise ``Interrupted`` when a signal came."""
        self.caught = self._parent.caught
        super().checkpoint()


@contextmanager
def catching_signals() -> Iterator[Signals]:
    """Handlers for the length of a run."""
    signals = Signals()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signals._handle) for number in numbers]
    try:
        yield signals
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
