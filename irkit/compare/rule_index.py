"""Which rules can fit a thing at all: one lookup a fact instead of one test a rule.

Each rule is filed under the most telling of its conditions (a literal path, a file name, an extension, a folder, a flag, a
word); a rule that has none is tried always.  What the index gives is then tested in full, so it can be wrong in one
direction only, and a property test holds it against trying every rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from irkit.compare import vocabulary as words
from irkit.compare.conditions import Condition, Where
from irkit.compare.patterns import Regex, fixed, is_glob
from irkit.compare.vocabulary import Value

COMMON = frozenset({
    "change", "kind", "origin", "executable", "name", "content_changed", "mode_changed", "times_changed", "stripped", "static", "same_size",
    "same_mtime", "hardlinks", "hidden", "zero_nanoseconds", "size", "mode", "uid", "gid", "pid", "entropy", "path", "folder", "cmdline",
    "subject", "args", "value", "backdated", "state", "protocol", "package", "environment",
})  # fmt: skip
"""Facts that most things have: being there tells little."""
COMMON_WORDS = frozenset({"added", "changed", "deleted", "file", "directory", "symlink", "layer", "established", "tcp"})
_START = 3
"""Characters of a name's beginning that it is filed under."""
_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Key:
    """Where a rule is filed: ``how`` is ``there`` (the fact is true, or there), ``is``, ``base``, ``ending``, ``start`` or ``under``."""

    fact: str
    how: str
    text: str = ""


def keys(where: Where) -> tuple[Key, ...] | None:
    """Keys of which at least one fits everything that ``where`` fits, the most telling ones; ``None``: there are none."""
    best: tuple[int, tuple[Key, ...]] | None = None
    for one in where.conditions:
        found = _keys(one)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    if where.any:
        parts = [keys(one) for one in where.any]
        if all(part is not None for part in parts):
            joined = tuple(dict.fromkeys(key for part in parts if part is not None for key in part))
            cost = 3 + max((_common(key) for key in joined), default=0)
            if best is None or cost < best[0]:
                best = (cost, joined)
    return best[1] if best else None


def _common(key: Key) -> int:
    if key.how == "is":
        return 5 if key.text in COMMON_WORDS else 0
    return 5 if key.how == "there" and key.fact in COMMON else 0


def _keys(one: Condition) -> tuple[int, tuple[Key, ...]] | None:
    name, kind = one.fact.name, one.fact.type
    there = (4 + 5 * (name in COMMON), (Key(name, "there"),))
    if kind == words.FLAG:
        return (4 + 3 * (name in COMMON), there[1]) if one.wanted[0] else None
    if kind == words.WORD:
        return 3 + 5 * any(word in COMMON_WORDS for word in one.wanted), tuple(
            Key(name, "is", word) for word in one.wanted
        )
    if kind == words.TEXT and not isinstance(one.wanted[0], Regex):
        found = [_text_key(name, pattern) for pattern in one.wanted]
        return (1, tuple(key for key in found if key)) if all(found) else there
    if kind in (words.REGEX, words.NUMBER):
        return None  # 0 counts as not there, and text is costly to make: nobody should ask for it in vain
    return there


def _text_key(name: str, pattern: str) -> Key | None:
    if not is_glob(pattern):
        return Key(name, "is", pattern)
    head, tail = fixed(pattern)
    if "/" in tail:
        return Key(name, "base", tail.rpartition("/")[2])
    if head.count("/") >= 2:
        return Key(name, "under", head[: head.rindex("/") + 1])
    if "." in tail:
        return Key(name, "ending", tail.rpartition(".")[2])
    return Key(name, "start", head[:_START]) if len(head) >= _START else None


@dataclass(slots=True)
class _Table:
    there: list[int] = field(default_factory=list)
    exact: dict[str, list[int]] = field(default_factory=dict)
    base: dict[str, list[int]] = field(default_factory=dict)
    ending: dict[str, list[int]] = field(default_factory=dict)
    start: dict[str, list[int]] = field(default_factory=dict)
    under: dict[str, list[int]] = field(default_factory=dict)

    def find(self, value: str) -> Iterator[list[int]]:
        """The lists of rules that a text may fit."""
        if value in self.exact:
            yield self.exact[value]
        if self.base and (found := self.base.get(value[value.rfind("/") + 1 :])):
            yield found
        if self.ending and (found := self.ending.get(value[value.rfind(".") + 1 :])):
            yield found
        if self.start and (found := self.start.get(value[:_START])):
            yield found
        if self.under:
            place = 0
            for _ in range(_DEPTH):
                place = value.find("/", place) + 1
                if not place:
                    break
                if found := self.under.get(value[:place]):
                    yield found


class Index:
    """Rules of one kind by number."""

    def __init__(self, wheres: Iterable[tuple[int, Where]]) -> None:
        self._tables: dict[str, _Table] = {}
        self._always: list[int] = []
        for number, where in wheres:
            found = keys(where)
            if found is None:
                self._always.append(number)
            for key in found or ():
                self._file(key, number)
        self._items = tuple(self._tables.items())

    def _file(self, key: Key, number: int) -> None:
        table = self._tables.setdefault(key.fact, _Table())
        if key.how == "there":
            table.there.append(number)
            return
        lists = {
            "is": table.exact,
            "base": table.base,
            "ending": table.ending,
            "start": table.start,
            "under": table.under,
        }[key.how]
        if key.how == "under" and key.text.count("/") > _DEPTH:
            parts = key.text.split("/")
            lists.setdefault("/".join(parts[:_DEPTH]) + "/", []).append(number)
        else:
            lists.setdefault(key.text, []).append(number)

    def candidates(self, values: Mapping[str, Value]) -> list[int]:
        """Numbers of the rules that may fit, in order, each once."""
        found = list(self._always)
        for name, table in self._items:
            value = values.get(name)
            if not value:
                continue
            if table.there:
                found += table.there
            if isinstance(value, str):
                for more in table.find(value):
                    found += more
        return sorted(set(found)) if len(found) > 1 else found
