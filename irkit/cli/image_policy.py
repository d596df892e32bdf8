"""``irkit image policy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit.cli.image_verify import policy_option
from irkit.cli.options import json_option, print_json
from irkit.errors import ExitCode, UsageProblem
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.trust.policy import Policy, Rule


@click.group("policy")
def policy() -> None:
    """The trust policy: which keys vouch for which repositories."""


def _load(path: Path | None) -> Policy:
    from irkit.trust.policy import default_path, load_policy

    found = load_policy(path)
    if found is None:
        raise UsageProblem(
            f"there is no trust policy: {default_path()}", hint="docs/trust.md tells how to write one; or --policy FILE"
        )
    return found


@policy.command(
    "show", epilog="\b\nExamples:\n  irkit image policy show\n  irkit image policy show registry.example/team/web:1.4.2"
)
@click.argument("reference", required=False)
@policy_option
@json_option
def show(reference: str | None, policy_file: Path | None, as_json: bool) -> int:
    """The rules; with REFERENCE which of them applies to it, and why.  Exit 3 when none does, or one that denies."""
    from irkit.trust.reference import parse_reference

    found = _load(policy_file)
    if reference is None:
        rows = sorted(found.rules, key=lambda one: one.pattern.rank)
        chosen: Rule | None = None
        name = ""
    else:
        wanted = parse_reference(reference)
        rows, name = found.candidates(wanted), wanted.name
        chosen = rows[0] if rows else None
    if as_json:
        print_json(
            {
                "schema": "irkit.policy/v1", "path": str(found.path), "digest": found.digest, "reference": reference or "", "name": name,
                "applies": chosen.pattern.text if chosen else "", "rules": [_row(one) for one in rows],
                "keys": [_key(one) for one in found.keys.values()],
            }
        )  # fmt: skip
    else:
        _print(found, rows, chosen, name)
    refused = reference is not None and (chosen is None or chosen.deny)
    return ExitCode.CHECK_FAILED if refused else ExitCode.DONE


def _print(found: Policy, rows: list[Rule], chosen: Rule | None, name: str) -> None:
    if name:
        click.echo(f"{printable(name)}:")
    if name and chosen is None:
        click.echo("  no rule matches: denied")
    for one in rows:
        why = (
            ""
            if not name
            else "  ← applies, the most specific"
            if one is chosen
            else "  matches too, and is passed over"
        )
        click.echo(f"  {one.pattern.text}  (line {one.place.line}){why}")
        if not name or one is chosen:
            click.echo(f"    {_words(one)}")
    if not name:
        for key in found.keys.values():
            said = key.objection()
            click.echo(f"  key {key.name}: {key.id}{f'  {said}' if said else ''}")


def _words(rule: Rule) -> str:
    if rule.deny:
        return f"denied{f': {rule.why}' if rule.why else ''}"
    parts = [
        f"{rule.threshold} of {', '.join(one.name for one in rule.keys)}",
        " or ".join(rule.accept),
        f"over the {rule.signed}",
    ]
    if rule.minimum_version:
        parts.append(f"version {rule.minimum_version} at least")
    if rule.only:
        parts.append(f"{len(rule.only)} digests allowed")
    if rule.revoked:
        parts.append(f"{len(rule.revoked)} digests revoked")
    return "; ".join([*parts, *(f"annotation {name}={value}" for name, value in rule.annotations.items())])


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "match": rule.pattern.text, "line": rule.place.line, "action": "deny" if rule.deny else "verify", "why": rule.why,
        "keys": [one.name for one in rule.keys], "accept": list(rule.accept), "threshold": rule.threshold, "signed": rule.signed,
        "identity": rule.identity, "without_repository": "accept" if rule.nameless else "refuse",
        "annotations": dict(rule.annotations), "digests": list(rule.only), "revoked_digests": list(rule.revoked),
        "minimum_version": rule.minimum_version, "version_label": rule.version_label,
    }  # fmt: skip


def _key(key: Any) -> dict[str, Any]:
    return {
        "name": key.name,
        "id": key.id,
        "makes": list(key.kinds),
        "objection": key.objection(),
        **key.validity.to_json(),
    }


@policy.command(
    "lint", epilog="\b\nExamples:\n  irkit image policy lint\n  irkit image policy lint --policy ./trust.yaml --json"
)
@policy_option
@json_option
def lint(policy_file: Path | None, as_json: bool) -> int:
    """What is wrong with the policy: dead keys, rules that accept nothing, everything, or never apply.  Exit 3 on errors."""
    from irkit.trust.policy_lint import lint as check

    found = _load(policy_file)
    remarks = check(found)
    errors = sum(one.level == "error" for one in remarks)
    if as_json:
        print_json(
            {
                "schema": "irkit.policy-lint/v1",
                "path": str(found.path),
                "digest": found.digest,
                "remarks": [one.to_json() for one in remarks],
            }
        )
    else:
        for one in remarks:
            click.echo(
                f"{found.path}:{one.place.line}:{one.place.column}: {one.level}: {printable(one.message)} [{one.rule}]"
            )
        click.echo(f"{len(found.rules)} rules, {len(remarks)} remarks, {errors} errors", err=True)
    return ExitCode.CHECK_FAILED if errors else ExitCode.DONE
