"""Looking around, and looking back: the blast radius, the case's evidence, its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.errors import EvidenceAltered


def survey(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Related containers by reason (lists of ids), the worst severity, names of secrets; never a secret's value."""
    from irkit.scope.find import related

    scope = related(ctx.engine, ctx.before)
    rows = [row.to_json() for row in scope.rows]
    data: dict[str, Any] = {
        reason: [one for one in ids if one != ctx.target.id] for reason, ids in scope.related.items()
    }
    data["secrets"] = [row["subject"] for row in rows if row["kind"] in ("secret", "environment")]
    data["worst"] = rows[0]["severity"] if rows else ""
    data["rows"] = len(rows)
    ctx.facts.result["scope"] = scope.to_json()
    others = len({one for reason in scope.related for one in data[reason]})
    return Result(
        "succeeded", f"{len(rows)} ways, the worst {data['worst'] or 'none'}; {others} related containers", data
    )


def review_case(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Every sealed bundle of the case against its seal."""
    from irkit.evidence.keys import trusted_keys
    from irkit.evidence.verify import verify_bundle

    keys = trusted_keys("evidence")
    for path in ctx.case.bundles:
        ctx.checkpoint()
        found = verify_bundle(path, keys)
        if not found.ok:
            first = found.problems[0]
            raise EvidenceAltered(f"{path.name} does not verify: {first.file}: {first.problem}")
    count = len(ctx.case.bundles)
    return Result("succeeded" if count else "degraded", f"{count} sealed bundles, all as sealed", {"bundles": count})


def write_report(ctx: Context, _: Mapping[str, Any]) -> Result:
    """The page of the last sealed bundle."""
    from irkit.evidence.keys import trusted_keys
    from irkit.review.report import write_report as write

    if not ctx.case.bundles:
        return Result("skipped", "there is no sealed bundle to report on")
    path = ctx.case.folder / f"report-{ctx.run}.html"
    path.unlink(missing_ok=True)  # half of one, from a run that was killed
    report = write(ctx.case.bundles[-1], trusted_keys("evidence"), path)
    ctx.facts.result["report"] = str(report.path)
    if not report.verification.ok:
        raise EvidenceAltered(f"the bundle does not verify; the page says so: {report.path}")
    return Result("succeeded", str(report.path), {"path": str(report.path)})
