"""Trivy, Grype and Docker Scout: how each is started on a saved image, and how its report is read.

None of them is given a name that it could pull, only an archive as ``docker save`` writes it.  Formats: Trivy's
``pkg/types/report.go`` (SchemaVersion 2), Grype's ``grype/presenter/models``, Docker Scout's SARIF 2.1.0
(docs.docker.com/reference/cli/docker/scout/cves).  What they print holds names that an attacker chose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from irkit.audit.model import SEVERITIES
from irkit.audit.programs import Limits, ProgramFailed, document, find, run
from irkit.audit.vulnerabilities import Scan, ScanRules, Vulnerability

Json = Mapping[str, Any]
COUNT_LIMIT = 100_000
TEXT_LIMIT = 512
SHAPE = (TypeError, ValueError, KeyError, AttributeError, IndexError)
PURL = re.compile(r"pkg:[^\s|]{1,1000}")
SYSTEM = ("deb", "rpm", "apk", "alpm")


@dataclass(frozen=True, slots=True)
class Scanner:
    """``own``: whether ``auto`` may choose it: it does not send what the image holds to somebody else's service."""

    name: str
    program: str
    arguments: Callable[[Path], tuple[str, ...]]
    read: Callable[[Json], Scan]
    offline: Mapping[str, str]
    always: Mapping[str, str]
    own: bool = True


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return cut(value)


def cut(value: object) -> str:
    """A short text that can be written as UTF-8: JSON may hold half of a surrogate pair."""
    return str(value or "")[:TEXT_LIMIT].encode("utf-8", "backslashreplace").decode()[:TEXT_LIMIT]


def _severity(word: object) -> str:
    """Grype has ``Negligible`` below low; Docker Scout calls what is not rated UNSPECIFIED."""
    lower = str(word or "").lower()
    return lower if lower in SEVERITIES or lower == "negligible" else "unknown"


def _all(found: Iterable[Vulnerability]) -> tuple[Vulnerability, ...]:
    """Each once: scanners repeat what several paths have."""
    rows = set()
    for one in found:
        rows.add(one)
        if len(rows) > COUNT_LIMIT:
            raise ProgramFailed(f"the report holds more than {COUNT_LIMIT} vulnerabilities")
    return tuple(sorted(rows))


def read_trivy(raw: Json) -> Scan:
    """A report of ``trivy image --format json --list-all-pkgs``."""
    if raw["SchemaVersion"] != 2:
        raise ValueError("not SchemaVersion 2")
    results = list(raw.get("Results") or ())
    found = _all(
        Vulnerability(
            _text(one["VulnerabilityID"]), _text(one["PkgName"]), _text(one["InstalledVersion"]), _text(one.get("FixedVersion") or ""),
            _severity(one.get("Severity")),
        )
        for result in results for one in result.get("Vulnerabilities") or ()
    )  # fmt: skip
    packages = sum(len(result.get("Packages") or ()) for result in results)
    system = (raw.get("Metadata") or {}).get("OS") or {}
    name = cut(f"{system.get('Family')} {system.get('Name')}")
    notes = [f"{name} gets no more security updates: what is found since is not known"] if system.get("EOSL") else []
    if not system:
        notes.append("it recognised no operating system: packages of one are not looked at")
    hidden = sum(len(result.get("ExperimentalModifiedFindings") or ()) for result in results)
    notes += [f"{hidden} hidden by the scanner's own configuration"] if hidden else []
    version = cut((raw.get("Trivy") or {}).get("Version"))
    return Scan("trivy", version, "", "", packages or len(found), found, tuple(notes))


def read_grype(raw: Json) -> Scan:
    """A report of ``grype -o json``."""
    found = _all(_grype_match(one) for one in raw["matches"])
    about = raw["descriptor"]
    database = about.get("db") or {}
    built = cut((database.get("status") or database).get("built"))[:40]
    notes = [] if (raw.get("distro") or {}).get("name") else ["it recognised no operating system"]
    hidden = len(raw.get("ignoredMatches") or ())
    notes += [f"{hidden} hidden by the scanner's own configuration"] if hidden else []
    return Scan("grype", _text(about["version"]), "", built, None, found, tuple(notes))


def _grype_match(one: Json) -> Vulnerability:
    vulnerability, package = one["vulnerability"], one["artifact"]
    fix = vulnerability.get("fix") or {}
    versions = (
        ", ".join(str(item) for item in fix.get("versions") or ()) if fix.get("state", "fixed") == "fixed" else ""
    )
    return Vulnerability(
        _text(vulnerability["id"]), _text(package["name"]), _text(package["version"]), cut(versions), _severity(vulnerability.get("severity"))
    )  # fmt: skip


def read_scout(raw: Json) -> Scan:
    """A report of ``docker scout cves --format sarif``.  A rule's fix is that of one of its packages only, so what a
    result's own message says comes first."""
    (one,) = raw["runs"]
    driver = one["tool"]["driver"]
    rules = {_text(rule["id"]): rule.get("properties") or {} for rule in driver.get("rules") or ()}
    found = _all(_scout_result(row, rules[_text(row["ruleId"])]) for row in one["results"] or ())
    notes = () if found else ("it tells neither packages nor system: nothing found may be nothing seen",)
    return Scan("scout", cut(driver.get("version")), "", "", None, found, notes)


