"""The one shape of all structured differences, and how two sides of it are held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from irkit.compare.content.secrets import without_hashes
from irkit.text import printable

Fact = str | int | bool | tuple[str, ...]
TEXT_LIMIT = 2000
"""Characters of one text fact; ``clipped`` is set where one is cut."""
TEXTS_LIMIT = 200
"""Texts in one fact."""
TELLING = (
    "uid0", "gid0", "empty_password", "nopasswd", "no_authentication", "as_root", "all_commands", "privileged", "preload", "unsafe_path", "executes", "risky",
    "temporary", "hidden", "outside", "insecure", "permits", "at_boot", "environment", "authority", "signs",
)  # fmt: skip
"""Facts for which an entry is listed first, when not all can be."""
CHANGES_LIMIT = 2000
"""Entries that one file may give; what is beyond is counted in a last entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement of a file, as it stands on one side.

    ``key``: entries of the same key are the same thing, changed or not (a user's name, a key's fingerprint).  ``body``: equal
    bodies are unchanged.  ``hidden``: values that are compared and never shown (a password's hash), by name.
    """

    key: str
    subject: str
    line: int
    body: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EntryChange:
    """One entry that was added, changed or removed.

    ``file``: which kind of file (``passwd``, ``cron``, …).  ``line``: counted from 1, on the side where the entry is now (or was,
    when it was removed); 0 for the file as a whole.  Facts of a changed entry are those of now, with ``changed`` (which facts differ)
    and, for each list, ``NAME_added`` and ``NAME_removed``; ``before`` holds ``NAME=value`` of what it was.  All texts are escaped.
    """

    file: str
    change: str
    subject: str
    facts: Mapping[str, Fact]
    line: int

    def to_json(self) -> dict[str, Any]:
        """Lists for tuples."""
        facts = {name: list(value) if isinstance(value, tuple) else value for name, value in self.facts.items()}
        return {"file": self.file, "change": self.change, "subject": self.subject, "line": self.line, "facts": facts}


def compare(file: str, before: Sequence[Entry], after: Sequence[Entry]) -> list[EntryChange]:
    """What differs, in the order of the lines after, what was removed at the end.  Linear in the number of entries."""
    old = _by_key(before)
    pairs: list[tuple[Entry | None, Entry | None]] = []
    for key, mine in _by_key(after).items():
        was, now = _without_equal(old.pop(key, []), mine)
        pairs.extend(zip_longest(was, now))
    pairs.extend((one, None) for rest in old.values() for one in rest)
    listed = pairs
    if len(pairs) > CHANGES_LIMIT:
        # Two thousand harmless entries must not hide the one that is not.
        listed = sorted(pairs, key=lambda pair: not _telling(pair[1] or pair[0]))[:CHANGES_LIMIT]
    listed.sort(key=lambda pair: (pair[1] is None, pair[1].line if pair[1] else 0))
    found = [_change(file, *pair) for pair in listed]
    if len(pairs) > CHANGES_LIMIT:
        found.append(
            problem(file, f"{len(pairs) - CHANGES_LIMIT} more entries differ than the {CHANGES_LIMIT} that are listed")
        )
    return found


def _telling(one: Entry | None) -> bool:
    return one is not None and any(one.facts.get(name) for name in TELLING)


def problem(file: str, why: str) -> EntryChange:
    """An entry that stands for what could not be compared."""
    return EntryChange(file, "changed", why, {"problem": why}, 0)


def _by_key(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for one in entries:
        found.setdefault(one.key, []).append(one)
    return found


def _without_equal(before: list[Entry], after: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Both without the entries whose bodies are on the other side too, each as often as it is there."""
    counts: dict[str, int] = {}
    for one in before:
        counts[one.body] = counts.get(one.body, 0) + 1
    now = []
    for one in after:
        if counts.get(one.body, 0):
            counts[one.body] -= 1
        else:
            now.append(one)
    was = []
    for one in reversed(before):
        if counts.get(one.body, 0):
            counts[one.body] -= 1
            was.append(one)
    return was[::-1], now


def _change(file: str, was: Entry | None, now: Entry | None) -> EntryChange:
    if was is not None and now is not None:
        return _changed(file, was, now)
    one, change = (now, "added") if now is not None else (was, "removed")
    return EntryChange(file, change, _subject(one), clean(one.facts), one.line) if one else problem(file, "")


def _changed(file: str, was: Entry, now: Entry) -> EntryChange:
    facts: dict[str, Fact] = dict(now.facts)
    names = [name for name in {**now.facts, **was.facts} if now.facts.get(name) != was.facts.get(name)]
    secret = [name for name in {**now.hidden, **was.hidden} if now.hidden.get(name) != was.hidden.get(name)]
    for name in names:
        new, old = now.facts.get(name, ()), was.facts.get(name, ())
        if isinstance(new, tuple) and isinstance(old, tuple):
            facts[f"{name}_added"], facts[f"{name}_removed"] = _beyond(new, old), _beyond(old, new)
    facts["changed"] = (*names, *secret)
    facts["before"] = tuple(f"{name}={_words(was.facts[name])}" for name in names if name in was.facts)
    return EntryChange(file, "changed", _subject(now), clean(facts), now.line)


def _beyond(these: tuple[str, ...], those: tuple[str, ...]) -> tuple[str, ...]:
    known = set(those)
    return tuple(one for one in these if one not in known)


def _words(value: Fact) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _subject(one: Entry) -> str:
    return shown(squeeze(one.subject), 300)


def shown(text: str, limit: int) -> str:
    """Escaped, cut, and without password hashes."""
    return printable(without_hashes(text[: 2 * limit])[: limit + 1], limit)


def squeeze(text: str) -> str:
    """Runs of blanks as one: a command can't be pushed out of sight by a thousand spaces."""
    return " ".join(text.split())


def clean(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Texts escaped and cut; ``clipped`` says that one was cut."""
    found: dict[str, Fact] = {}
    clipped = False
    for name, value in facts.items():
        if isinstance(value, str):
            found[name] = shown(value, TEXT_LIMIT)
            clipped = clipped or len(value) > TEXT_LIMIT
        elif isinstance(value, tuple):
            found[name] = tuple(shown(one, TEXT_LIMIT) for one in value[:TEXTS_LIMIT])
            clipped = clipped or len(value) > TEXTS_LIMIT or any(len(one) > TEXT_LIMIT for one in value[:TEXTS_LIMIT])
        else:
            found[name] = value
    if clipped:
        found["clipped"] = True
    return found
