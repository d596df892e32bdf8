"""``irkit playbook``."""

from __future__ import annotations

import click

from irkit import resources
from irkit.cli.options import json_option, print_json
from irkit.errors import ExitCode
from irkit.text import printable


@click.group()
def command() -> None:
    """List, show and check playbooks."""


@command.command("list")
@json_option
def list_(as_json: bool) -> int:
    """The playbooks that can be run: your own first."""
    from irkit.playbook.reader import load_playbook

    found = [load_playbook(path) for path in resources.every("playbooks")]
    if as_json:
        print_json(
            {
                "schema": "irkit.playbooks/v1",
                "playbooks": [
                    {"id": one.id, "name": one.name, "digest": one.digest, "path": str(one.path)} for one in found
                ],
            }
        )
    else:
        for one in found:
            click.echo(f"{one.id:<12} {printable(one.name)}")
    return ExitCode.DONE


@command.command("show", epilog="\b\nExample:\n  irkit playbook show contain")
@click.argument("name")
def show(name: str) -> int:
    """The variables and steps of a playbook.  Fails with file, line and column when it is not well-formed."""
    from irkit.playbook.reader import load_playbook

    playbook = load_playbook(resources.find("playbooks", name))
    click.echo(f"{playbook.id}: {printable(playbook.name)}\n  {printable(playbook.description)}\n  {playbook.digest}")
    for var in playbook.vars.values():
        default = "required" if var.required else f"default {var.default!r}"
        click.echo(f"  var   {var.name:<16} {var.type}, {default}: {printable(var.description)}")
    for step in playbook.steps:
        click.echo(f"  step  {step.id:<16} {step.action.name:<20} [{step.action.effect}] on failure: {step.on_failure}")
    return ExitCode.DONE
