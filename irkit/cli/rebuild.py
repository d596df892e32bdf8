"""``irkit rebuild``."""

from __future__ import annotations

import click

from irkit.cases import Case
from irkit.cli.options import catching_signals, engine_option, json_option, print_json, show_event
from irkit.cli.running import RunConfig, run_playbook
from irkit.engine.interface import Container
from irkit.errors import ExitCode, Refused


@click.command(epilog="\b\nExample:\n  irkit rebuild web-1 --image registry.example/team/web:1.4.2")
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
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long the new container may take to be healthy.",
)
@engine_option
@json_option
def command(target: str, image: str, signature: str, health_timeout: int, engine: str | None, as_json: bool) -> int:
    """Put a clean container in the place of the contained TARGET.

    The compromised one stays, quarantined, under another name. When the new one does not become healthy, everything
    is as it was before.
    """

    def admit(case: Case | None, container: Container) -> None:
        if case is None or case.state != "contained":
            raise Refused(
                f"{container.name} is not contained",
                hint=f"`irkit contain {container.name}` first: evidence before recovery",
            )

    variables = {"image": image, "signature": signature, "health_timeout": health_timeout}
    with catching_signals() as signals:
        config = RunConfig(target, "rebuild", engine, "", lambda name: None, show_event, variables, needs_key=False)
        finished = run_playbook(config, signals, admit)
    if as_json:
        print_json(finished.to_json())
    if finished.outcome.error is not None:
        raise finished.outcome.error
    if not as_json:
        done = finished.context.facts.result["rebuilt"]
        click.echo(
            f"{done['name']} is {done['health']} ({done['id'][:12]}); the compromised container is {done['old_name']}, frozen and quarantined"
        )
    return ExitCode.DONE
