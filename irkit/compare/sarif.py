"""Findings as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), for tools that gather such results."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from irkit import __version__
from irkit.models import Finding
from irkit.text import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
"""``security-severity`` as GitHub's code scanning reads it: the middle of each CVSS range."""
BASE = "CONTAINER"


def sarif(findings: Sequence[Finding], subject: str) -> dict[str, Any]:
    """One run, with a result a finding.  ``subject``: what was compared."""
    rules = {one.rule: one for one in findings}
    numbers = {name: number for number, name in enumerate(sorted(rules))}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "irkit",
                        "semanticVersion": __version__,
                        "rules": [_rule(rules[name]) for name in sorted(rules)],
                    }
                },
                "originalUriBaseIds": {BASE: {"description": {"text": f"the root of {printable(subject)}"}}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(one, numbers[one.rule]) for one in findings],
            }
        ],
    }


def _rule(one: Finding) -> dict[str, Any]:
    return {
        "id": one.rule,
        "shortDescription": {"text": one.title},
        "fullDescription": {"text": one.reason},
        "help": {"text": one.next},
        "defaultConfiguration": {"level": LEVELS[one.severity]},
        "properties": {"security-severity": SCORES[one.severity], "tags": ["security", *one.attack]},
    }


def _result(one: Finding, number: int) -> dict[str, Any]:
    shown = printable(one.subject)
    print_of = hashlib.sha256(f"{one.rule}\0{one.subject}".encode("utf-8", "surrogateescape")).hexdigest()
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": number,
        "level": LEVELS[one.severity],
        "message": {"text": f"{one.title}: {shown}. {one.reason}"},
        "partialFingerprints": {"irkit/v1": print_of},
        "properties": {"severity": one.severity, "attack": list(one.attack), "next": one.next},
    }
    if one.kind == "change" and one.subject.startswith("/"):
        uri = quote(os.fsencode(one.subject.lstrip("/")))
        result["locations"] = [{"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": BASE}}}]
    else:
        result["locations"] = [{"logicalLocations": [{"fullyQualifiedName": shown, "kind": one.kind}]}]
    return result
