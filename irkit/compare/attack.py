"""MITRE ATT&CK techniques: current ids, and the older ids that became them (``forensics/attack/techniques.yaml``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from irkit import documents, resources

TECHNIQUE = re.compile(r"T[0-9]{4}(\.[0-9]{3})?")
FILE = "forensics/attack"
TACTICS = (
    "reconnaissance", "resource-development", "initial-access", "execution", "persistence", "privilege-escalation", "stealth",
    "defense-impairment", "credential-access", "discovery", "lateral-movement", "collection", "command-and-control", "exfiltration",
    "impact",
)  # fmt: skip
"""ATT&CK's short names, in the matrix's order; v19 has ``stealth`` and ``defense-impairment`` where there was ``defense-evasion``."""


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique of the enterprise matrix."""

    id: str
    name: str
    tactics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Techniques:
    """The table.  ``aliases``: revoked id → the id that replaced it.  ``deprecated``: ids that nothing replaced."""

    version: str
    techniques: Mapping[str, Technique]
    aliases: Mapping[str, str]
    deprecated: frozenset[str]

    def current(self, identifier: str) -> str:
        """The id of today; an id that the table does not know stays as it is."""
        return self.aliases.get(identifier, identifier)

    def find(self, identifier: str) -> Technique | None:
        """By a current or an older id."""
        return self.techniques.get(self.current(identifier))

    def known(self, identifier: str) -> bool:
        """Whether it is, or was, an id at all."""
        return identifier in self.techniques or identifier in self.aliases or identifier in self.deprecated


def load_techniques() -> Techniques:
    """The shipped table, or a user's own ``techniques.yaml`` in its place.  Raises ``PlaybookInvalid``."""
    return _load(resources.find(FILE, "techniques"))


@lru_cache(maxsize=2)
def _load(path: Path) -> Techniques:
    doc, _ = documents.load(path)
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("Techniques",))
    version = doc.text("version")
    doc.text("source", "")
    rows = doc.mapping("techniques")
    techniques = {}
    for identifier in rows.values:
        row = rows.mapping(identifier)
        techniques[identifier] = Technique(identifier, row.text("name"), row.texts("tactics"))
        row.done()
    old = doc.mapping("aliases")
    aliases = {identifier: old.text(identifier) for identifier in old.values}
    deprecated = frozenset(doc.texts("deprecated"))
    doc.done()
    for identifier, new in aliases.items():
        if new not in techniques:
            raise old.places[identifier].error(f"{new!r} is no current technique")
    return Techniques(version, techniques, aliases, deprecated)
