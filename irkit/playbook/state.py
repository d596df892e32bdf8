"""What a run has found out, as its journal keeps it: after each step enough for :mod:`irkit.playbook.resume`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irkit.actions.context import Facts
    from irkit.evidence.writer import Artifact
    from irkit.target import Gap


def state_of(facts: Facts, artifacts: list[Artifact], gaps: list[Gap], known: Mapping[str, Any]) -> dict[str, Any]:
    """What a step added: new artifacts and gaps, and those facts that are not as ``known``."""
    present = facts_to_json(facts)
    return {
        "facts": {name: value for name, value in present.items() if known.get(name) != value},
        "artifacts": [one.to_json() for one in artifacts], "gaps": [one.to_json() for one in gaps],
    }  # fmt: skip


PLAIN = (
    "timeline", "not_seen", "quarantine_state", "quarantine_network", "quarantine_note", "bridge", "no_wall", "changes", "result",
)  # fmt: skip


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """All of the facts that can't be had again from the bundle."""
    sealed = facts.sealed
    return {
        **{name: _copy(getattr(facts, name)) for name in PLAIN}, "probes": [one.to_json() for one in facts.probes],
        "findings": [one.to_json() for one in facts.findings],
        "sealed": {"path": str(sealed.path), "digest": sealed.digest, "status": sealed.status, "sealed": sealed.sealed, "key": sealed.key}
        if sealed else None,
    }  # fmt: skip


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
