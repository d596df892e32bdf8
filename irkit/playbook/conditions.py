"""Conditions of playbooks: a small typed grammar with Kleene's three-valued logic, parsed here and never evaluated as code.

::

    or     = and { "or" and }                       literal = 'text' | "text" | 12 | 1.5 | true | false
    and    = not { "and" not }                      name    = word { "." word }
    not    = "not" not | test                       list    = "[" [ literal { "," literal } ] "]"
    test   = value [ ("==" "!=" "<" "<=" ">" ">=" "in" "contains" "startswith" "endswith") value ]
           | "known" "(" name ")"
    value  = literal | name | list | "(" or ")"

A name that leads nowhere is *unknown*, and so is a comparison of things of different types: ``false and unknown`` is
false, ``true or unknown`` is true, everything else with an unknown is unknown.  ``known(name)`` never is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

LENGTH_LIMIT, DEPTH_LIMIT = 1000, 20
_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?[0-9]{1,15}(?:\.[0-9]{1,9})?)(?![\w.])|(?P<text>'[^'\n]*'|\"[^\"\n]*\")"
    r"|(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)|(?P<word>[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*))"
)
_ORDER = ("<", "<=", ">", ">=")
_OPERATORS = ("==", "!=", *_ORDER, "in", "contains", "startswith", "endswith")
_RESERVED = frozenset({"and", "or", "not", "in", "contains", "startswith", "endswith", "known", "true", "false"})


class Unknown:
    """The third truth value, and what a name that leads nowhere is worth."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()
Truth = bool | Unknown


class ConditionError(ValueError):
    """A text that is no condition.  ``column`` counts from 0."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, a number, a truth value, or a list of them (as a tuple)."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    """``vars.image``, ``registered.field``, ``steps.ID.outcome``."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """Whether a name leads somewhere."""

    name: Name


@dataclass(frozen=True, slots=True)
class Test:
    """A comparison."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not:
    """A negation."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Every:
    """``and``, when ``every``; otherwise ``or``."""

    every: bool
    parts: tuple[Node, ...]


Node = Union[Literal, Name, Known, Test, Not, Every]  # noqa: UP007 - named before all of them exist


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition and its text."""

    text: str
    node: Node

    def decide(self, scope: Mapping[str, Any]) -> Truth:
        """Its value, given what the names mean."""
        return _truth(evaluate(self.node, scope))

    def names(self) -> Iterator[Name]:
        """Every name in it, also those within ``known(…)``."""
        for node in each(self.node):
            if isinstance(node, Name):
                yield node


def parse(text: str) -> Condition:
    """Raises ``ConditionError`` for anything that is not of the grammar, or too long or nested too deep."""
    if len(text) > LENGTH_LIMIT:
        raise ConditionError(f"a condition has at most {LENGTH_LIMIT} characters", LENGTH_LIMIT)
    reader = _Reader(list(_tokens(text)), len(text))
    node = reader.either(0)
    if reader.kind:
        raise ConditionError(f"unexpected {reader.token!r}", reader.column)
    return Condition(text, node)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            column = place + len(text[place:]) - len(text[place:].lstrip())
            raise ConditionError(f"unexpected {text[column]!r}", column)
        yield match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)
        place = match.end()


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: Sequence[tuple[str, str, int]], end: int) -> None:
        self._tokens = [*tokens, ("", "the end", end)]
        self._at = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def token(self) -> str:
        return self._tokens[self._at][1]

    @property
    def column(self) -> int:
        return self._tokens[self._at][2]

    def _take(self, *wanted: str) -> str:
        """The token when it is one of ``wanted``, else an empty text."""
        if self.kind in ("sign", "word") and self.token in wanted:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return ""

    def _need(self, token: str) -> None:
        if not self._take(token):
            raise ConditionError(f"expected {token!r}, not {self.token!r}", self.column)

    def either(self, depth: int) -> Node:
        if depth > DEPTH_LIMIT:
            raise ConditionError(f"nested more than {DEPTH_LIMIT} deep", self.column)
        return self._chain("or", False, lambda: self._chain("and", True, lambda: self._negated(depth)))

    def _chain(self, word: str, every: bool, inner: Callable[[], Node]) -> Node:
        parts = [inner()]
        while self._take(word):
            parts.append(inner())
        return parts[0] if len(parts) == 1 else Every(every, tuple(parts))

    def _negated(self, depth: int) -> Node:
        odd = False
        while self._take("not"):
            odd = not odd
        node = self._test(depth)
        return Not(node) if odd else node

    def _test(self, depth: int) -> Node:
        left = self._value(depth)
        operator = self._take(*_OPERATORS)
        return Test(operator, left, self._value(depth)) if operator else left

    def _value(self, depth: int) -> Node:
        if self._take("("):
            node = self.either(depth + 1)
            self._need(")")
            return node
        if self._take("["):
            return self._list()
        if self._take("known"):
            self._need("(")
            name = self._value(depth + 1)
            if not isinstance(name, Name):
                raise ConditionError("known(…) asks for a name", self.column)
            self._need(")")
            return Known(name)
        if self.kind == "word" and self.token not in _RESERVED:
            self._at += 1
            return Name(tuple(self._tokens[self._at - 1][1].split(".")))
        return self._literal()

    def _list(self) -> Literal:
        values = []
        while not self._take("]"):
            values.append(self._literal().value)
            if not self._take(","):
                self._need("]")
                break
        return Literal(tuple(values))

    def _literal(self) -> Literal:
        kind, word, column = self._tokens[self._at]
        self._at += bool(kind)
        if kind == "text":
            return Literal(word[1:-1])
        if kind == "number":
            return Literal(float(word) if "." in word else int(word))
        if word in ("true", "false"):
            return Literal(word == "true")
        raise ConditionError(f"expected a value, not {word!r}", column)


