"""``irkit audit``."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from irkit.audit.model import SEVERITIES, STATES, Finding, Subject
from irkit.audit.policy import load_policy
from irkit.audit.run import BENCHMARK, BY_ID, CHECKS, Audit, audit, gate, of_bundle, of_container, of_engine, of_image
from irkit.cli.options import engine_option, identity_option, json_option, print_json
from irkit.engine.interface import Engine
from irkit.errors import EvidenceAltered, ExitCode, NotFound, UsageProblem
from irkit.text import printable

COLOURS = {"critical": "red", "high": "red", "medium": "yellow", "low": None}


@click.command(
    epilog="\b\nExamples:\n  irkit audit\n  irkit audit web-1 --fail-on high\n  irkit audit --all --json\n"
    "  irkit audit ./bundle.tar --check 5.5\n  irkit audit --list"
)
@click.argument("target", required=False, metavar="[CONTAINER|IMAGE|BUNDLE]")
@click.option("--all", "everything", is_flag=True, help="The engine, its host and every container.")
@click.option("--check", "only", multiple=True, metavar="ID", help="Only this check; more than once for several.")
@click.option("--list", "listing", is_flag=True, help="Name all checks and ask none.")
@click.option("--fail-on", type=click.Choice(SEVERITIES), help="Exit 3 when a check of this severity or worse fails or can't be answered.")  # fmt: skip
@click.option("--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="[default: audit.yaml in IRKIT_HOME]")  # fmt: skip
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trust this public key for the bundle.")  # fmt: skip
@identity_option
@engine_option
@json_option
def command(
    target: str | None, everything: bool, only: tuple[str, ...], listing: bool, fail_on: str | None, policy: Path | None,
    key: Path | None, identity: tuple[Path, ...], engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Configuration against the checks of the CIS Docker Benchmark that an engine and its host can answer.

    Without a target: the engine and its host. With one: a container and its image, an image, or a bundle, offline.
    Changes nothing.
    """
    if listing:
        return _list(as_json)
    for one in only:
        if one not in BY_ID:
            raise UsageProblem(f"no check {one!r}", hint="`irkit audit --list` names all")
    if target and everything:
        raise UsageProblem("--all and a target exclude each other")
    rules = load_policy(policy, BY_ID)
    subjects = (
        _bundle(Path(target), key, identity) if target and Path(target).exists() else _live(target, everything, engine)
    )
    result = audit(subjects, rules, datetime.datetime.now(datetime.UTC).date(), only)
    if not result.findings:
        raise UsageProblem("none of the checks fits the target", hint="`irkit audit --list` tells what each looks at")
    (print_json(result.to_json()) if as_json else _print(result))
    limit = fail_on or rules.fail_on
    if limit and not gate(result, limit).passed:
        return ExitCode.CHECK_FAILED
    return ExitCode.GAPS if result.counts()["unknown"] else ExitCode.DONE


def _live(target: str | None, everything: bool, url: str | None) -> list[Subject]:
    from irkit.engine.connect import open_engine

    engine = open_engine(url)
    if target is None:
        return [of_engine(engine), *_every(engine)] if everything else [of_engine(engine)]
    try:
        return [of_container(engine, target)]
    except NotFound as missing:
        try:
            return [of_image(engine, target)]
        except NotFound:
            raise missing from None


def _every(engine: Engine) -> list[Subject]:
    """Containers that go away meanwhile are told, not skipped in silence."""
    found = []
    for one in engine.containers():
        try:
            found.append(of_container(engine, one))
        except NotFound:
            click.echo(f"  the container {one[:12]} was removed meanwhile", err=True)
    return found


def _bundle(path: Path, key: Path | None, identity: tuple[Path, ...]) -> tuple[Subject, ...]:
    from irkit.evidence.age import identities_from
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.verify import verify_bundle

    identities = identities_from(identity)
    found = verify_bundle(path, [public_from_file(key)] if key else trusted_keys("evidence"), identities=identities)
    if not found.ok:
        first = found.problems[0]
        raise EvidenceAltered(f"the bundle does not verify: {first.file}: {first.problem}", hint="`irkit bundle verify` lists all problems")  # fmt: skip
    return of_bundle(BundleReader(path, identities))


def _list(as_json: bool) -> int:
    if as_json:
        print_json(
            {"schema": "irkit.audit-checks/v1", "benchmark": BENCHMARK, "checks": [one.to_json() for one in CHECKS]}
        )
        return ExitCode.DONE
    for one in CHECKS:
        click.echo(f"{one.id:<9} {one.scope:<9} {one.severity:<8} {one.title}\n{'':<28} → {one.fix}")
    return ExitCode.DONE


def _print(result: Audit) -> None:
    for severity in SEVERITIES:
        rows = [one for one in result.findings if one.check.severity == severity and one.bad]
        if rows:
            click.echo(click.style(severity, fg=COLOURS[severity], bold=True))
        for one in rows:
            click.echo(f"  {one.state:<5} {_words(one)}\n        → {one.check.fix}")
    _section(result, "unknown", "could not be answered")
    _section(result, "excepted", "excepted by the policy")
    counts = result.counts()
    click.echo(", ".join(f"{counts[state]} {state}" for state in STATES))


def _section(result: Audit, state: str, title: str) -> None:
    rows = [one for one in result.findings if one.state == state]
    if rows:
        click.echo(title)
    for one in rows:
        click.echo(f"  {_words(one)}{f': {printable(one.reason)}' if one.reason else ''}")


def _words(one: Finding) -> str:
    return f"{one.check.id:<9} {printable(one.subject)}: {one.check.title}: {printable(one.evidence, 300)}"
