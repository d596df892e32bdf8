"""``irkit audit``."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit.audit.looked import Wanted
from irkit.audit.model import SEVERITIES, STATES, Finding, Subject
from irkit.audit.policy import Policy, load_policy
from irkit.audit.programs import Limits
from irkit.audit.run import (
    BENCHMARK,
    BY_ID,
    CHECKS,
    Audit,
    audit,
    bundle_looked_at,
    gate,
    looked_at,
    of_bundle,
    of_container,
    of_engine,
    of_image,
)
from irkit.audit.sbom import FORMATS
from irkit.cli.bundle_common import names_bundle
from irkit.cli.options import catching_signals, engine_option, identity_option, json_option, print_json
from irkit.engine.interface import Engine
from irkit.errors import EvidenceAltered, ExitCode, NotFound, UsageProblem
from irkit.home import write_file
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.evidence.reader import BundleReader

SHOWN = 50
COLOURS = {"critical": "red", "high": "red", "medium": "yellow", "low": None}
FORMAT_NAMES = ("table", "json", "sarif")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says.  ``scan``: ``None`` where it leaves that to the policy."""

    target: str | None
    everything: bool
    only: tuple[str, ...]
    scan: bool | None
    sbom: Path | None
    key: Path | None
    identity: tuple[Path, ...]
    engine: str | None

    def wanted(self, rules: Policy) -> Wanted:
        """Whether to scan and to list packages, with the policy.  Raises ``UsageProblem`` for a file that is there."""
        scan = self.scan if self.scan is not None else rules.scan or "vulnerabilities" in self.only
        form = _form(self.sbom) if self.sbom else rules.sbom or ("cyclonedx" if "sbom" in self.only else "")
        if self.sbom and os.path.lexists(self.sbom):
            raise UsageProblem(f"{self.sbom} is there already")
        if self.sbom and not self.sbom.absolute().parent.is_dir():
            raise UsageProblem(f"{self.sbom.parent} is no folder")
        if self.only:
            scan, form = scan and "vulnerabilities" in self.only, form if "sbom" in self.only or self.sbom else ""
        return Wanted(scan, form)


