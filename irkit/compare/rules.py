"""Rules: data in ``forensics/rules/`` that say which facts have a meaning (docs/rules.md)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from irkit import documents, resources
from irkit.documents import Doc
from irkit.models import SEVERITIES, Finding

KINDS: Mapping[str, Mapping[str, str]] = {
    "change": {
        "path": "texts",
        "change": "texts",
        "kind": "texts",
        "origin": "texts",
        "setuid": "flag",
        "executable": "flag",
    },
    "process": {"deleted": "flag", "memory": "flag", "path": "texts"},
    "socket": {"listening": "flag", "exposed": "flag", "protocol": "texts"},
    "account": {"uid0": "flag", "change": "texts"},
}
TECHNIQUE = re.compile(r"T[0-9]{4}(\.[0-9]{3})?")
GLOB_FIELDS = ("path",)


@dataclass(frozen=True, slots=True)
class Rule:
    """All conditions of ``where`` must hold; a list holds when one of it does."""

    id: str
    on: str
    severity: str
    title: str
    reason: str
    attack: tuple[str, ...]
    next: str
    where: Mapping[str, Any]

    def matches(self, facts: Mapping[str, Any]) -> bool:
        """Whether a thing's facts fit."""
        return all(_holds(name, wanted, facts.get(name)) for name, wanted in self.where.items())

    def finding(self, subject: str) -> Finding:
        """What it means for ``subject``."""
        return Finding(self.id, self.severity, self.title, self.reason, self.attack, subject, self.next, self.on)


def _holds(name: str, wanted: Any, fact: Any) -> bool:
    if isinstance(wanted, bool):
        return bool(fact) == wanted
    if name in GLOB_FIELDS:
        return any(_glob(pattern).fullmatch(str(fact)) is not None for pattern in wanted)
    return fact in wanted


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern), re.DOTALL)


def load_rules() -> tuple[Rule, ...]:
    """The shipped rules, and a user's own in front of them.  Raises ``PlaybookInvalid``."""
    return tuple(rule for path in resources.every("forensics/rules") for rule in read_rules(path))


def read_rules(path: Path) -> Iterator[Rule]:
    """The rules of one file."""
    doc, _ = documents.load(path)
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("Rules",))
    rules = doc.items("rules").docs()
    doc.done()
    for item in rules:
        yield _rule(item)


def _rule(doc: Doc) -> Rule:
    on = doc.choice("on", tuple(KINDS))
    attack = doc.texts("attack", None)
    for technique in attack:
        if not TECHNIQUE.fullmatch(technique):
            raise doc.places["attack"].error(f"not an ATT&CK technique id: {technique!r}")
    rule = Rule(
        doc.text("id"), on, doc.choice("severity", SEVERITIES), doc.text("title"), doc.text("reason"), attack, doc.text("next"),
        _where(doc.mapping("where"), KINDS[on]),
    )  # fmt: skip
    doc.done()
    return rule


def _where(doc: Doc, fields: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in fields.items():
        if name in doc.values:
            found[name] = doc.boolean(name) if kind == "flag" else doc.texts(name)
    if not found:
        raise doc.place.error("a rule needs a condition", f"known: {', '.join(fields)}")
    doc.allow(*fields)
    doc.done()
    return found


def evaluate(rules: Sequence[Rule], kind: str, facts: Mapping[str, Any], subject: str) -> Iterator[Finding]:
    """The findings that a thing causes."""
    for rule in rules:
        if rule.on == kind and rule.matches(facts):
            yield rule.finding(subject)
