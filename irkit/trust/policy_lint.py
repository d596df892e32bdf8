"""What is odd about a trust policy, beyond what is an error: for ``irkit image policy lint``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

from irkit.clock import now, rfc3339
from irkit.documents import Place
from irkit.trust.model import NAMELESS, TrustKey
from irkit.trust.policy import Policy, Rule

SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Remark:
    """``level``: ``error`` (it accepts nothing, or not what it seems to) or ``warning``."""

    level: str
    rule: str
    place: Place
    message: str

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit.policy-lint/v1``."""
        return {
            "level": self.level,
            "rule": self.rule,
            "line": self.place.line,
            "column": self.place.column,
            "message": self.message,
        }


def lint(policy: Policy) -> list[Remark]:
    """All remarks, by line."""
    found = [*_file(policy), *_keys(policy), *_patterns(policy)]
    for rule in policy.rules:
        if not rule.deny:
            found += _rule(rule)
    return sorted(found, key=lambda one: (one.place.line, one.place.column, one.rule))


def _file(policy: Policy) -> Iterator[Remark]:
    with contextlib.suppress(OSError):
        if policy.path.stat().st_mode & 0o022:
            yield Remark(
                "error", "writable", Place(str(policy.path), 1, 1), "others may write to the policy: chmod go-w"
            )


def _keys(policy: Policy) -> Iterator[Remark]:
    used = {key.name for rule in policy.rules for key in rule.keys}
    first: dict[str, TrustKey] = {}
    for key in policy.keys.values():
        place = key.place or Place(str(policy.path), 1, 1)
        if said := key.objection():
            yield Remark("warning", "dead-key", place, f"the key {key.name} can't vouch: {said}")
        elif key.validity.until and key.validity.until < rfc3339((datetime.now(UTC) + SOON).timestamp()):
            yield Remark("warning", "key-ends-soon", place, f"the key {key.name} is good until {key.validity.until}")
        if any(one.not_valid_after_utc < datetime.now(UTC) for one in key.certificates):
            yield Remark("warning", "dead-key", place, f"the certificate of {key.name} has expired")
        if key.certificates and not key.identities:
            yield Remark(
                "warning",
                "any-identity",
                place,
                f"{key.name}: every certificate that it issued for code signing may sign",
            )
        if key.name not in used:
            yield Remark("warning", "unused-key", place, f"no rule uses the key {key.name}")
        if key.id in first:
            yield Remark(
                "warning", "same-key", place, f"{key.name} and {first[key.id].name} are one key: it counts once"
            )
        first.setdefault(key.id, key)


def _patterns(policy: Policy) -> Iterator[Remark]:
    for rule in policy.rules:
        if rule.pattern.text in ("**", "*/**") and not rule.deny:
            yield Remark(
                "warning",
                "matches-everything",
                rule.place,
                f"{rule.pattern.text} matches every repository of every registry",
            )
        elif not rule.deny and _of_anybody(rule.pattern.parts[0]):
            yield Remark(
                "warning",
                "any-registry",
                rule.place,
                f"{rule.pattern.text}: registries of anybody fit {rule.pattern.parts[0]}; only *.DOMAIN.TLD keeps to one owner's",
            )
    for one, other in combinations(policy.rules, 2):
        if one.pattern.rank == other.pattern.rank and one.pattern.overlaps(other.pattern):
            same = all(part in ("*", "**") or "*" not in part for part in (*one.pattern.parts, *other.pattern.parts))
            level, name = ("error", "unreachable") if same else ("warning", "ambiguous")
            yield Remark(
                level, name, other.place,
                f"{other.pattern.text} is as specific as {one.pattern.text} in line {one.place.line}, which counts where both match",
            )  # fmt: skip


def _of_anybody(registry: str) -> bool:
    """Whether a ``*`` in a registry's name reaches over what one owner has: ``registry.example*`` is also ``registry.example.net``."""
    head, _, domain = registry.partition(".")
    return "*" in registry and not (head == "*" and "*" not in domain and "." in domain)


def _rule(rule: Rule) -> Iterator[Remark]:
    distinct = {key.id for key in rule.keys}
    alive = {key.id for key in rule.keys if not key.objection()}
    if rule.threshold > len(distinct):
        yield Remark(
            "error", "threshold", rule.place, f"{rule.threshold} keys are needed, and there are {len(distinct)}"
        )
    elif rule.threshold > len(alive):
        yield Remark(
            "error",
            "threshold",
            rule.place,
            f"{rule.threshold} keys are needed, and {len(alive)} can vouch as of {now()}",
        )
    for key in rule.keys:
        if not set(key.kinds) & set(rule.accept):
            yield Remark(
                "warning", "useless-key", rule.place, f"the key {key.name} can make none of {', '.join(rule.accept)}"
            )
    nameless = [kind for kind in rule.accept if kind in NAMELESS]
    if nameless and not rule.nameless:
        level = "error" if len(nameless) == len(rule.accept) else "warning"
        yield Remark(
            level,
            "nameless",
            rule.place,
            f"{', '.join(nameless)} name no repository, and are refused without `without_repository: accept`",
        )
    if rule.nameless and "*" in rule.pattern.text:
        yield Remark(
            "warning",
            "copied",
            rule.place,
            "a signature without a repository's name counts for every repository of the pattern",
        )
    if not rule.minimum_version and not rule.only:
        yield Remark(
            "warning",
            "rollback",
            rule.place,
            "an older image that was signed well is accepted: there is neither `minimum_version` nor `digests`",
        )
    if "content-trust" in rule.accept:
        yield Remark(
            "warning", "retired", rule.place, "Docker Content Trust is retired: notary.docker.io ends on 2026-12-08"
        )
    both = set(rule.only) & set(rule.revoked)
    if rule.only and both == set(rule.only):
        yield Remark("error", "nothing-left", rule.place, "every allowed digest is revoked")
