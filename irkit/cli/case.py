"""``irkit case``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit import cases
from irkit.cli.options import json_option, passphrase_source, print_json, signing_options
from irkit.errors import EvidenceAltered, ExitCode, UsageProblem
from irkit.playbook.journal import read_journal
from irkit.text import printable


@click.group()
def command() -> None:
    """List and show cases; approve or deny what their runs ask for."""


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
            f"{case.id}  {case.state}\n  target  {printable(case.target.name)} ({case.target.kind} {case.target.short}) on {printable(case.target.engine)}"
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
        last = record["type"] in ("run-finished", "run-interrupted", "run-waiting")
        ended = (ended or last) and record["type"] != "run-resumed"
        if last:
            click.echo(f"            {record['type']} {record['time']} {record.get('status', '')}")
    if not ended:
        click.echo("            it never ended: irkit was killed, or is still at it")


@command.command("pending", epilog="\b\nExample:\n  irkit case pending")
@json_option
def pending(as_json: bool) -> int:
    """What runs wait for: approvals, and answers to questions."""
    from irkit.actions import question
    from irkit.playbook import approval

    waiting = [
        request for case in cases.list_cases() for folder in approval.folders(case) for request in approval.pending(folder)
    ]  # fmt: skip
    asked = [
        one for case in cases.list_cases() for run in case.runs for one in question.open_questions(case.folder / "runs" / run)
    ]  # fmt: skip
    if as_json:
        print_json({"schema": "irkit.pending/v1", "requests": waiting, "questions": asked})
    for one in () if as_json else waiting:
        click.echo(
            f"{one['case']}  {one['step']}  {printable(str(one['message']), 200)}  (until {one['expires'][:19]}Z)"
        )
    for one in () if as_json else asked:
        choices = f" [{printable('|'.join(one['choices']))}]" if one["choices"] else ""
        click.echo(f"{one['case']}  {one['step']}  {printable(str(one['message']), 200)}{choices}")
    if not waiting and not asked and not as_json:
        click.echo("nothing waits for an approval or an answer", err=True)
    return ExitCode.DONE


@command.command(
    "approve",
    epilog="\b\nExamples:\n  irkit key generate --name ann --use approval\n  irkit case approve 2026-01-31-web-1-3f9a remove --key ann",
)
@click.argument("case_id", metavar="CASE")
@click.argument("step")
@click.option("--deny", is_flag=True, help="Deny it instead.")
@click.option("--why", default="", help="A reason, kept with the decision.")
@signing_options
def approve(
    case_id: str, step: str, deny: bool, why: str, key: str, passphrase_file: Path | None, passphrase_fd: int | None
) -> int:
    """Sign an approval of the STEP that a run of CASE waits for.  The key must be one for approvals."""
    from irkit.evidence.keys import load_signer
    from irkit.playbook import approval

    case = cases.load_case(case_id)
    waiting = [
        folder for folder in approval.folders(case) if any(one["step"] == step for one in approval.pending(folder))
    ]
    if not waiting:
        raise UsageProblem(
            f"no run of {case_id} waits for an approval of {step!r}", hint="`irkit case pending` lists what waits"
        )
    request = waiting[-1] / approval.FOLDER / f"{step}.json"
    signer = load_signer(key, approval.USE, passphrase_source(passphrase_file, passphrase_fd))
    approval.answer(request, signer, "deny" if deny else "approve", why)
    click.echo(f"{'denied' if deny else 'approved'} {step} of {case_id} as {signer.public.name}", err=True)
    return ExitCode.DONE


@command.command("answer", epilog="\b\nExample:\n  irkit case answer 2026-01-31-web-1-3f9a root-cause 'an old library'")
@click.argument("case_id", metavar="CASE")
@click.argument("step")
@click.argument("text")
def answer_(case_id: str, step: str, text: str) -> int:
    """Answer the question that the STEP of a run of CASE asks."""
    from irkit.actions import question

    case = cases.load_case(case_id)
    for run in reversed(case.runs):
        if any(one["step"] == step for one in question.open_questions(case.folder / "runs" / run)):
            question.answer(case.folder / "runs" / run, step, text)
            click.echo(f"answered {step} of {case_id}", err=True)
            return ExitCode.DONE
    raise UsageProblem(f"no run of {case_id} asks for {step!r}", hint="`irkit case pending` lists what waits")
