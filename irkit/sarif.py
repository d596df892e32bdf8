"""SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), for tools that gather such results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irkit import __version__
from irkit.text import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
"""``security-severity`` as GitHub's code scanning reads it: the middle of each CVSS range."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a result is an instance of.  ``help``: what to do; ``severity``: one of ``LEVELS``."""

    id: str
    title: str
    text: str
    help: str
    severity: str
    tags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A ``reportingDescriptor`` (section 3.49)."""
        return {
            "id": self.id,
            "shortDescription": {"text": self.title},
            "fullDescription": {"text": self.text},
            "help": {"text": self.help},
            "defaultConfiguration": {"level": LEVELS[self.severity]},
            "properties": {"security-severity": SCORES[self.severity], "tags": ["security", *self.tags]},
        }


@dataclass(frozen=True, slots=True)
class Result:
    """One result (section 3.27).  ``subject``: what it is about, raw, with the rule's id its fingerprint."""

    rule: str
    severity: str
    message: str
    subject: str
    location: Mapping[str, Any]
    properties: Mapping[str, Any]

    def to_json(self, number: int) -> dict[str, Any]:
        """``number``: of its rule."""
        print_of = hashlib.sha256(f"{self.rule}\0{self.subject}".encode("utf-8", "surrogateescape")).hexdigest()
        return {
            "ruleId": self.rule,
            "ruleIndex": number,
            "level": LEVELS[self.severity],
            "message": {"text": self.message},
            "partialFingerprints": {"irkit/v1": print_of},
            "properties": dict(self.properties),
            "locations": [dict(self.location)],
        }


def logical(name: str, kind: str) -> dict[str, Any]:
    """A place that is no file (section 3.33); the name is escaped."""
    return {"logicalLocations": [{"fullyQualifiedName": printable(name), "kind": kind}]}


def document(
    rules: Sequence[Rule], results: Sequence[Result], bases: Mapping[str, Any] | None = None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """One log with one run; each rule once, by id.  ``bases``: ``originalUriBaseIds``, where results lie in files.

    ``notes``: what the results leave out, escaped: notifications of the run (section 3.20.21).
    """
    known = {one.id: one for one in rules}
    numbers = {name: number for number, name in enumerate(sorted(known))}
    driver = {
        "name": "irkit",
        "semanticVersion": __version__,
        "rules": [known[name].to_json() for name in sorted(known)],
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                **({"originalUriBaseIds": dict(bases)} if bases else {}),
                **({"invocations": [_invocation(notes)]} if notes else {}),
                "columnKind": "unicodeCodePoints",
                "results": [one.to_json(numbers[one.rule]) for one in results],
            }
        ],
    }


def _invocation(notes: Sequence[str]) -> dict[str, Any]:
    told = [{"level": "warning", "message": {"text": one}} for one in notes]
    return {"executionSuccessful": True, "toolExecutionNotifications": told}
