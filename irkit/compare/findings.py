"""Findings from a bundle, and its changes: what a run and the report say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from irkit.compare.comparison import Comparison
from irkit.compare.content import TextDiff
from irkit.compare.evidence import Evidence
from irkit.compare.noise import Noise
from irkit.compare.originals import Originals
from irkit.compare.verdicts import Verdicts
from irkit.evidence.reader import BundleReader
from irkit.models import Change, Finding

DIFFS_EACH = 10
"""Texts of one rule whose diffs are kept: what an attacker makes a thousand of must not bury another one."""


def bundle_changes(reader: BundleReader) -> Iterator[Change]:
    """Every change that the bundle holds: disk, tmpfs, volumes.  Raises ``UsageProblem`` when it holds no list of them."""
    yield from Evidence(reader).required().changes()


def bundle_findings(
    reader: BundleReader, verdicts: Verdicts | None = None, *, originals: Originals | None = None
) -> list[Finding]:
    """All findings, the most severe first, each once.  ``originals``: for a verified bundle, what others like it hold."""
    return bundle_comparison(reader, verdicts, originals=originals).findings


@dataclass(frozen=True, slots=True)
class Judged:
    """A comparison, and what was changed in the texts that have a finding: the first ``limit`` of them, and how many more."""

    comparison: Comparison
    diffs: tuple[TextDiff, ...]
    more: int

    def folded(self, noise: Noise) -> Iterator[tuple[str, str, int]]:
        """``(group, title, count)`` of the changes that are folded as noise, the largest first."""
        titles = {group.id: group.title for group in noise.groups}
        for name, count in self.comparison.counts.folded.most_common():
            yield name, titles.get(name, ""), count


def bundle_judged(reader: BundleReader, verdicts: Verdicts, limit: int) -> Judged:
    """A bundle held against its image, with the text diffs of what has a finding: of no rule alone more than :data:`DIFFS_EACH`."""
    found = Comparison(verdicts, diffs=True)
    diffs: list[TextDiff] = []
    seen = Counter[str]()
    more = 0
    for row in found.of_evidence(Evidence(reader)):
        if row.rules and row.diff is not None and row.diff.lines:
            seen.update(row.rules)
            shown = len(diffs) < limit and any(seen[rule] <= DIFFS_EACH for rule in row.rules)
            more += not shown
            diffs += [row.diff] if shown else []
    return Judged(found, tuple(diffs), more)


def bundle_comparison(
    reader: BundleReader, verdicts: Verdicts | None = None, *, originals: Originals | None = None
) -> Comparison:
    """A bundle held against its image; what it has no list of changes of is judged by the rest."""
    found = Comparison(verdicts or Verdicts.load())
    for _ in found.of_evidence(Evidence(reader, originals)):
        pass
    return found
