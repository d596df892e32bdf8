"""``irkit rebuild``."""

from __future__ import annotations

from typing import Any

import click

from irkit import cases
from irkit.cases import Case
from irkit.cli.options import ask_secret, catching_signals, engine_option, json_option, print_json, show_event
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
from irkit.cli.running import RunConfig, run_playbook
from irkit.engine.connect import open_engine
from irkit.engine.interface import Container
from irkit.errors import Refused
from irkit.text import printable

EPILOG = """\b
Examples:
  irkit rebuild web-1 --image registry.example/team/web:1.4.2 --plan    # say what it would do
  irkit rebuild web-1 --image registry.example/team/web:1.4.2
  irkit rebuild web-1 --image team/web:1.4.2 --secret DB_PASSWORD=@/root/new-password
  irkit rebuild web-1 --image team/web:1.4.2 --harden --keep read-only
  irkit rebuild web-1 --image team/web:1.4.2 --secret API_TOKEN=fd:3 3< <(vault read …)
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
    "--signature",
    default="",
    metavar="FILE",
    help="The signature, when it is not where `irkit image sign` put it.",
)
@click.option(
    "--health-timeout",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long the new container may take to be healthy.",
)
@secret_options
@harden_options
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and change nothing.")
@engine_option
@json_option
def command(
    target: str, image: str, signature: str, health_timeout: int, secrets: tuple[str, ...], keep_secrets: tuple[str, ...],
    drop_secrets: tuple[str, ...], harden: str, keep: tuple[str, ...], yes: bool, plan_only: bool, engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Put a clean container in the place of the contained TARGET.

    The compromised one stays, quarantined, under another name. When the new one does not become healthy, everything
    is as it was before. Variables that look like secrets are burnt: each needs a new value (on a terminal you are
    asked), or your word that it is kept or left out.
    """
    variables: dict[str, Any] = {
        "image": image, "signature": signature, "health_timeout": health_timeout,
        **secret_variables(secrets, keep_secrets, drop_secrets), **harden_variables(harden, keep),
    }  # fmt: skip
    if plan_only:
        return _plan(target, engine, variables, as_json)
    with catching_signals() as signals:
        config = RunConfig(
            target, "rebuild", engine, "", lambda name: None, show_event, variables, needs_key=False, ask_secret=ask_secret,
            agree=lambda question: yes or agreed(question),
        )  # fmt: skip
        finished = run_playbook(config, signals, _admit)
    if as_json:
        print_json(finished.to_json())
    if finished.outcome.error is not None:
        raise finished.outcome.error
    if not as_json:
        done = finished.context.facts.result["rebuilt"]
        click.echo(
            f"{done['name']} is {done['health']} ({done['id'][:12]}); the compromised container is {done['old_name']}, frozen and quarantined"
        )
    return finished.outcome.exit_code


def _admit(case: Case | None, container: Container) -> None:
    if case is None or case.state != "contained":
        raise Refused(
            f"{container.name} is not contained",
            hint=f"`irkit contain {container.name}` first: evidence before recovery",
        )


def _plan(target: str, endpoint: str | None, variables: dict[str, Any], as_json: bool) -> int:
    """What would be done: the image is verified as it is before a rebuild, nothing is written."""
    from irkit.actions.recovery import rebuild_plan

    engine = open_engine(endpoint)
    container = engine.container(target)
    case = cases.active_case(container.id)
    _admit(case, container)
    assert case is not None  # noqa: S101 - admitted
    image_id = verified_id(engine, variables)
    plan = rebuild_plan(engine, case, {**variables, "image_id": image_id})
    word = audited(engine, plan)
    if as_json:
        print_json(
            {
                "schema": "irkit.rebuild-plan/v1", "case": case.id, "target": case.target.to_json(),
                "image": variables["image"], "image_id": image_id, **plan.to_json(), "audit": word.to_json() if word else None,
            }
        )  # fmt: skip
        return plan_code(word)
    show_plan(
        f"irkit would make {printable(plan.before.name)} anew from {image_id} (case {case.id}):", plan.notes, word
    )
    return plan_code(word)
