"""``irkit eradicate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit.cli.options import catching_signals, engine_option, identity_option, json_option, print_json
from irkit.engine.connect import open_engine
from irkit.errors import ExitCode, Refused
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.engine.interface import Engine
    from irkit.recover.record import Eradication, Row

EPILOG = """\b
Examples:
  irkit eradicate web-1-compromised-3fa2 --dry-run
  irkit eradicate registry.example/team/web:1.4.1 --base debian:12 --yes
  irkit eradicate web-1 --keep image --keep volume       # the image is not at fault
  irkit eradicate web-1 --file-digest 9f86d081884c7d65…  # and every container with this file
"""
COLOURS = {"removed": "green", "refuse": "red", "failed": "red", "remove": "yellow"}


@click.command(epilog=EPILOG)
@click.argument("subject", metavar="TARGET|IMAGE")
@click.option(
    "--file-digest",
    "digests",
    multiple=True,
    metavar="SHA256",
    help="A container with this file among its changed files is bad, too.",
)
@click.option(
    "--base",
    default="",
    metavar="IMAGE",
    help="The clean image that the bad one was built on: then every image with a layer over it is bad.",
)
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(("image", "network", "volume")),
    help="What stays in any case; `image`: the image is not at fault, and is not denied.",
)
@click.option("--accept-gaps", is_flag=True, help="A bundle counts although it names gaps in what it holds.")
@click.option("--dry-run", is_flag=True, help="List what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--again", is_flag=True, help="List anew, instead of going on with what an earlier one left.")
@identity_option
@engine_option
@json_option
def command(
    subject: str, digests: tuple[str, ...], base: str, keep: tuple[str, ...], accept_gaps: bool, dry_run: bool, yes: bool,
    again: bool, identity: tuple[Path, ...], engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Remove TARGET (or IMAGE) and all that carries the same bad digests, once verified evidence holds it.

    Containers made from the image, images built on it, and the networks and volumes that nobody else uses. Each is
    listed with the bundle that holds it; what no bundle holds stays (exit code 3). The digests are denied first, so
    that nothing of it is trusted here again. A frozen container is killed as it is, a running one is stopped by its own
    signal and grace time. Run again after a kill: it goes on, and does nothing twice.
    """
    from irkit.actions.eradicating import ready
    from irkit.actions.listing import judged_anew, survey
    from irkit.evidence.age import identities_from
    from irkit.recover.record import Request, begun

    opened = open_engine(engine)
    identities = identities_from(identity) if identity else ()
    with catching_signals() as signals:
        plan = None if again else begun(opened, ref=subject)
        if plan is None:
            request = Request(subject, base, tuple(dict.fromkeys(digests)), tuple(dict.fromkeys(keep)), accept_gaps)
            plan = survey(opened, request, identities=identities, checkpoint=signals.checkpoint)
        else:
            plan = judged_anew(plan, identities)
            click.echo(f"going on with the eradication {plan.id}, begun {plan.started}", err=True)
        _list(plan, as_json)
        if not dry_run:
            ready(plan)
            _agreed(plan, yes)
            _carry_out(opened, plan, signals.checkpoint)
    if as_json:
        print_json({**plan.to_json(), "dry_run": dry_run})
    return _end(plan, dry_run)


def _carry_out(engine: Engine, plan: Eradication, checkpoint: Any) -> None:
    from irkit.actions.eradicating import carry_out

    def tell(row: Row) -> None:
        click.echo(f"  {_shown(row)}", err=True)

    carry_out(engine, plan, tell=tell, checkpoint=checkpoint)


def _list(plan: Eradication, as_json: bool) -> None:
    """The table on standard output, or on standard error when that is for JSON."""
    for row in plan.rows:
        item = row.item
        words = row.outcome or {"remove": "remove", "keep": "keep", "refuse": "refuse"}[row.decision]
        mark = click.style(f"{words:<7}", fg=COLOURS.get(words))
        click.echo(f"{mark} {item.kind:<9} {printable(item.name, 60):<40} {printable(item.why, 160)}", err=as_json)
        if row.why:
            click.echo(f"{'':<7} {'':<9} {printable(row.why, 200)}", err=as_json)
        if row.held.bundle:
            click.echo(f"{'':<7} {'':<9} held by {printable(row.held.bundle)} ({row.held.digest[:19]}…)", err=as_json)
        for gap in row.held.gaps:
            click.echo(f"{'':<7} {'':<9} gap: {printable(gap, 200)}", err=as_json)
    for one in plan.digests:
        click.echo(f"deny    digest    {printable(one)}", err=as_json)
    for one in plan.unseen:
        click.echo(f"gap: {printable(one, 300)}", err=as_json)


def _shown(row: Row) -> str:
    from irkit.actions.eradicating import sentence

    return click.style(printable(sentence(row), 300), fg=COLOURS.get(row.outcome))


def _agreed(plan: Eradication, yes: bool) -> None:
    count = sum(row.decision == "remove" and not row.outcome for row in plan.rows)
    if yes or not (count or plan.digests):
        return
    if not sys.stdin.isatty():
        raise Refused("nobody was asked whether this may be removed", hint="--yes, or a terminal; --dry-run only lists")
    if not click.confirm(f"Remove these {count}, and deny {len(plan.digests)} digests?", err=True):
        raise Refused("not agreed: nothing was removed")


def _end(plan: Eradication, dry_run: bool) -> int:
    refused, failed = plan.count("refuse"), plan.count("failed")
    kept = plan.count("keep", "kept")
    if dry_run:
        words = f"would remove {plan.count('remove')}"
    else:
        words = f"{plan.count('removed', 'gone')} removed, {len(plan.digests)} digests denied"
    click.echo(f"{words}; {kept} kept, {refused} in no evidence, {failed} failed", err=True)
    if any(row.decision == "refuse" and row.item.kind == "image" for row in plan.rows):
        click.echo("  hint: `irkit image snapshot IMAGE` takes an image alone as evidence", err=True)
    if failed:
        return ExitCode.FAILED
    if refused:
        return ExitCode.CHECK_FAILED
    return ExitCode.GAPS if plan.gaps else ExitCode.DONE
