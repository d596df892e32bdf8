"""Alerts: what a detector says, read with limits.  All of it may have been written by an attacker.

Falco's JSON (``json_output: true``): ``time``, ``rule``, ``priority``, ``source``, ``tags``, ``output``, ``hostname`` and
``output_fields`` with ``container.id`` (12 digits; ``host`` outside of containers), ``container.name`` and so on
(falco.org/docs/concepts/outputs/formatting).  The engine's events: Docker Engine API v1.41, ``GET /events``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.errors import IrkitError

SOURCES = ("falco", "events", "json")
PRIORITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
"""RFC 5424's severities as Falco names them, the worst first."""
ALIASES = {"info": "informational", "err": "error", "crit": "critical", "warn": "warning", "emerg": "emergency"}
SIZE_LIMIT = 256 * 1024
DEPTH_LIMIT = 16
VALUE_LIMIT = 5000
RULE_LIMIT, TAG_LIMIT, TEXT_LIMIT = 256, 64, 4096
CONTAINER_ID = re.compile(r"[0-9a-f]{12}(?:[0-9a-f]{52})?")
CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
NOWHERE = ("", "host", "<NA>")
"""What Falco says for a container outside of one."""
_LATEST = 32503680000.0


class Malformed(IrkitError):
    """A line or a body that is no alert."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.  ``time``: when the detector saw it, ``received``: when irkit did; seconds since the epoch.

    ``container``: an id (12 or 64 digits) or a name in the engine's strict form, empty when it names none.
    ``fields``: what else it says, nested by the dots in its names, for conditions.  ``digest``: sha256 of its bytes.
    """

    source: str
    rule: str
    priority: str
    time: float
    received: float
    container: str
    digest: str
    message: str = ""
    tags: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scope(self) -> dict[str, Any]:
        """``alert`` and ``fields``, as conditions and variables of rules name them."""
        told = {
            "source": self.source, "rule": self.rule, "priority": self.priority, "message": self.message,
            "tags": list(self.tags), "container": self.container or None, "digest": self.digest,
        }  # fmt: skip
        return {"alert": told, "fields": self.fields}


ALERT_NAMES = ("source", "rule", "priority", "message", "tags", "container", "digest")


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where another detector's JSON says what: dotted paths.  ``priorities``: its words for ours."""

    container: str
    rule: str
    priority: str = ""
    time: str = ""
    message: str = ""
    tags: str = ""
    priorities: Mapping[str, str] = field(default_factory=dict)
    default_priority: str = ""


def parse(source: str, line: bytes, received: float, mapped: Mapped | None = None) -> Alert:
    """An alert of one of ``SOURCES``.  Raises ``Malformed``, and nothing else, for what is none."""
    row = parse_json(line)
    digest = "sha256:" + hashlib.sha256(line).hexdigest()
    if source == "falco":
        return _falco(row, received, digest)
    if source == "events":
        return _event(row, received, digest)
    if mapped is None:
        raise Malformed("the rules file has no `json` mapping")
    return _other(row, received, digest, mapped)


