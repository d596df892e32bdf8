"""What a comparison judges by: rules, YARA, indicators and noise, opened once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irkit.compare.content import EntryChange
from irkit.compare.ioc import IocLists
from irkit.compare.ioc_formats import load_ioc
from irkit.compare.noise import Noise, load_noise
from irkit.compare.packages import PackageChange
from irkit.compare.patterns import Regex
from irkit.compare.rules import Facts, RuleSet, Timings, evaluate, load_rules
from irkit.compare.vocabulary import Value
from irkit.compare.yara import Yara, open_yara
from irkit.models import Finding, Gap


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All that can turn a fact into a finding, or fold it.  ``gaps``: what could not be opened or used."""

    rules: RuleSet
    noise: Noise
    yara: Yara | None
    lists: IocLists
    timings: Timings | None = None
    gaps: tuple[Gap, ...] = field(default=())

    @classmethod
    def load(cls, ioc: Iterable[Path] = (), *, timings: Timings | None = None, yara: bool = True) -> Verdicts:
        """The shipped ones and a user's own.  Raises ``UsageProblem``, ``PlaybookInvalid`` for files that don't hold."""
        opened = open_yara() if yara else None
        lists = load_ioc(ioc)
        gaps = [opened] if isinstance(opened, Gap) else []
        for one in lists.lists:
            gaps += [
                Gap("comparison", f"{count} indicators of {one.source}", f"not used: {why}")
                for why, count in one.unused.items()
            ]
        scanner = opened if isinstance(opened, Yara) else None
        return cls(load_rules(), load_noise(), scanner, lists, timings, tuple(gaps))

    def of(self, facts: Facts) -> Iterator[Finding]:
        """The findings of a thing."""
        return evaluate(self.rules, facts, self.timings)

    def fold(self, values: Mapping[str, Value]) -> str:
        """The noise that a change without a finding is folded into, or nothing."""
        group = self.noise.fold(values)
        return group.id if group is not None else ""

    def searches(self) -> Iterator[tuple[str, tuple[Regex, ...]]]:
        """``(fact, patterns)`` of all that searches the lines of a changed text."""
        yield from self.rules.searches("change")
        for group in self.noise.groups:
            yield from group.where.searches()

    def entry(self, path: str, entry: EntryChange) -> Iterator[Finding]:
        """The findings of an entry of a file that matters."""
        values = {**entry.facts, "file": entry.file, "change": entry.change, "subject": entry.subject, "path": path}
        place = f"{path}:{entry.line}" if entry.line else path
        return self.of(Facts("entry", f"{entry.subject} in {place}", values))

    def package(self, change: PackageChange) -> Iterator[Finding]:
        """The findings of a package."""
        values = {
            "manager": change.manager, "name": change.name, "change": change.change, "version": change.version, "before": change.before,
        }  # fmt: skip
        return self.of(Facts("package", f"{change.name} ({change.manager})", values))

    def addresses(self, *addresses: str) -> tuple[str, ...]:
        """The indicators that addresses fit."""
        if not self.lists:
            return ()
        return tuple(str(match) for one in addresses if one for match in self.lists.of_address(one))
