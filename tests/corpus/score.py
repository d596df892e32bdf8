"""Precision and recall of an ``irkit diff --json`` (v1: changes only; v2: findings and folded counts too) against the truth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from tests.corpus.stage import Staged
from tests.corpus.truth import Plant

SEVERITIES = ("critical", "high", "medium", "low", "info")
NAMES = ("subject", "path", "file")
"""Fields of a finding that may name what it is about."""


@dataclass(frozen=True)
class Score:
    """``found``, ``missed``: ids of plants; a plant counts as found when a finding names it, with a technique and a severity that fit.

    ``weak``: missed, though findings name it, with other techniques or a lower severity.  ``unplanted``: findings that are about nothing that
    was planted.  ``unaccounted``: staged changes that are neither listed nor in a folded count.
    ``raw``: what is wrong with the raw changes of plants.  ``spurious``: raw changes that nobody staged.
    """

    found: tuple[str, ...]
    missed: tuple[str, ...]
    weak: tuple[str, ...]
    explained: int
    unplanted: tuple[str, ...]
    unaccounted: tuple[Staged, ...]
    raw: tuple[str, ...]
    spurious: tuple[str, ...]

    @property
    def recall(self) -> float:
        """Of what was planted, how much was found; 0 to 1."""
        return len(self.found) / ((len(self.found) + len(self.missed)) or 1)

    @property
    def precision(self) -> float:
        """Of the findings, how many are about something planted; 0 to 1."""
        return self.explained / ((self.explained + len(self.unplanted)) or 1)

    def words(self) -> str:
        """For people."""
        counts = f"({len(self.found)} of {len(self.found) + len(self.missed)})"
        return "\n".join(
            [
                *(f"raw: {one}" for one in self.raw),
                *(f"unaccounted: {one.path} ({one.group})" for one in self.unaccounted[:20]),
                *(f"spurious: {one}" for one in self.spurious[:20]),
                *(f"not planted: {one}" for one in self.unplanted[:50]),
                *(f"missed: {one}{' (weak)' if one in self.weak else ''}" for one in self.missed),
                f"recall {self.recall:.3f} {counts}, precision {self.precision:.3f}",
            ]
        )


def score(document: Mapping[str, Any], truth: Sequence[Plant], staged: Sequence[Staged], seen: Iterable[str]) -> Score:
    """``seen``: which kinds of plants (:data:`tests.corpus.truth.SEEN`) this side can know of, and so which origins it lists."""
    kinds = set(seen)
    plants = [one for one in truth if one.seen in kinds]
    origins = {"layer"} | (kinds & {"tmpfs", "volume"})
    rows = {(one.get("origin", "layer"), one["path"]): one for one in document["changes"]}
    found, weak = [], []
    findings = document.get("findings", ())
    for plant in plants:
        named = [one for one in findings if names(one, plant.match)]
        if any(_fits(one, plant) for one in named):
            found.append(plant.id)
        elif named:
            weak.append(plant.id)
    about = [any(names(one, plant.match) or _also(one, plant) for plant in truth) for one in findings]
    return Score(
        tuple(found),
        tuple(plant.id for plant in plants if plant.id not in found),
        tuple(weak),
        sum(about),
        tuple(
            f"{one['severity']} {one['rule']}: {one['subject']}"
            for one, known in zip(findings, about, strict=True)
            if not known
        ),
        _unaccounted(document, rows, [one for one in staged if one.origin in origins]),
        tuple(
            filter(None, (change.wrong(_row(rows, plant, change.path)) for plant in plants for change in plant.changes))
        ),
        _spurious(rows, truth, staged),
    )


def _row(rows: Mapping[tuple[str, str], Mapping[str, Any]], plant: Plant, path: str) -> Mapping[str, Any] | None:
    return rows.get((plant.seen if plant.seen in ("tmpfs", "volume") else "layer", path))


def names(finding: Mapping[str, Any], wanted: Iterable[str]) -> bool:
    """Whether a finding is about one of these: a path, a name, a number as a whole word of its subject, however it is put."""
    texts = [str(finding[name]) for name in NAMES if finding.get(name)]
    return any(_word(one).search(text) is not None for one in wanted for text in texts)


@cache
def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w/.-]){re.escape(text)}(?![\w/-]|\.\w)")


def _also(finding: Mapping[str, Any], plant: Plant) -> bool:
    subject = str(finding["subject"])
    return any(
        fnmatchcase(subject, glob) or names(finding, (glob,))
        for glob in (*plant.also, *(one.path for one in plant.changes))
    )


def _fits(finding: Mapping[str, Any], plant: Plant) -> bool:
    severe = SEVERITIES.index(finding["severity"]) <= SEVERITIES.index(plant.severity)
    return severe and bool(plant.attack & set(finding["attack"]))


def _unaccounted(
    document: Mapping[str, Any], rows: Mapping[tuple[str, str], Mapping[str, Any]], staged: Sequence[Staged]
) -> tuple[Staged, ...]:
    """What is listed in no way.  Folded ones that the list leaves out are known by their number alone."""
    missing = tuple(one for one in staged if rows.get((one.origin, one.path), {}).get("change") != one.change)
    shown = sum(bool(one.get("noise")) for one in rows.values())
    folded = document.get("folded", {})
    left_out = sum(folded.values() if isinstance(folded, dict) else ()) - shown
    return missing if len(missing) > left_out else ()


def _spurious(
    rows: Mapping[tuple[str, str], Mapping[str, Any]], truth: Sequence[Plant], staged: Sequence[Staged]
) -> tuple[str, ...]:
    known = {(one.origin, one.path) for one in staged}
    paths = {change.path for plant in truth for change in plant.changes}
    globs = [glob for plant in truth for glob in plant.also]
    return tuple(
        path for origin, path in rows
        if (origin, path) not in known and path not in paths and not any(fnmatchcase(path, glob) for glob in globs)
    )  # fmt: skip
