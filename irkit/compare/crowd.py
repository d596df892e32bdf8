"""Findings of one rule by the thousand, which an attacker can make to bury another one's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from irkit.models import SEVERITIES, Finding


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """The most severe first; of one severity, those of the rule with the fewest: what there are thousands of comes last."""
    found = list(findings)
    order = {name: number for number, name in enumerate(SEVERITIES)}
    crowd = Counter((one.severity, one.rule) for one in found)
    found.sort(key=lambda one: (order[one.severity], crowd[one.severity, one.rule], one.rule, one.subject))
    return found


def few(findings: Iterable[Finding], each: int) -> Iterator[tuple[Finding, int]]:
    """The first ``each`` of every rule, in order; with the last of them how many more of its rule there are, else 0."""
    found = list(findings)
    left, seen = Counter(one.rule for one in found), Counter[str]()
    for one in found:
        seen[one.rule] += 1
        if seen[one.rule] <= each:
            yield one, left[one.rule] - each if seen[one.rule] == each else 0