def evaluate(node: Node, scope: Mapping[str, Any]) -> Any:
    """The value of a node: a literal's, what a name means, a truth value, or ``UNKNOWN``."""
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Name):
        return lookup(node, scope)
    if isinstance(node, Known):
        return lookup(node.name, scope) is not UNKNOWN
    if isinstance(node, Not):
        truth = _truth(evaluate(node.inner, scope))
        return truth if isinstance(truth, Unknown) else not truth
    if isinstance(node, Every):
        return _every(node, scope)
    return _compare(node.operator, evaluate(node.left, scope), evaluate(node.right, scope))


def lookup(name: Name, scope: Mapping[str, Any]) -> Any:
    """What a name means; ``UNKNOWN`` when it leads nowhere, or to nothing (null)."""
    found: Any = scope
    for part in name.parts:
        if not isinstance(found, Mapping) or part not in found:
            return UNKNOWN
        found = found[part]
    return UNKNOWN if found is None else found


def _truth(value: Any) -> Truth:
    return value if isinstance(value, bool) else UNKNOWN


def _every(node: Every, scope: Mapping[str, Any]) -> Truth:
    result: Truth = node.every
    for part in node.parts:
        truth = _truth(evaluate(part, scope))
        if isinstance(truth, Unknown):
            result = UNKNOWN
        elif truth is not node.every:
            return truth
    return result


def _compare(operator: str, left: Any, right: Any) -> Truth:
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return UNKNOWN
    if operator in ("==", "!="):
        if _kind(left) != _kind(right):
            return UNKNOWN
        same = left == right if not isinstance(left, list | tuple) else list(left) == list(right)
        return same is (operator == "==")
    if operator in _ORDER:
        if _kind(left) != _kind(right) or _kind(left) not in ("number", "text"):
            return UNKNOWN
        return bool(_ordered(operator, left, right))
    if operator == "in":
        left, right = right, left
    return _holds(operator, left, right)


def _ordered(operator: str, left: Any, right: Any) -> Any:
    if operator[0] == "<":
        return left < right or (operator == "<=" and left == right)
    return left > right or (operator == ">=" and left == right)


def _holds(operator: str, whole: Any, part: Any) -> Truth:
    """``contains`` (and ``in``, turned round), ``startswith``, ``endswith``."""
    if isinstance(whole, str) and isinstance(part, str):
        if operator == "startswith":
            return whole.startswith(part)
        return whole.endswith(part) if operator == "endswith" else part in whole
    if operator in ("in", "contains") and isinstance(whole, list | tuple):
        return any(_kind(one) == _kind(part) and one == part for one in whole)
    return UNKNOWN


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list" if isinstance(value, list | tuple) else type(value).__name__


def each(node: Node) -> Iterator[Node]:
    """A node and all within it."""
    yield node
    inner: tuple[Node, ...] = ()
    if isinstance(node, Known):
        inner = (node.name,)
    elif isinstance(node, Not):
        inner = (node.inner,)
    elif isinstance(node, Test):
        inner = (node.left, node.right)
    elif isinstance(node, Every):
        inner = node.parts
    for part in inner:
        yield from each(part)
