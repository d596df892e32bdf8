"""``irkit rules``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from irkit import resources
from irkit.cli.options import json_option, print_json
from irkit.errors import ExitCode
from irkit.models import SEVERITIES
from irkit.text import printable

COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


@click.group()
def command() -> None:
    """List, check and test the rules that give changes a meaning."""


@command.command(
    "list",
    epilog="\b\nExamples:\n  irkit rules list\n  irkit rules list --on process --severity critical\n"
    "  irkit rules list --facts --on change\n  irkit rules list --attack T1053 --json",
)
@click.option("--on", "on", metavar="KIND", help="Only rules (or facts) on this kind of thing: change, process, …")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only rules of this severity.")
@click.option(
    "--attack", metavar="ID", help="Only rules for this ATT&CK technique, or one below it; older ids will do."
)
@click.option("--facts", is_flag=True, help="What rules may ask for, instead of the rules.")
@json_option
def list_(on: str | None, severity: str | None, attack: str | None, facts: bool, as_json: bool) -> int:
    """All rules, a user's own first; or, with --facts, the vocabulary that rules are written in."""
    from irkit.compare.vocabulary import ALIASES, KINDS
    from irkit.errors import UsageProblem

    if on is not None and on not in (*KINDS, *ALIASES):
        raise UsageProblem(f"no kind {on!r}", hint=f"there are: {', '.join((*KINDS, *ALIASES))}")
    kind = ALIASES.get(on, (on, ""))[0] if on else None
    return _list_facts(kind, as_json) if facts else _list_rules(kind, severity, attack, as_json)


def _list_facts(kind: str | None, as_json: bool) -> int:
    from irkit.compare import vocabulary

    rows = [row for row in vocabulary.rows() if kind in (None, row["on"])]
    if as_json:
        print_json({"schema": "irkit.facts/v1", "types": dict(vocabulary.TYPES), "facts": rows})
        return ExitCode.DONE
    for row in rows:
        words = row.get("words")
        more = f" ({', '.join(map(str, words))})" if isinstance(words, list) else ""
        click.echo(f"{row['on']:<8} {row['name']:<21} {row['type']:<7} {row['meaning']}{more}")
    return ExitCode.DONE


def _list_rules(kind: str | None, severity: str | None, attack: str | None, as_json: bool) -> int:
    from irkit.compare.attack import load_techniques
    from irkit.compare.rules import load_rules

    table = load_techniques()
    wanted = table.current(attack) if attack else ""
    found = [
        rule
        for rule in load_rules()
        if kind in (None, rule.on)
        and severity in (None, rule.severity)
        and (not wanted or any(one == wanted or one.startswith(f"{wanted}.") for one in rule.attack))
    ]
    if as_json:
        rows = [
            {
                "id": one.id, "on": one.on, "severity": one.severity, "title": one.title, "reason": one.reason, "next": one.next,
                "attack": [{"id": name, "name": known.name if (known := table.find(name)) else ""} for name in one.attack],
                "file": one.place.file, "line": one.place.line,
            }
            for one in found
        ]  # fmt: skip
        print_json({"schema": "irkit.rules/v1", "attack_version": table.version, "rules": rows})
        return ExitCode.DONE
    for one in found:
        where = f"{Path(one.place.file).name}:{one.place.line}"
        click.echo(
            f"{one.severity:<8} {one.on:<7} {printable(one.id):<31} {' '.join(one.attack):<20} {printable(one.title)}  [{printable(where)}]"
        )
    click.echo(f"{len(found)} rules, ATT&CK {table.version}", err=True)
    return ExitCode.DONE


