"""An audit in a run: of the target, as evidence; of what a rebuild would make, as its gate."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from irkit.actions.context import Context, Result
from irkit.errors import CheckFailed, Refused
from irkit.evidence.writer import Origin
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.audit.looked import Looked, Wanted
    from irkit.audit.policy import Policy
    from irkit.audit.run import Audit

ALL, SCAN_REPORT = "audit/audit.json", "audit/scan.json"
REASONS_SHOWN = 3


def check(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Audit the engine, and the target as it was before irkit touched it, into the bundle.

    Degraded when a scan or a list of packages was asked for and could not be made.  Raises ``Refused`` after the seal,
    ``CheckFailed`` when ``fail_on`` is given and the gate closes: the evidence is written first.
    """
    from irkit.audit.looked import Looked, Wanted
    from irkit.audit.policy import load_policy
    from irkit.audit.run import BY_ID, audit, gate, of_container, of_engine
    from irkit.mounts import with_sources

    if ctx.facts.sealed is not None:
        raise Refused("the evidence is sealed already", hint="put audit.check before evidence.seal")
    policy = load_policy(None, BY_ID)
    target = replace(of_container(ctx.engine, ctx.target.id), container=with_sources(ctx.engine, ctx.before))
    wanted = Wanted(bool(args["scan"]) or policy.scan, policy.sbom)
    told = Looked() if wanted.nothing else _look(ctx, str((target.image or {}).get("Id") or ""), wanted, policy)
    found = audit([of_engine(ctx.engine), told.of(target)], policy, _today())
    _keep(ctx, found, told)
    limit = str(args["fail_on"])
    verdict = gate(found, limit) if limit else None
    if verdict is not None and not verdict.passed:
        raise CheckFailed(
            f"the audit fails at {limit}: {_first(verdict.reasons)}", hint="`irkit audit` tells the fix for each"
        )
    missing = [one for one in (told.scan, told.sbom) if isinstance(one, str)]
    counts = found.counts()
    words = ", ".join(f"{counts[state]} {state}" for state in ("fail", "warn", "unknown", "excepted"))
    words += "".join(f"; {printable(one, 300)}" for one in missing)
    refused = sum(row["state"] == "refused" for scan in found.scans for row in scan["vulnerabilities"])
    return Result(
        "degraded" if missing else "succeeded",
        words,
        {**{state: counts[state] for state in ("fail", "warn", "unknown")}, "refused": refused},
    )


def _look(ctx: Context, image: str, wanted: Wanted, policy: Policy) -> Looked:
    from irkit.audit.looked import PREPARING, Looked, look
    from irkit.audit.programs import Limits

    if not image:
        return Looked.none("the engine does not know the target's image any more", wanted)
    limits = Limits(float(policy.vulnerabilities.seconds), checkpoint=ctx.checkpoint)
    return look(partial(ctx.engine.image_archive, image, PREPARING), image, wanted, policy, limits)


def _keep(ctx: Context, found: Audit, told: Looked) -> None:
    """The audit, and as they were printed the scanner's report and Syft's document; what is missing is a gap."""
    from irkit.audit.sbom import FORMATS, Sbom

    ctx.writer.forget("data/audit/")
    source = f"{ctx.target.name} and its engine"
    ctx.writer.add_json(ALL, found.to_json(), Origin("audit", source, "irkit audit"))
    if told.report and not isinstance(told.scan, str) and told.scan is not None:
        origin = Origin(
            "audit", f"image {told.scan.image}", f"{told.scan.scanner} {told.scan.version}", "application/json"
        )
        ctx.writer.add(SCAN_REPORT, (told.report,), origin)
    if isinstance(told.sbom, Sbom):
        form = FORMATS[told.sbom.format]
        origin = Origin("audit", f"image {told.sbom.image}", told.sbom.tool, form.media_type)
        ctx.writer.add(f"audit/sbom{form.suffix}", (told.sbom.data,), origin, compress=False)
    for what, why in (("known vulnerabilities", told.scan), ("the list of packages", told.sbom)):
        if isinstance(why, str):
            ctx.writer.gap("audit", what, why)


def decide(ctx: Context, name: str, body: Mapping[str, Any]) -> None:
    """The audit's word on a container that would be made with ``body``; only where the policy has ``rebuild``.

    Nothing was changed when this raises ``CheckFailed``.  The whole audit is kept as ``audit.json`` in the run's folder.
    """
    from irkit.audit.rebuilt import word_on
    from irkit.home import write_json

    word = word_on(ctx.engine, name, body, ctx.checkpoint)
    if word is None:
        return
    write_json(ctx.run_folder / "audit.json", word.audit.to_json())
    ctx.facts.result["audit"] = word.to_json()
    if not word.gate.passed:
        raise CheckFailed(
            f"the audit stops the rebuild: {_first(word.gate.reasons)}; {printable(ctx.target.name)} is untouched",
            hint=f"mend the image or the configuration, or except the check in audit.yaml; all of it is in {ctx.run_folder / 'audit.json'}",
        )


def _first(reasons: tuple[str, ...]) -> str:
    more = len(reasons) - REASONS_SHOWN
    return printable("; ".join(reasons[:REASONS_SHOWN]), 600) + (f"; and {more} more" if more > 0 else "")


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
