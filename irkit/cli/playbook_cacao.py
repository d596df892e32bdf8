"""``irkit playbook export`` and ``irkit playbook import``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from irkit import documents, resources
from irkit.cli.options import json_option, print_json
from irkit.errors import CheckFailed, ExitCode, PlaybookInvalid, UsageProblem
from irkit.home import write_file
from irkit.text import printable


@click.command(
    "export",
    epilog="\b\nExamples:\n  irkit playbook export contain -o contain.cacao.json\n  irkit playbook export contain --profile soarca",
)
@click.argument("name")
@click.option(
    "--profile",
    type=click.Choice(["full", "soarca"]),
    default="full",
    show_default=True,
    help="soarca: one action, over ssh.",
)
@click.option("--author", default="irkit", show_default=True, help="Who made it: an identity is derived from the name.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to.  [default: standard output]"
)
def export_(name: str, profile: str, author: str, output: Path | None) -> int:
    """A playbook as CACAO v2.0 (OASIS).  What CACAO has no word for is told, and travels in an extension."""
    from irkit.cacao.check import check
    from irkit.cacao.export import export
    from irkit.playbook.reader import read_playbook

    path = resources.find("playbooks", name)
    source = path.read_bytes()
    doc, digest = documents.load_bytes(source, str(path))
    document, lost = export(read_playbook(doc, digest, path), source, profile, author)
    if problems := list(check(document)):
        raise CheckFailed(f"the export is no good CACAO: {problems[0]}", hint="please report this")
    text = json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8") + b"\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text, 0o644)
    for one in lost:
        click.echo(f"  not in CACAO's words: {printable(one, 200)}", err=True)
    return ExitCode.DONE


@click.command("import", epilog="\b\nExample:\n  irkit playbook import theirs.json -o ./theirs.yaml")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to; not over a file."
)
@json_option
def import_(source: Path, output: Path, as_json: bool) -> int:
    """A CACAO v2.0 playbook as one of irkit's.  Others' commands become questions to a person; exit 4 when anything was lost."""
    from irkit.cacao.check import check
    from irkit.cacao.imported import SIZE_LIMIT, import_, parse
    from irkit.playbook.reader import read_playbook

    if output.exists():
        raise UsageProblem(f"{output} is there already")
    with source.open("rb") as file:
        document = parse(file.read(SIZE_LIMIT + 1))
    problems = [printable(one, 300) for one in check(document)]
    found = import_(document)
    try:
        doc, digest = documents.load_bytes(found.text, str(output))
        playbook = read_playbook(doc, digest, output)
    except PlaybookInvalid as error:
        raise PlaybookInvalid(f"what it says is no playbook: {error.message}", hint=error.hint) from error
    write_file(output, found.text, 0o644)
    if as_json:
        rows = {
            "path": str(output),
            "playbook": playbook.id,
            "exact": found.exact,
            "lost": list(found.lost),
            "problems": problems,
        }
        print_json({"schema": "irkit.playbook-import/v1", **rows})
    for one in () if as_json else (*problems, *found.lost):
        click.echo(f"  {one}", err=True)
    if not as_json:
        click.echo(str(output))
    return ExitCode.GAPS if found.lost or problems else ExitCode.DONE
