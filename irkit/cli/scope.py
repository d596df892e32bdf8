"""``irkit scope``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.cli.options import engine_option, json_option, print_json
from irkit.errors import ExitCode, UsageProblem
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.scope.model import Row, Scope

COLOURS = {"critical": "red", "high": "red", "medium": "yellow", "low": None}
MARKS = {"yes": ("✓", "green"), "frozen": ("~", "yellow"), "no": ("✗", "red")}
LIMIT = 300
STDOUT = Path("-")
EPILOG = """\b
Examples:
  irkit scope web-1
  irkit scope web-1 --json | jq '.rows[] | select(.closed != "yes")'
  irkit scope web-1 --svg web-1.svg
  irkit scope web-1 --dot - | dot -Tpdf > web-1.pdf

\b
Marks: ✓ contain closes it; ~ not cut, it holds while the target is frozen; ✗ contain does nothing about it.
"""


@click.command(epilog=EPILOG)
@click.argument("target")
@click.option(
    "--dot", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True), help="Write a Graphviz graph."
)
@click.option("--svg", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True), help="Write a picture.")
@engine_option
@json_option
def command(target: str, dot: Path | None, svg: Path | None, engine: str | None, as_json: bool) -> int:
    """Who and what TARGET can reach, the worst first, and what `irkit contain` does about each.

    Peers, shared volumes, namespaces, images and secrets, ways to the host, privileges, published ports, established
    connections and who is at their other end. Only reads; nothing is changed, nothing runs in a container. The values
    of secrets are never shown.
    """
    if [dot == STDOUT, svg == STDOUT, as_json].count(True) > 1:
        raise UsageProblem("only one of --json, --dot - and --svg - can go to standard output")
    for path in (dot, svg):
        _check_place(path)

    from irkit.engine.connect import open_engine
    from irkit.scope.find import related
    from irkit.scope.graph import to_dot
    from irkit.scope.svg import to_svg

    opened = open_engine(engine)
    scope = related(opened, opened.container(target))
    if dot is not None:
        _write(dot, to_dot(scope))
    if svg is not None:
        _write(svg, to_svg(scope))
    if as_json:
        print_json(scope.to_json())
    elif STDOUT not in (dot, svg):
        _print(scope)
    return ExitCode.DONE


def _check_place(path: Path | None) -> None:
    """A graph in place of a link or a device would harm something else."""
    if path is not None and path != STDOUT and os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise UsageProblem(f"{path} is there and is not an ordinary file")


def _write(path: Path, text: str) -> None:
    if path == STDOUT:
        click.echo(text, nl=False)
        return
    from irkit.home import write_file

    write_file(path, text.encode("utf-8"))
    click.echo(f"wrote {printable(str(path))}", err=True)


def _print(scope: Scope) -> None:
    """Rows by severity; the last line, on standard error, says how many containers are related by what."""
    click.echo(f"{printable(scope.target.name, LIMIT)}  {printable(scope.target.image, LIMIT)}")
    severity = ""
    for row in scope.rows:
        if row.severity != severity:
            severity = row.severity
            click.echo(click.style(f"\n{severity.upper()}", fg=COLOURS[severity], bold=True))
        _print_row(row)
    click.echo("")
    click.echo(summary(scope), err=True)


def _print_row(row: Row) -> None:
    mark, colour = MARKS[row.closed]
    subject = click.style(printable(row.subject, LIMIT), bold=True)
    click.echo(f"  {click.style(mark, fg=colour)} {row.kind:<12} {subject}: {printable(row.detail, LIMIT)}")
    click.echo(click.style(f"    {'':<12} → {printable(row.contained, LIMIT)}", dim=True))


def summary(scope: Scope) -> str:
    """How many containers are related by what, and how to contain them too."""
    counts = [f"{len(ids)} by {reason}" for reason, ids in scope.related.items() if ids]
    related = {one for ids in scope.related.values() for one in ids}
    if not related:
        return "no other container is related"
    words = f"{len(related)} related container{'' if len(related) == 1 else 's'}: {', '.join(counts)}"
    ways = [reason for reason in ("network", "image", "volume") if scope.related.get(reason)]
    if not ways:
        return words
    return f"{words} · `irkit contain {printable(scope.target.name, LIMIT)}{_scope_option(ways[0])}`"


def _scope_option(reason: str) -> str:
    """Only what ``irkit contain`` of this version understands is recommended."""
    from irkit.cli.contain import command as contain

    return f" --scope same-{reason}" if any(one.name == "scope" for one in contain.params) else ""
