"""The blast radius as frozen types.

Strings are kept as the engine gave them, so an attacker wrote many of them: whoever shows a row escapes it
(:func:`irkit.text.printable`, and the graph's own escapes).  Values of secrets are never part of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.models import Target

SEVERITIES = ("critical", "high", "medium", "low")
REASONS = ("network", "volume", "namespace", "image", "secret")
CLOSED = {
    "yes": "contain closes it",
    "frozen": "not cut: holds while the target is frozen (or stopped)",
    "no": "contain does nothing about it",
}
KINDS = {
    "privilege": "privileges",
    "capability": "capabilities",
    "mount": "host mounts",
    "device": "devices",
    "namespace": "namespaces",
    "network-mode": "network mode",
    "peer": "peers",
    "port": "published ports",
    "connection": "connections",
    "volume": "shared volumes",
    "secret": "shared and mounted secrets",
    "environment": "secrets in the environment",
    "image": "same image",
    "label": "same project or service",
    "restart": "restart",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One way out of the target, or one thing that it puts at risk.

    ``kind`` is a key of ``KINDS``, ``severity`` one of ``SEVERITIES``; ``contained``: what contain does about it, in
    a sentence; ``closed``: ``yes``, ``frozen`` or ``no``, as in ``CLOSED``.
    """

    kind: str
    severity: str
    subject: str
    detail: str
    contained: str
    closed: str

    def to_json(self) -> dict[str, str]:
        """As in ``irkit scope --json``."""
        return {
            "kind": self.kind, "severity": self.severity, "subject": self.subject, "detail": self.detail,
            "contained": self.contained, "closed": self.closed,
        }  # fmt: skip

    @property
    def order(self) -> tuple[int, int, str, str]:
        """The worst first; within a severity by kind and name, so that two runs give the same list."""
        return SEVERITIES.index(self.severity), list(KINDS).index(self.kind), self.subject, self.detail


@dataclass(frozen=True, slots=True)
class Found:
    """A row, and the container that it relates to the target: ``reason`` is one of ``REASONS``, or empty."""

    row: Row
    reason: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows, the worst first, and the ids of the related containers by reason; ``names``: their names by id."""

    target: Target
    rows: tuple[Row, ...]
    related: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """``irkit scope --json``."""
        return {
            "schema": "irkit.scope/v1",
            "target": self.target.to_json(),
            "rows": [row.to_json() for row in self.rows],
            "related": {
                reason: [{"id": one, "name": self.names.get(one, "")} for one in self.related.get(reason, ())]
                for reason in REASONS
            },
        }
