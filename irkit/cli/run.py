"""``irkit run``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irkit.cli.options import (
    ask_secret,
    catching_signals,
    engine_option,
    json_option,
    parse_recipients,
    parse_vars,
    passphrase_source,
    print_json,
    recipient_option,
    show_event,
    signing_options,
)
from irkit.cli.running import RunConfig, not_contained, run_playbook


@click.command(
    epilog="\b\nExamples:\n  irkit run contain web-1 --var profile=full\n  irkit run ./our-playbook.yaml web-1 --dry-run"
)
@click.argument("playbook")
@click.argument("target")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the playbook.")
@click.option("--dry-run", is_flag=True, help="Only what reads is run; nothing is changed, nobody is asked.")
@click.option(
    "--digest",
    default="",
    metavar="SHA256",
    help="Refuse unless this is the playbook's (`irkit playbook list --json`).",
)
@click.option("--unless-contained", is_flag=True, help="Refuse when a case holds TARGET already.")
@click.option("--undo-containment", is_flag=True, help="A rollback may thaw and release the target, too.")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Where an approval is missing end with exit code 7; `irkit resume` goes on once it is there.",
)
@recipient_option
@signing_options
@engine_option
@json_option
def command(
    playbook: str,
    target: str,
    variables: tuple[str, ...],
    dry_run: bool,
    digest: str,
    unless_contained: bool,
    undo_containment: bool,
    no_wait: bool,
    recipients: tuple[str, ...],
    key: str,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Run PLAYBOOK, by name or path, on TARGET.

    `irkit playbook list` shows what there is, `irkit playbook show NAME` its variables and steps, `irkit playbook lint`
    what is wrong with one.  `irkit contain` has the options that containing needs.
    """
    config = RunConfig(
        target, playbook, engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, parse_vars(variables),
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), recipients=parse_recipients(recipients),
        undo_containment=undo_containment, dry_run=dry_run, digest=digest, wait=not no_wait, ask_secret=ask_secret,
    )  # fmt: skip
    with catching_signals() as signals:
        finished = run_playbook(config, signals, not_contained if unless_contained else lambda case, container: None)
    if as_json:
        print_json(finished.to_json())
    elif finished.context.facts.sealed is not None:
        click.echo(str(finished.context.facts.sealed.path))
    if finished.outcome.error is not None:
        raise finished.outcome.error
    return finished.outcome.exit_code
