"""Scenarios: data in ``forensics/scenarios/`` that say what is staged, and which finding must come of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit import documents, resources
from irkit.compare.rules import TECHNIQUE
from irkit.documents import Doc
from irkit.text import text_from

KIND = "forensics/scenarios"
CHECKS = ("quarantine-proven", "bundle-verified", "service-restored")
PREFIX = "irkit-drill-"
CONTAINER = re.compile(r"irkit-drill-[a-z0-9][a-z0-9-]{0,40}")


@dataclass(frozen=True, slots=True)
class World:
    """The service that is compromised: ``expect`` is in the answer to ``GET path`` on ``port``."""

    image: str
    container: str
    port: int
    path: str
    expect: str


@dataclass(frozen=True, slots=True)
class Truth:
    """The finding that must come out: of ``rule``, with ``subject_contains`` in its subject."""

    rule: str
    subject_contains: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """One staged trace: ``run`` makes it in the container, ``verify`` ends with 0 once it is in place."""

    id: str
    technique: str
    title: str
    run: tuple[str, ...]
    verify: tuple[str, ...]
    detach: bool
    truth: Truth


@dataclass(frozen=True, slots=True)
class Scenario:
    """A staged compromise, and what a good response to it looks like."""

    id: str
    name: str
    description: str
    world: World
    simulations: tuple[Simulation, ...]
    checks: tuple[str, ...]


def load_scenario(path: Path) -> Scenario:
    """A scenario from its file.  Raises ``PlaybookInvalid``."""
    doc, _ = documents.load(path)
    return from_doc(doc)


def from_doc(doc: Doc) -> Scenario:
    """A scenario from a document.  Raises ``PlaybookInvalid``, which names the place."""
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("Scenario",))
    scenario = Scenario(
        _name(doc),
        _filled(doc, "name"),
        doc.text("description"),
        _world(doc.mapping("world")),
        _simulations(doc),
        _checks(doc),
    )
    doc.done()
    return scenario


def _name(doc: Doc) -> str:
    value = doc.text("id")
    if not resources.NAME.fullmatch(value):
        raise doc.places["id"].error("'id' must be of a-z, 0-9 and -")
    return value


def _filled(doc: Doc, key: str) -> str:
    value = doc.text(key)
    if not value.strip():
        raise doc.places[key].error(f"{key!r} is empty")
    return value


def _world(doc: Doc) -> World:
    world = World(
        _filled(doc, "image"),
        doc.text("container"),
        doc.integer("port"),
        doc.text("path"),
        _filled(doc, "expect"),
    )
    doc.done()
    if not CONTAINER.fullmatch(world.container):
        raise doc.places["container"].error(f"'container' must begin with {PREFIX}, so that no other one is touched")
    if not 0 < world.port < 65536:
        raise doc.places["port"].error("'port' must be from 1 to 65535")
    if not world.path.startswith("/"):
        raise doc.places["path"].error("'path' must begin with /")
    return world


def _simulations(doc: Doc) -> tuple[Simulation, ...]:
    found: dict[str, Simulation] = {}
    for item in doc.items("simulations").docs():
        one = _simulation(item)
        if one.id in found:
            raise item.places["id"].error(f"the simulation {one.id!r} stands here twice")
        found[one.id] = one
    if not found:
        raise doc.places["simulations"].error("a scenario needs a simulation")
    return tuple(found.values())


def _simulation(doc: Doc) -> Simulation:
    technique = doc.text("technique")
    if not TECHNIQUE.fullmatch(technique):
        raise doc.places["technique"].error(f"not an ATT&CK technique id: {technique!r}")
    one = Simulation(
        _name(doc), technique, _filled(doc, "title"), _argv(doc, "run"), _argv(doc, "verify"), doc.boolean("detach", False),
        _truth(doc.mapping("truth")),
    )  # fmt: skip
    doc.done()
    return one


def _argv(doc: Doc, key: str) -> tuple[str, ...]:
    """A list of words on purpose: one string would leave open who splits it."""
    words = [word for word, _ in doc.items(key)]
    if not words or not words[0]:
        raise doc.places[key].error(f"{key!r} is empty")
    return doc.texts(key)


def _truth(doc: Doc) -> Truth:
    truth = Truth(_filled(doc, "rule"), _filled(doc, "subject_contains"))
    doc.done()
    return truth


def _checks(doc: Doc) -> tuple[str, ...]:
    checks = doc.texts("checks")
    for name in checks:
        if name not in CHECKS:
            raise doc.places["checks"].error(f"unknown check {name!r}", f"known: {', '.join(CHECKS)}")
    return tuple(dict.fromkeys(checks))


def score(scenario: Scenario, findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each staged fact, and whether it is among the findings of a run (``irkit.run/v1``)."""
    seen = [(str(one["rule"]), str(one["severity"]), text_from(one, "subject")) for one in findings]
    rows = []
    for one in scenario.simulations:
        rule, part = one.truth.rule, one.truth.subject_contains
        levels = [level for name, level, subject in seen if name == rule and part in subject]
        rows.append({
            "id": one.id, "technique": one.technique, "title": one.title, "rule": rule, "subject_contains": part,
            "found": bool(levels), "severity": levels[0] if levels else None,
        })  # fmt: skip
    return rows
