"""Rules: data in ``forensics/rules/`` that say which facts have a meaning (docs/rules.md)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from irkit import document_cache, documents, resources
from irkit.compare.attack import TECHNIQUE, load_techniques
from irkit.compare.conditions import Condition, Test, Where, read_where
from irkit.compare.patterns import Regex
from irkit.compare.rule_index import Index
from irkit.compare.vocabulary import ALIASES, KINDS, Value
from irkit.documents import Doc, Place
from irkit.models import SEVERITIES, Finding

__all__ = ["TECHNIQUE", "Facts", "Rule", "RuleSet", "Timings", "evaluate", "load_rules", "read_rules"]
FOLDER = "forensics/rules"
TEST_SUFFIX = ".test.yaml"
_READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one thing.  ``kind``: a key of :data:`KINDS`; ``subject``: how a finding names the thing.

    ``values`` may be a mapping that computes a value when it is asked for: only what a rule's index or a rule that may fit needs
    is asked for, and by ``get`` only.  What is not known is left out.
    """

    kind: str
    subject: str
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.  ``attack``: current ids; ``older``: the ids that the file has in their place.  ``place``: where it stands."""

    id: str
    on: str
    severity: str
    title: str
    reason: str
    attack: tuple[str, ...]
    next: str
    where: Where
    place: Place
    older: tuple[str, ...] = ()

    def finding(self, subject: str) -> Finding:
        """What it means for ``subject``."""
        return Finding(self.id, self.severity, self.title, self.reason, self.attack, subject, self.next, self.on)


@dataclass(slots=True)
class Timings:
    """What each rule cost: ``rule id → [times tried, nanoseconds, findings]``."""

    rules: dict[str, list[int]] = field(default_factory=dict)

    def add(self, rule: str, nanoseconds: int, found: bool) -> None:
        """One test of one rule."""
        row = self.rules.setdefault(rule, [0, 0, 0])
        row[0] += 1
        row[1] += nanoseconds
        row[2] += found

    def rows(self) -> list[dict[str, object]]:
        """The dearest first: ``rule``, ``tried``, ``ms``, ``findings``."""
        ordered = sorted(self.rules.items(), key=lambda one: -one[1][1])
        return [
            {"rule": name, "tried": tried, "ms": round(spent / 1e6, 3), "findings": found}
            for name, (tried, spent, found) in ordered
        ]


class RuleSet:
    """Rules, made ready for many things.  Of two rules with one id the first counts: a user's own stand first."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        by_id: dict[str, Rule] = {}
        for rule in rules:
            by_id.setdefault(rule.id, rule)
        self._rules = tuple(by_id.values())
        self._tests: tuple[Test, ...] = tuple(rule.where.test() for rule in self._rules)
        self._indexes = {
            kind: Index((number, rule.where) for number, rule in enumerate(self._rules) if rule.on == kind)
            for kind in KINDS
        }

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __getitem__(self, number: int) -> Rule:
        return self._rules[number]

    def asked(self, kind: str) -> frozenset[str]:
        """Which facts of a kind any rule asks for: others need not be made."""
        return frozenset(name for rule in self._rules if rule.on == kind for name in rule.where.facts())

    def searches(self, kind: str) -> Iterator[tuple[str, tuple[Regex, ...]]]:
        """``(fact, patterns)`` of all conditions of a kind's rules that search lines."""
        for rule in self._rules:
            if rule.on == kind:
                yield from rule.where.searches()

    def matching(self, facts: Facts, timings: Timings | None = None) -> Iterator[Rule]:
        """The rules that fit, in order."""
        index = self._indexes.get(facts.kind)
        if index is None:
            return
        for number in index.candidates(facts.values):
            if timings is None:
                fits = self._tests[number](facts.values)
            else:
                start = time.perf_counter_ns()
                fits = self._tests[number](facts.values)
                timings.add(self._rules[number].id, time.perf_counter_ns() - start, fits)
            if fits:
                yield self._rules[number]


def evaluate(rules: RuleSet, facts: Facts, timings: Timings | None = None) -> Iterator[Finding]:
    """The findings that a thing causes, in the order of the rules."""
    for rule in rules.matching(facts, timings):
        yield rule.finding(facts.subject)


def load_rules() -> RuleSet:
    """The shipped rules, and a user's own in front of them.  Raises ``PlaybookInvalid``.

    Read once in a process, and anew when a file was changed: a command may judge many containers at the same time.
    """
    with _READING:
        return _rules_of_files(tuple(documents.stamp(path) for path in rule_files()))


@lru_cache(maxsize=1)
def _rules_of_files(files: tuple[documents.Stamp, ...]) -> RuleSet:
    return RuleSet(rule for path, *_ in files for rule in read_rules(Path(path)))


def rule_files() -> Iterator[Path]:
    """Every file of rules (not of their tests): a user's own hides a shipped one of the same name."""
    return (path for path in resources.every(FOLDER) if not path.name.endswith(TEST_SUFFIX))


def read_rules(path: Path) -> Iterator[Rule]:
    """The rules of one file."""
    shipped = path.parent == resources.shipped(FOLDER)
    doc = document_cache.load(path) if shipped else documents.load(path)[0]
    yield from rules_of(doc, shipped, checked=shipped)


def rules_of(doc: Doc, shipped: bool = False, *, checked: bool = False) -> Iterator[Rule]:
    """The rules of a document.

    ``shipped``: its technique ids are current (a test holds them to it), so no table is read.  ``checked``: a test has
    compiled its patterns.
    """
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("Rules",))
    doc.text("description", "")
    rules = doc.items("rules").docs()
    doc.done()
    seen: set[str] = set()
    for item in rules:
        rule = _rule(item, shipped, checked)
        if rule.id in seen:
            raise item.places["id"].error(f"the id {rule.id!r} stands here twice")
        seen.add(rule.id)
        yield rule


def _rule(doc: Doc, shipped: bool, checked: bool) -> Rule:
    named = doc.choice("on", (*KINDS, *ALIASES))
    on, file = ALIASES.get(named, (named, ""))
    older, attack = _attack(doc, shipped)
    rule = Rule(
        _said(doc, "id"), on, doc.choice("severity", SEVERITIES), _said(doc, "title"), _said(doc, "reason"), attack, _said(doc, "next"),
        _of_file(read_where(doc.mapping("where"), on, checked=checked), file), doc.place, older,
    )  # fmt: skip
    doc.done()
    return rule


def _said(doc: Doc, name: str) -> str:
    text = doc.text(name)
    if not text.strip():
        raise doc.places[name].error(f"{name!r} is empty")
    return text


def _attack(doc: Doc, shipped: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``(older ids, current ids)``."""
    named = doc.texts("attack", None)
    for technique in named:
        if not TECHNIQUE.fullmatch(technique):
            raise doc.places["attack"].error(f"not an ATT&CK technique id: {technique!r}")
    if shipped or not named:
        return (), named
    table = load_techniques()
    current = tuple(dict.fromkeys(table.current(one) for one in named))
    return tuple(one for one in named if table.current(one) != one), current


def _of_file(where: Where, file: str) -> Where:
    if not file:
        return where
    fact = KINDS["entry"]["file"]
    return Where((Condition(fact, (file,), where.place), *where.conditions), where.any, where.none, where.place)
