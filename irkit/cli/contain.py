"""``irkit contain``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from irkit.errors import Refused
from irkit.text import printable

EPILOG = """\b
Examples:
  irkit contain web-1
  irkit contain web-1 --json > run.json
  irkit contain web-1 --var profile=quick
  irkit contain web-1 --recipient age1…    # nothing of the evidence is written in plain
  irkit contain web-1 --again              # prove and acquire once more
  irkit contain web-1 web-2 db-1           # all at once
  irkit contain --label com.example.app=shop
  irkit contain web-1 --scope same-image   # and every container of the same image
  irkit contain web-1 --engine tcp://host:2376 --helper team/helper:1   # probed by helper containers there
  irkit contain web-1 --observe 120 --sinkhole   # then watch whom it calls, inside the quarantine
"""
SCOPES = {"same-image": "image", "same-network": "network", "same-volume": "volume"}


@click.command(epilog=EPILOG)
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--label", "labels", multiple=True, metavar="KEY[=VALUE]", help="Every container with this label.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(list(SCOPES)),
    help="The TARGETs' relatives as well (`irkit scope`).",
)
@click.option(
    "--observe",
    type=click.IntRange(1, 24 * 3600),
    metavar="SECONDS",
    help="Then let it run inside the proven quarantine, recorded.",
)
@click.option(
    "--sinkhole", is_flag=True, help="With --observe: answer DNS and accept TCP, so that beacons show themselves."
)
@click.option(
    "--helper",
    metavar="IMAGE",
    help="Probe by helper containers of this signed image where irkit can't: on a remote engine.  [default: probes.image of config.yaml]",
)
@click.option("--playbook", default="contain", show_default=True, metavar="NAME|FILE", help="The playbook to run.")
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable of the playbook (`irkit playbook show contain`).",
)
@click.option(
    "--again",
    is_flag=True,
    help="Run although the target is contained already: a new proof and a new bundle in the same case.",
)
@recipient_option
@signing_options
@engine_option
@json_option
def command(
    targets: tuple[str, ...], labels: tuple[str, ...], scopes: tuple[str, ...], playbook: str, variables: tuple[str, ...], again: bool,
    observe: int | None, sinkhole: bool, helper: str | None, recipients: tuple[str, ...], key: str, passphrase_file: Path | None, passphrase_fd: int | None, engine: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Freeze TARGET, isolate it and prove that, acquire signed evidence, list findings.

    TARGET is a container's name or id; several are contained at once. They stay frozen and quarantined; nothing is
    removed. `irkit release` gives one back, `irkit rebuild` puts a clean one in its place.
    """
    if not targets and not labels:
        raise click.UsageError("Missing argument 'TARGET'.")
    chosen: dict[str, Any] = dict(parse_vars(variables))
    if sinkhole and observe is None:
        raise click.UsageError("--sinkhole goes with --observe SECONDS.")
    if observe is not None:
        if playbook != "contain":
            raise click.UsageError("--observe has a playbook of its own: leave --playbook out.")
        playbook, chosen = "contain-and-observe", {**chosen, "seconds": observe, "sinkhole": sinkhole}
    if helper is not None:
        chosen["helper"] = helper
    config = RunConfig(
        targets[0] if targets else "", playbook, engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event,
        chosen, can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), recipients=parse_recipients(recipients),
    )  # fmt: skip

    def admit(case: Case | None, container: Container) -> None:
        if case is not None and case.state == "contained" and not again:
            raise Refused(
                f"{container.name} is already contained: case {case.id}, since {case.contained}, by {case.opened_by}",
                hint=f"`irkit case show {case.id}` · `irkit release {container.name}` · `irkit contain {container.name} --again`",
            )

    if len(targets) != 1 or labels or scopes:
        return _many(config, targets, labels, scopes, admit, as_json)
    with catching_signals() as signals:
        finished = run_playbook(config, signals, admit)
    if as_json:
        print_json(finished.to_json())
    from irkit.cli.summary import summarize

    summarize(finished, to_stderr=as_json)
    return exit_code(finished)


def _many(
    config: RunConfig, targets: tuple[str, ...], labels: tuple[str, ...], scopes: tuple[str, ...],
    admit: Callable[[Case | None, Container], None], as_json: bool,
) -> int:  # fmt: skip
    from irkit.cli import fleet
    from irkit.engine.connect import open_engine

    engine = open_engine(config.engine)
    chosen = fleet.select(engine, targets, labels)
    if not chosen:
        raise Refused(f"no container has the label {' and '.join(labels)}", hint="nothing was done")
    if scopes:
        from irkit.scope.find import related

        names = {
            reference
            for one in chosen
            for scope in scopes
            for reference in related(engine, one).related.get(SCOPES[scope], ())
        }
        chosen = fleet.select(engine, [*(one.id for one in chosen), *sorted(names)], ())
    click.echo(f"{len(chosen)} containers: {printable(', '.join(sorted(one.name for one in chosen)), 600)}", err=True)
    with catching_signals() as signals:
        results = fleet.contain_all(config, chosen, signals, admit)
    return fleet.report(results, as_json=as_json)


def exit_code(finished: Finished) -> int:
    """The run's own."""
    return finished.outcome.exit_code
