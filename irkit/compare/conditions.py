"""Conditions of rules: read with their places, and made into one fast test (docs/rules.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from irkit.compare import vocabulary as words
from irkit.compare.patterns import BadPattern, Regex, any_of, fixed, glob, is_glob, joined
from irkit.compare.vocabulary import Fact, Searched, Value
from irkit.documents import Doc, Items, Place, closest

Values = Mapping[str, Value]
Test = Callable[[Values], bool]
OWN_WORDS = ("any", "not")
ALTERNATIVES = 200
"""Values or alternatives in one list."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of ``where``.  ``wanted``: bools, words or globs, ``(minimum, maximum)`` pairs, or :class:`Regex` objects."""

    fact: Fact
    wanted: tuple[Any, ...]
    place: Place

    def test(self) -> Test:
        """A function of the facts: whether the condition holds.  It never raises, whatever the facts hold."""
        return _TESTS[self.fact.type](self.fact.name, self.wanted)


@dataclass(frozen=True, slots=True)
class Where:
    """All ``conditions``, one of ``any`` (when there are some), and none of ``none``."""

    conditions: tuple[Condition, ...] = ()
    any: tuple[Where, ...] = ()
    none: tuple[Where, ...] = ()
    place: Place = field(default_factory=lambda: Place("", 1, 1))

    def test(self) -> Test:
        """As one function, the cheapest questions first."""
        tests = [(_COST[one.fact.type], one.test()) for one in self.conditions]
        if self.any:
            tests.append((max(one.cost() for one in self.any), _any([one.test() for one in self.any])))
        tests += [(one.cost(), _not(one.test())) for one in self.none]
        return _all([test for _, test in sorted(tests, key=lambda one: one[0])])

    def cost(self) -> int:
        """How dear its dearest question is; only compared with others."""
        own = [_COST[one.fact.type] for one in self.conditions]
        return max([*own, *(one.cost() for one in (*self.any, *self.none))], default=0)

    def facts(self) -> Iterator[str]:
        """The names of all facts that it asks for."""
        for one in self.conditions:
            yield one.fact.name
        for part in (*self.any, *self.none):
            yield from part.facts()

    def searches(self) -> Iterator[tuple[str, tuple[Regex, ...]]]:
        """``(fact, patterns)`` of all conditions that search lines."""
        for one in self.conditions:
            if one.fact.type == words.REGEX:
                yield one.fact.name, one.wanted
        for part in (*self.any, *self.none):
            yield from part.searches()


def sources(patterns: tuple[Regex, ...]) -> tuple[str, ...]:
    """What a list of patterns is known by in :class:`Searched`."""
    return tuple(one.source for one in patterns)


def read_where(doc: Doc, kind: str, *, checked: bool = False) -> Where:
    """The conditions of one mapping.  Raises ``PlaybookInvalid`` with a place and what may have been meant.

    ``checked``: a test has compiled its patterns, so each is compiled when it is first used.
    """
    where = _read(doc, kind)
    if not checked:
        _check(where)
    return where


def _check(where: Where) -> None:
    for one in where.conditions:
        for wanted in one.wanted:
            try:
                if isinstance(wanted, Regex):
                    Regex(wanted.source)
            except BadPattern as error:
                hint = "RE2's syntax: no look-around and no back-references, so that no text can make it slow"
                raise one.place.error(f"{wanted.source!r} is no pattern that can be used: {error}", hint) from error
    for part in (*where.any, *where.none):
        _check(part)


def _read(doc: Doc, kind: str) -> Where:
    known = words.KINDS[kind]
    conditions = []
    for name in doc.values:
        if name in OWN_WORDS:
            continue
        if name not in known:
            raise doc.places[name].error(f"unknown key {name!r}", closest(name, [*known, *OWN_WORDS]))
        conditions.append(Condition(known[name], _wanted(doc, known[name]), doc.places[name]))
    doc.allow(*doc.values)
    some = _parts(doc, "any", kind) if "any" in doc.values else ()
    none = _parts(doc, "not", kind) if "not" in doc.values else ()
    if not conditions and not some and not none:
        raise doc.place.error("a rule needs a condition", f"known: {', '.join(known)}")
    return Where(tuple(conditions), some, none, doc.place)


def _parts(doc: Doc, name: str, kind: str) -> tuple[Where, ...]:
    if name == "not" and isinstance(doc.values[name], Doc):
        return (_read(doc.mapping(name), kind),)
    parts = doc.items(name).docs()
    if not parts or len(parts) > ALTERNATIVES:
        raise doc.places[name].error(f"{name!r} needs 1 to {ALTERNATIVES} sets of conditions")
    return tuple(_read(one, kind) for one in parts)


def _wanted(doc: Doc, fact: Fact) -> tuple[Any, ...]:
    name, place = fact.name, doc.places[fact.name]
    if fact.type == words.FLAG:
        return (doc.boolean(name),)
    if fact.type == words.NUMBER:
        return _numbers(doc, name)
    if fact.type in (words.TEXT, words.TEXTS) and isinstance(doc.values[name], Doc):
        inner = doc.mapping(name)
        patterns = _regexes(inner, "regex")
        inner.done()
        return patterns
    if fact.type == words.REGEX:
        return _regexes(doc, name)
    found = doc.texts(name)
    if not found or len(found) > ALTERNATIVES:
        raise place.error(f"{name!r} needs 1 to {ALTERNATIVES} values")
    for text in found if fact.words else ():
        if text not in fact.words:
            raise place.error(f"{name!r} is never {text!r}", closest(text, fact.words))
    return found


