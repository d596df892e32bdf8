"""From when until when a key may vouch, and what its revocation means for what it signed.

A revoked key's own word is worth nothing: whoever stole it can write any time into a seal.  What it sealed before holds
only where a timestamp by a trusted authority proves that.  A key that merely ran out was never stolen: there the time is
the timestamp's if there is one, else the seal's own claim, and ``verify`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Any

from irkit.clock import now, rfc3339
from irkit.errors import UsageProblem


@dataclass(frozen=True, slots=True)
class Validity:
    """Times are RFC 3339 in UTC as :func:`irkit.clock.now` writes them, so they compare as texts; empty: without a limit."""

    since: str = ""
    until: str = ""
    revoked: str = ""
    why: str = ""

    def to_json(self) -> dict[str, str]:
        """As in ``irkit key list --json``, and in a key's own file."""
        return {"valid_from": self.since, "valid_until": self.until, "revoked": self.revoked, "revoked_why": self.why}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Validity:
        """The reverse; a file of an earlier version has no limits."""
        return cls(*(str(raw.get(name, "")) for name in ("valid_from", "valid_until", "revoked", "revoked_why")))

    @property
    def limited(self) -> bool:
        """Whether anything is said at all."""
        return bool(self.since or self.until or self.revoked)

    def objection_now(self) -> str:
        """Why the key may not sign, or vouch for something without a time, at this moment; empty when it may."""
        if self.revoked:
            return f"it was revoked as of {self.revoked}" + (f": {self.why}" if self.why else "")
        if self.until and now() > self.until:
            return f"it was good until {self.until}"
        return f"it is good from {self.since} on" if self.since and now() < self.since else ""

    def objection(self, claimed: str, proven: str) -> str:
        """Why a seal of the time ``claimed`` in it, and ``proven`` by a valid timestamp (or empty), does not hold."""
        if not self.limited:
            return ""
        try:
            claimed = parse_time(claimed)
        except UsageProblem:
            return "the seal's own time can't be read, and its key has limits"
        when, by = (proven, "by its timestamp") if proven else (claimed, "by its own claim")
        if self.revoked and not proven:
            return f"its key was revoked as of {self.revoked}, and no valid timestamp proves that it was sealed before"
        if self.revoked and proven >= self.revoked:
            return f"its key was revoked as of {self.revoked}; it is proven to have been sealed by {proven}, which is not before"
        if self.until and when > self.until:
            return f"its key was good until {self.until}, and it was sealed at {when} {by}"
        if self.since and claimed < self.since:
            return f"its key is good from {self.since} on, and it was sealed at {claimed} by its own claim"
        return ""


def parse_time(text: str) -> str:
    """A date or a time as the user or a seal writes it (ISO 8601; UTC unless it says otherwise), as RFC 3339 in UTC.

    Raises ``UsageProblem``.
    """
    from dateutil.parser import isoparse

    try:
        moment = isoparse(text)
        return rfc3339((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise UsageProblem(f"not a time: {text!r}", hint="2026-01-31, or 2026-01-31T12:00:00Z") from error