@command.command(
    "lint",
    epilog="\b\nExamples:\n  irkit rules lint\n  irkit rules lint ./our-rules.yaml\n  irkit rules lint --strict --json",
)
@click.argument("names", metavar="[NAME|FILE]...", nargs=-1)
@click.option("--strict", is_flag=True, help="Exit 3 for warnings, too.")
@json_option
def lint(names: tuple[str, ...], strict: bool, as_json: bool) -> int:
    """What is wrong with files of rules, by name or path; all without one, noise and YARA rules too.  Exit 3 for errors."""
    from irkit.compare.rules_lint import Remark, lint_files, lint_others

    paths = [_find(name) for name in names] or list(_all_files())
    rules, remarks = lint_files([path for path in paths if _is_rules(path)])
    remarks += lint_others([path for path in paths if not _is_rules(path)])

    def count(level: str) -> int:
        return sum(one.level == level for one in remarks)

    def line(one: Remark) -> str:
        level = click.style(one.level, fg=COLOURS[one.level])
        place = f"{one.place.file}:{one.place.line}:{one.place.column}"
        about = f"{one.rule}: " if one.rule else ""
        message = one.message.removeprefix(f"{place}: ")
        return f"{printable(place)}: {level}: {printable(about + message, 600)} [{one.check}]"

    if as_json:
        rows = [one.to_json() for one in remarks]
        print_json({"schema": "irkit.rules-lint/v1", "files": [str(path) for path in paths], "remarks": rows})
    else:
        for one in remarks:
            click.echo(line(one))
        click.echo(
            f"{len(paths)} files, {len(rules)} rules, {count('error')} errors, {count('warning')} warnings", err=True
        )
    return ExitCode.CHECK_FAILED if count("error") or (strict and count("warning")) else ExitCode.DONE


def _all_files() -> Iterable[Path]:
    from irkit.compare.rules import rule_files

    yield from rule_files()
    yield from resources.every("forensics/noise")
    yield from resources.every("forensics/yara")


def _find(name: str) -> Path:
    if name.endswith(".yar"):
        return resources.find("forensics/yara", name)
    return resources.find("forensics/rules", name)


def _is_rules(path: Path) -> bool:
    if path.suffix == ".yar" or path.parent.name == "noise":
        return False
    with path.open("rb") as file:
        return b"\nkind: Noise" not in file.read(4096)


@command.command(
    "test",
    epilog="\b\nExamples:\n  irkit rules test\n  irkit rules test ./our-rules.test.yaml --rules ./our-rules.yaml\n  irkit rules test --json",
)
@click.argument("paths", metavar="[FILE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rules",
    "own",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Test these files of rules, in front of the installed ones.",
)
@json_option
def test(paths: tuple[Path, ...], own: tuple[Path, ...], as_json: bool) -> int:
    """Hold rules against facts that they must fit, and must not (*.test.yaml); all tests without a file.  Exit 3 when one fails."""
    from irkit.compare.rules import FOLDER, TEST_SUFFIX, RuleSet, load_rules, read_rules
    from irkit.compare.rules_trial import read_trials, untested, verdicts

    rules = RuleSet([*(rule for path in own for rule in read_rules(path)), *load_rules()])
    files = paths or tuple(path for path in resources.every(FOLDER) if path.name.endswith(TEST_SUFFIX))
    trials = [trial for path in files for trial in read_trials(path, rules)]
    rows: list[dict[str, Any]] = verdicts(rules, trials)
    failed = [row for row in rows if not row["passed"]]
    bare = [] if paths else untested(rules, trials)
    if as_json:
        print_json({"schema": "irkit.rules-test/v1", "tests": rows, "untested": bare})
    else:
        for row in failed:
            for problem in row["problems"]:
                click.echo(f"{printable(row['file'])}:{row['line']}: {click.style('✗', fg='red')} {printable(problem)}")
        for name in bare:
            click.echo(
                f"{click.style('note', fg='blue')}: {printable(name)} has not both a match and a near miss among the tests"
            )
        click.echo(f"{len(rows)} tests, {len(failed)} failed", err=True)
    return ExitCode.CHECK_FAILED if failed or not rows else ExitCode.DONE
