"""``irkit contain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irkit.cases import Case
from irkit.cli.options import (
    catching_signals,
    engine_option,
    json_option,
    parse_vars,
    passphrase_source,
    print_json,
    show_event,
    signing_options,
)
from irkit.cli.running import Finished, RunConfig, run_playbook
from irkit.engine.interface import Container
from irkit.errors import Refused

EPILOG = """\b
Examples:
  irkit contain web-1
  irkit contain web-1 --json > run.json
  irkit contain web-1 --var profile=quick
  irkit contain web-1 --again          # prove and acquire once more
"""


@click.command(epilog=EPILOG)
@click.argument("target")
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
@signing_options
@engine_option
@json_option
def command(
    target: str, playbook: str, variables: tuple[str, ...], again: bool, key: str, passphrase_file: Path | None, passphrase_fd: int | None,
    engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Freeze TARGET, isolate it and prove that, acquire signed evidence, list findings.

    TARGET is a container's name or id. It stays frozen and quarantined; nothing is removed. `irkit release` gives it
    back, `irkit rebuild` puts a clean one in its place.
    """
    config = RunConfig(
        target, playbook, engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, parse_vars(variables),
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()),
    )  # fmt: skip

    def admit(case: Case | None, container: Container) -> None:
        if case is not None and case.state == "contained" and not again:
            raise Refused(
                f"{container.name} is already contained: case {case.id}, since {case.contained}, by {case.opened_by}",
                hint=f"`irkit case show {case.id}` · `irkit release {container.name}` · `irkit contain {container.name} --again`",
            )

    with catching_signals() as signals:
        finished = run_playbook(config, signals, admit)
    if finished.context.facts.quarantine_state and finished.outcome.status != "interrupted":
        finished.context.case.with_state("contained")
    if as_json:
        print_json(finished.to_json())
    from irkit.cli.summary import summarize

    summarize(finished, to_stderr=as_json)
    return exit_code(finished)


def exit_code(finished: Finished) -> int:
    """The run's own."""
    return finished.outcome.exit_code