def parse_json(line: bytes) -> dict[str, Any]:
    """One JSON object within the limits: no key twice, no NaN.  Raises ``Malformed``."""
    if len(line) > SIZE_LIMIT:
        raise Malformed(f"larger than {SIZE_LIMIT} bytes")
    try:
        value = json.loads(
            line.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8 text") from error
    except RecursionError as error:
        raise Malformed(f"nested more than {DEPTH_LIMIT} deep") from error
    except ValueError as error:
        raise Malformed(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Malformed("no JSON object")
    _measure(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _measure(value: Any) -> None:
    """Depth and count, without recursion."""
    todo, count = [(value, 1)], 0
    while todo:
        one, depth = todo.pop()
        count += 1
        if depth > DEPTH_LIMIT:
            raise Malformed(f"nested more than {DEPTH_LIMIT} deep")
        if count > VALUE_LIMIT:
            raise Malformed(f"more than {VALUE_LIMIT} values")
        if isinstance(one, dict | list):
            todo += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]


def _falco(row: Mapping[str, Any], received: float, digest: str) -> Alert:
    fields = row.get("output_fields") or {}
    if not isinstance(fields, dict):
        raise Malformed("'output_fields' is no object")
    container = ""
    for name in ("container.full_id", "container.id", "container.name"):
        said = fields.get(name)
        if isinstance(said, str) and said not in NOWHERE:
            container = reference(said, name, names=name == "container.name")
            break
        if name == "container.id" and said == "host":
            break
    return Alert(
        "falco", _rule(row.get("rule")), priority_of(row.get("priority"), {}, ""), _time(row.get("time"), received), received,
        container, digest, _text(row.get("output")), _tags(row.get("tags")), nested(fields),
    )  # fmt: skip


def _event(row: Mapping[str, Any], received: float, digest: str) -> Alert:
    """``rule`` is the action of a container's event, and ``TYPE:ACTION`` of another's; ``fields.detail`` what stands behind its colon."""
    actor = row.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    attributes = actor.get("Attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    kind, said = str(row.get("Type") or "container"), str(row.get("Action") or row.get("status") or "")
    action, _, detail = said.partition(":")
    detail = detail.strip()
    named = actor.get("ID") or row.get("id") if kind == "container" else attributes.get("container")
    container = reference(named, "Actor.ID") if isinstance(named, str) and named else ""
    fields = {**nested(attributes), "type": kind, "action": action, "detail": detail}
    rule = action if kind == "container" else f"{kind}:{action}"
    return Alert(
        "events", _rule(rule), "notice", _time(row.get("timeNano"), received), received, container, digest, _text(detail), (), fields
    )  # fmt: skip


def _other(row: Mapping[str, Any], received: float, digest: str, mapped: Mapped) -> Alert:
    said = at(row, mapped.container)
    if said is not None and not isinstance(said, str):
        raise Malformed(f"{mapped.container!r} is no text")
    container = reference(said, mapped.container, names=True) if said and said not in NOWHERE else ""
    return Alert(
        "json", _rule(at(row, mapped.rule)), priority_of(at(row, mapped.priority), mapped.priorities, mapped.default_priority),
        _time(at(row, mapped.time), received), received, container, digest, _text(at(row, mapped.message)),
        _tags(at(row, mapped.tags)), row,
    )  # fmt: skip


def reference(said: str, name: str, *, names: bool = False) -> str:
    """An id, or a name where one may stand, in the strict form that the engine's own have.  Raises ``Malformed``."""
    if CONTAINER_ID.fullmatch(said) or (names and CONTAINER_NAME.fullmatch(said)):
        return said
    raise Malformed(f"{name!r} is no container's id" + (" or name" if names else ""))


def priority_of(said: Any, words: Mapping[str, str], default: str) -> str:
    """One of ``PRIORITIES``.  Raises ``Malformed`` for a word that means none, unless there is a default."""
    word = str(said).strip().lower() if isinstance(said, str | int | float) and not isinstance(said, bool) else ""
    found = words.get(word) or ALIASES.get(word, word)
    if found in PRIORITIES:
        return found
    if default:
        return default
    raise Malformed(f"the priority {word[:40]!r} is not known" if word else "it has no priority")


def at(row: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; keys may have dots themselves.  ``None`` when nothing does."""
    if not path:
        return None
    if path in row:
        return row[path]
    for place, char in enumerate(path):
        inner = row.get(path[:place]) if char == "." else None
        if isinstance(inner, Mapping) and (found := at(inner, path[place + 1 :])) is not None:
            return found
    return None


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"proc.name": "sh"}`` as ``{"proc": {"name": "sh"}}``; where a name is also the beginning of others, those win."""
    found: dict[str, Any] = {}
    for name in sorted(flat, key=lambda one: -one.count(".")):
        here = found
        *path, last = name.split(".")[: DEPTH_LIMIT + 1]
        for part in path:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                break
        else:
            here.setdefault(last, flat[name])
    return found


def moment(value: Any) -> float:
    """A time as seconds since the epoch: RFC 3339 text, or seconds, milli-, micro- or nanoseconds.  Raises ``ValueError``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
        for unit in (1e9, 1e6, 1e3):
            if seconds > 1e8 * unit:
                seconds /= unit
                break
    elif isinstance(value, str) and len(value) <= 64:
        from datetime import UTC

        from dateutil.parser import isoparse

        parsed = isoparse(value)
        seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    else:
        raise ValueError("no time")
    if not 0 < seconds < _LATEST:
        raise ValueError("no time")
    return seconds


def _time(value: Any, received: float) -> float:
    """A detector's time; an alert with a bad one is an alert all the same, seen when it came."""
    try:
        return moment(value)
    except (ValueError, OverflowError):
        return received


def _rule(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > RULE_LIMIT:
        raise Malformed("it names no rule" if not value else f"its rule is no text of at most {RULE_LIMIT} characters")
    return value


def _text(value: Any) -> str:
    return value[:TEXT_LIMIT] if isinstance(value, str) else ""


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > TAG_LIMIT or not all(isinstance(one, str) for one in value):
        raise Malformed(f"its tags are no list of at most {TAG_LIMIT} texts")
    return tuple(one[:RULE_LIMIT] for one in value)
