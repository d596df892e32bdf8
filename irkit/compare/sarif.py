"""Findings of a comparison as SARIF 2.1.0."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from irkit.compare.crowd import few
from irkit.models import Finding, Gap
from irkit.sarif import Result, Rule, document, logical
from irkit.text import printable

BASE = "CONTAINER"


def sarif(findings: Sequence[Finding], gaps: Sequence[Gap], subject: str, each: int) -> dict[str, Any]:
    """One run, with a result a finding: the first ``each`` of a rule, and a notification of how many more there are, and of each gap.

    ``subject``: what was compared.
    """
    bases = {BASE: {"description": {"text": f"the root of {printable(subject)}"}}}
    shown = list(few(findings, each))
    notes = [
        f"{more} more findings of {one.rule} are not in this file: --all writes them" for one, more in shown if more
    ]
    notes += [f"not compared: {printable(one.what, 300)}: {printable(one.why)}" for one in gaps]
    return document([_rule(one) for one, _ in shown], [_result(one) for one, _ in shown], bases, notes)


def _rule(one: Finding) -> Rule:
    return Rule(one.rule, one.title, one.reason, one.next, one.severity, one.attack)


def _result(one: Finding) -> Result:
    message = f"{one.title}: {printable(one.subject)}. {one.reason}"
    told = {"severity": one.severity, "attack": list(one.attack), "next": one.next}
    return Result(one.rule, one.severity, message, one.subject, _location(one), told)


def _location(one: Finding) -> dict[str, Any]:
    if one.kind == "change" and one.subject.startswith("/"):
        uri = quote(os.fsencode(one.subject.lstrip("/")))
        return {"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": BASE}}}
    return logical(one.subject, one.kind)