def _scout_result(row: Json, properties: Json) -> Vulnerability:
    message = str((row.get("message") or {}).get("text") or "")
    fields = {
        name.strip(): value.strip()
        for name, colon, value in (line.partition(":") for line in message.splitlines())
        if colon
    }
    named = PURL.search(fields.get("Package", "")) or PURL.search(message)
    purl = named[0] if named else str((properties.get("purls") or [properties.get("purl")])[0] or "")
    fixed = fields.get("Fixed version", str(properties.get("fixed_version") or "") if not named else "")
    package, version = _purl(purl)
    return Vulnerability(
        _text(row["ruleId"]), package, version, "" if fixed.lower() == "not fixed" else cut(fixed), _severity(properties.get("cvssV3_severity")),
    )  # fmt: skip


def _purl(purl: str) -> tuple[str, str]:
    """Name and version of a package URL (package-url/purl-spec); a distribution's name is left out."""
    kind, _, rest = purl.removeprefix("pkg:").partition("/")
    path, _, version = re.split(r"[?#]", rest)[0].rpartition("@")
    if not path:
        path, version = version, ""
    name = path.rpartition("/")[2] if kind in SYSTEM else path
    return cut(unquote(name)), cut(unquote(version))


def _trivy_arguments(archive: Path) -> tuple[str, ...]:
    return (
        "image", "--input", str(archive), "--format", "json", "--quiet", "--scanners", "vuln", "--list-all-pkgs",
        "--severity", "UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL", "--timeout", "24h",
    )  # fmt: skip


SCANNERS = {
    one.name: one
    for one in (
        Scanner(
            "trivy", "trivy", _trivy_arguments, read_trivy,
            {"TRIVY_SKIP_DB_UPDATE": "true", "TRIVY_SKIP_JAVA_DB_UPDATE": "true", "TRIVY_OFFLINE_SCAN": "true"},
            {"TRIVY_SKIP_VERSION_CHECK": "true", "TRIVY_DISABLE_TELEMETRY": "true"},
        ),
        Scanner(
            "grype", "grype", lambda archive: (f"docker-archive:{archive}", "-o", "json", "-q"), read_grype,
            {"GRYPE_DB_AUTO_UPDATE": "false"}, {"GRYPE_CHECK_FOR_APP_UPDATE": "false"},
        ),
        Scanner(
            "scout", "docker", lambda archive: ("scout", "cves", "--format", "sarif", f"archive://{archive}"), read_scout, {}, {}, own=False,
        ),
    )
}  # fmt: skip
"""By name, in the order in which ``auto`` looks for them."""


def choose(rules: ScanRules) -> tuple[Scanner, str]:
    """The scanner that the policy names, else the first that is installed, and where it lies.  Raises ``ProgramFailed``."""
    named = [SCANNERS[rules.scanner]] if rules.scanner != "auto" else [one for one in SCANNERS.values() if one.own]
    for one in named:
        path = find(one.program)
        if path is not None:
            if rules.offline and not one.own:
                raise ProgramFailed(f"{one.name} asks its maker's service, and the policy says offline")
            return one, path
    raise ProgramFailed(f"no scanner is installed: {' and '.join(one.program for one in named)} not on PATH")


def scan(archive: Path, image: str, rules: ScanRules, limits: Limits) -> tuple[Scan, bytes]:
    """Have an image that was saved scanned: what it says, and its report as printed.  Raises ``ProgramFailed``."""
    scanner, path = choose(rules)
    extra = {**scanner.always, **(scanner.offline if rules.offline else {})}
    report = run([path, *scanner.arguments(archive)], archive.parent, limits, extra)
    found = parse(scanner, report)
    version, built = found.version, found.built
    if scanner.name == "trivy":
        version, built = _trivy_database(path, archive.parent, limits, extra, version)
    return Scan(found.scanner, version, image, built, found.packages, found.vulnerabilities, found.notes), report


def parse(scanner: Scanner, report: bytes) -> Scan:
    """A report.  Raises ``ProgramFailed`` for one of another form: it is never taken for a good one."""
    try:
        return scanner.read(document(report, scanner.name))
    except SHAPE as error:
        raise ProgramFailed(
            f"{scanner.name}'s report has another form than expected ({type(error).__name__})"
        ) from error


def _trivy_database(path: str, folder: Path, limits: Limits, extra: Mapping[str, str], version: str) -> tuple[str, str]:
    """Trivy's report says nothing of its database: ``trivy version`` does, asked afterwards, as a scan may update it."""
    try:
        about = document(run([path, "version", "--format", "json"], folder, limits, extra), "trivy")
    except ProgramFailed:
        return version, ""
    database = about.get("VulnerabilityDB")
    built = cut(database.get("UpdatedAt"))[:40] if isinstance(database, dict) else ""
    return cut(about.get("Version") or version), built
