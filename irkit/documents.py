"""YAML documents that people write (playbooks, profiles, rules, scenarios): safe, limited, with places for errors.

A small subset of YAML 1.2 on purpose: no anchors, aliases or tags; ``yes`` and ``no`` are words; a key twice is an
error.  Parsed event by event, so depth and size are limited while reading.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from irkit.errors import PlaybookInvalid

SIZE_LIMIT = 512 * 1024
DEPTH_LIMIT = 32
CHOICES_SHOWN = 12
REQUIRED = object()
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,15}\.[0-9]{1,15}")
_WORDS: Mapping[str, object] = {"": None, "null": None, "~": None, "true": True, "false": False}

Stamp = tuple[str, int, int, int]
Value = Union["Doc", "Items", str, int, float, bool, None]


class Place(NamedTuple):
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def error(self, message: str, hint: str | None = None) -> PlaybookInvalid:
        """An error that names this place."""
        return PlaybookInvalid(f"{self.file}:{self.line}:{self.column}: {message}", hint=hint)


class Items:
    """A list, with the place of each item."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.values: list[Value] = []
        self.places: list[Place] = []

    def __iter__(self) -> Iterator[tuple[Value, Place]]:
        return iter(zip(self.values, self.places, strict=True))

    def docs(self) -> list[Doc]:
        """All items as mappings.  Raises ``PlaybookInvalid`` for an item that is none."""
        for value, place in self:
            if not isinstance(value, Doc):
                raise place.error("expected a mapping (`key: value` lines)")
        return [value for value in self.values if isinstance(value, Doc)]


class Doc:
    """A mapping that knows where it stands, and which of its keys have been asked for."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.values: dict[str, Value] = {}
        self.places: dict[str, Place] = {}
        self._asked: set[str] = set()

    def get(self, key: str, kinds: tuple[type, ...], what: str, default: Any = REQUIRED) -> Any:
        """A value of one of ``kinds``; ``default`` when absent.  Raises ``PlaybookInvalid``."""
        self._asked.add(key)
        if key not in self.values:
            if default is REQUIRED:
                raise self.place.error(f"{key!r} is missing")
            return default
        value = self.values[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.places[key].error(f"{key!r} must be {what}")
        return value

    def allow(self, *keys: str) -> None:
        """Count keys as known, whether or not they are there."""
        self._asked.update(keys)

    def text(self, key: str, default: Any = REQUIRED) -> str:
        """A string."""
        value: str = self.get(key, (str,), "a text", default)
        return value

    def integer(self, key: str, default: Any = REQUIRED) -> int:
        """A whole number."""
        value: int = self.get(key, (int,), "a whole number", default)
        return value

    def boolean(self, key: str, default: Any = REQUIRED) -> bool:
        """``true`` or ``false``."""
        value: bool = self.get(key, (bool,), "true or false", default)
        return value

    def choice(self, key: str, choices: Sequence[str], default: Any = REQUIRED) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if key in self.values and value not in choices:
            few = choices if len(choices) <= CHOICES_SHOWN else (*choices[:3], f"… ({len(choices)} in all)")
            raise self.places[key].error(f"{key!r} must be one of {', '.join(few)}", closest(value, choices))
        return value

    def mapping(self, key: str, default: Any = REQUIRED) -> Doc:
        """A mapping; an empty one when ``default`` is given and it is absent."""
        if default is not REQUIRED and key not in self.values:
            self._asked.add(key)
            return Doc(self.place)
        value: Doc = self.get(key, (Doc,), "a mapping")
        return value

    def items(self, key: str, default: Any = REQUIRED) -> Items:
        """A list; an empty one when ``default`` is given and it is absent."""
        if default is not REQUIRED and key not in self.values:
            self._asked.add(key)
            return Items(self.place)
        value: Items = self.get(key, (Items,), "a list")
        return value

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """A list of strings, or one string."""
        if isinstance(self.values.get(key), str):
            return (self.text(key),)
        found = []
        for value, place in self.items(key, default):
            if not isinstance(value, str):
                raise place.error(f"{key!r} must be a list of texts")
            found.append(value)
        return tuple(found)

    def done(self) -> None:
        """Refuse keys that nobody asked for.  Raises ``PlaybookInvalid``."""
        for key in self.values:
            if key not in self._asked:
                raise self.places[key].error(f"unknown key {key!r}", closest(key, sorted(self._asked)))

    def plain(self) -> dict[str, Any]:
        """As plain Python data, all keys counted as asked for."""
        self._asked.update(self.values)
        return {key: plain(value) for key, value in self.values.items()}


def plain(value: Value) -> Any:
    """Plain Python data."""
    if isinstance(value, Doc):
        return value.plain()
    return [plain(one) for one in value.values] if isinstance(value, Items) else value


def closest(word: str, words: Sequence[str]) -> str | None:
    """A hint: the word that was meant, or those that there are."""
    import difflib

    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(words)}"


def stamp(path: Path) -> Stamp:
    """What tells a file from what it becomes when somebody writes it, for who reads it once and not again.

    Path, inode, size in bytes, time of the last change of either (``ctime``, which nobody can set back) in nanoseconds.
    Raises ``PlaybookInvalid`` where :func:`load` would.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise PlaybookInvalid(f"can't read {path}: {error.strerror}") from error
    return str(path), info.st_ino, info.st_size, info.st_ctime_ns


