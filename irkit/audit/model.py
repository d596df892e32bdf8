"""What a check is, what it looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from irkit.audit.host import Host

if TYPE_CHECKING:
    from irkit.audit.sbom import Sbom
    from irkit.audit.vulnerabilities import Scan

Json = Mapping[str, Any]
SEVERITIES = ("critical", "high", "medium", "low")
"""Most severe first."""
STATES = ("fail", "warn", "info", "pass", "unknown", "excepted")
"""``warn``: a person must judge; ``info``: nothing to judge here; ``unknown``: could not be answered; ``excepted``: by the policy."""


class Unanswered(Exception):
    """A check can't be answered from what there is; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check answers: a state, and what was seen.  ``severity``: where it is not the check's own."""

    state: str
    evidence: str
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at.  A document that is ``None`` could not be had: checks that need it are ``unknown``.

    ``container``, ``image``: as inspected; ``history``: of the image, newest first; ``info``, ``version``: the
    engine's; ``bridge``: the network ``bridge`` as inspected; ``processes``: command lines in the container; ``host``:
    the engine's host, or why it can't be read; ``base``: the image that its labels name as its base, where the engine
    has it; ``scan``, ``sbom``: what programs said of the image, a text why they could not, ``None`` when not asked.
    """

    name: str
    container: Json | None = None
    image: Json | None = None
    history: Sequence[Json] | None = None
    info: Json | None = None
    version: Json | None = None
    bridge: Json | None = None
    networks: Sequence[Json] | None = None
    processes: Sequence[str] | None = None
    host: Host | str | None = None
    base: Json | None = None
    scan: Scan | str | None = None
    sbom: Sbom | str | None = None

    def readable_host(self) -> Host:
        """The engine's host.  Raises ``Unanswered`` with the reason why it can't be read."""
        if self.host is None or isinstance(self.host, str):
            raise Unanswered(self.host or "the engine's host can't be read from here")
        return self.host


@dataclass(frozen=True, slots=True)
class Check:
    """One check.  ``id``: the number in the CIS Docker Benchmark v1.6.0.  ``scope``: host, daemon, files, image, container, swarm."""

    id: str
    title: str
    scope: str
    severity: str
    fix: str
    look: Callable[[Subject], Outcome]

    def to_json(self) -> dict[str, str]:
        """As in ``irkit audit --list --json``."""
        return {"id": self.id, "title": self.title, "scope": self.scope, "severity": self.severity, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's answer on one subject.  ``reason``: of an exception, empty without one."""

    check: Check
    subject: str
    state: str
    evidence: str
    reason: str = ""

    @property
    def bad(self) -> bool:
        """Whether it counts against the subject."""
        return self.state in ("fail", "warn")

    def to_json(self) -> dict[str, str]:
        """A row of ``findings``."""
        return {**self.check.to_json(), "subject": self.subject, "state": self.state, "evidence": self.evidence, "reason": self.reason}  # fmt: skip


def ask(check: Check, subject: Subject) -> Finding:
    """A check's answer.  A document of another shape than the engine's API has is ``unknown``, never a pass."""
    try:
        outcome = check.look(subject)
    except Unanswered as error:
        outcome = Outcome("unknown", str(error))
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        outcome = Outcome("unknown", f"the document has another form than expected ({type(error).__name__})")
    severe = replace(check, severity=outcome.severity) if outcome.severity else check
    return Finding(severe, subject.name, outcome.state, outcome.evidence)


def passed(evidence: str) -> Outcome:
    """Nothing wrong."""
    return Outcome("pass", evidence)


def failed(evidence: str) -> Outcome:
    """Against the benchmark."""
    return Outcome("fail", evidence)


def warned(evidence: str) -> Outcome:
    """Perhaps wrong: a person must judge."""
    return Outcome("warn", evidence)


def noted(evidence: str) -> Outcome:
    """Nothing to judge here, or it does not apply."""
    return Outcome("info", evidence)


def either(good: bool, evidence: str) -> Outcome:
    """Pass or fail."""
    return passed(evidence) if good else failed(evidence)
