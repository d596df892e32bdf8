"""Patterns of rules: globs and regular expressions, both in time linear in the text.

A rule's regular expression is run over text that an attacker wrote: RE2 (docs/adr/0021) has no backtracking, so no
pattern can blow up; look-around and back-references, which it lacks, are refused where the rule is read.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

LENGTH = 4000
"""Characters of one pattern."""
MEMORY = 4 * 1024 * 1024
"""Bytes that RE2 may use for one pattern; repetitions like ``(a{1000}){1000}`` go over it and are refused."""
TEXT_LIMIT = 1024 * 1024
"""Characters of one text that are searched."""


class BadPattern(ValueError):
    """A pattern that is not RE2's syntax, or too large; says why."""


_OF_THE_WHOLE = re.compile(r"\\[AzC]|\(\?[a-zA-Z]*-")
"""What fits in a text of many lines at other places than in each of its lines."""


class Regex:
    """A regular expression.  Multi-line: ``^`` and ``$`` hold at each line; ``.`` does not match a line's end."""

    __slots__ = ("_search", "source")

    def __init__(self, source: str, *, later: bool = False) -> None:
        """``later``: compile it when it is first used, because a test has held it to the syntax.  Raises ``BadPattern``."""
        self.source = source
        self._search: Callable[[bytes], object] = self._first if later else _compiled(source).search

    def _first(self, data: bytes) -> object:
        self._search = _compiled(self.source).search
        return self._search(data)

    def search(self, text: str) -> bool:
        """Whether it is found in the first :data:`TEXT_LIMIT` characters of ``text``; surrogates count as bytes."""
        if len(text) > TEXT_LIMIT:
            text = text[:TEXT_LIMIT]
        return self._search(_bytes(text)) is not None

    def lines(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where the lines of ``data`` are that it is found in, each by itself: ``(start, end)``, in order.  Time is linear in ``data``."""
        if _OF_THE_WHOLE.search(self.source):
            yield from self._each(data)
            return
        search, place = _by_line(self.source).search, 0
        while place <= len(data) and (match := search(data, place)) is not None:
            start = data.rfind(b"\n", 0, match.start()) + 1
            end = data.find(b"\n", match.start())
            end = len(data) if end < 0 else end
            yield start, end
            place = end + 1

    def _each(self, data: bytes) -> Iterator[tuple[int, int]]:
        start = 0
        for line in data.split(b"\n"):
            if self._search(line) is not None:
                yield start, start + len(line)
            start += len(line) + 1


def any_of(patterns: Sequence[Regex]) -> tuple[Regex, ...]:
    """One pattern for all of them, where that is not too large: a text is then read once.  Only for patterns that hold by themselves."""
    try:
        return (Regex("|".join(f"(?:{one.source})" for one in patterns)),) if len(patterns) > 1 else tuple(patterns)
    except BadPattern:
        return tuple(patterns)


_last: list[tuple[tuple[str, ...], bytes]] = [((), b"")]


def joined(lines: tuple[str, ...]) -> bytes:
    """Lines as one text; of the last lines that were asked for it is kept, because several rules ask for the same."""
    kept = _last[0]
    if kept[0] is not lines:
        kept = (lines, _bytes("\n".join(line for line in lines if isinstance(line, str))))
        _last[0] = kept
    return kept[1]


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, out of somebody's JSON
        return text.encode("utf-8", "replace")


def _by_line(source: str) -> Any:
    """Never over a line's end, whatever the pattern says: a search of many lines then finds what fits in one of them."""
    return _compiled(source, within_line=True)


@lru_cache(maxsize=4096)
def _compiled(source: str, *, within_line: bool = False) -> Any:
    import re2

    if len(source) > LENGTH:
        raise BadPattern(f"a pattern of more than {LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    options.never_capture = True
    options.never_nl = within_line
    try:
        re2.compile(source.encode(), options)
        return re2.compile(f"(?m:{source})".encode(), options)
    except (re2.error, UnicodeEncodeError) as error:
        why = error.args[0] if error.args else error
        raise BadPattern(why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)) from error


@lru_cache(maxsize=4096)
def glob(pattern: str) -> re.Pattern[str]:
    """A shell pattern over a whole text; ``*`` also matches ``/``.  fnmatch's own translation does not backtrack between stars."""
    return re.compile(fnmatch.translate(pattern), re.DOTALL)


def is_glob(pattern: str) -> bool:
    """Whether it has a wildcard at all."""
    return any(char in pattern for char in "*?[")


def fixed(pattern: str) -> tuple[str, str]:
    """The texts without wildcards at a glob's beginning and at its end; the same text twice when it has none."""
    places = [number for number, char in enumerate(pattern) if char in "*?["]
    if not places:
        return pattern, pattern
    last = places[-1]
    if "[" in pattern:
        return pattern[: places[0]], ""
    return pattern[: places[0]], pattern[last + 1 :]
