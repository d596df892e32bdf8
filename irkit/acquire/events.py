"""What the engine remembers of the time around an incident: of every object, not of the target alone.

The engine keeps its last 256 events in memory (moby, ``daemon/events/events.go``: ``eventsLimit``) and none over a
restart, so a window is seldom covered as a whole: whether it is, is told by the target's own ``create``.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from irkit.acquire.watchdog import guarded
from irkit.clock import now, rfc3339_ns
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter, Origin
from irkit.streams import IDLE

KEPT = 256
LIMIT = 10_000
LINE_LIMIT = 1024 * 1024
DAY = 24 * 3600
NANO = 1_000_000_000
SHORT = 4096
_encode = json.JSONEncoder(sort_keys=True).encode


class EngineEvent(NamedTuple):
    """One event, never changed: those of a crowd are shared.  ``detail``: what stands behind the colon (``exec_create: /bin/sh -c id``).

    ``relation`` to the target: ``target``, ``image``, ``network``, ``volume`` (one that it has), ``other``.
    """

    time_ns: int
    type: str
    action: str
    detail: str
    actor: str
    relation: str
    attributes: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """One line of ``engine/events.jsonl``.  Attributes hold labels, which who made the object wrote."""
        return {
            "time": rfc3339_ns(self.time_ns), "time_ns": self.time_ns, "type": self.type, "action": self.action, "detail": self.detail,
            "actor": self.actor, "name": self.attributes.get("name", ""), "relation": self.relation, "attributes": self.attributes,
        }  # fmt: skip


class _Names:
    """What belongs to the target."""

    def __init__(self, target: Container) -> None:
        self._relations = {target.id: "target", target.image_id: "image", target.image_ref: "image"}
        self._relations |= {one.network_id: "network" for one in target.endpoints}
        self._relations |= {str(one.get("Name")): "volume" for one in target.raw.get("Mounts") or () if one.get("Name")}
        self._id = target.id

    def relation(self, actor: str, attributes: dict[str, str]) -> str:
        """How an object stands to the target."""
        if attributes.get("container") == self._id:
            return "target"
        return self._relations.get(actor, "other")


def parse_event(line: bytes) -> EngineEvent:
    """One line of ``GET /events``, as yet in no relation to anything.  Raises ``ValueError``."""
    try:
        row = json.loads(line)
        actor = row.get("Actor") or {}
        action, _, detail = str(row.get("Action") or row.get("status") or "").partition(":")
        attributes = {str(key): str(value) for key, value in (actor.get("Attributes") or {}).items()}
        moment = int(row.get("timeNano") or 0) or int(row.get("time") or 0) * NANO
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("not an event") from error
    who = str(actor.get("ID") or row.get("id") or "")
    return EngineEvent(moment, str(row.get("Type") or ""), action, detail.strip(), who, "", attributes)


def _read(line: bytes) -> tuple[EngineEvent, str, str]:
    """An event, and its row up to the relation to a target and after that.  Raises ``ValueError``."""
    event = parse_event(line)
    # The last one is its own: no text holds bare quotes, and attributes, which may have such a key, stand before it.
    before, key, after = _encode(event.to_json()).rpartition('"relation": ')
    return event, before + key, after.removeprefix('""') + "\n"


_read_once = lru_cache(2 * KEPT)(_read)
"""The targets of one command are told of the same events: each is read once.  Short ones only, so that memory is bounded."""


def _event(line: bytes, names: _Names) -> tuple[EngineEvent, str]:
    """An event in relation to the target, and its row of ``engine/events.jsonl``.  Raises ``ValueError``."""
    event, before, after = _read_once(line) if len(line) <= SHORT else _read(line)
    relation = names.relation(event.actor, event.attributes)
    return event._replace(relation=relation), f'{before}"{relation}"{after}'


def acquire_events(
    engine: Engine, target: Container, writer: BundleWriter, *, since: float | None = None, limit: int = LIMIT, idle: float = IDLE
) -> tuple[EngineEvent, ...]:  # fmt: skip
    """Write ``engine/events.jsonl`` and ``engine/events-window.json``; the events.

    ``since``: seconds since the epoch; by default the target's creation or 24 hours ago, whichever is earlier.  Until
    now, by this host's clock.  Never raises an ``EngineError``.
    """
    until = time.time()
    created = _seconds(str(target.raw.get("Created") or ""))
    start = min(created or until, until - DAY) if since is None else since
    found: list[EngineEvent] = []
    bad = 0
    origin = Origin("engine-state", "events of all objects", "engine API: events, until now", "application/jsonl")
    try:
        chunks = guarded(engine.events(f"{start:.9f}", f"{until:.9f}", idle), idle, "the engine's event stream")
        names = _Names(target)
        with writer.sink("engine/events.jsonl", origin, compress=False) as sink:
            for lines in _lines(chunks):
                rows = _events(lines, names)
                bad += len(lines) - len(rows)
                over = len(found) + len(rows) > limit
                rows = rows[: limit - len(found)]
                found += [event for event, _ in rows]
                sink.write("".join([text for _, text in rows]).encode())
                if over:
                    writer.gap("engine-state", "events", f"more than {limit} events: the later ones were left out")
                    break
    except EngineError as error:
        if not any(one.path == "data/engine/events.jsonl" for one in writer.artifacts):
            writer.gap("engine-state", "events", error.message)
    _window(target, writer, found, start, until, created, bad)
    return tuple(found)


def _events(lines: list[bytes], names: _Names) -> list[tuple[EngineEvent, str]]:
    """The events of some lines and their rows, without the lines that are none."""
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(_event(line, names))
    return found


def _window(
    target: Container, writer: BundleWriter, found: list[EngineEvent], start: float, until: float, created: float | None, bad: int
) -> None:  # fmt: skip
    oldest = min((one.time_ns for one in found), default=0)
    covered = any(one.type == "container" and one.action == "create" and one.actor == target.id for one in found)
    # Only a window that reaches back behind the creation can show it; of a later one nothing proves that it is whole.
    covered = covered and created is not None and start <= created
    # Not a gap: on a host with health checks the engine's memory is hardly ever longer than a few minutes.
    first = f"the oldest is of {rfc3339_ns(oldest)}" if oldest else "there is none"
    note = f"the window isn't covered: the engine keeps its last {KEPT} events, and none over a restart; {first}"
    writer.add_json(
        "engine/events-window.json",
        {
            "schema": "irkit.events-window/v1", "since": rfc3339_ns(int(start * NANO)), "until": rfc3339_ns(int(until * NANO)),
            "asked": now(), "count": len(found), "unreadable": bad, "oldest": rfc3339_ns(oldest) if oldest else "",
            "covers_from_creation": covered, "engine_keeps": KEPT, "note": "" if covered else note,
        },
        Origin("engine-state", "events", "irkit's own record"),
    )  # fmt: skip
    if bad:
        writer.gap("engine-state", "events", f"{bad} lines of the engine's were not events")


def _lines(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    """The lines as they come, some at a time."""
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield [one for one in lines if one.strip()]
        if len(rest) > LINE_LIMIT:
            raise EngineError(f"an event is longer than {LINE_LIMIT} bytes")
    if rest.strip():
        yield [rest]


def _seconds(text: str) -> float | None:
    """RFC 3339, to the second below; ``None`` for what is not."""
    import calendar

    try:
        return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))) if text.endswith("Z") else None
    except ValueError:
        return None