def load(path: Path) -> tuple[Doc, str]:
    """A document and the sha256 of its bytes.  Raises ``PlaybookInvalid``."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise PlaybookInvalid(f"can't read {path}: {error.strerror}") from error
    return load_bytes(data, str(path))


def load_bytes(data: bytes, name: str) -> tuple[Doc, str]:
    """A document from bytes that were read already, and their sha256.  Raises ``PlaybookInvalid``."""
    return parse(data, name), "sha256:" + hashlib.sha256(data).hexdigest()


def parse(data: bytes, name: str) -> Doc:
    """A document from bytes.  Raises ``PlaybookInvalid`` for anything that is not one mapping within the limits."""
    if len(data) > SIZE_LIMIT:
        raise PlaybookInvalid(f"{name}: larger than {SIZE_LIMIT} bytes")
    import yaml  # 12 ms, which who finds a parsed document in the cache need not wait for

    try:
        text = data.decode("utf-8")
        value = _build(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), name)
    except UnicodeDecodeError as error:
        raise PlaybookInvalid(f"{name}: not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
        raise place.error(str(getattr(error, "problem", None) or error)) from error
    if not isinstance(value, Doc):
        raise PlaybookInvalid(f"{name}: expected a mapping at the top")
    return value


def _build(events: Iterator[Any], name: str) -> Value:
    """Turn events into values without recursion: a document can't exhaust the stack."""
    import yaml

    stack: list[tuple[Doc | Items, str | None]] = []
    top: list[Value] = []
    for event in events:
        place = Place(name, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise place.error("anchors, aliases and tags are not allowed")
        if isinstance(event, yaml.DocumentStartEvent) and top:
            raise place.error("more than one document")
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(stack) >= DEPTH_LIMIT:
                raise place.error(f"nested more than {DEPTH_LIMIT} deep")
            stack.append((Doc(place) if isinstance(event, yaml.MappingStartEvent) else Items(place), None))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            value, _ = stack.pop()
            _attach(stack, top, value, value.place)
        elif isinstance(event, yaml.ScalarEvent):
            _scalar(stack, top, event, place)
    return top[0] if top else None


def _scalar(stack: list[tuple[Doc | Items, str | None]], top: list[Value], event: Any, place: Place) -> None:
    if stack and isinstance(stack[-1][0], Doc) and stack[-1][1] is None:
        doc = stack[-1][0]
        if event.value in doc.values:
            raise place.error(f"the key {event.value!r} stands here twice")
        doc.places[event.value] = place
        stack[-1] = (doc, event.value)
        return
    _attach(stack, top, event.value if not event.implicit[0] else _resolve(event.value), place)


def _resolve(text: str) -> Value:
    if text in _WORDS:
        word = _WORDS[text]
        return word if isinstance(word, bool) else None
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _attach(stack: list[tuple[Doc | Items, str | None]], top: list[Value], value: Value, place: Place) -> None:
    if not stack:
        top.append(value)
        return
    parent, key = stack[-1]
    if isinstance(parent, Items):
        parent.values.append(value)
        parent.places.append(place)
    elif key is None:
        raise place.error("a key must be a plain text")
    else:
        parent.values[key] = value
        parent.places[key] = place
        stack[-1] = (parent, None)
