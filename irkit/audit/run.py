"""One audit: documents are gathered from an engine or a bundle, checks answer, the policy judges."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from irkit.audit import containers, daemon, files, images, judged
from irkit.audit.host import find_host
from irkit.audit.looked import PREPARING, Looked, Wanted, look
from irkit.audit.model import SEVERITIES, STATES, Check, Finding, Json, Subject, ask
from irkit.audit.policy import Policy
from irkit.audit.programs import Limits
from irkit.audit.sbom import Sbom
from irkit.audit.vulnerabilities import Scan, scan_json
from irkit.engine.interface import Engine
from irkit.errors import EngineError
from irkit.evidence.reader import BundleReader
from irkit.mounts import followed, recorded, seen_through, with_sources

Answer = TypeVar("Answer")
BENCHMARK = "CIS Docker Benchmark v1.6.0"


CHECKS: tuple[Check, ...] = (
    *files.CHECKS[: len(files.AUDITED) + 1], *daemon.CHECKS, *files.CHECKS[len(files.AUDITED) + 1 :], *images.CHECKS, *judged.CHECKS,
    *containers.CHECKS, *daemon.SWARM_CHECKS,
)  # fmt: skip
BY_ID = {check.id: check for check in CHECKS}
OF_CONTAINER = ("container", "image")
SAVED_IMAGE = "image/image.tar"


@dataclass(frozen=True, slots=True)
class Audit:
    """All answers, and what scanners and Syft said: ``scans`` as objects of the report."""

    findings: tuple[Finding, ...]
    scans: tuple[dict[str, Any], ...] = ()
    sboms: tuple[Sbom, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many answers of each state."""
        found = Counter(one.state for one in self.findings)
        return {state: found[state] for state in STATES}

    def to_json(self) -> dict[str, Any]:
        """``irkit.audit/v1``."""
        rows = [one.to_json() for one in self.findings]
        return {
            "schema": "irkit.audit/v1", "benchmark": BENCHMARK, "counts": self.counts(), "findings": rows,
            "scans": list(self.scans), "sboms": [one.to_json() for one in self.sboms],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether something may go on.  ``reasons``: why not, a sentence each; ``findings``: those that count against it."""

    passed: bool
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]


def audit(subjects: Iterable[Subject], policy: Policy, today: datetime.date, only: Sequence[str] = ()) -> Audit:
    """Ask every check that fits each subject: one with a container or image is asked about those, others about the engine."""
    subjects = list(subjects)
    found = [
        _excepted(ask(_by_policy(check, policy, today), subject), policy, today)
        for subject in subjects
        for check in CHECKS
        if _fits(check, subject) and (not only or check.id in only)
    ]
    scans = {one.scan.image: one.scan for one in subjects if isinstance(one.scan, Scan)}
    rows = tuple(
        scan_json(scan, [one.name for one in subjects if one.scan == scan], policy.vulnerabilities, today)
        for scan in scans.values()
    )
    sboms = {one.sbom.image: one.sbom for one in subjects if isinstance(one.sbom, Sbom)}
    return Audit(tuple(found), rows, tuple(sboms.values()))


def _fits(check: Check, subject: Subject) -> bool:
    if check.scope == "container":
        return subject.container is not None
    about = subject.container is not None or subject.image is not None
    return (check.scope in OF_CONTAINER) == about


def _by_policy(check: Check, policy: Policy, today: datetime.date) -> Check:
    judge = judged.JUDGES.get(check.id)
    return replace(check, look=lambda subject: judge(subject, policy, today)) if judge is not None else check


def _excepted(finding: Finding, policy: Policy, today: datetime.date) -> Finding:
    """What is wrong, and what could not be answered, may both be excepted: with a reason, up to a day."""
    exception = policy.exception(finding, today) if finding.bad or finding.state == "unknown" else None
    if exception is None:
        return finding
    return replace(finding, state="excepted", reason=f"{exception.reason} (until {exception.until})")


def gate(result: Audit, severity: str) -> Gate:
    """Failed checks of ``severity`` or worse, and those of them that could not be answered, close it.

    What nobody could look at is not known to be right: who accepts that says so by an exception, with a reason and an
    end.  A ``warn`` is a question to a person and closes nothing.
    """
    worst = SEVERITIES[: SEVERITIES.index(severity) + 1]
    found = tuple(one for one in result.findings if one.check.severity in worst and one.state in ("fail", "unknown"))
    return Gate(not found, tuple(f"{one.check.id} on {one.subject}: {one.evidence}" for one in found), found)


def of_engine(engine: Engine) -> Subject:
    """The engine and its host."""
    info = _maybe(engine.info)
    return Subject(
        "engine", info=info.raw if info else None, version=info.version_raw if info else None,
        bridge=_maybe(lambda: engine.network("bridge").raw), networks=_maybe(lambda: [one.raw for one in engine.networks()]),
        host=find_host(engine.endpoint),
    )  # fmt: skip


def of_container(engine: Engine, ref: str) -> Subject:
    """A container and its image.  Raises ``NotFound``."""
    container = engine.container(ref)
    info = _maybe(engine.info)
    running = container.running and not container.paused
    image = _maybe(lambda: engine.image(container.image_id).raw)
    return Subject(
        container.name, container=with_sources(engine, container), image=image, base=_base(engine, image),
        history=_maybe(lambda: engine.image_history(container.image_id)), info=info.raw if info else None,
        processes=_maybe(lambda: _commands(engine.top(container.id))) if running else None,
    )  # fmt: skip


def of_image(engine: Engine, ref: str) -> Subject:
    """An image.  Raises ``NotFound``."""
    image = engine.image(ref)
    return Subject(
        ref, image=image.raw, history=_maybe(lambda: engine.image_history(image.id)), base=_base(engine, image.raw)
    )


def _base(engine: Engine, image: Json | None) -> Json | None:
    """The image that the labels name as base, if the engine has it; nothing is pulled."""
    named = judged.base_reference(image) if image is not None else ""
    return _maybe(lambda: engine.image(named).raw) if named else None


def looked_at(
    engine: Engine, subjects: Iterable[Subject], wanted: Wanted, policy: Policy, limits: Limits
) -> list[Subject]:
    """Have each image of the subjects scanned and listed, once."""
    seen = {"": Looked.none("the engine does not know the image any more", wanted)}
    found = []
    for subject in subjects:
        if subject.container is None and subject.image is None:
            found.append(subject)
            continue
        image = str((subject.image or {}).get("Id") or "")
        if image not in seen and not wanted.nothing:
            seen[image] = look(partial(engine.image_archive, image, PREPARING), image, wanted, policy, limits)
        found.append(seen.get(image, Looked()).of(subject))
    return found


def bundle_looked_at(
    reader: BundleReader, subjects: tuple[Subject, ...], wanted: Wanted, policy: Policy, limits: Limits
) -> list[Subject]:
    """As :func:`looked_at`, from the image that the bundle holds."""
    if wanted.nothing:
        return list(subjects)
    if reader.find(SAVED_IMAGE):
        image = next((str(one.image.get("Id") or "") for one in subjects if one.image), "")
        told = look(partial(reader.stream, SAVED_IMAGE), image, wanted, policy, limits)
    else:
        told = Looked.none("the bundle does not hold the image itself (acquire.image-save)", wanted)
    return [told.of(one) if one.container is not None else one for one in subjects]


def of_bundle(reader: BundleReader) -> tuple[Subject, Subject]:
    """The engine and the container as a bundle describes them; the container as it was before irkit touched it."""

    def read(name: str) -> Any:
        return reader.json(f"engine/{name}.json") if reader.find(f"engine/{name}.json") else None

    container, info = read("container-before"), read("info")
    networks = read("networks") or []
    if container and container.get("Mounts"):
        seen = seen_through(container["Mounts"], read("volumes") or ())
        container = {**container, "Mounts": followed(seen, recorded(read("sources") or ()))}
    bridge = next((one for one in networks if one.get("Name") == "bridge"), None)
    name = str((container or {}).get("Name") or "container").removeprefix("/")
    return (
        Subject(
            "engine",
            info=info,
            version=read("version"),
            bridge=bridge,
            host="a bundle does not hold the engine's settings",
        ),
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
