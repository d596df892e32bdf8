"""What a helper's try comes to.

``reached`` when anything answered, or the listener at the far end noted the try's token.  Silence is ``blocked`` only
with a reason: the listener answered a control, and the same sender's own controls went through; or nobody answered ARP
or NDP for the next hop.  All else is ``unknown``.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.models import Probe
from irkit.quarantine.outcomes import BLOCKING

TOKEN = "irkit-"  # noqa: S105 - no password: what a try carries to be known by
REASONS = {errno.errorcode[number]: reason for number, reason in BLOCKING.items()}
SETUP = ("ENODEV", "EAFNOSUPPORT")
"""Of the errors before anything was sent those that mean that nothing can be: a right that a helper lacks is none of them."""
WORDS = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What the agent said of one try; of a helper, so nothing is taken for granted."""

    outcome: str
    name: str = ""
    at: str = ""
    answer: bytes = b""
    ms: float = 0.0

    @classmethod
    def of(cls, raw: Any) -> Told:
        """From the agent's JSON."""
        row = raw if isinstance(raw, Mapping) else {}
        try:
            answer = bytes.fromhex(str(row.get("answer", ""))[: 4 * WORDS])
            ms = min(max(float(row.get("ms", 0)), 0.0), 1e6)
        except (TypeError, ValueError):
            return cls("malformed")
        return cls(
            str(row.get("outcome"))[:16], str(row.get("errno", ""))[:WORDS], str(row.get("at", ""))[:16], answer, ms
        )


@dataclass(slots=True)
class Road:
    """One try to be made: from where, to which listener of irkit's if there is one, and what silence may mean.

    ``arrived`` tells whether the far listener noted the token; ``controls`` why the controls did not hold, empty if they
    did, or ``None`` where there is no listener; ``silent`` may explain silence otherwise.
    """

    path: str
    direction: str
    kind: str
    address: str
    port: int = 0
    device: str = ""
    data: str = ""
    expect: str = ""
    refused: str = "reached"
    arrived: Callable[[str], bool] = lambda token: False
    controls: Callable[[str], str] | None = None
    silent: Callable[[], str] | None = None
    token: str = field(default_factory=lambda: TOKEN + secrets.token_hex(16))
    told: Told = Told("not tried")
    begun: str = ""

    def request(self) -> dict[str, Any]:
        """For the agent."""
        row = {
            "kind": self.kind, "address": self.address, "port": self.port, "device": self.device, "token": self.token,
            "data": self.data, "expect": self.expect,
        }  # fmt: skip
        return {key: value for key, value in row.items() if value}

    def probe(self) -> Probe:
        """The verdict."""
        result, detail = verdict(self)
        return Probe(self.path, self.direction, result, detail, self.begun, self.told.ms)


def verdict(road: Road) -> tuple[str, str]:
    """``(result, detail)``."""
    told = road.told
    if told.outcome in ("connected", "answered"):
        return "reached", _answered(road)
    if road.arrived(road.token):
        return "reached", "irkit's own listener noted its token"
    if told.outcome == "refused":
        if road.refused == "blocked":
            return "blocked", "nobody listens there any more"
        return "reached", "an answer came back: connection refused"
    known = told.outcome == "error" and told.name in REASONS
    if known and (told.at == "send" or (told.at == "setup" and told.name in SETUP)):
        return "blocked", REASONS[told.name]
    if told.outcome in ("silent", "sent") or (known and told.at == "answer"):  # a router that answers was reached
        return _silence(road)
    return "unknown", f"it could not be tried: {told.name or told.outcome}" + (f" at {told.at}" if told.at else "")


def _answered(road: Road) -> str:
    if road.kind == "icmp":
        return f"an echo came back in {road.told.ms:.1f} ms"
    if road.expect and road.expect.encode() in road.told.answer:
        return f"irkit's own listener answered in {road.told.ms:.1f} ms"
    if road.kind == "tcp" and not road.expect:
        return "the connection was accepted"
    return "something answered, but not irkit's own listener"


def _silence(road: Road) -> tuple[str, str]:
    said = f"it failed after {road.told.ms:.0f} ms ({REASONS.get(road.told.name, road.told.name)})"
    waits = {"silent": f"no answer within {road.told.ms:.0f} ms", "sent": "it was sent, and did not arrive"}
    waited = waits.get(road.told.outcome, said)
    if road.controls is not None:
        why = road.controls(road.kind)
        if why:
            return "unknown", f"{waited}, but {why}"
        return "blocked", f"{waited}; the same listener answered a control, and the sender's own controls went through"
    reason = road.silent() if road.silent else ""
    return (
        ("blocked", f"{waited}; {reason}")
        if reason
        else ("unknown", f"{waited}, and nothing shows that it would have answered")
    )
