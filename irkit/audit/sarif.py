"""An audit as SARIF 2.1.0: what is wrong, what could not be answered, and each vulnerability that the policy refuses."""

from __future__ import annotations

from typing import Any

from irkit.audit.model import Finding
from irkit.audit.run import Audit
from irkit.sarif import Result, Rule, document, logical
from irkit.text import printable

REPORTED = ("fail", "warn", "unknown")
LISTED = "vulnerabilities"
"""The check whose failures are told one by one."""


def sarif(found: Audit) -> dict[str, Any]:
    """One run.  An exception stays out: it is the policy's word that it is no result."""
    checks = [
        one for one in found.findings if one.state in REPORTED and not (one.check.id == LISTED and one.state == "fail")
    ]
    rules, results = [_rule(one) for one in checks], [_result(one) for one in checks]
    failed = {one.subject for one in found.findings if one.check.id == LISTED and one.state == "fail"}
    for scan in found.scans:
        if not failed.intersection(scan["subjects"]):
            continue
        for row in scan[LISTED]:
            if row["state"] == "refused":
                rules.append(_vulnerability(row))
                results.append(_vulnerable(row, scan["image"], scan["scanner"]))
    return document(rules, results)


def _rule(one: Finding) -> Rule:
    return Rule(one.check.id, one.check.title, one.check.title, one.check.fix, one.check.severity, (one.check.scope,))


def _result(one: Finding) -> Result:
    message = f"{one.check.title} ({one.state}): {printable(one.subject)}: {printable(one.evidence)}"
    told = {"severity": one.check.severity, "state": one.state, "fix": one.check.fix}
    return Result(one.check.id, one.check.severity, message, one.subject, logical(one.subject, one.check.scope), told)


def _vulnerability(row: dict[str, str]) -> Rule:
    text = f"{printable(row['id'])} ({row['severity']})"
    return Rule(
        printable(row["id"]),
        text,
        text,
        "Update the package, or rebuild from a base that has the fix.",
        row["severity"],
        ("vulnerability",),
    )


def _vulnerable(row: dict[str, str], image: str, scanner: str) -> Result:
    package = f"{printable(row['package'])} {printable(row['version'])}"
    fixed = f"fixed in {printable(row['fixed'])}" if row["fixed"] else "no fix is known"
    told = {
        "severity": row["severity"],
        "package": printable(row["package"]),
        "version": printable(row["version"]),
        "fixed": printable(row["fixed"]),
        "scanner": scanner,
    }
    subject = f"{image}\0{row['package']}\0{row['version']}"
    return Result(
        printable(row["id"]),
        row["severity"],
        f"{printable(row['id'])} in {package} of {image}: {fixed}",
        subject,
        logical(f"{image}/{row['package']}", "package"),
        told,
    )