@click.command(
    epilog="\b\nExamples:\n  irkit audit\n  irkit audit web-1 --fail-on high\n  irkit audit --all --json\n"
    "  irkit audit web-1 --scan --sbom web.cdx.json\n  irkit audit web-1 --format sarif > audit.sarif\n"
    "  irkit audit ./bundle.tar --check 5.5\n  irkit audit --list"
)
@click.argument("target", required=False, metavar="[CONTAINER|IMAGE|BUNDLE]")
@click.option("--all", "everything", is_flag=True, help="The engine, its host and every container.")
@click.option("--check", "only", multiple=True, metavar="ID", help="Only this check; more than once for several.")
@click.option("--list", "listing", is_flag=True, help="Name all checks and ask none.")
@click.option("--scan/--no-scan", default=None, help="Have Trivy, Grype or Docker Scout look for known vulnerabilities.  [default: when the policy has `vulnerabilities`]")  # fmt: skip
@click.option("--sbom", type=click.Path(path_type=Path), metavar="FILE", help="Have Syft list the image's packages: *.cdx.json, *.spdx.json, or Syft's own form.")  # fmt: skip
@click.option("--fail-on", type=click.Choice(SEVERITIES), help="Exit 3 when a check of this severity or worse fails or can't be answered.")  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(FORMAT_NAMES), default="table", show_default=True, help="How to print."
)
@click.option("--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="[default: audit.yaml in IRKIT_HOME]")  # fmt: skip
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trust this public key for the bundle.")  # fmt: skip
@identity_option
@engine_option
@json_option
def command(
    target: str | None, everything: bool, only: tuple[str, ...], listing: bool, scan: bool | None, sbom: Path | None, fail_on: str | None,
    form: str, policy: Path | None, key: Path | None, identity: tuple[Path, ...], engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Configuration against the checks of the CIS Docker Benchmark that an engine and its host can answer.

    Without a target: the engine and its host. With one: a container and its image, an image, or a bundle, offline.
    Changes nothing. With --scan and --sbom the image is saved once, and programs of others read that file.
    """
    if listing:
        return _list(as_json)
    for one in only:
        if one not in BY_ID:
            raise UsageProblem(f"no check {one!r}", hint="`irkit audit --list` names all")
    if target and everything:
        raise UsageProblem("--all and a target exclude each other")
    rules = load_policy(policy, BY_ID)
    asked = Asked(target, everything, only, scan, sbom, key, identity, engine)
    result = audit(_subjects(asked, rules), rules, datetime.datetime.now(datetime.UTC).date(), only)
    if not result.findings:
        raise UsageProblem("none of the checks fits the target", hint="`irkit audit --list` tells what each looks at")
    _show(result, "json" if as_json else form)
    if sbom:
        _write_sbom(result, sbom)
    limit = fail_on or rules.fail_on
    if limit and not gate(result, limit).passed:
        return ExitCode.CHECK_FAILED
    return ExitCode.GAPS if result.counts()["unknown"] else ExitCode.DONE


def _subjects(asked: Asked, rules: Policy) -> list[Subject]:
    wanted = asked.wanted(rules)
    if (asked.scan or asked.sbom) and not asked.target and not (asked.everything and not asked.sbom):
        raise UsageProblem("--scan and --sbom need an image: name a container, an image or a bundle")
    with catching_signals() as signals:
        limits = Limits(float(rules.vulnerabilities.seconds), checkpoint=signals.checkpoint)
        if asked.target and names_bundle(asked.target):
            reader = _reader(Path(asked.target), asked.key, asked.identity)
            return bundle_looked_at(reader, of_bundle(reader), wanted, rules, limits)
        from irkit.engine.connect import open_engine

        engine = open_engine(asked.engine)
        subjects = _live(engine, asked.target, asked.everything)
        if not wanted.nothing and any(one.image is not None for one in subjects):
            click.echo("  having images scanned or listed: each is saved once", err=True)
        return looked_at(engine, subjects, wanted, rules, limits)


def _form(path: Path) -> str:
    """Of an SBOM, by the endings that the specifications name."""
    return next((name for name, one in FORMATS.items() if path.name.endswith(one.suffix)), "syft")


def _show(result: Audit, form: str) -> None:
    if form == "json":
        print_json(result.to_json())
    elif form == "sarif":
        from irkit.audit.sarif import sarif

        click.echo(json.dumps(sarif(result), indent=1))
    else:
        _print(result)


def _write_sbom(result: Audit, path: Path) -> None:
    """What could not be made is the answer of the check `sbom`, and no file."""
    for one in result.sboms:
        write_file(path, one.data, 0o644)
        click.echo(f"  {path}: {one.packages} packages, by {printable(one.tool)}", err=True)


def _live(engine: Engine, target: str | None, everything: bool) -> list[Subject]:
    if target is None:
        return [of_engine(engine), *_every(engine)] if everything else [of_engine(engine)]
    try:
        return [of_container(engine, target)]
    except NotFound:
        try:
            return [of_image(engine, target)]
        except NotFound as missing:
            raise NotFound(
                f"there is neither a container nor an image {printable(target, 100)}",
                hint="`docker ps -a` and `docker images` list them; --engine names another engine",
            ) from missing


def _every(engine: Engine) -> list[Subject]:
    """Containers that go away meanwhile are told, not skipped in silence."""
    found = []
    for one in engine.containers():
        try:
            found.append(of_container(engine, one))
        except NotFound:
            click.echo(f"  the container {one[:12]} was removed meanwhile", err=True)
    return found


def _reader(path: Path, key: Path | None, identity: tuple[Path, ...]) -> BundleReader:
    """Of a bundle that verifies.  Raises ``EvidenceAltered``."""
    from irkit.evidence.age import identities_from
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.verify import verify_bundle

    identities = identities_from(identity)
    found = verify_bundle(path, [public_from_file(key)] if key else trusted_keys("evidence"), identities=identities)
    if not found.ok:
        first = found.problems[0]
        raise EvidenceAltered(f"the bundle does not verify: {first.file}: {first.problem}", hint="`irkit bundle verify` lists all problems")  # fmt: skip
    return BundleReader(path, identities)


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
    for scan in result.scans:
        _scan(scan)
    _section(result, "unknown", "could not be answered")
    _section(result, "excepted", "excepted by the policy")
    counts = result.counts()
    click.echo(", ".join(f"{counts[state]} {state}" for state in STATES))


def _scan(scan: Mapping[str, Any]) -> None:
    """What the policy refuses, and how much more there is."""
    rows = [one for one in scan["vulnerabilities"] if one["state"] == "refused"]
    others = len(scan["vulnerabilities"]) - len(rows)
    click.echo(
        f"{scan['scanner']} {printable(scan['version'])} on {printable(scan['image'], 80)}: {len(rows)} refused, {others} let pass"
    )
    for one in rows[:SHOWN]:
        fixed = f"fixed in {printable(one['fixed'], 80)}" if one["fixed"] else "no fix is known"
        click.echo(
            f"  {one['severity']:<8} {printable(one['id'], 40)}  {printable(one['package'], 60)} {printable(one['version'], 60)}: {fixed}"
        )
    if len(rows) > SHOWN:
        click.echo(f"  {len(rows) - SHOWN} more: `--json` has all")


def _section(result: Audit, state: str, title: str) -> None:
    rows = [one for one in result.findings if one.state == state]
    if rows:
        click.echo(title)
    for one in rows:
        click.echo(f"  {_words(one)}{f': {printable(one.reason)}' if one.reason else ''}")


def _words(one: Finding) -> str:
    return f"{one.check.id:<9} {printable(one.subject)}: {one.check.title}: {printable(one.evidence, 300)}"
