"""``irkit failover``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from irkit import cases
from irkit.cases import Case
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
from irkit.cli.recovering import (
    agreed,
    audited,
    harden_options,
    harden_variables,
    plan_code,
    secret_options,
    secret_variables,
    show_plan,
    verified_id,
)
from irkit.cli.running import Finished, RunConfig, run_playbook
from irkit.engine.connect import open_engine
from irkit.engine.interface import Container
from irkit.models import Target
from irkit.text import printable

EPILOG = """\b
Examples:
  irkit failover web-1 --image registry.example/team/web:1.4.2
  irkit failover web-1 --image registry.example/team/web:1.4.2 --plan         # say what it would do
  irkit failover web-1 --image registry.example/team/web:1.4.2 --secret DB_PASSWORD=@/root/new-password
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
@secret_options
@harden_options
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and change nothing.")
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
    target: str, image: str, signature: str, start: str, health_timeout: int, secrets: tuple[str, ...], keep_secrets: tuple[str, ...],
    drop_secrets: tuple[str, ...], harden: str, keep: tuple[str, ...], yes: bool, plan_only: bool, variables: tuple[str, ...],
    recipients: tuple[str, ...], key: str, passphrase_file: Path | None, passphrase_fd: int | None, engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Let a clean container take over TARGET's name, networks, aliases, fixed addresses and ports.

    TARGET may be contained already; if not it is contained on the way: frozen, isolated and proven so, its evidence
    acquired once the service is back. It stays in quarantine under another name; nothing is removed. Variables that
    look like secrets are burnt: each needs a new value (on a terminal you are asked), or your word that it is kept or
    left out.
    """
    chosen = {
        **parse_vars(variables), "image": image, "signature": signature, "start": start, "health_timeout": health_timeout,
        **secret_variables(secrets, keep_secrets, drop_secrets), **harden_variables(harden, keep),
    }  # fmt: skip
    if plan_only:
        return _plan(target, engine, chosen, as_json)
    config = RunConfig(
        target, "failover", engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, chosen,
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), recipients=parse_recipients(recipients),
        ask_secret=ask_secret, agree=lambda question: yes or agreed(question),
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


def _plan(target: str, endpoint: str | None, chosen: dict[str, Any], as_json: bool) -> int:
    """What would be done: the image is verified as it is before a failover, nothing is written."""
    from irkit.actions.failover import failover_plan
    from irkit.recover.failover import start_of

    engine = open_engine(endpoint)
    container = engine.container(target)
    case = cases.active_case(container.id)
    raw = case.read_json("container.json") if case is not None else None
    before = Container(raw) if raw else container
    image_id = verified_id(engine, chosen)
    plan = failover_plan(engine, before, {**chosen, "image_id": image_id})
    word = audited(engine, plan)
    start, why = start_of(before, chosen["start"])
    if as_json:
        subject = Target(container.id, before.name, before.image_ref, before.image_id, engine.endpoint)
        print_json(
            {
                "schema": "irkit.failover-plan/v1", "case": case.id if case is not None else None, "target": subject.to_json(),
                "image": chosen["image"], "image_id": image_id, "start": start, "why": why, **plan.to_json(),
                "audit": word.to_json() if word else None,
            }
        )  # fmt: skip
        return plan_code(word)
    show_plan(
        f"irkit would let {image_id} take the place of {printable(before.name)} ({start}: {why}):", plan.notes, word
    )
    return plan_code(word)


def _summarize(finished: Finished, as_json: bool) -> None:
    from irkit.cli.summary import summarize

    if finished.context.facts.timeline.get("frozen"):
        summarize(finished, to_stderr=as_json)
    done = finished.context.facts.result.get("failover")
    if done is None:
        return
    spent = done["downtime"]["seconds"]
    if done["downtime"]["until"] == "relayed":
        spent, relayed = None, ", new connections to its ports were relayed meanwhile"
    else:
        relayed = ""
    took = (
        f", {done['downtime']['until']} {spent:.3f} s after the old one could answer last" if spent is not None else ""
    )
    click.echo(
        f"{printable(done['name'])} is {done['health']} ({done['id'][:12]}){took}{relayed}; the compromised container is {printable(done['old_name'])}",
        err=as_json,
    )