def _numbers(doc: Doc, name: str) -> tuple[tuple[int | None, int | None], ...]:
    value = doc.values[name]
    if isinstance(value, Doc):
        inner = doc.mapping(name)
        least, most = inner.integer("min", None), inner.integer("max", None)
        inner.done()
        if not inner.values:
            raise doc.places[name].error(f"{name!r} needs min, max or both")
        return ((least, most),)
    if isinstance(value, Items):
        found = []
        for one, at in doc.items(name):
            if not isinstance(one, int) or isinstance(one, bool):
                raise at.error(f"{name!r} must be a list of whole numbers")
            found.append((one, one))
        if not found:
            raise doc.places[name].error(f"{name!r} needs a value")
        return tuple(found)
    number = doc.integer(name)
    return ((number, number),)


def _regexes(doc: Doc, name: str) -> tuple[Regex, ...]:
    found = tuple(Regex(source, later=True) for source in doc.texts(name))
    if not found:
        raise doc.places[name].error(f"{name!r} needs a pattern")
    return found


def _flag(name: str, wanted: tuple[Any, ...]) -> Test:
    if wanted[0]:
        return lambda values: bool(values.get(name))
    return lambda values: not values.get(name)


def _number(name: str, wanted: tuple[Any, ...]) -> Test:
    def holds(values: Values) -> bool:
        value = values.get(name)
        return isinstance(value, int) and any(
            (least is None or value >= least) and (most is None or value <= most) for least, most in wanted
        )

    return holds


def _word(name: str, wanted: tuple[Any, ...]) -> Test:
    choices = frozenset(wanted)
    return lambda values: values.get(name) in choices


def _matcher(wanted: tuple[Any, ...]) -> Callable[[str], bool]:
    """One text against globs or patterns."""
    if isinstance(wanted[0], Regex):
        patterns = cache(lambda: any_of(wanted))
        return lambda text: any(one.search(text) for one in patterns())
    plain = frozenset(text for text in wanted if not is_glob(text))
    wild = [text for text in wanted if is_glob(text)]
    endings = tuple(text[1:] for text in wild if text[0] == "*" and not is_glob(text[1:]))
    starts = tuple(text[:-1] for text in wild if text[-1] == "*" and not is_glob(text[:-1]))
    easy = {f"*{text}" for text in endings} | {f"{text}*" for text in starts}
    rest = [text for text in wild if text not in easy]
    globs = tuple((*fixed(text), text) for text in rest)

    def fits(text: str) -> bool:
        if text in plain or text.startswith(starts) or text.endswith(endings):
            return True
        for head, tail, pattern in globs:
            if text.startswith(head) and text.endswith(tail) and glob(pattern).fullmatch(text) is not None:
                return True
        return False

    return fits


def _text(name: str, wanted: tuple[Any, ...]) -> Test:
    fits = _matcher(wanted)

    def holds(values: Values) -> bool:
        value = values.get(name)
        return isinstance(value, str) and fits(value)

    return holds


def _texts(name: str, wanted: tuple[Any, ...]) -> Test:
    fits = _matcher(wanted)

    def holds(values: Values) -> bool:
        value = values.get(name)
        if isinstance(value, str):
            return fits(value)
        return isinstance(value, tuple) and any(isinstance(one, str) and fits(one) for one in value)

    return holds


def _lines(name: str, wanted: tuple[Any, ...]) -> Test:
    """Patterns over lines: all lines are searched as one text, and no match reaches over the end of one.

    Of a text that is too long to be held, the search is done (:mod:`irkit.compare.long_text`).
    """
    searched = sources(wanted)
    patterns = cache(lambda: any_of(wanted))

    def holds(values: Values) -> bool:
        value = values.get(name)
        if isinstance(value, Searched):
            return searched in value.found
        if not isinstance(value, str | tuple) or value == ():
            return False
        data = joined(value if isinstance(value, tuple) else (value,))
        return any(True for one in patterns() for _ in one.lines(data))

    return holds


def _exact(name: str, wanted: tuple[Any, ...]) -> Test:
    exactly = frozenset(wanted)

    def holds(values: Values) -> bool:
        value = values.get(name)
        return isinstance(value, tuple) and frozenset(value) == exactly

    return holds


def _all(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda values: first(values) and second(values)
    fixed_tests = tuple(tests)

    def holds(values: Values) -> bool:
        for test in fixed_tests:  # noqa: SIM110  a generator costs more than the loop
            if not test(values):
                return False
        return True

    return holds


def _any(tests: list[Test]) -> Test:
    fixed_tests = tuple(tests)
    return lambda values: any(test(values) for test in fixed_tests)


def _not(test: Test) -> Test:
    return lambda values: not test(values)


_TESTS: Mapping[str, Callable[[str, tuple[Any, ...]], Test]] = {
    words.FLAG: _flag, words.NUMBER: _number, words.WORD: _word, words.TEXT: _text, words.TEXTS: _texts, words.EXACT: _exact,
    words.REGEX: _lines,
}  # fmt: skip
_COST: Mapping[str, int] = {
    words.FLAG: 0, words.WORD: 1, words.NUMBER: 2, words.EXACT: 3, words.TEXT: 4, words.TEXTS: 5, words.REGEX: 6,
}  # fmt: skip
