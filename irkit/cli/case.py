"""``irkit case``."""

from __future__ import annotations

import click

from irkit import cases
from irkit.cli.options import json_option, print_json
from irkit.errors import EvidenceAltered, ExitCode
from irkit.playbook.journal import read_journal
from irkit.text import printable


@click.group()
def command() -> None:
    """List and show cases."""


@command.command("list", epilog="\b\nExample:\n  irkit case list --json")
@json_option
def list_(as_json: bool) -> int:
    """All cases, oldest first."""
    found = cases.list_cases()
    if as_json:
        print_json({"schema": "irkit.cases/v1", "cases": [case.to_json() for case in found]})
    elif not found:
        click.echo("no cases yet: `irkit contain NAME` opens one", err=True)
    else:
        for case in found:
            click.echo(
                f"{case.id:<44} {case.state:<10} {printable(case.target.name):<24} {case.opened[:19]}Z  {printable(case.opened_by)}"
            )
    return ExitCode.DONE


@command.command("show", epilog="\b\nExample:\n  irkit case show 2026-01-31-web-1-3f9a")
@click.argument("case_id", metavar="CASE")
@json_option
def show(case_id: str, as_json: bool) -> int:
    """One case: its target, its runs with what each step did, its bundles.  The journals' chains are checked."""
    case = cases.load_case(case_id)
    runs: list[dict[str, object]] = []
    broken = False
    for run in case.runs:
        records: list[dict[str, object]] = []
        problem = ""
        try:
            records.extend(read_journal(case.folder / "runs" / run / "journal.jsonl"))
        except EvidenceAltered as error:
            problem, broken = error.message, True
        except OSError as error:
            problem = f"the journal can't be read: {error.strerror}"
        runs.append({"run": run, "journal": records, "problem": problem or None})
    bundles = [str(path) for path in case.bundles]
    if as_json:
        print_json({**case.to_json(), "folder": str(case.folder), "runs": runs, "bundles": bundles})
    else:
        click.echo(
            f"{case.id}  {case.state}\n  target  {printable(case.target.name)} ({case.target.id[:12]}) on {printable(case.target.engine)}"
        )
        click.echo(f"  opened  {case.opened} by {printable(case.opened_by)}")
        for row in runs:
            _show_run(row)
        for path in bundles:
            click.echo(f"  bundle  {path}")
    return ExitCode.CHECK_FAILED if broken else ExitCode.DONE


def _show_run(row: dict[str, object]) -> None:
    click.echo(f"  run     {row['run']}" + (f"  PROBLEM: {row['problem']}" if row["problem"] else ""))
    records = row["journal"]
    ended = False
    for record in records if isinstance(records, list) else ():
        if record["type"] == "step-finished":
            click.echo(
                f"            {record['outcome']:<11} {record['id']:<14} {printable(str(record['message']), 140)}"
            )
        ended = ended or record["type"] in ("run-finished", "run-interrupted")
        if record["type"] in ("run-finished", "run-interrupted"):
            click.echo(f"            {record['type']} {record['time']} {record.get('status', '')}")
    if not ended:
        click.echo("            it never ended: irkit was killed, or is still at it")
