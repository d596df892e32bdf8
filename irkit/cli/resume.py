"""``irkit resume``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irkit.cli.options import (
    ask_secret,
    catching_signals,
    engine_option,
    json_option,
    passphrase_source,
    print_json,
    show_event,
    signing_options,
)
from irkit.cli.running import RunConfig, resume_run


@click.command(epilog="\b\nExample:\n  irkit resume 2026-01-31-web-1-3f9a")
@click.argument("case_id", metavar="CASE")
@click.option("--run", "run_id", default="", help="Which run.  [default: the last one]")
@click.option("--undo-containment", is_flag=True, help="A rollback may thaw and release the target, too.")
@click.option("--again", multiple=True, metavar="STEP", help="Do this step again, although it may have been done.")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Where an approval is missing end with exit code 7; `irkit resume` goes on once it is there.",
)
@signing_options
@engine_option
@json_option
def command(
    case_id: str, run_id: str, undo_containment: bool, key: str, passphrase_file: Path | None, passphrase_fd: int | None,
    engine: str | None, as_json: bool, again: tuple[str, ...], no_wait: bool,
) -> int:  # fmt: skip
    """Go on with a run of CASE that was killed or interrupted, or waits for an approval.

    What its journal says is done is not done again; the step that was under way is looked at and done again.  Refused
    when the playbook, its profile or the target is not what it was.
    """
    config = RunConfig(
        "", "", engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, {},
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), undo_containment=undo_containment,
        again=frozenset(again), wait=not no_wait, ask_secret=ask_secret,
    )  # fmt: skip
    with catching_signals() as signals:
        finished = resume_run(config, signals, case_id, run_id)
    if as_json:
        print_json(finished.to_json())
    elif finished.context.facts.sealed is not None:
        click.echo(str(finished.context.facts.sealed.path))
    if finished.outcome.error is not None:
        raise finished.outcome.error
    return finished.outcome.exit_code
