"""Eradication: what is bad is listed, held against the evidence, denied, removed; and a record tells how far it came.

Used by the actions ``recover.bad`` and ``recover.eradicate`` and by ``irkit eradicate``, which has no run.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irkit import cases
from irkit.actions.context import Context, Result
from irkit.clock import now
from irkit.engine.interface import Container, Engine, Image
from irkit.errors import CheckFailed, EngineError, EngineUnreachable, IrkitError, NotFound, Refused, UsageProblem
from irkit.home import home, private_folder, read_json, write_json
from irkit.quarantine.state import SavedState
from irkit.recover.bad import Asked, Bad, Item, find
from irkit.recover.eradicate import remove
from irkit.recover.holds import Bundles, Held

SCHEMA = "irkit.eradication/v1"
SHA256 = 64
KEEP = ("image", "network", "volume")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.  ``digests``: sha256 (hex) of files; a container that holds one among its changed files is bad."""

    ref: str
    base: str = ""
    digests: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    accept_gaps: bool = False

    def to_json(self) -> dict[str, Any]:
        """In the record."""
        return {
            "ref": self.ref, "base": self.base, "file_digests": list(self.digests), "keep": list(self.keep),
            "accept_gaps": self.accept_gaps,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One item.  ``decision``: ``remove``, ``keep`` (somebody uses it), ``refuse`` (no evidence holds it).

    ``outcome``, once it was tried: ``removed``, ``gone`` (it was not there any more), ``kept`` or ``failed``.
    """

    item: Item
    held: Held
    decision: str
    why: str = ""
    outcome: str = ""

    def to_json(self) -> dict[str, Any]:
        """In the record, and in ``irkit eradicate --json``."""
        words = {"decision": self.decision, "reason": self.why, "outcome": self.outcome}
        return {**self.item.to_json(), "held": self.held.to_json(), **words}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Row:
        """The reverse."""
        held = raw["held"]
        text = {name: str(held[name]) for name in ("bundle", "digest", "case", "sealed", "why")}
        return cls(
            Item.from_json(raw), Held(**text, gaps=tuple(held["gaps"])), str(raw["decision"]), str(raw["reason"]),
            str(raw["outcome"]),
        )  # fmt: skip


@dataclass(slots=True)
class Eradication:
    """One eradication, as its record has it: ``IRKIT_HOME/eradications/ID.json``, written anew after every item."""

    id: str
    engine: str
    subject: dict[str, str]
    request: Request
    rows: list[Row]
    digests: tuple[str, ...]
    unseen: tuple[str, ...]
    run: str = ""
    started: str = ""
    finished: str = ""
    denied: bool = False
    again: bool = False
    """Whether it goes on with what another process began."""

    @property
    def path(self) -> Path:
        """Where the record lies."""
        return folder() / f"{self.id}.json"

    def to_json(self) -> dict[str, Any]:
        """``irkit.eradication/v1``."""
        return {
            "schema": SCHEMA, "id": self.id, "engine": self.engine, "run": self.run, "subject": dict(self.subject),
            "request": self.request.to_json(), "started": self.started, "finished": self.finished, "digests": list(self.digests),
            "denied": self.denied, "items": [row.to_json() for row in self.rows], "unseen": list(self.unseen),
        }  # fmt: skip

    def save(self) -> None:
        """Write the record.  Raises ``StorageError``."""
        private_folder(folder())
        write_json(self.path, self.to_json())

    def count(self, *words: str) -> int:
        """How many items have one of these outcomes, or of these decisions while they have no outcome."""
        return sum((row.outcome or row.decision) in words for row in self.rows)

    @property
    def gaps(self) -> list[str]:
        """What is not as clean as it could be, in words."""
        lacking = [
            f"{row.item.name}: the bundle lacks {one}" for row in self.rows if row.outcome for one in row.held.gaps
        ]
        return [*self.unseen, *lacking, *(f"{row.item.name}: {row.why}" for row in self.rows if RAN_ON in row.why)]


RAN_ON = "it ran on after its evidence was sealed: what it did since is in no bundle"


def folder() -> Path:
    """Where records lie."""
    return home() / "eradications"


def _from_json(raw: Mapping[str, Any]) -> Eradication:
    asked = raw["request"]
    request = Request(
        str(asked["ref"]), str(asked["base"]), tuple(asked["file_digests"]), tuple(asked["keep"]), bool(asked["accept_gaps"])
    )  # fmt: skip
    return Eradication(
        str(raw["id"]), str(raw["engine"]), dict(raw["subject"]), request, [Row.from_json(one) for one in raw["items"]],
        tuple(raw["digests"]), tuple(raw["unseen"]), str(raw["run"]), str(raw["started"]), str(raw["finished"]),
        bool(raw["denied"]), again=True,
    )  # fmt: skip


def begun(engine: Engine, *, ref: str = "", run: str = "", finished: bool = False) -> Eradication | None:
    """The newest record on this engine of this target or run, by default one that was not finished."""
    records = sorted(folder().glob("*.json"), reverse=True) if folder().is_dir() else []
    for path in records:
        raw = read_json(path)
        if raw is None or raw.get("schema") != SCHEMA or raw.get("engine") != engine.endpoint:
            continue
        if bool(raw.get("finished")) != finished:
            continue
        subject = raw.get("subject") or {}
        names = {str(subject.get(name)) for name in ("id", "name", "ref")} - {""}
        if (run and raw.get("run") == run) or (ref and not run and ref in names):
            return _from_json(raw)
    return None


# -- what there is to do ------------------------------------------------------------------------------------------


def survey(
    engine: Engine, request: Request, *, identities: Sequence[Any] = (), run: str = "",
    checkpoint: Callable[[], None] = lambda: None,
) -> Eradication:  # fmt: skip
    """List what is bad, and hold each against the evidence.  Nothing is changed.

    Raises ``NotFound`` when there is neither a container nor an image of this name, ``UsageProblem``, ``EngineError``.
    """
    for one in request.digests:
        if len(one) != SHA256 or any(letter not in "0123456789abcdef" for letter in one):
            raise UsageProblem(f"not a sha256: {one!r}", hint="64 digits, in lower case, as `sha256sum` prints them")
    container, image = _subject(engine, request.ref)
    base = engine.image(request.base) if request.base else None
    searched = _Searched(frozenset(request.digests), container.id if container else "", checkpoint)
    found = find(engine, Asked(container, image, base, request.keep), searched, former_networks)
    rows = _judged(engine, found, stored_bundles(identities, request.accept_gaps), checkpoint)
    subject = {
        "kind": "container" if container else "image", "ref": request.ref, "name": container.name if container else request.ref,
        "id": container.id if container else image.id if image else "", "image": image.id if image else "",
    }  # fmt: skip
    identity = f"{now()[:19].replace('-', '').replace(':', '')}z-{secrets.token_hex(2)}".lower()
    unseen = (*found.unseen, *searched.unseen)
    return Eradication(identity, engine.endpoint, subject, request, rows, found.digests, unseen, run)


def _subject(engine: Engine, ref: str) -> tuple[Container | None, Image | None]:
    """A container by its name or id (12 digits at least: the name of an image may look like fewer), else an image."""
    try:
        container = engine.container(ref)
        if container.name == ref or (len(ref) >= 12 and container.id.startswith(ref)):
            try:
                return container, engine.image(container.image_id)
            except NotFound:
                return container, None
    except NotFound:
        pass
    try:
        return None, engine.image(ref)
    except NotFound as error:
        raise NotFound(
            f"no container and no image {ref!r} on {engine.endpoint}",
            status=error.status,
            hint="`docker ps -a`, `docker images`",
        ) from error


def stored_bundles(identities: Sequence[Any], accept_gaps: bool = False) -> Bundles:
    """The sealed bundles of all cases here, the newest first."""
    from irkit.evidence.keys import trusted_keys

    stored = [path for case in cases.list_cases() for path in case.bundles]
    newest = sorted(stored, key=lambda path: path.name, reverse=True)  # a run's name begins with its time
    return Bundles(newest, list(trusted_keys("evidence")), identities, accept_gaps)


def _judged(engine: Engine, found: Bad, bundles: Bundles, checkpoint: Callable[[], None]) -> list[Row]:
    rows: list[Row] = []
    staying: dict[str, str] = {}
    for item in found.items:
        checkpoint()
        held = bundles.find(item) if not item.users else Held(why="not looked for: it stays")
        stuck = [staying[one] for one in item.needs if one in staying]
        if item.users:
            row = Row(item, held, "keep", f"used by {', '.join(item.users[:5])}")
        elif not held.bundle:
            row = Row(item, held, "refuse", held.why)
        elif stuck:
            row = Row(item, held, "keep", f"{stuck[0]} stays, and needs it")
        else:
            row = Row(item, held, "remove", RAN_ON if _runs(engine, item) else "")
        if row.decision != "remove":
            staying[item.id] = item.name
        rows.append(row)
    return rows


def _runs(engine: Engine, item: Item) -> bool:
    if item.kind != "container":
        return False
    try:
        found = engine.container(item.id)
    except NotFound:
        return False
    return found.running and not found.paused


def former_networks(container: Container) -> Collection[str]:
    """The networks that its open case took it from; a release needs them."""
    case = cases.active_case(container.id)
    saved = case.read_json("quarantine.json") if case is not None else None
    if not saved:
        return ()
    points = SavedState.from_json(saved).endpoints
    return [text for one in points for text in (one.network, one.network_id) if text]


@dataclass(slots=True)
class _Searched:
    """Looks for files by their digests among what containers changed; what can't be seen is told."""

    digests: frozenset[str]
    subject: str
    checkpoint: Callable[[], None]
    unseen: list[str] = field(default_factory=list)

    def __call__(self, container: Container) -> str:
        if not self.digests:
            return ""
        from irkit.acquire.filesystem import bound, live_changes
        from irkit.acquire.host import HostView, locate
        from irkit.acquire.layers import find_layers

        seen = locate(container)
        view = seen if isinstance(seen, HostView) else None
        lacks: list[str] = []

        def note(path: str, why: str) -> None:
            lacks.append(f"{path}: {why}")

        for change in live_changes(find_layers(container, view), view, note, bound(container)):
            self.checkpoint()
            if change.after is not None and change.after.sha256 in self.digests:
                return f"{change.path} in it has the sha256 {change.after.sha256}"
        if lacks:
            more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
            self.unseen.append(f"{container.name} was not searched whole: {lacks[0]}{more}")
        return ""


def judged_anew(plan: Eradication, identities: Sequence[Any] = ()) -> Eradication:
    """One that another process began, its evidence read through once more: it may not hold any more."""
    bundles = stored_bundles(identities, plan.request.accept_gaps)
    for number, row in enumerate(plan.rows):
        if row.decision == "remove" and not row.outcome:
            held = bundles.find(row.item)
            decision, why = ("remove", row.why) if held.bundle else ("refuse", held.why)
            plan.rows[number] = replace(row, held=held, decision=decision, why=why)
    return plan


# -- doing it -----------------------------------------------------------------------------------------------------


def ready(plan: Eradication) -> None:
    """A named container must itself be held: else it may be the clean one that took over the name.  Raises ``Refused``."""
    mine = next((row for row in plan.rows if row.item.id == plan.subject["id"]), None)
    if plan.subject["kind"] == "container" and not plan.again and mine is not None and mine.decision == "refuse":
        raise NotHeld(
            f"no evidence holds {plan.subject['name']}: {mine.why}",
            hint=f"`irkit contain {plan.subject['name']} --var profile=full` first; after a rebuild the compromised one has another name",
        )


class NotHeld(CheckFailed):
    """Nothing is destroyed that no verified bundle holds."""


def carry_out(
    engine: Engine, plan: Eradication, *, tell: Callable[[Row], None] = lambda row: None,
    checkpoint: Callable[[], None] = lambda: None, own: str = "",
) -> Eradication:  # fmt: skip
    """Deny the digests, then remove what may go, in order.  ``own``: the container whose lock the caller holds.

    Its record is on the disk before anything is done, and after each item.  Going on with one that was killed looks at
    what is there first, and does nothing twice.  Raises ``NotHeld``, ``Refused`` when another one is under way here,
    ``EngineUnreachable``, ``Interrupted``.
    """
    from irkit.trust import denied

    ready(plan)
    with cases.eradication_lock(hashlib.sha256(engine.endpoint.encode()).hexdigest()[:16]):
        plan.started = plan.started or now()
        plan.save()
        if plan.digests and not plan.denied:
            denied.add(plan.digests, f"eradicated: {plan.subject['name']}, {plan.id}")
            plan.denied = True
            plan.save()
        for number, row in enumerate(plan.rows):
            if row.decision == "remove" and not row.outcome:
                checkpoint()
                plan.rows[number] = _one(engine, plan, row, own)
                plan.save()
                tell(plan.rows[number])
        plan.finished = now()
        plan.save()
    return plan


def _one(engine: Engine, plan: Eradication, row: Row, own: str) -> Row:
    left = [
        one.item.name for one in plan.rows if one.item.id in row.item.needs and one.outcome not in ("removed", "gone")
    ]
    if left:
        return replace(row, outcome="kept", why=f"{left[0]} stays, and needs it")
    if RAN_ON not in row.why and _runs(engine, row.item):  # thawed since it was listed
        row = replace(row, why=RAN_ON)
    try:
        if row.item.kind == "container" and row.item.id != own:
            with cases.target_lock(row.item.id, row.item.name):
                done = remove(engine, row.item)
        else:
            done = remove(engine, row.item)
    except EngineUnreachable:
        raise
    except (EngineError, Refused) as error:
        return replace(row, outcome="failed", why=error.message)
    why = "; ".join(filter(None, (row.why, done.why)))
    if row.item.kind == "container" and done.outcome in ("removed", "gone") and row.item.id != own:
        why = "; ".join(filter(None, (why, *close_case(engine, row.item.id))))
    return replace(row, outcome=done.outcome, why=why)


def close_case(engine: Engine, container: str) -> list[str]:
    """Its case holds nothing any more: its quarantine goes; what could not be cleared away, in words."""
    from irkit.quarantine.release import clear_away

    case = cases.active_case(container)
    if case is None:
        return []
    problems = clear_away(engine, case.id)
    try:
        case.with_state("eradicated")
    except IrkitError as error:
        problems.append(f"the case {case.id} could not be closed: {error.message}")
    return problems


# -- the actions --------------------------------------------------------------------------------------------------


def bad(ctx: Context, args: Mapping[str, Any]) -> Result:
    """What a ``recover.eradicate`` with the same parameters would do."""
    plan = survey(
        ctx.engine, _request(ctx, args), identities=ctx.writer.identities, run=ctx.run, checkpoint=ctx.checkpoint
    )
    ctx.facts.result["bad"] = plan.to_json()
    for row in plan.rows:
        ctx.note(sentence(row))
    counts = {name: plan.count(name) for name in ("remove", "keep", "refuse")}
    words = f"{counts['remove']} to remove, {counts['keep']} stay, {counts['refuse']} are in no evidence"
    names = [row.item.name for row in plan.rows if row.decision == "remove"]
    return Result(
        "degraded" if counts["refuse"] or plan.unseen else "succeeded",
        words,
        {**counts, "names": names, "digests": list(plan.digests)},
    )


def eradicate(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Deny and remove; goes on with what this run began before it was killed.  Raises ``NotHeld`` for what stays unheld."""
    identities = ctx.writer.identities
    plan = begun(ctx.engine, run=ctx.run)
    if plan is not None:
        plan = judged_anew(plan, identities)
    else:
        plan = survey(ctx.engine, _request(ctx, args), identities=identities, run=ctx.run, checkpoint=ctx.checkpoint)
    carry_out(ctx.engine, plan, tell=lambda row: ctx.note(sentence(row)), checkpoint=ctx.checkpoint, own=ctx.target.id)
    return _told(ctx, plan)


def was_eradicated(ctx: Context, _: Mapping[str, Any]) -> Result | None:
    """After a kill: whether this run's eradication came to its end."""
    plan = begun(ctx.engine, run=ctx.run, finished=True)
    return _told(ctx, plan) if plan is not None else None


def _told(ctx: Context, plan: Eradication) -> Result:
    from irkit.quarantine.release import clear_away

    ctx.facts.result["eradication"] = plan.to_json()
    mine = next((row for row in plan.rows if row.item.id == ctx.target.id), None)
    if mine is not None and mine.outcome in ("removed", "gone"):
        for problem in clear_away(ctx.engine, ctx.case.id):
            ctx.warn(problem)
    for one in plan.gaps:
        ctx.warn(one)
    failed = [row for row in plan.rows if row.outcome == "failed"]
    if failed:
        raise EngineError(f"{failed[0].item.name} could not be removed: {failed[0].why}")
    refused = [row for row in plan.rows if row.decision == "refuse"]
    if refused:
        raise NotHeld(
            f"{len(refused)} of {len(plan.rows)} stay, no evidence holds them: "
            + "; ".join(f"{row.item.kind} {row.item.name}: {row.why}" for row in refused[:3])
        )
    removed, kept = plan.count("removed", "gone"), plan.count("kept", "keep")
    words = f"{removed} removed, {kept} kept; {len(plan.digests)} digests denied"
    return Result(
        "degraded" if plan.gaps else "succeeded",
        words,
        {"removed": removed, "kept": kept, "denied": list(plan.digests)},
    )


def _request(ctx: Context, args: Mapping[str, Any]) -> Request:
    keep = tuple(str(one) for one in args["keep"])
    unknown = [one for one in keep if one not in KEEP]
    if unknown:
        raise UsageProblem(f"not a kind that can be kept: {unknown[0]!r}", hint=f"one of {', '.join(KEEP)}")
    digests = tuple(str(one) for one in args["file_digests"])
    return Request(ctx.target.id, str(args["base"]), digests, keep, bool(args["accept_gaps"]))


def sentence(row: Row) -> str:
    """One item for a responder's eyes."""
    item = row.item
    if row.outcome:
        return f"{item.kind} {item.name}: {row.outcome}" + (f" ({row.why})" if row.why else "")
    words = {"remove": "to be removed", "keep": "stays", "refuse": "refused"}[row.decision]
    return f"{item.kind} {item.name}: {words}: {row.why or item.why}"
