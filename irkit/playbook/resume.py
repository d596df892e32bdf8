"""Going on with a run that was killed or interrupted: what its journal says is done is not done again.

Every ``step-finished`` record holds what the step added to the run's knowledge (``state``), so the journal alone is
enough.  What a step had half done lies under ``data/interrupted/`` of the bundle, named as incomplete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.actions.context import Context
from irkit.clock import now
from irkit.errors import EvidenceAltered, Refused
from irkit.evidence import names
from irkit.evidence.writer import INTERRUPTED, Artifact, BundleWriter, Origin
from irkit.models import Finding, Gap, Probe
from irkit.playbook.journal import read_journal
from irkit.playbook.model import Playbook
from irkit.playbook.state import PLAIN

ENDED = ("run-finished", "run-interrupted")
OWN = ("data/run/", "data/custody/")
"""irkit's own records, written anew when the bundle is sealed."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step that ended before, as its two records tell it."""

    outcome: str
    conclusion: str
    message: str
    started: str
    finished: str


@dataclass(slots=True)
class Past:
    """What the journal tells of a run so far."""

    started: Mapping[str, Any]
    done: dict[str, Done] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    registered: dict[str, Any] = field(default_factory=dict)
    decided: dict[str, bool | str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    status: str = ""
    times: int = 0
    salvaged: int = 0
    """How often what there was so far has been sealed as partial."""


def read_past(path: Path) -> Past:
    """The past of a run.  Raises ``EvidenceAltered`` for a journal that was tampered with, ``Refused`` for an empty or missing one."""
    past: Past | None = None
    opened: dict[str, str] = {}
    for row in read_journal(path) if path.exists() else ():
        kind = row["type"]
        if kind == "run-started":
            past = Past(row)
        if past is None:
            raise EvidenceAltered(f"{path} does not begin with the run")
        if kind == "step-started":
            opened[row["id"]] = row["time"]
            past.running = [*(one for one in past.running if one != row["id"]), row["id"]]
            past.begun.append(row["id"])
        elif kind == "step-finished":
            past.running = [one for one in past.running if one != row["id"]]
            _add(past, row, opened.get(row["id"], row["time"]))
        elif kind == "include-decided":
            past.decided[row["id"]] = row["decided"]
        elif kind == "run-resumed":
            past.times, past.status = past.times + 1, ""
        elif kind == "salvage-finished":
            past.salvaged += 1
        elif kind in ENDED:
            past.status = past.status or str(row.get("status", "interrupted"))
    if past is None:
        raise Refused(f"{path} is empty: nothing was begun", hint="run it anew")
    return past


def _add(past: Past, row: Mapping[str, Any], opened: str) -> None:
    if row["outcome"] != "interrupted":
        past.done[row["id"]] = Done(row["outcome"], row["conclusion"], row["message"], opened, row["time"])
        if row.get("register"):
            past.registered[row["register"]] = row["data"]
    state = row.get("state", {})
    past.facts.update(state.get("facts", {}))
    past.artifacts += [Artifact.from_json(one) for one in state.get("artifacts", ())]
    past.gaps += [Gap.from_json(one) for one in state.get("gaps", ())]


def check(past: Past, playbook: Playbook, variables: Mapping[str, Any], target_id: str, profile: str) -> None:
    """Raises ``Refused`` when it is not the same run any more, or there is nothing to go on with."""
    if past.status and past.status != "interrupted":
        raise Refused(f"this run has ended: {past.status}", hint="`irkit run` begins another one")
    told = past.started
    if told["encrypted"]:
        raise Refused(
            "this run encrypted its evidence as it wrote it, and can't read it back to go on",
            hint="`irkit contain --again` or `irkit run` begins another one",
        )
    for what, before, present in (
        ("the playbook", told["playbook"]["digest"], playbook.digest),
        ("the profile", told["playbook"]["profile"], profile),
        ("a variable", told["vars"], dict(variables)),
        ("the target", told["target"]["id"], target_id),
    ):
        if before != present:
            raise Refused(f"{what} is not what it was when the run began", hint="`irkit run` begins another one")


def may_be_gone(past: Past, playbook: Playbook) -> bool:
    """Whether a step that destroys was begun, so that the run goes on although there is no target any more."""
    return any(step.action.effect == "destroy" and step.id in past.begun for step in playbook.every_step)


def bundle_name(past: Past, run: str) -> str:
    """The folder of the bundle to go on with: a new one after each that was sealed as partial."""
    return f"{run}-{past.salvaged + 1}" if past.salvaged else run


def restore(past: Past, context: Context, first: Path) -> None:
    """Put the past into a fresh context, whose writer has the folder :func:`bundle_name`.  ``first``: the run's first bundle."""
    from irkit.evidence.seal import Sealed  # slow to import, and no first run needs it

    facts = context.facts
    for name in PLAIN:
        if name in past.facts:
            setattr(facts, name, past.facts[name])
    facts.probes = tuple(Probe.from_json(one) for one in past.facts.get("probes", ()))
    facts.findings = [Finding.from_json(one) for one in past.facts.get("findings", ())]
    sealed = past.facts.get("sealed")
    if sealed:
        facts.sealed = Sealed(Path(sealed["path"]), sealed["digest"], sealed["status"], sealed["sealed"], sealed["key"])
    facts.processes = _list(first / "data/process/processes.json")
    facts.sockets = _list(first / "data/network/sockets.json")
    context.writer.gaps += past.gaps
    if not past.salvaged and facts.sealed is None:
        adopt(context.writer, past.artifacts)
    elif past.salvaged:
        context.note(f"what was acquired before lies sealed in {first}: this bundle holds what comes after it")


def _list(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def adopt(writer: BundleWriter, artifacts: list[Artifact]) -> None:
    """Take over the files of a bundle that was being written: known ones as they are, others as interrupted."""
    known = {one.path: one for one in artifacts}
    data = writer.folder / "data"
    for path in sorted(_files(data)):
        name = f"data/{path.relative_to(data)}"
        if name.startswith(OWN) or name == names.INDEX:
            path.unlink()
        elif name in known:
            if hashlib.sha256(path.read_bytes()).hexdigest() != known[name].stored_sha256:
                raise EvidenceAltered(f"{name} is not what the run had written: the run can't go on with it")
            writer.artifacts.append(known.pop(name))
        elif not name.startswith("data/interrupted/"):
            _interrupted(writer, path, name)
        else:
            _keep(writer, path, name)
    for name in (names.BAGIT, names.BAG_INFO, names.MANIFEST, names.TAG_MANIFEST, names.SEAL, names.SIGSTORE_SEAL):
        (writer.folder / name).unlink(missing_ok=True)
    for name, artifact in known.items():
        if not name.startswith(OWN):
            writer.gap(artifact.origin.collector, name, "it was taken, and is gone since the run was killed")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _interrupted(writer: BundleWriter, path: Path, name: str) -> None:
    """Half an artifact: kept aside under another name, for its collector will begin again."""
    number = sum(1 for one in writer.artifacts if one.path.startswith("data/interrupted/"))
    while (aside := writer.folder / f"data/interrupted/{number}-{path.name}").exists():
        number += 1
    aside.parent.mkdir(mode=0o700, exist_ok=True)
    os.rename(path, aside)  # noqa: PTH104 - within one folder
    _keep(writer, aside, f"data/interrupted/{aside.name}", name)


def _keep(writer: BundleWriter, path: Path, name: str, source: str = "") -> None:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    origin = Origin(INTERRUPTED, source or name, "half written when the run was killed")
    found = digest.hexdigest()
    writer.artifacts.append(Artifact(name, origin, "identity", size, found, size, found, now(), now(), False))
