"""Tests of rules as data (``*.test.yaml``): facts, and the findings that they must give, and must not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit import documents
from irkit.compare.rules import Facts, Rule, RuleSet
from irkit.compare.vocabulary import ALIASES, EXACT, FLAG, KINDS, NUMBER, REGEX, TEXTS, Fact, Value
from irkit.documents import Doc, Items, Place, closest


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of facts.  ``expect``: rules that must fit; ``refuse``: rules that must not; ``only``: no others may."""

    place: Place
    facts: Facts
    expect: tuple[str, ...]
    refuse: tuple[str, ...]
    only: bool = False

    def problems(self, rules: RuleSet) -> list[str]:
        """What did not hold; empty when all did."""
        found = [rule.id for rule in rules.matching(self.facts)]
        said = [f"{name} should fit and does not" for name in self.expect if name not in found]
        said += [f"{name} fits and should not" for name in self.refuse if name in found]
        extra = [name for name in found if name not in self.expect]
        return [*said, *(f"{name} fits, too" for name in extra if self.only and name not in self.refuse)]


def read_trials(path: Path, rules: Sequence[Rule] | RuleSet) -> Iterator[Trial]:
    """The tests of one file.  Raises ``PlaybookInvalid`` with a place."""
    doc, _ = documents.load(path)
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("RuleTests",))
    tests = doc.items("tests").docs()
    doc.done()
    by_id = {rule.id: rule for rule in rules}
    for item in tests:
        yield from _of_rule(item, by_id) if "rule" in item.values else _of_facts(item, by_id)


def _known(name: str, place: Place, by_id: dict[str, Rule]) -> str:
    if name not in by_id:
        raise place.error(f"no rule {name!r}", closest(name, sorted(by_id)))
    return name


def _of_rule(doc: Doc, by_id: dict[str, Rule]) -> Iterator[Trial]:
    """``{rule: ID, matches: [facts, …], misses: [facts, …]}``."""
    name = _known(doc.text("rule"), doc.places["rule"], by_id)
    matches, misses = doc.items("matches").docs(), doc.items("misses").docs()
    doc.done()
    for facts in matches:
        yield Trial(facts.place, _facts(by_id[name].on, facts), (name,), ())
    for facts in misses:
        yield Trial(facts.place, _facts(by_id[name].on, facts), (), (name,))


def _of_facts(doc: Doc, by_id: dict[str, Rule]) -> Iterator[Trial]:
    """``{on: KIND, facts: {…}, expect: [ID, …]}``: these rules, and no others."""
    named = doc.choice("on", (*KINDS, *ALIASES))
    on = ALIASES.get(named, (named, ""))[0]
    facts, expect = doc.mapping("facts"), doc.texts("expect")
    doc.done()
    for name in expect:
        _known(name, doc.places["expect"], by_id)
    yield Trial(doc.place, _facts(on, facts), expect, (), only=True)


def _facts(on: str, doc: Doc) -> Facts:
    values: dict[str, Value] = {}
    for name in doc.values:
        if name not in KINDS[on]:
            raise doc.places[name].error(f"unknown fact {name!r}", closest(name, list(KINDS[on])))
        values[name] = _value(doc, KINDS[on][name])
    doc.allow(*doc.values)
    if on == "change" and isinstance(path := values.get("path"), str):
        values.setdefault("name", path.rpartition("/")[2])
        values.setdefault("folder", path.rpartition("/")[0] or "/")
    return Facts(on, str(values.get("path") or values.get("subject") or values.get("name") or on), values)


def _value(doc: Doc, fact: Fact) -> Value:
    if fact.type == FLAG:
        return doc.boolean(fact.name)
    if fact.type == NUMBER:
        return doc.integer(fact.name)
    if fact.type in (TEXTS, EXACT) or (fact.type == REGEX and isinstance(doc.values[fact.name], Items)):
        return doc.texts(fact.name)
    text = doc.text(fact.name)
    if fact.words and text not in fact.words:
        raise doc.places[fact.name].error(f"{fact.name!r} is never {text!r}", closest(text, fact.words))
    return text


def untested(rules: Sequence[Rule] | RuleSet, trials: Sequence[Trial]) -> list[str]:
    """Rules that no test lets fit, or that no test lets miss."""
    fits = {name for one in trials for name in one.expect}
    misses = {name for one in trials for name in one.refuse}
    return [rule.id for rule in rules if rule.id not in fits or rule.id not in misses]


def verdicts(rules: RuleSet, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """As in ``irkit rules test --json``."""
    found = []
    for one in trials:
        problems = one.problems(rules)
        row = {
            "file": one.place.file,
            "line": one.place.line,
            "subject": one.facts.subject,
            "rules": list(one.expect or one.refuse),
        }
        found.append({**row, "passed": not problems, "problems": problems})
    return found
