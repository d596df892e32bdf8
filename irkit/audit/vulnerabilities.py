"""Known vulnerabilities of an image as a scanner reports them, and which of them the policy refuses."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dateutil.parser import isoparse

from irkit.audit.model import SEVERITIES, Outcome

ALL_SEVERITIES = (*SEVERITIES, "negligible", "unknown")
"""Most severe first; ``unknown``: nobody has rated it yet."""


@dataclass(frozen=True, slots=True, order=True)
class Vulnerability:
    """One vulnerability of one package.  ``fixed``: the version (or versions) that has the fix, empty when there is none."""

    id: str
    package: str
    version: str
    fixed: str
    severity: str

    def to_json(self) -> dict[str, str]:
        """The first fields of a row of ``scans[].vulnerabilities``."""
        return {"id": self.id, "package": self.package, "version": self.version, "fixed": self.fixed, "severity": self.severity}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scanner said.  ``built``: the day and time of its database, empty when it does not tell; ``packages``: how
    many it saw, ``None`` when it does not tell; ``notes``: what makes the answer less than it seems."""

    scanner: str
    version: str
    image: str
    built: str
    packages: int | None
    vulnerabilities: tuple[Vulnerability, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """A vulnerability (fnmatch) that is let pass in packages (fnmatch), up to and with a day (UTC)."""

    id: str
    package: str
    reason: str
    until: datetime.date


@dataclass(frozen=True, slots=True)
class ScanRules:
    """``scanner``: a name, or ``auto`` for the first that is installed and keeps the image to itself; ``fail_on``: from
    which severity a vulnerability is refused; ``only_fixed``: only where there is a fix; ``offline``: no updates."""

    scanner: str = "auto"
    fail_on: str = "high"
    only_fixed: bool = False
    max_database_age_days: int | None = None
    offline: bool = False
    seconds: int = 600
    ignore: tuple[Ignored, ...] = ()

    def ignored(self, one: Vulnerability, today: datetime.date) -> Ignored | None:
        """The first entry that holds today."""
        for entry in self.ignore:
            if fnmatchcase(one.id, entry.id) and fnmatchcase(one.package, entry.package) and today <= entry.until:
                return entry
        return None


@dataclass(frozen=True, slots=True)
class Judged:
    """A vulnerability and what the policy says: ``refused``, ``accepted``, ``ignored``."""

    vulnerability: Vulnerability
    state: str
    reason: str = ""

    def to_json(self) -> dict[str, str]:
        """A row of ``scans[].vulnerabilities``."""
        return {**self.vulnerability.to_json(), "state": self.state, "reason": self.reason}


def judge(scan: Scan, rules: ScanRules, today: datetime.date) -> tuple[Judged, ...]:
    """Each vulnerability, most severe first."""
    refused = SEVERITIES[: SEVERITIES.index(rules.fail_on) + 1]
    found = []
    for one in sorted(scan.vulnerabilities, key=lambda it: (ALL_SEVERITIES.index(it.severity), it)):
        entry = rules.ignored(one, today)
        if entry is not None:
            found.append(Judged(one, "ignored", f"{entry.reason} (until {entry.until})"))
        elif one.severity in refused and (one.fixed or not rules.only_fixed):
            found.append(Judged(one, "refused"))
        else:
            found.append(Judged(one, "accepted"))
    return tuple(found)


def outcome(scan: Scan, rules: ScanRules, today: datetime.date) -> Outcome:
    """The answer on an image.  Fails with the severity of the worst that is refused; an old or undated database, where
    the policy sets a limit, and no packages at all are ``unknown``; what nobody has rated is for a person to judge."""
    rows = judge(scan, rules, today)
    refused = [one.vulnerability for one in rows if one.state == "refused"]
    seen = _seen(scan, rows)
    if refused:
        worst = refused[0]
        more = f"; worst: {worst.id} in {worst.package} {worst.version}{f', fixed in {worst.fixed}' if worst.fixed else ''}"
        return Outcome("fail", f"{len(refused)} refused by the policy{more}; {seen}", worst.severity)
    if scan.packages == 0:
        return Outcome("unknown", f"the scanner found no packages: it can't say anything; {seen}")
    stale = _stale(scan, rules, today)
    if stale:
        return Outcome("unknown", f"{stale}; {seen}")
    unrated = sum(one.vulnerability.severity == "unknown" and one.state == "accepted" for one in rows)
    if unrated or scan.notes:
        return Outcome("warn", f"{f'{unrated} that nobody has rated; ' if unrated else ''}{seen}")
    return Outcome("pass", seen)


def _stale(scan: Scan, rules: ScanRules, today: datetime.date) -> str:
    most = rules.max_database_age_days
    if most is None:
        return ""
    try:
        days = (today - isoparse(scan.built).date()).days
    except ValueError:
        return "the scanner does not tell how old its database is"
    if days < -1:  # a clock may be a little ahead
        return f"the scanner's database is of the future, {scan.built[:10]}"
    return f"the scanner's database is {days} days old; the policy allows {most}" if days > most else ""


def _seen(scan: Scan, rows: Sequence[Judged]) -> str:
    count = Counter(one.vulnerability.severity for one in rows)
    found = ", ".join(f"{count[one]} {one}" for one in ALL_SEVERITIES if count[one]) or "none known"
    ignored = sum(one.state == "ignored" for one in rows)
    parts = [
        f"{scan.scanner} {scan.version}: {found}", f"{ignored} ignored by the policy" if ignored else "",
        f"{scan.packages} packages" if scan.packages is not None else "it does not tell how many packages it saw",
        f"database of {scan.built[:10]}" if scan.built else "its database's day is not told", *scan.notes,
    ]  # fmt: skip
    return "; ".join(one for one in parts if one)


def scan_json(scan: Scan, subjects: Sequence[str], rules: ScanRules, today: datetime.date) -> dict[str, Any]:
    """An object of ``scans``.  ``subjects``: whose image it is."""
    rows = judge(scan, rules, today)
    return {
        "image": scan.image, "subjects": list(subjects), "scanner": scan.scanner, "version": scan.version, "database_built": scan.built or None,
        "packages": scan.packages, "notes": list(scan.notes), "fail_on": rules.fail_on, "vulnerabilities": [one.to_json() for one in rows],
    }  # fmt: skip
