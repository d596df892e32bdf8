"""``irkit failover``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irkit.cases import Case
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
from irkit.cli.running import Finished, RunConfig, run_playbook
from irkit.engine.interface import Container
from irkit.text import printable

EPILOG = """\b
Examples:
  irkit failover web-1 --image registry.example/team/web:1.4.2
  irkit failover web-1 --image registry.example/team/web:1.4.2 --start cold   # it needs its peers to start
  irkit failover web-1 --image registry.example/team/web:1.4.2 --var profile=full --json
"""


@click.command(epilog=EPILOG)
@click.argument("target")
@click.option(
    "--image",
    required=True,
    metavar="REF",
    help="The clean image; the trust policy, or a key trusted for images, must vouch for it.",
)
@click.option(
    "--signature", default="", metavar="FILE", help="The signature, when it is not where `irkit image sign` put it."
)
@click.option(
    "--start",
    type=click.Choice(["auto", "warm", "cold"]),
    default="auto",
    show_default=True,
    help="warm: it runs, on a network of its own, before the switch. cold: it is started at the switch. auto: cold where both would write to the same files.",
)
@click.option(
    "--health-timeout",
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long the new container may take to be healthy.",
)
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable of the playbook (`irkit playbook show failover`).",
)
@recipient_option
@signing_options
@engine_option
@json_option
def command(
    target: str, image: str, signature: str, start: str, health_timeout: int, variables: tuple[str, ...], recipients: tuple[str, ...],
    key: str, passphrase_file: Path | None, passphrase_fd: int | None, engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Let a clean container take over TARGET's name, networks, aliases, fixed addresses and ports.

    TARGET may be contained already; if not it is contained on the way: frozen, isolated and proven so, its evidence
    acquired once the service is back. It stays in quarantine under another name; nothing is removed.
    """
    chosen = {
        **parse_vars(variables), "image": image, "signature": signature, "start": start, "health_timeout": health_timeout,
    }  # fmt: skip
    config = RunConfig(
        target, "failover", engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, chosen,
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), recipients=parse_recipients(recipients),
    )  # fmt: skip
    with catching_signals() as signals:
        finished = run_playbook(config, signals, _admit)
    if as_json:
        print_json(finished.to_json())
    _summarize(finished, as_json)
    if finished.outcome.error is not None:
        raise finished.outcome.error
    return finished.outcome.exit_code


def _admit(case: Case | None, container: Container) -> None:
    """Whether it was replaced already is seen by the step that would do it."""


def _summarize(finished: Finished, as_json: bool) -> None:
    from irkit.cli.summary import summarize

    if finished.context.facts.timeline.get("frozen"):
        summarize(finished, to_stderr=as_json)
    done = finished.context.facts.result.get("failover")
    if done is None:
        return
    spent = done["downtime"]["seconds"]
    took = (
        f", {done['downtime']['until']} {spent:.3f} s after the old one could answer last" if spent is not None else ""
    )
    click.echo(
        f"{printable(done['name'])} is {done['health']} ({done['id'][:12]}){took}; the compromised container is {printable(done['old_name'])}",
        err=as_json,
    )
