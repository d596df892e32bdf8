"""The policy: exceptions with a reason and an end, from which severity an audit fails, how old an image may be."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from irkit import documents
from irkit.audit.model import SEVERITIES, Finding
from irkit.documents import Doc
from irkit.home import home


@dataclass(frozen=True, slots=True)
class Exemption:
    """A check that is let pass on subjects that match a pattern (fnmatch), up to and with a day (UTC)."""

    check: str
    subject: str
    reason: str
    until: datetime.date


@dataclass(frozen=True, slots=True)
class Policy:
    """``fail_on``: a severity, or empty for never.  ``max_image_age_days``: ``None`` where age is not judged."""

    exceptions: tuple[Exemption, ...] = ()
    fail_on: str = ""
    max_image_age_days: int | None = None

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
    fail_on = doc.choice("fail_on", SEVERITIES, "")
    days: int | None = doc.integer("max_image_age_days", None)
    if days is not None and days < 0:
        raise doc.places["max_image_age_days"].error("'max_image_age_days' is negative")
    doc.done()
    return Policy(exceptions, fail_on, days)


def _exception(doc: Doc, known: Collection[str]) -> Exemption:
    check, reason, day = doc.text("check"), doc.text("reason"), doc.text("until")
    if check not in known:
        raise doc.places["check"].error(f"no check {check!r}", "`irkit audit --list` names all; quote the number")
    if not reason.strip():
        raise doc.places["reason"].error("an exception needs a reason")
    try:
        until = datetime.date.fromisoformat(day)
    except ValueError as error:
        raise doc.places["until"].error("'until' must be a day, as 2027-01-31") from error
    found = Exemption(check, doc.text("subject", "*"), reason, until)
    doc.done()
    return found
