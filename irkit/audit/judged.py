"""Checks of an image whose answer depends on the policy: its age, its base's age, known vulnerabilities, its packages."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from dateutil.parser import isoparse

from irkit.audit.model import Check, Json, Outcome, Subject, Unanswered, either, noted, passed, warned
from irkit.audit.policy import Policy
from irkit.audit.sbom import Sbom
from irkit.audit.vulnerabilities import Scan, outcome

BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
"""OCI image-spec, annotations.md; builders write them as labels too."""
EPOCH_ENDS = 1980
"""Reproducible builds write times around the epoch: they tell nothing."""
Judge = Callable[[Subject, Policy, datetime.date], Outcome]


def _image(subject: Subject) -> Json:
    if subject.image is None:
        raise Unanswered("there is no description of the image")
    return subject.image


def _day(value: object) -> datetime.date | None:
    """From RFC 3339, or from seconds since 1970 as ``GET /images/{name}/history`` has them; ``None``: it tells nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            found = datetime.datetime.fromtimestamp(value, datetime.UTC).date()
        except (ValueError, OverflowError, OSError):
            return None
    elif isinstance(value, str) and value:
        found = isoparse(value).date()
    else:
        return None
    return found if found.year >= EPOCH_ENDS else None


def _against(days: int, seen: str, most: int | None) -> Outcome:
    """A time that is still to come is no time: a builder who writes it would never be too old."""
    if days < -1 and most is not None:  # a clock may be a little ahead
        raise Unanswered(f"{seen}: that is in the future")
    return noted(seen) if most is None else either(days <= most, f"{seen}; the policy allows {most}")


def _age(subject: Subject, policy: Policy, today: datetime.date) -> Outcome:
    label = ((_image(subject).get("Config") or {}).get("Labels") or {}).get("org.opencontainers.image.created")
    made = _day(_image(subject).get("Created")) or _day(label)
    if made is None:
        raise Unanswered("the image does not tell when it was made")
    days = (today - made).days
    return _against(days, f"made {days} days ago, by its own word", policy.max_image_age_days)


def base_reference(image: Json) -> str:
    """``NAME@DIGEST`` of the base that an image's labels name, empty when they name none in a sane form."""
    labels = (image.get("Config") or {}).get("Labels") or {}
    name, digest = str(labels.get(BASE_NAME) or ""), str(labels.get(BASE_DIGEST) or "")
    if (
        not re.fullmatch(r"[a-z0-9][A-Za-z0-9._:/-]{0,254}", name)
        or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
        or ".." in name
    ):
        return ""
    repository, colon, tag = name.rpartition(":")
    return f"{repository if colon and '/' not in tag else name}@{digest}"


def _base_age(subject: Subject, policy: Policy, today: datetime.date) -> Outcome:
    """Proven where the engine has the base and its layers are the image's lowest; else the age of the oldest step."""
    image, base, most = _image(subject), subject.base, policy.max_base_age_days
    named = base_reference(image)
    if base is not None:
        layers = (base.get("RootFS") or {}).get("Layers") or []
        made = _day(base.get("Created"))
        if made is not None and layers and (image.get("RootFS") or {}).get("Layers", [])[: len(layers)] == layers:
            days = (today - made).days
            return _against(days, f"its base {named}, whose layers it has, was made {days} days ago", most)
    times = [one for one in (_day(row.get("Created")) for row in subject.history or ()) if one is not None]
    if not times:
        why = "the image's history tells no times" if subject.history else "the image's history could not be had"
        if most is None:
            return noted(f"{why}, and the policy sets no limit")
        raise Unanswered(why)
    days = (today - min(times)).days
    claim = f"; its labels name {named} as base, unproven" if named else "; no label names its base"
    return _against(days, f"the oldest step of its history is {days} days old, by its own word{claim}", most)


def _vulnerabilities(subject: Subject, policy: Policy, today: datetime.date) -> Outcome:
    if subject.scan is None:
        return noted("not scanned: `--scan`, or `vulnerabilities` in the policy, asks for it")
    if not isinstance(subject.scan, Scan):
        raise Unanswered(str(subject.scan))
    return outcome(subject.scan, policy.vulnerabilities, today)


def _packages(subject: Subject, policy: Policy, today: datetime.date) -> Outcome:
    found = subject.sbom
    if found is None:
        return noted("not listed: `--sbom`, or `sbom` in the policy, asks for it")
    if not isinstance(found, Sbom):
        raise Unanswered(str(found))
    seen = f"{found.packages} packages, by {found.tool}"
    return (
        passed(seen) if found.packages else warned(f"{seen}: nothing in it can be held against known vulnerabilities")
    )


def _alone(judge: Judge) -> Callable[[Subject], Outcome]:
    return lambda subject: judge(subject, Policy(), datetime.datetime.now(datetime.UTC).date())


JUDGES: dict[str, Judge] = {
    "image-age": _age,
    "base-age": _base_age,
    "vulnerabilities": _vulnerabilities,
    "sbom": _packages,
}
CHECKS = tuple(
    Check(name, title, "image", severity, fix, _alone(JUDGES[name]))
    for name, title, severity, fix in (
        ("image-age", "The image is not too old", "medium", "Rebuild it from a current base."),
        ("base-age", "The image's base is not too old", "medium", "Build it from a current base, and have the build name its base in labels."),
        ("vulnerabilities", "No known vulnerability that the policy refuses", "high", "Update the packages, or rebuild from a base that has the fixes."),
        ("sbom", "The image's packages are listed", "low", "Install packages by a package manager, so that they can be listed."),
    )
)  # fmt: skip
