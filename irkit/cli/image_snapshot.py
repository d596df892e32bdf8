"""``irkit image snapshot``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irkit.cli.options import (
    catching_signals,
    engine_option,
    json_option,
    parse_recipients,
    passphrase_source,
    print_json,
    recipient_option,
    show_event,
    signing_options,
)

EPILOG = """\b
Examples:
  irkit image snapshot registry.example/team/web:1.4.1
  irkit image snapshot sha256:9f86d081884c7d65… --recipient age1… --json
"""


@click.command("snapshot", epilog=EPILOG)
@click.argument("image")
@recipient_option
@signing_options
@engine_option
@json_option
def snapshot(
    image: str, recipients: tuple[str, ...], key: str, passphrase_file: Path | None, passphrase_fd: int | None,
    engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Acquire signed evidence of IMAGE alone, whether or not a container uses it.

    Identity, inspect, history, and the image itself as the engine saves it, in a case of its own; sealed and verified.
    Nothing of it is run. `irkit eradicate` counts it.
    """
    from irkit.cli.running import RunConfig, run_playbook

    config = RunConfig(
        image, "image-snapshot", engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, {}, image=True,
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), recipients=parse_recipients(recipients),
    )  # fmt: skip
    with catching_signals() as signals:
        finished = run_playbook(config, signals, lambda case, container: None)
    if as_json:
        print_json(finished.to_json())
    elif finished.context.facts.sealed is not None:
        click.echo(str(finished.context.facts.sealed.path))
    if finished.outcome.error is not None:
        raise finished.outcome.error
    return finished.outcome.exit_code
