"""Closing the evidence: seal, verify, findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from irkit.actions.context import Context, Result
from irkit.errors import EvidenceAltered, storage_error
from irkit.evidence.writer import INTERRUPTED, Origin

if TYPE_CHECKING:
    from irkit.evidence.seal import Sealed


def seal(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Sign what was acquired; ``partial`` when an acquisition failed or broke off."""
    sealed = seal_now(ctx, partial=is_partial(ctx))
    return Result(
        "degraded" if sealed.status == "partial" else "succeeded",
        f"sealed ({sealed.status}): {sealed.digest}",
        {"digest": sealed.digest, "path": str(sealed.path)},
    )


def is_partial(ctx: Context) -> bool:
    """Whether an acquisition failed, broke off, or was lost to a full disk."""
    failed = any(step["outcome"] == "failed" and str(step["uses"]).startswith("acquire.") for step in ctx.steps)
    broken = (one for one in ctx.writer.artifacts if not one.complete and one.origin.collector != INTERRUPTED)
    return failed or bool(ctx.writer.lost) or any(broken)  # what a kill cut off was taken again, whole


def seal_now(ctx: Context, partial: bool) -> Sealed:
    """Add the run's own record to the evidence, then seal it."""
    from irkit.acquire.engine_state import acquire_calls
    from irkit.evidence.seal import seal_bundle
    from irkit.profiles import collectors_report

    signer = ctx.signer()
    ctx.writer.forget("data/run/")
    run = {
        "schema": "irkit.run-record/v1", "case": ctx.case.id, "run": ctx.run, "target": ctx.target.to_json(), "timeline": ctx.facts.timeline,
        "steps": ctx.steps, "opened": ctx.case.opened, "opened_by": ctx.case.opened_by,
        "quarantine": {"state": ctx.facts.quarantine_state, "network": ctx.facts.quarantine_network, "note": ctx.facts.quarantine_note},
    }  # fmt: skip
    ctx.writer.add_json("run/run.json", run, Origin("run", ctx.run, "irkit's own record, up to the seal"))
    try:
        journal = (ctx.run_folder / "journal.jsonl").read_bytes()
    except OSError as error:
        raise storage_error(error, "can't read the journal") from error
    ctx.writer.add(
        "run/journal.jsonl",
        (journal,),
        Origin("run", "journal", "copied, up to the seal", "application/jsonl"),
        compress=False,
    )
    ctx.writer.forget("data/custody/")
    acquire_calls(ctx.engine, ctx.writer)
    ctx.writer.about = {
        "profile": ctx.profile.to_json() if ctx.profile else None,
        "collectors": collectors_report(ctx.steps, ctx.profile, ctx.writer.artifacts, ctx.writer.gaps),
    }
    facts = {"case": ctx.case.id, "run": ctx.run, "target": ctx.target.to_json()}
    ctx.facts.sealed = seal_bundle(ctx.writer, facts, "partial" if partial else "complete", signer)
    return ctx.facts.sealed


def verify(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Read everything back from the disk and hold it against the seal."""
    from irkit.evidence.verify import verify_bundle

    sealed = ctx.facts.sealed
    if sealed is None:
        raise EvidenceAltered("there is no sealed bundle to verify")
    found = verify_bundle(sealed.path, [ctx.signer().public])
    if not found.ok:
        first = found.problems[0]
        raise EvidenceAltered(f"the bundle does not verify: {first.file}: {first.problem}")
    ctx.mark("bundled")
    return Result("succeeded", f"{found.files} files, {found.size} bytes, all as sealed", {"files": found.files})


def findings(ctx: Context, _: Mapping[str, Any]) -> Result:
    """What the evidence means, by the rules."""
    from irkit.compare.findings import bundle_findings
    from irkit.evidence.reader import BundleReader

    sealed = ctx.facts.sealed
    if sealed is None:
        return Result("skipped", "there is no sealed bundle to read")
    reader = BundleReader(sealed.path, ctx.writer.identities)
    originals = ctx.shared.originals if ctx.shared and _verified(ctx) else None
    ctx.facts.findings = list(bundle_findings(reader, originals=originals))
    count = len(ctx.facts.findings)
    return Result("succeeded", f"{count} {'finding' if count == 1 else 'findings'}", {
        "count": count, "critical": _of(ctx, "critical"), "high": _of(ctx, "high"),
        "rules": sorted({one.rule for one in ctx.facts.findings}),
    })  # fmt: skip


def _verified(ctx: Context) -> bool:
    """Whether this run has read its bundle back and found it as sealed."""
    return "bundled" in ctx.facts.timeline


def _of(ctx: Context, severity: str) -> int:
    return sum(one.severity == severity for one in ctx.facts.findings)
