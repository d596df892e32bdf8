"""JSON that others wrote and somebody else parses too: read so that no two readers can understand it differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from irkit.errors import NotTrusted
from irkit.text import printable


def load_object(data: bytes, what: str) -> dict[str, Any]:
    """One JSON object.  Refused: a key twice (also in other case: Go's reader, which engines and other verifiers are built
    on, takes ``Config`` for ``config``), NaN, bytes that are not UTF-8.  Raises ``NotTrusted``."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotTrusted(f"{what} is not JSON that can be trusted: {printable(str(error), 200)}") from error
    if not isinstance(value, dict):
        raise NotTrusted(f"{what} is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key.lower() in seen:
            raise ValueError(f"the key {key[:60]!r} stands there twice")
        seen.add(key.lower())
    return dict(pairs)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON value")


def text(source: Mapping[str, Any], key: str, what: str) -> str:
    """A string member.  Raises ``NotTrusted``."""
    value = source.get(key)
    if not isinstance(value, str):
        raise NotTrusted(f"{what}: {key!r} is no text")
    return value


def mapping(source: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    """An object member.  Raises ``NotTrusted``."""
    value = source.get(key)
    if not isinstance(value, dict):
        raise NotTrusted(f"{what}: {key!r} is no object")
    return value


def items(source: Mapping[str, Any], key: str, what: str, limit: int) -> list[dict[str, Any]]:
    """A list of objects, of ``limit`` at most.  Raises ``NotTrusted``."""
    value = source.get(key)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise NotTrusted(f"{what}: {key!r} is no list of objects")
    if len(value) > limit:
        raise NotTrusted(f"{what}: {key!r} has more than {limit} entries")
    return value


def exactly(source: Mapping[str, Any], keys: set[str], what: str) -> None:
    """Refuse members beside ``keys``, and missing ones.  Raises ``NotTrusted``."""
    if set(source) != keys:
        odd = sorted(set(source) ^ keys)
        raise NotTrusted(f"{what}: unknown or missing members: {printable(', '.join(odd), 200)}")


def words(source: object) -> dict[str, str]:
    """Annotations: the members that are texts."""
    return {k: v for k, v in source.items() if isinstance(v, str)} if isinstance(source, dict) else {}
