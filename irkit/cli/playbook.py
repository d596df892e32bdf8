"""``irkit playbook``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit import resources
from irkit.cli.options import json_option, passphrase_source, print_json, signing_options
from irkit.cli.playbook_cacao import cacao_sign, export_, import_
from irkit.errors import ExitCode
from irkit.text import printable


@click.group()
def command() -> None:
    """List, show and check playbooks."""


command.add_command(export_)
command.add_command(import_)
command.add_command(cacao_sign)


@command.command("list", epilog="\b\nExample:\n  irkit playbook list")
@json_option
def list_(as_json: bool) -> int:
    """The playbooks that can be run: your own first."""
    from irkit.playbook.reader import load_playbook

    found = [load_playbook(path) for path in resources.every("playbooks")]
    width = max((len(one.id) for one in found), default=0) + 1
    if as_json:
        print_json(
            {
                "schema": "irkit.playbooks/v1",
                "playbooks": [
                    {"id": one.id, "name": one.name, "digest": one.digest, "path": str(one.path)} for one in found
                ],
            }
        )
    else:
        for one in found:
            click.echo(f"{one.id:<{width}} {printable(one.name)}")
    return ExitCode.DONE


@command.command("show", epilog="\b\nExample:\n  irkit playbook show contain")
@click.argument("name")
def show(name: str) -> int:
    """The variables and steps of a playbook.  Fails with file, line and column when it is not well-formed."""
    from irkit.playbook.reader import load_playbook

    playbook = load_playbook(resources.find("playbooks", name))
    click.echo(f"{playbook.id}: {printable(playbook.name)}\n  {printable(playbook.description)}\n  {playbook.digest}")
    for var in playbook.vars.values():
        default = "required" if var.required else f"default {var.default!r}"
        click.echo(f"  var   {var.name:<16} {var.type}, {default}: {printable(var.description)}")
    for step in playbook.steps:
        click.echo(f"  step  {step.id:<16} {step.action.name:<20} [{step.action.effect}] on failure: {step.on_failure}")
    return ExitCode.DONE


@command.command(
    "lint", epilog="\b\nExamples:\n  irkit playbook lint contain\n  irkit playbook lint ./our-playbook.yaml --json"
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def lint_(names: tuple[str, ...], as_json: bool) -> int:
    """What is wrong with playbooks, by name or path; all of them without one.  Exit 3 when one must not run so."""
    from irkit.playbook.lint import lint
    from irkit.playbook.reader import load_playbook

    paths = [resources.find("playbooks", name) for name in names] or list(resources.every("playbooks"))
    found = {path: lint(load_playbook(path)) for path in paths}
    errors = sum(remark.level == "error" for remarks in found.values() for remark in remarks)
    if as_json:
        rows = [{"path": str(path), "remarks": [one.to_json() for one in remarks]} for path, remarks in found.items()]
        print_json({"schema": "irkit.lint/v1", "playbooks": rows})
    for path, remarks in () if as_json else found.items():
        for one in remarks:
            click.echo(
                f"{path.name}: {one.level}: {one.step + ': ' if one.step else ''}{printable(one.message)} [{one.rule}]"
            )
    if not as_json:
        click.echo(f"{len(found)} playbooks, {errors} errors", err=True)
    return ExitCode.CHECK_FAILED if errors else ExitCode.DONE


@command.command(
    "plan",
    epilog="\b\nExamples:\n  irkit playbook plan contain\n  irkit playbook plan rebuild --var image=shop/web:2 --dot | dot -Tsvg",
)
@click.argument("name")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the playbook.")
@click.option("--dot", "as_dot", is_flag=True, help="A graph in Graphviz' language.")
@json_option
def plan(name: str, variables: tuple[str, ...], as_dot: bool, as_json: bool) -> int:
    """What a playbook would do, step by step, without an engine.  `irkit run --dry-run` asks the target, too."""
    from irkit.cli.options import parse_vars
    from irkit.playbook.plan import dot, rows
    from irkit.playbook.profiled import with_profile
    from irkit.playbook.reader import load_playbook

    playbook = load_playbook(resources.find("playbooks", name))
    bound = playbook.bind(parse_vars(variables))
    playbook, _ = with_profile(playbook, bound)
    found = rows(playbook, bound)
    if as_dot:
        click.echo(dot(playbook, bound), nl=False)
    elif as_json:
        print_json(
            {
                "schema": "irkit.plan/v1",
                "playbook": playbook.id,
                "digest": playbook.digest,
                "vars": bound,
                "steps": found,
            }
        )
    else:
        width = max((len(row["id"]) for row in found), default=0)
        for row in found:
            extra = [f"when {row['when']} ({row['runs']})"] if row["when"] else []
            extra += [f"needs {', '.join(row['needs'])}"] if row["needs"] else []
            extra += [f"approval: {row['approve']}"] if row["approve"] else []
            extra += [f"for each of {row['foreach']}"] if row["foreach"] is not None else []
            extra += [f"at the same time: {row['parallel']}"] if row["parallel"] else []
            part = "" if row["part"] == "steps" else f"{row['part']}: "
            click.echo(
                f"  {row['effect']:<8} {row['id']:<{width}} {part}{printable(row['name'])}"
                + (f"  [{printable('; '.join(extra))}]" if extra else "")
            )
    return ExitCode.DONE


@command.command(
    "actions",
    epilog="\b\nExamples:\n  irkit playbook actions\n  irkit playbook actions notify\n  irkit playbook actions --json",
)
@click.argument("names", metavar="[ACTION]...", nargs=-1)
@click.option("--markdown", "as_markdown", is_flag=True, help="The page docs/actions.md.")
@json_option
def actions(names: tuple[str, ...], as_markdown: bool, as_json: bool) -> int:
    """What a step may use: every action with its parameters, and whether it reads, changes or destroys."""
    from irkit.errors import UsageProblem
    from irkit.playbook import manual

    rows = [row for row in manual.rows() if not names or row["name"] in names]
    if missing := set(names) - {row["name"] for row in rows}:
        raise UsageProblem(f"no action {', '.join(sorted(missing))}", hint="`irkit playbook actions` lists them")
    if as_json:
        print_json({"schema": "irkit.actions/v1", "actions": rows})
    elif as_markdown:
        click.echo(manual.markdown(), nl=False)
    for row in () if as_json or as_markdown else rows:
        click.echo(f"{row['effect']:<8} {row['name']:<20} {row['summary']}")
        for one in row["parameters"] if names else ():
            default = "required" if one["required"] else f"default {one['default']!r}"
            choices = f" ({', '.join(map(str, one['choices']))})" if one["choices"] else ""
            click.echo(f"           {one['name']:<16} {one['type']}, {default}: {one['description']}{choices}")
        for what in ("needs", "undo", "gives") if names else ():
            if row[what]:
                click.echo(f"           {what + ':':<16} {', '.join(row[what]) if what == 'gives' else row[what]}")
    return ExitCode.DONE


@command.command("schema", epilog="\b\nExample:\n  irkit playbook schema > playbook.schema.json")
def schema() -> int:
    """The JSON Schema of playbooks, for editors: with every action, its parameters and what they are for.

    A playbook names it in its first line: # yaml-language-server: $schema=./playbook.schema.json
    """
    from irkit.playbook import manual

    print_json(manual.schema())
    return ExitCode.DONE


@command.command(
    "test",
    epilog="\b\nExamples:\n  irkit playbook test ./our-playbook.test.yaml\n  irkit playbook test tests/*.test.yaml --json",
)
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--match", default="", metavar="TEXT", help="Only tests whose name has this in it.")
@json_option
def test(paths: tuple[Path, ...], match: str, as_json: bool) -> int:
    """Run tests of playbooks on a fake engine, without a host or a container.  Exit 3 when an expectation does not hold."""
    from irkit.playbook.trial import load_trials, play

    verdicts = []
    for path in paths:
        playbook, trials = load_trials(path)
        for trial in (one for one in trials if match in one.name):
            verdict = play(playbook, trial)
            verdicts.append({"file": str(path), **verdict.to_json()})
            if not as_json:
                mark = click.style("✗", fg="red") if verdict.problems else click.style("✓", fg="green")
                click.echo(f"  {mark} {playbook.id}: {printable(trial.name)}")
                for problem in verdict.problems:
                    click.echo(f"      {printable(problem, 400)}")
    failed = sum(not one["passed"] for one in verdicts)
    if as_json:
        print_json({"schema": "irkit.playbook-test/v1", "tests": verdicts})
    else:
        click.echo(f"{len(verdicts)} tests, {failed} failed", err=True)
    return ExitCode.CHECK_FAILED if failed or not verdicts else ExitCode.DONE


@command.command(
    "sign",
    epilog="\b\nExamples:\n  irkit key generate --name plans --use playbook\n  irkit playbook sign ./our-playbook.yaml --key plans",
)
@click.argument("name")
@signing_options
@json_option
def sign(name: str, key: str, passphrase_file: Path | None, passphrase_fd: int | None, as_json: bool) -> int:
    """Vouch for a playbook with a key for playbooks: a signature beside the file.  Files that it includes are signed for themselves."""
    from irkit.evidence.keys import load_signer
    from irkit.playbook import signed
    from irkit.playbook.reader import load_playbook

    path = resources.find("playbooks", name)
    playbook = load_playbook(path)
    signer = load_signer(key, signed.USE, passphrase_source(passphrase_file, passphrase_fd))
    beside = signed.sign(playbook, path, signer)
    if as_json:
        facts = {
            "playbook": playbook.id,
            "digest": playbook.file_digest,
            "signature": str(beside),
            "key": signer.public.id,
        }
        print_json({"schema": "irkit.playbook-signature/v1", **facts})
    else:
        click.echo(str(beside))
    return ExitCode.DONE


@command.command("verify", epilog="\b\nExample:\n  irkit playbook verify ./our-playbook.yaml")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Who vouches for playbooks and all that they include, by keys trusted for playbooks.  Exit 3 where nobody does."""
    from irkit.playbook import signed
    from irkit.playbook.reader import load_playbook

    rows = []
    for name in names:
        for path, digest in signed.files(load_playbook(resources.find("playbooks", name))):
            good, objections = signed.vouched(path, digest)
            rows.append(
                {"path": str(path), "digest": digest, "keys": [one.name for one in good], "objections": objections}
            )
    if as_json:
        print_json({"schema": "irkit.playbook-verify/v1", "files": rows})
    for row in () if as_json else rows:
        words = f"signed by {', '.join(row['keys'])}" if row["keys"] else "NOT signed by a trusted key"
        click.echo(
            f"{row['path']}: {printable(words)}" + "".join(f"\n  {printable(one, 300)}" for one in row["objections"])
        )
    return ExitCode.DONE if all(row["keys"] for row in rows) else ExitCode.CHECK_FAILED
