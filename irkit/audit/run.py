"""One audit: documents are gathered from an engine or a bundle, checks answer, the policy judges."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dateutil.parser import isoparse

from irkit.audit import containers, daemon, files, images
from irkit.audit.host import LiveHost, find_host
from irkit.audit.model import SEVERITIES, STATES, Check, Finding, Json, Outcome, Subject, Unanswered, ask, either, noted
from irkit.audit.policy import Policy
from irkit.engine.interface import Engine
from irkit.errors import EngineError
from irkit.evidence.reader import BundleReader

Answer = TypeVar("Answer")
BENCHMARK = "CIS Docker Benchmark v1.6.0"


def _age(subject: Subject, today: datetime.date, most: int | None) -> Outcome:
    if subject.image is None:
        raise Unanswered("there is no description of the image")
    created = str(subject.image.get("Created") or "")
    if not created or created[:4] < "1980":  # reproducible builds write the epoch
        raise Unanswered("the image does not tell when it was made")
    days = (today - isoparse(created).date()).days
    seen = f"made {days} days ago, by its own word"
    return noted(seen) if most is None else either(days <= most, f"{seen}; the policy allows {most}")


def _no_policy(subject: Subject) -> Outcome:
    return _age(subject, datetime.datetime.now(datetime.UTC).date(), None)


AGE = Check("image-age", "The image is not too old", "image", "medium", "Rebuild it from a current base.", _no_policy)
CHECKS: tuple[Check, ...] = (
    *files.CHECKS[: len(files.AUDITED) + 1], *daemon.CHECKS, *files.CHECKS[len(files.AUDITED) + 1 :], *images.CHECKS, AGE,
    *containers.CHECKS, *daemon.SWARM_CHECKS,
)  # fmt: skip
BY_ID = {check.id: check for check in CHECKS}
OF_CONTAINER = ("container", "image")


@dataclass(frozen=True, slots=True)
class Audit:
    """All answers."""

    findings: tuple[Finding, ...]

    def counts(self) -> dict[str, int]:
        """How many answers of each state."""
        found = Counter(one.state for one in self.findings)
        return {state: found[state] for state in STATES}

    def to_json(self) -> dict[str, Any]:
        """``irkit.audit/v1``."""
        rows = [one.to_json() for one in self.findings]
        return {"schema": "irkit.audit/v1", "benchmark": BENCHMARK, "counts": self.counts(), "findings": rows}


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether something may go on.  ``reasons``: why not, a sentence each; ``findings``: those that count against it."""

    passed: bool
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]


def audit(subjects: Iterable[Subject], policy: Policy, today: datetime.date, only: Sequence[str] = ()) -> Audit:
    """Ask every check that fits each subject: one with a container or image is asked about those, others about the engine."""
    age = replace(AGE, look=lambda subject: _age(subject, today, policy.max_image_age_days))
    found = []
    for subject in subjects:
        about = subject.container is not None or subject.image is not None
        for check in CHECKS:
            if (check.scope in OF_CONTAINER) != about or (only and check.id not in only):
                continue
            if check.scope == "container" and subject.container is None:
                continue
            finding = ask(age if check is AGE else check, subject)
            exception = policy.exception(finding, today) if finding.bad else None
            if exception is not None:
                finding = replace(finding, state="excepted", reason=f"{exception.reason} (until {exception.until})")
            found.append(finding)
    return Audit(tuple(found))


def gate(result: Audit, severity: str) -> Gate:
    """Failed checks of ``severity`` or worse, and those of them that could not be answered, close it.

    A ``warn`` is a question to a person and closes nothing.
    """
    worst = SEVERITIES[: SEVERITIES.index(severity) + 1]
    found = tuple(one for one in result.findings if one.check.severity in worst and one.state in ("fail", "unknown"))
    return Gate(not found, tuple(f"{one.check.id} on {one.subject}: {one.evidence}" for one in found), found)


def of_engine(engine: Engine) -> Subject:
    """The engine and its host."""
    info = _maybe(engine.info)
    host = find_host(engine.endpoint)
    return Subject(
        "engine", info=info.raw if info else None, version=info.version_raw if info else None,
        bridge=_maybe(lambda: engine.network("bridge").raw), networks=_maybe(lambda: [one.raw for one in engine.networks()]),
        host=host if isinstance(host, LiveHost) else None,
    )  # fmt: skip


def of_container(engine: Engine, ref: str) -> Subject:
    """A container and its image.  Raises ``NotFound``."""
    container = engine.container(ref)
    info = _maybe(engine.info)
    running = container.running and not container.paused
    return Subject(
        container.name, container=container.raw, image=_maybe(lambda: engine.image(container.image_id).raw),
        history=_maybe(lambda: engine.image_history(container.image_id)), info=info.raw if info else None,
        processes=_maybe(lambda: _commands(engine.top(container.id))) if running else None,
    )  # fmt: skip


def of_image(engine: Engine, ref: str) -> Subject:
    """An image.  Raises ``NotFound``."""
    image = engine.image(ref)
    return Subject(ref, image=image.raw, history=_maybe(lambda: engine.image_history(image.id)))


def of_bundle(reader: BundleReader) -> tuple[Subject, Subject]:
    """The engine and the container as a bundle describes them; the container as it was before irkit touched it."""

    def read(name: str) -> Any:
        return reader.json(f"engine/{name}.json") if reader.find(f"engine/{name}.json") else None

    container, info = read("container-before"), read("info")
    networks = read("networks") or []
    bridge = next((one for one in networks if one.get("Name") == "bridge"), None)
    name = str((container or {}).get("Name") or "container").removeprefix("/")
    return (
        Subject("engine", info=info, version=read("version"), bridge=bridge),
        Subject(name, container=container or {}, image=read("image"), history=read("image-history"), info=info),
    )


def _commands(top: Json) -> list[str]:
    """The last column of ``ps -ef``, which may hold blanks (``GET /containers/{id}/top``)."""
    return [str(row[-1]) for row in top.get("Processes") or ()]


def _maybe(call: Callable[[], Answer]) -> Answer | None:
    try:
        return call()
    except EngineError:
        return None
