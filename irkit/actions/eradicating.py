"""Carrying an eradication out: deny first, then remove in order; the record tells how far it came."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from irkit import cases
from irkit.actions.listing import ran_on
from irkit.clock import now
from irkit.engine.interface import Engine
from irkit.errors import CheckFailed, EngineError, EngineUnreachable, IrkitError, Refused
from irkit.recover.eradicate import remove
from irkit.recover.record import RAN_ON, Eradication, Row


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
        if plan.digests and not set(plan.digests) <= set(denied.load()):  # also when somebody has allowed one since
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
    if RAN_ON not in row.why and ran_on(engine, row.item, row.held):  # thawed since it was listed
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
    if row.item.kind in ("container", "image") and done.outcome in ("removed", "gone") and row.item.id != own:
        why = "; ".join(filter(None, (why, *close_case(engine, row.item.id))))
    return replace(row, outcome=done.outcome, why=why)


def close_case(engine: Engine, target: str) -> list[str]:
    """Its case holds nothing any more: its quarantine goes; what could not be cleared away, in words."""
    from irkit.quarantine.release import clear_away

    case = cases.active_case(target)
    if case is None:
        return []
    problems = clear_away(engine, case.id)
    try:
        case.with_state("eradicated")
    except IrkitError as error:
        problems.append(f"the case {case.id} could not be closed: {error.message}")
    return problems


def sentence(row: Row) -> str:
    """One item for a responder's eyes."""
    item = row.item
    if row.outcome:
        return f"{item.kind} {item.name}: {row.outcome}" + (f" ({row.why})" if row.why else "")
    words = {"remove": "to be removed", "keep": "stays", "refuse": "refused"}[row.decision]
    return f"{item.kind} {item.name}: {words}: {row.why or item.why}"
