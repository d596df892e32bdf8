"""``irkit snapshot``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irkit.cli.options import (
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
from irkit.cli.running import RunConfig, run_playbook

EPILOG = """\b
Examples:
  irkit snapshot web-1 --var profile=quick
  irkit snapshot web-1 --image             # save its image too: do so before it is removed
  irkit snapshot web-1 --export --volumes  # the whole file system, every volume
"""
MORE = {"image": "image-save", "export": "export", "volumes": "volumes", "memory": "memory"}


@click.command(epilog=EPILOG)
@click.argument("target")
@click.option("--image", is_flag=True, help="Save the image itself as well.")
@click.option(
    "--export", is_flag=True, help="Take the whole file system as the engine exports it, each file's digest too."
)
@click.option("--volumes", is_flag=True, help="Take volumes and bind mounts, but not folders of the host's own.")
@click.option("--memory", is_flag=True, help="Take the memory of its processes.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the playbook.")
@recipient_option
@signing_options
@engine_option
@json_option
def command(
    target: str,
    image: bool,
    export: bool,
    volumes: bool,
    memory: bool,
    variables: tuple[str, ...],
    recipients: tuple[str, ...],
    key: str,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Acquire signed evidence of TARGET without containing it: it goes on running."""
    chosen = parse_vars(variables)
    asked = {"image": image, "export": export, "volumes": volumes, "memory": memory}
    if any(asked.values()):
        more = [MORE[name] for name, wanted in asked.items() if wanted]
        chosen = {**chosen, "profile": "+".join([str(chosen.get("profile", "standard")), *more])}
    config = RunConfig(
        target, "snapshot", engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, chosen,
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
