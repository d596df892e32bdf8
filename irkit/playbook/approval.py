"""Approvals: who must agree to a step signs for it, from another terminal (``irkit case approve``).

A request lies in ``runs/RUN/approvals/STEP.json`` of the case, answers beside it, ``STEP.KEYID.dsse.json``: a DSSE
envelope over an in-toto Statement v1 whose subject is the request's sha256, and whose predicate holds the decision.
The request names the playbook's digest and the target, and has a nonce: an answer is good for nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dateutil.parser import isoparse

from irkit.cases import Case
from irkit.clock import now, rfc3339
from irkit.errors import CheckFailed, IrkitError, Refused, UsageProblem, Waiting, storage_error
from irkit.evidence import dsse
from irkit.evidence.keys import PublicKey, Signer, trusted_keys
from irkit.home import private_folder, read_json, write_json
from irkit.playbook.model import Approve

PREDICATE_TYPE = "https://irkit.dev/approval/v1"
USE = "approval"
FOLDER = "approvals"
WATCH = "watch"
"""The case's folder for what is asked before a run begins (:mod:`irkit.watch`)."""
POLL = 0.2
DECISIONS = ("approve", "deny")


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision whose signature held."""

    decision: str
    key: PublicKey
    time: str
    why: str


def ask(
    folder: Path,
    step: str,
    approve: Approve,
    bound: Mapping[str, Any],
    checkpoint: Callable[[], None],
    *,
    wait: bool = True,
) -> tuple[Answer, ...]:
    """Wait until enough keys approve, and return their answers.

    ``bound``: what the request names (case, run, playbook's digest, target).  A request that a run which was cut off has
    left open is gone on with, so that an answer given meanwhile counts; ``wait``: whether one whose time is over is made
    anew.  Raises ``Refused`` at the first denial and after the time that the step gives, what ``checkpoint`` raises, and
    ``Waiting`` where nobody shall wait.
    """
    path, left = request(folder, step, approve, bound, wait=wait)
    ends = time.monotonic() + left
    while True:
        checkpoint()
        answers = decided(path, approve)
        if len(answers) >= approve.minimum:
            return answers
        if time.monotonic() >= ends:
            raise too_late(len(answers), step, approve, bound)
        if not wait:
            raise Waiting(
                f"{step!r} waits for {approve.minimum - len(answers)} more approvals: {approve.message}",
                hint=f"`irkit case approve {bound.get('case', 'CASE')} {step}`, then `irkit resume {bound.get('case', 'CASE')}`",
            )
        time.sleep(min(POLL, max(0.0, ends - time.monotonic())))


def request(
    folder: Path, step: str, approve: Approve, bound: Mapping[str, Any], *, wait: bool = True
) -> tuple[Path, float]:
    """Write down what is asked for, in ``folder``, or go on with what is open there; and the seconds that it has.

    Raises ``StorageError``.
    """
    path = private_folder(folder / FOLDER) / f"{step}.json"
    asked = {
        "schema": "irkit.approval/v1", "step": step, "message": approve.message, "by": list(approve.by), "min": approve.minimum, **bound,
    }  # fmt: skip
    left = _left_open(path, asked, wait)
    if left is None:
        left = approve.timeout
        times = {"asked": now(), "expires": rfc3339(time.time() + left), "nonce": secrets.token_hex(16)}
        path.with_name(f"{path.stem}.closed").unlink(missing_ok=True)
        write_json(path, {**asked, **times})
    return path, left


def decided(path: Path, approve: Approve) -> tuple[Answer, ...]:
    """The approvals of a request so far, one a key, by those who may.  Raises ``Refused`` when one of them denied it."""
    answers = {one.key.id: one for one in read_answers(path) if not approve.by or one.key.name in approve.by}
    for one in answers.values():
        if one.decision == "deny":
            raise Refused(f"{one.key.name} denied it" + (f": {one.why}" if one.why else ""))
    return tuple(answers.values())


def too_late(count: int, step: str, approve: Approve, bound: Mapping[str, Any]) -> Refused:
    """The time is over."""
    return Refused(
        f"denied: {count} of {approve.minimum} approvals came in {approve.timeout:g} seconds",
        hint=f"`irkit case approve {bound.get('case', 'CASE')} {step}` approves, from another terminal",
    )


def folders(case: Case) -> list[Path]:
    """Where requests about a case lie: its runs, oldest first, and what a watch asks before it starts one."""
    return [*(case.folder / "runs" / run for run in case.runs), case.folder / WATCH]


def _left_open(path: Path, asked: Mapping[str, Any], wait: bool) -> float | None:
    """The seconds that the same request still has, if an earlier part of the run left it open."""
    before = read_json(path)
    if before is None or path.with_name(f"{path.stem}.closed").exists():
        return None
    if {name: before.get(name) for name in asked} != asked:
        return None
    left = isoparse(str(before["expires"])).timestamp() - time.time()
    return max(0.0, left) if left > 0 or not wait else None


def read_answers(request: Path) -> Iterator[Answer]:
    """The answers to a request that are signed by a key trusted for approvals.  Others are passed over."""
    try:
        digest = hashlib.sha256(request.read_bytes()).hexdigest()
    except OSError:
        return
    keys = [key for key in trusted_keys(USE) if not key.validity.objection_now()]
    for path in sorted(request.parent.glob(f"{request.stem}.*.dsse.json")):
        try:
            key, payload = dsse.parse(path.read_bytes()).open_with(keys)
            subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
        except (OSError, CheckFailed):
            continue
        decision = str(predicate.get("decision"))
        if subjects == {request.name: digest} and decision in DECISIONS:
            yield Answer(decision, key, str(predicate.get("time")), str(predicate.get("why", "")))


def answer(request: Path, signer: Signer, decision: str, why: str = "") -> Path:
    """Sign a decision about a request that is still open.  Raises ``UsageProblem`` and ``StorageError``."""
    try:
        data = request.read_bytes()
        asked = json.loads(data)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"nobody asks for {request.stem!r} in this run") from error
    if str(asked["expires"]) < now():
        raise UsageProblem(f"the time to decide on {request.stem!r} ended at {asked['expires']}")
    subject = {request.name: hashlib.sha256(data).hexdigest()}
    predicate = {"decision": decision, "why": why, "time": now(), "step": asked["step"], "target": asked.get("target")}
    envelope = dsse.sign(dsse.statement(subject, PREDICATE_TYPE, predicate), signer)
    path = request.parent / f"{request.stem}.{signer.public.id.removeprefix('sha256:')[:16]}.dsse.json"
    beside = path.with_suffix(".tmp")
    try:
        beside.write_bytes(envelope)
        os.replace(beside, path)  # noqa: PTH105 - never half an answer
    except OSError as error:
        raise storage_error(error, f"can't write {path}") from error
    return path


def pending(folder: Path) -> Iterator[dict[str, Any]]:
    """The requests of a run that wait for a decision, and can still have one."""
    for path in sorted((folder / FOLDER).glob("*.json")):
        if path.name.endswith(".dsse.json"):
            continue
        try:
            request = json.loads(path.read_bytes())
            if str(request["expires"]) >= now() and not (path.parent / f"{path.stem}.closed").exists():
                yield request
        except (OSError, ValueError, KeyError, IrkitError):
            continue


def close(folder: Path, step: str) -> None:
    """Nobody waits for it any more."""
    import contextlib

    with contextlib.suppress(OSError):
        (folder / FOLDER / f"{step}.closed").touch()
