"""The record of one eradication: what was asked for, each item with its evidence and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.engine.interface import Engine
from irkit.home import home, private_folder, read_json, write_json
from irkit.recover.bad import Item
from irkit.recover.holds import Held

SCHEMA = "irkit.eradication/v1"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.  ``digests``: sha256 (hex) of files; a container that holds one among its changed files is bad."""

    ref: str
    base: str = ""
    digests: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    accept_gaps: bool = False

    def to_json(self) -> dict[str, Any]:
        """In the record."""
        return {
            "ref": self.ref, "base": self.base, "file_digests": list(self.digests), "keep": list(self.keep),
            "accept_gaps": self.accept_gaps,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One item.  ``decision``: ``remove``, ``keep`` (somebody uses it), ``refuse`` (no evidence holds it).

    ``outcome``, once it was tried: ``removed``, ``gone`` (it was not there any more), ``kept`` or ``failed``.
    """

    item: Item
    held: Held
    decision: str
    why: str = ""
    outcome: str = ""

    def to_json(self) -> dict[str, Any]:
        """In the record, and in ``irkit eradicate --json``."""
        words = {"decision": self.decision, "reason": self.why, "outcome": self.outcome}
        return {**self.item.to_json(), "held": self.held.to_json(), **words}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Row:
        """The reverse."""
        held = raw["held"]
        text = {name: str(held[name]) for name in ("bundle", "digest", "case", "sealed", "why")}
        return cls(
            Item.from_json(raw), Held(**text, gaps=tuple(held["gaps"])), str(raw["decision"]), str(raw["reason"]),
            str(raw["outcome"]),
        )  # fmt: skip


@dataclass(slots=True)
class Eradication:
    """One eradication, as its record has it: ``IRKIT_HOME/eradications/ID.json``, written anew after every item."""

    id: str
    engine: str
    subject: dict[str, str]
    request: Request
    rows: list[Row]
    digests: tuple[str, ...]
    unseen: tuple[str, ...]
    run: str = ""
    started: str = ""
    finished: str = ""
    denied: bool = False
    again: bool = False
    """Whether it goes on with what another process began."""

    @property
    def path(self) -> Path:
        """Where the record lies."""
        return folder() / f"{self.id}.json"

    def to_json(self) -> dict[str, Any]:
        """``irkit.eradication/v1``."""
        return {
            "schema": SCHEMA, "id": self.id, "engine": self.engine, "run": self.run, "subject": dict(self.subject),
            "request": self.request.to_json(), "started": self.started, "finished": self.finished, "digests": list(self.digests),
            "denied": self.denied, "items": [row.to_json() for row in self.rows], "unseen": list(self.unseen),
        }  # fmt: skip

    def save(self) -> None:
        """Write the record.  Raises ``StorageError``."""
        private_folder(folder())
        write_json(self.path, self.to_json())

    def count(self, *words: str) -> int:
        """How many items have one of these outcomes, or of these decisions while they have no outcome."""
        return sum((row.outcome or row.decision) in words for row in self.rows)

    @property
    def gaps(self) -> list[str]:
        """What is not as clean as it could be, in words."""
        lacking = [
            f"{row.item.name}: the bundle lacks {one}" for row in self.rows if row.outcome for one in row.held.gaps
        ]
        return [*self.unseen, *lacking, *(f"{row.item.name}: {row.why}" for row in self.rows if RAN_ON in row.why)]


RAN_ON = "it ran on after its evidence was sealed, or ended only then: what it did since is in no bundle"


def folder() -> Path:
    """Where records lie."""
    return home() / "eradications"


def _from_json(raw: Mapping[str, Any]) -> Eradication:
    asked = raw["request"]
    request = Request(
        str(asked["ref"]), str(asked["base"]), tuple(asked["file_digests"]), tuple(asked["keep"]), bool(asked["accept_gaps"])
    )  # fmt: skip
    return Eradication(
        str(raw["id"]), str(raw["engine"]), dict(raw["subject"]), request, [Row.from_json(one) for one in raw["items"]],
        tuple(raw["digests"]), tuple(raw["unseen"]), str(raw["run"]), str(raw["started"]), str(raw["finished"]),
        bool(raw["denied"]), again=True,
    )  # fmt: skip


def begun(engine: Engine, *, ref: str = "", run: str = "", finished: bool = False) -> Eradication | None:
    """The newest record on this engine of this target or run, by default one that was not finished."""
    records = sorted(folder().glob("*.json"), reverse=True) if folder().is_dir() else []
    for path in records:
        raw = read_json(path)
        if raw is None or raw.get("schema") != SCHEMA or raw.get("engine") != engine.endpoint:
            continue
        if bool(raw.get("finished")) != finished:
            continue
        subject = raw.get("subject") or {}
        names = {str(subject.get(name)) for name in ("id", "name", "ref")} - {""}
        if (run and raw.get("run") == run) or (ref and not run and ref in names):
            return _from_json(raw)
    return None
