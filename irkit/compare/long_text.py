"""Rules over texts that are too long to be held: searched whole as their bytes go by, in memory that does not grow with them.

A condition of a rule asks whether one line fits one of its patterns.  So a text is cut at line ends into blocks, each is searched
once, and what is kept is which conditions held (:class:`irkit.compare.vocabulary.Searched`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from irkit.compare.conditions import sources
from irkit.compare.patterns import Regex, any_of
from irkit.compare.vocabulary import Searched, Value

LINE = 8 * 1024 * 1024
"""Bytes of one line that are searched at once; a longer one is searched in pieces of this size."""
OVERLAP = 64 * 1024
"""Bytes that two pieces of a line share."""
Patterns = tuple[Regex, ...]


class Searches:
    """What is searched for, by fact: each list of patterns once, made ready for lines."""

    def __init__(self, wanted: Iterable[tuple[str, Patterns]]) -> None:
        self.of: dict[str, dict[tuple[str, ...], Patterns]] = {}
        self._all: dict[str, Patterns] = {}
        for fact, patterns in wanted:
            self.of.setdefault(fact, {}).setdefault(sources(patterns), any_of(patterns))

    def nothing_in(self, fact: str, data: bytes) -> bool:
        """Whether no pattern fits any line: one search for all of them."""
        if fact not in self._all:
            self._all[fact] = any_of([one for some in self[fact].values() for one in some])
        return not any(True for one in self._all[fact] for _ in one.lines(data))

    def __getitem__(self, fact: str) -> Mapping[tuple[str, ...], Patterns]:
        return self.of.get(fact, {})


def lines(patterns: Patterns, data: bytes) -> Iterator[bytes]:
    """The lines of ``data`` that fit one of the patterns, each once."""
    seen: set[int] = set()
    for one in patterns:
        for start, end in one.lines(data):
            if len(patterns) > 1:
                if start in seen:
                    continue
                seen.add(start)
            yield data[start:end]


@dataclass(slots=True)
class Original:
    """What the image had.  ``data``: its bytes, ``None`` where they are not kept; then ``size`` and ``sha256`` tell whether it only grew."""

    data: bytes | None = b""
    size: int = 0
    sha256: str = ""


@dataclass(slots=True)
class LongText:
    """One text, block by block: :meth:`feed` all of it, then :meth:`values`.  ``also`` gets all that is searched."""

    searches: Searches
    original: Original
    also: Callable[[bytes], None] | None = None
    in_pieces: bool = False
    """Whether a line was longer than :data:`LINE`."""
    _held: list[bytes] = field(default_factory=list)
    _size: int = 0
    _passed: int = 0
    _old: Counter[bytes] | None = None
    _gone: Counter[bytes] | None = None
    _wanted_gone: dict[tuple[str, ...], list[bytes]] = field(default_factory=dict)
    _seen: dict[tuple[str, ...], Counter[bytes]] = field(default_factory=dict)
    _found: dict[str, set[tuple[str, ...]]] = field(default_factory=lambda: {"added_lines": set(), "content": set()})
    _prefix: hashlib._Hash | None = None

    def __post_init__(self) -> None:
        if self.original.data is None:
            self._prefix = hashlib.sha256()
            return
        for key, patterns in self.searches["removed_lines"].items() if self.original.data else ():
            self._wanted_gone[key] = list(lines(patterns, _whole(self.original.data)))
        if any(self._wanted_gone.values()):
            self._gone = Counter({line: 0 for found in self._wanted_gone.values() for line in found})

    @property
    def held(self) -> bool:
        """Whether new lines can be told from old ones."""
        return self._prefix is None

    def feed(self, block: bytes) -> None:
        """The next bytes."""
        if self._prefix is not None and (left := self.original.size - self._passed) >= 0:
            block, rest = block[:left], block[left:]
            self._prefix.update(block)
            self._take(block)
            if not rest:
                return
            if self._prefix.hexdigest() == self.original.sha256:
                self._prefix = None  # all that the image had is still there: what follows is new
            block = rest
        self._take(block)

    def _take(self, block: bytes) -> None:
        self._passed += len(block)
        self._held.append(block)
        self._size += len(block)
        cut = block.rfind(b"\n")
        if cut < 0 and self._size < LINE:
            return
        data = b"".join(self._held)
        end = self._size - len(block) + cut if cut >= 0 else self._size
        self._search(data[:end])
        rest = data[end + 1 :]
        if cut < 0:
            self.in_pieces = True
            rest = data[-OVERLAP:]
        self._held, self._size = [rest], len(rest)

    def _search(self, data: bytes) -> None:
        if self.also is not None:
            self.also(data)
        for key, patterns in self.searches["content"].items():
            if key not in self._found["content"] and any(True for _ in lines(patterns, data)):
                self._found["content"].add(key)
        if self.held:
            for key, patterns in self.searches["added_lines"].items():
                if key not in self._found["added_lines"] and any(
                    self._is_new(key, line) for line in lines(patterns, data)
                ):
                    self._found["added_lines"].add(key)
        if self._gone is not None:
            self._gone.update(line for line in data.split(b"\n") if line in self._gone)

    def _is_new(self, key: tuple[str, ...], line: bytes) -> bool:
        """Whether it occurs more often than in the image's text."""
        if self._old is None:
            self._old = Counter(_whole(self.original.data).split(b"\n")) if self.original.data else Counter()
        if line not in self._old:
            return True
        seen = self._seen.setdefault(key, Counter())
        seen[line] += 1
        return seen[line] > self._old[line]

    def values(self) -> dict[str, Value]:
        """The facts, once all was fed.  Without new and old lines where they can't be told apart."""
        if self._size:
            self._search(b"".join(self._held))
            self._held, self._size = [], 0
        found: dict[str, Value] = {"content": Searched(frozenset(self._found["content"]))}
        if self.held:
            found["added_lines"] = Searched(frozenset(self._found["added_lines"]))
            gone = frozenset(key for key in self._wanted_gone if self._is_gone(key))
            found["removed_lines"] = Searched(gone)
        return found

    def _is_gone(self, key: tuple[str, ...]) -> bool:
        gone = self._gone or Counter()
        return any(count > gone[line] for line, count in Counter(self._wanted_gone[key]).items())


def _whole(data: bytes) -> bytes:
    """Without the end of the last line, which begins no further one."""
    return data.removesuffix(b"\n")
