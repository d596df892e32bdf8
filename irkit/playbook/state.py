"""What a run has found out, as its journal keeps it: after each step enough for :mod:`irkit.playbook.resume`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irkit.actions.context import Facts

PLAIN = (
    "timeline", "not_seen", "quarantine_state", "quarantine_network", "quarantine_note", "bridge", "no_wall", "changes", "result",
)  # fmt: skip
WHOLE = ("probes", "findings", "sealed")
"""These are never changed, but made anew."""


class Known:
    """Which of the facts the journal has already: all of those that can't be had again from the bundle."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def news(self, facts: Facts) -> dict[str, Any]:
        """Those that are not as they were when this was last asked, as JSON."""
        found = {}
        for name in PLAIN:
            value = getattr(facts, name)
            if name not in self._values or self._values[name] != value:
                self._values[name] = found[name] = dict(value) if isinstance(value, Mapping) else value
        for name in WHOLE:
            value = getattr(facts, name)
            if name not in self._values or self._values[name] is not value:
                self._values[name] = value
                found[name] = _sealed(value) if name == "sealed" else [one.to_json() for one in value]
        return found


def _sealed(sealed: Any) -> dict[str, Any] | None:
    if sealed is None:
        return None
    return {
        "path": str(sealed.path), "digest": sealed.digest, "status": sealed.status, "sealed": sealed.sealed, "key": sealed.key,
    }  # fmt: skip
