"""What an eradication has to do: what is bad is listed, and each of it held against the evidence.  Nothing is changed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irkit import cases
from irkit.clock import now
from irkit.engine.interface import Container, Engine, Image
from irkit.errors import NotFound, UsageProblem
from irkit.evidence.names import SEAL
from irkit.quarantine.state import SavedState
from irkit.recover.bad import Asked, Bad, Item, find
from irkit.recover.holds import Bundles, Held
from irkit.recover.record import RAN_ON, Eradication, Request, Row

SHA256 = 64
STAMP = len("20260131t000000z")


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
    searched = _Searched(engine, frozenset(request.digests), container.id if container else "", checkpoint)
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
    newest = sorted(stored, key=_age, reverse=True)
    return Bundles(newest, list(trusted_keys("evidence")), identities, accept_gaps)


def _age(bundle: Path) -> tuple[str, int]:
    """A run's name begins with its time, to the second; what follows is random, so that its seal's own time decides."""
    try:
        return bundle.name[:STAMP], (bundle / SEAL).stat().st_mtime_ns
    except OSError:  # it went meanwhile
        return bundle.name[:STAMP], 0


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
            row = Row(item, held, "remove", RAN_ON if ran_on(engine, item, held) else "")
        if row.decision != "remove":
            staying[item.id] = item.name
        rows.append(row)
    return rows


def ran_on(engine: Engine, item: Item, held: Held) -> bool:
    """Whether it is a container that runs now, or ended after its evidence was sealed.  Raises ``EngineError``."""
    if item.kind != "container":
        return False
    try:
        found = engine.container(item.id)
    except NotFound:
        return False
    ended = str(found.state.get("FinishedAt") or "")
    # To the second: the engine's clock and this one write their fractions differently.
    return (found.running and not found.paused) or (not found.running and ended[:19] > held.sealed[:19])


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

    engine: Engine
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

        for change in live_changes(find_layers(container, view, self.engine), view, note, bound(container)):
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
