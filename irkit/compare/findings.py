"""Findings from a bundle, and its changes: what a run and the report say of it."""

from __future__ import annotations

from collections.abc import Iterator

from irkit.compare.comparison import Comparison
from irkit.compare.evidence import Evidence
from irkit.compare.verdicts import Verdicts
from irkit.evidence.reader import BundleReader
from irkit.models import Change, Finding


def bundle_changes(reader: BundleReader) -> Iterator[Change]:
    """Every change that the bundle holds: disk, tmpfs, volumes.  Raises ``UsageProblem`` when it holds no list of them."""
    yield from Evidence(reader).required().changes()


def bundle_findings(reader: BundleReader, verdicts: Verdicts | None = None) -> list[Finding]:
    """All findings, the most severe first, each once."""
    return bundle_comparison(reader, verdicts).findings


def bundle_comparison(reader: BundleReader, verdicts: Verdicts | None = None) -> Comparison:
    """A bundle held against its image; what it has no list of changes of is judged by the rest."""
    found = Comparison(verdicts or Verdicts.load())
    for _ in found.of_evidence(Evidence(reader)):
        pass
    return found
