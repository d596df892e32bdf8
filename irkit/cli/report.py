"""``irkit report``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli.options import identity_option, json_option, print_json
from irkit.errors import ExitCode
from irkit.text import printable


@click.command(epilog="\b\nExample:\n  irkit report BUNDLE -o incident.html")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page.  [default: irkit-report-CASE.html here]",
)
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trust this public key, and only it."
)
@identity_option
@json_option
def command(bundle: Path, output: Path | None, key: Path | None, identity: tuple[Path, ...], as_json: bool) -> int:
    """One self-contained HTML page: what was done and proven, findings, changes, processes, sockets, custody, gaps.

    A bundle that does not verify gets a page that says so, and exit code 3.
    """
    from irkit.evidence.age import identities_from
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.review.report import write_report

    known = [public_from_file(key)] if key else trusted_keys("evidence")
    report = write_report(bundle, known, output, identities_from(identity))
    found = report.verification
    if as_json:
        print_json({"schema": "irkit.report/v1", "report": str(report.path), "verified": found.ok})
    else:
        click.echo(str(report.path))
    if not found.ok:
        first = found.problems[0]
        words = f"{len(found.problems)} problems, the first: {first.file}: {first.problem}"
        click.echo(f"the bundle does NOT verify: {printable(words)}", err=True)
    return ExitCode.DONE if found.ok else ExitCode.CHECK_FAILED
