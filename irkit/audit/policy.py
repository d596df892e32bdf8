"""The policy: exceptions with a reason and an end, from which severity an audit fails, how old an image may be, and
which known vulnerabilities are refused."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from irkit import documents
from irkit.audit.model import SEVERITIES, Finding
from irkit.audit.sbom import FORMATS
from irkit.audit.scanners import SCANNERS
from irkit.audit.vulnerabilities import Ignored, ScanRules
from irkit.documents import Doc
from irkit.home import home

LONGEST = datetime.timedelta(days=730)
"""How far away the end of an exception may be."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """A check that is let pass on subjects that match a pattern (fnmatch), up to and with a day (UTC)."""

    check: str
    subject: str
    reason: str
    until: datetime.date


@dataclass(frozen=True, slots=True)
class Policy:
    """``fail_on``: a severity, or empty for never; ``rebuild``: the same for what a rebuild would make.  Days: ``None``
    where age is not judged.  ``scan``: whether ``vulnerabilities`` stands in the policy; ``sbom``: a form, or empty."""

    exceptions: tuple[Exemption, ...] = ()
    fail_on: str = ""
    max_image_age_days: int | None = None
    max_base_age_days: int | None = None
    rebuild: str = ""
    scan: bool = False
    vulnerabilities: ScanRules = field(default_factory=ScanRules)
    sbom: str = ""

    def exception(self, finding: Finding, today: datetime.date) -> Exemption | None:
        """The first that holds today."""
        for one in self.exceptions:
            if one.check == finding.check.id and fnmatchcase(finding.subject, one.subject) and today <= one.until:
                return one
        return None


def load_policy(path: Path | None, known: Collection[str]) -> Policy:
    """The policy at ``path``, else ``IRKIT_HOME/audit.yaml``, else an empty one; ``known``: the ids of checks.

    Raises ``PlaybookInvalid`` naming file, line and column.
    """
    if path is None:
        path = home() / "audit.yaml"
        if not path.exists():
            return Policy()
    return read_policy(documents.load(path)[0], known)


def read_policy(doc: Doc, known: Collection[str]) -> Policy:
    """A policy from a document.  Raises ``PlaybookInvalid``."""
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("AuditPolicy",))
    exceptions = tuple(_exception(one, known) for one in doc.items("exceptions", ()).docs())
    policy = Policy(
        exceptions, doc.choice("fail_on", SEVERITIES, ""), _days(doc, "max_image_age_days"), _days(doc, "max_base_age_days"),
        doc.choice("rebuild", SEVERITIES, ""), "vulnerabilities" in doc.values, _scan_rules(doc.mapping("vulnerabilities", None)),
        doc.choice("sbom", tuple(FORMATS), ""),
    )  # fmt: skip
    doc.done()
    return policy


def _days(doc: Doc, key: str) -> int | None:
    days: int | None = doc.integer(key, None)
    if days is not None and days < 0:
        raise doc.places[key].error(f"{key!r} is negative")
    return days


def _scan_rules(doc: Doc) -> ScanRules:
    seconds = doc.integer("timeout", ScanRules().seconds)
    if seconds <= 0:
        raise doc.places["timeout"].error("'timeout' must be a number of seconds above 0")
    found = ScanRules(
        doc.choice("scanner", ("auto", *SCANNERS), "auto"), doc.choice("fail_on", SEVERITIES, "high"), doc.boolean("only_fixed", False),
        _days(doc, "max_database_age_days"), doc.boolean("offline", False), seconds,
        tuple(_ignored(one) for one in doc.items("ignore", ()).docs()),
    )  # fmt: skip
    doc.done()
    return found


def _ignored(doc: Doc) -> Ignored:
    found = Ignored(doc.text("id"), doc.text("package", "*"), _reason(doc), _until(doc))
    doc.done()
    return found


def _exception(doc: Doc, known: Collection[str]) -> Exemption:
    check = doc.text("check")
    if check not in known:
        raise doc.places["check"].error(f"no check {check!r}", "`irkit audit --list` names all; quote the number")
    found = Exemption(check, doc.text("subject", "*"), _reason(doc), _until(doc))
    doc.done()
    return found


def _reason(doc: Doc) -> str:
    reason = doc.text("reason")
    if not reason.strip():
        raise doc.places["reason"].error("an exception needs a reason")
    return reason


def _until(doc: Doc) -> datetime.date:
    """An exception without an end is a change of the policy, and one that ends after everybody has left has none."""
    try:
        day = datetime.date.fromisoformat(doc.text("until"))
    except ValueError as error:
        raise doc.places["until"].error("'until' must be a day, as 2027-01-31") from error
    if day - datetime.datetime.now(datetime.UTC).date() > LONGEST:
        raise doc.places["until"].error(
            f"'until' is more than {LONGEST.days} days away", "somebody must look at it again before that"
        )
    return day
