"""How ``irkit diff`` prints: a table, one JSON object, SARIF, CSV, or unified diffs of text."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import click

from irkit.compare.comparison import Comparison, Row
from irkit.compare.crowd import few
from irkit.models import Change, FileFacts, Finding, Gap
from irkit.text import printable

MARKS = {"added": ("A", "green"), "changed": ("C", "yellow"), "deleted": ("D", "red")}
COLOURS = {"critical": "red", "high": "red", "medium": "yellow", "low": "cyan", "info": "white"}
SHOWN = 25
"""Changes that no rule and no noise knows are shown up to this number; `--all` shows the others as well."""
EACH = 10
"""Findings of one rule that the table shows: what an attacker makes a thousand of must not bury another one."""
SARIF_EACH = 1000
"""As `EACH`, in SARIF: GitHub's code scanning refuses a file of more than 25,000 results or 10 MB, and shows 5,000 of them."""
_FORMULA = re.compile(r";(?=\s*[\"']?[=+\-@])")
"""Where a spreadsheet that splits at semicolons would begin a formula."""
COLUMNS = ("row", "severity", "rules", "attack", "kind", "change", "path", "origin", "noise", "before_sha256", "after_sha256", "before_mode", "after_mode", "uid", "gid", "size", "title", "next")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """What was compared with what, and how much of it is shown."""

    subject: str
    against: str
    everything: bool = False
    names: bool = False


def write_json(rows: Iterable[Row], found: Comparison, shown: Shown) -> None:
    """One object, written as it is found: memory stays flat."""
    out = sys.stdout
    head = {"schema": "irkit.diff/v2", "subject": shown.subject, "against": shown.against}
    out.write(json.dumps(head)[:-1] + ', "changes": [')
    for number, row in enumerate(rows):
        out.write(("," if number else "") + "\n " + json.dumps(row.to_json()))
    rest = {"counts": found.counts.to_json(), "folded": dict(sorted(found.counts.folded.items()))}
    out.write("\n],\n" + json.dumps(rest)[1:-1])
    _list(out, "findings", (one.to_json() for one in found.findings))
    _list(out, "packages", (one.to_json() for one in found.packages))
    _list(out, "config", (one.to_json() for one in found.config))
    _list(out, "gaps", (one.to_json() for one in found.gaps))
    _list(out, "entries", ({"path": printable(path), **one.to_json()} for path, one in found.entries))
    out.write("\n}\n")


def _list(out: TextIO, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    out.write(f',\n"{name}": [')
    for number, row in enumerate(rows):
        out.write(("," if number else "") + "\n " + json.dumps(row))
    out.write("\n]")


def write_sarif(rows: Iterable[Row], found: Comparison, shown: Shown) -> None:
    """Findings for tools that read SARIF 2.1.0; of one rule :data:`SARIF_EACH`, if not all are asked for."""
    from irkit.compare.sarif import sarif

    _exhaust(rows)
    findings = found.findings
    document = sarif(findings, found.gaps, shown.subject, len(findings) if shown.everything else SARIF_EACH)
    for piece in json.JSONEncoder(indent=1).iterencode(document):
        sys.stdout.write(piece)
    sys.stdout.write("\n")


def write_csv(rows: Iterable[Row], found: Comparison, shown: Shown) -> None:
    """A line a change, then a line a finding, then a line a gap.  What a spreadsheet would take for a formula is quoted (OWASP, CSV injection).

    A semicolon in front of what would be one is escaped: where it separates columns, quotes do not hold the cell together.
    """
    table = csv.writer(sys.stdout)
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow(map(_cell, _change_cells(row)))
    for one in found.findings:
        cells = ("finding", one.severity, one.rule, " ".join(one.attack), one.kind, "", printable(one.subject), *[""] * 9, one.title, one.next)  # fmt: skip
        table.writerow(map(_cell, cells))
    for gap in found.gaps:
        cells = ("gap", "", gap.collector, *[""] * 3, printable(gap.what), *[""] * 9, printable(gap.why), "")
        table.writerow(map(_cell, cells))


def _cell(value: object) -> str:
    text = _FORMULA.sub(r"\\x3b", str(value))
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text


def _change_cells(row: Row) -> Iterator[object]:
    change = row.change
    before, after = change.before, change.after
    facts = after or before
    yield from (
        "change",
        "",
        " ".join(row.rules),
        "",
        change.kind,
        change.change,
        printable(change.path),
        change.origin,
        row.noise,
    )
    yield from (before.sha256 if before else "", after.sha256 if after else "")
    yield from (f"{one.mode:04o}" if one else "" for one in (before, after))
    yield from (facts.uid, facts.gid, facts.size) if facts else ("", "", "")
    yield from ("", "")


def write_unified(rows: Iterable[Row], found: Comparison, shown: Shown) -> None:
    """Unified diffs of the texts that changed, as `patch` reads them but for escaped control characters."""
    for row in rows:
        if row.diff is not None:
            for line in row.diff.lines:
                colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
                click.echo(click.style(line, fg=colour) if colour else line)
            if row.diff.truncated:
                click.echo(f"the diff of {printable(row.change.path)} is cut: it is too long", err=True)
    _print_gaps(found.gaps, EACH)


def write_table(rows: Iterable[Row], found: Comparison, shown: Shown) -> None:
    """Changes that nothing explains, then what is folded, then the findings, the most severe last: they stay in sight."""
    plain = more = 0
    for row in rows:
        if shown.names or shown.everything or not (row.noise or row.rules):
            plain += 1
            if plain > SHOWN and not shown.everything and not shown.names:
                more += 1
                continue
            click.echo(change_line(row))
    if more:
        click.echo(f"  … and {more} more without a finding: --all lists them")
    if not shown.names:
        _print_others(found)
        _print_findings(found.findings, len(found.findings) if shown.everything else EACH)
    _print_counts(found, shown)


def _exhaust(rows: Iterable[Row]) -> None:
    for _ in rows:
        pass


def change_line(row: Row) -> str:
    """One change in one line."""
    change = row.change
    mark, colour = MARKS[change.change]
    where = f" ({change.origin})" if change.origin != "layer" else ""
    where += f" (beneath the mount {printable(row.beneath)})" if row.beneath else ""
    note = f"  [{row.noise}]" if row.noise else f"  [{', '.join(row.rules)}]" if row.rules else ""
    return f"{click.style(mark, fg=colour)} {printable(change.path)}{where}  {words(change)}{note}"


def _print_others(found: Comparison) -> None:
    for one in found.packages:
        click.echo(
            f"  package {printable(one.name)} ({one.manager}): {one.change} {printable(one.before)} → {printable(one.version)}"
        )


def _print_findings(findings: list[Finding], each: int) -> None:
    if not findings:
        return
    click.echo("")
    for one, more in reversed(list(few(findings, each))):
        if more:
            click.echo(f"         … and {more} more of {one.rule}: --all lists them")
        severity = click.style(f"{one.severity:<8}", fg=COLOURS.get(one.severity), bold=one.severity == "critical")
        click.echo(f"{severity} {one.title}: {printable(one.subject, 300)}")
        click.echo(f"         {one.reason} [{one.rule}{' ' if one.attack else ''}{' '.join(one.attack)}]")
        click.echo(f"         next: {one.next}")


def _print_counts(found: Comparison, shown: Shown) -> None:
    counts = found.counts
    kinds = ", ".join(f"{counts.by_change[name]} {name}" for name in ("added", "changed", "deleted"))
    click.echo(
        f"{printable(shown.subject)} against {printable(shown.against)}: {counts.total} changes ({kinds})", err=True
    )
    if shown.names:
        click.echo(f"  {counts.in_findings} in findings", err=True)
    folded = ", ".join(f"{name} {number}" for name, number in counts.folded.most_common())
    click.echo(
        f"  {counts.in_findings} in findings, {sum(counts.folded.values())} folded{f' ({folded})' if folded else ''}, "
        f"{counts.plain} that no rule speaks of{f', {counts.same} the same on both sides' if counts.same else ''}",
        err=True,
    )
    severities: dict[str, int] = {}
    for one in found.findings:
        severities[one.severity] = severities.get(one.severity, 0) + 1
    total = ", ".join(f"{number} {name}" for name, number in severities.items())
    click.echo(f"  {len(found.findings)} findings{f': {total}' if total else ''}", err=True)
    _print_gaps(found.gaps, len(found.gaps) if shown.everything else EACH)


def _print_gaps(gaps: list[Gap], each: int) -> None:
    """The first of each reason: an attacker makes thousands, and they stand below the findings."""
    left = Counter((one.collector, one.why) for one in gaps)
    seen = Counter[tuple[str, str]]()
    for one in gaps:
        kind = (one.collector, one.why)
        seen[kind] += 1
        if seen[kind] <= each:
            click.echo(f"  gap: {printable(one.what, 300)}: {printable(one.why)}", err=True)
        if seen[kind] == each and left[kind] > each:
            click.echo(f"  … and {left[kind] - each} more of this kind: --all lists them", err=True)


def words(change: Change) -> str:
    """What is different, in a few words."""
    if change.before is None or change.after is None:
        facts = change.after or change.before
        return _facts(facts) if facts else ""
    pairs = [
        (name, getattr(change.before, name), getattr(change.after, name))
        for name in ("kind", "mode", "uid", "gid", "size", "target")
    ]
    found = [
        f"{name} {_value(name, before)} → {_value(name, after)}" for name, before, after in pairs if before != after
    ]
    if change.before.sha256 != change.after.sha256:
        found.append(f"sha256 {change.before.sha256[:12] or '-'} → {change.after.sha256[:12] or '-'}")
    names = {name for name in {*change.before.xattrs, *change.after.xattrs} if change.before.xattrs.get(name) != change.after.xattrs.get(name)}  # fmt: skip
    found += [f"xattr {printable(name)}" for name in sorted(names)]
    if not found and change.before.mtime_ns != change.after.mtime_ns:
        found.append("modification time")
    return ", ".join(found) or "attributes"


def _value(name: str, value: object) -> str:
    return f"{value:04o}" if name == "mode" and isinstance(value, int) else printable(str(value))


def _facts(facts: FileFacts) -> str:
    found = [facts.kind, f"{facts.mode:04o}", f"{facts.uid}:{facts.gid}"]
    if facts.kind == "file":
        found += [f"{facts.size} B", f"sha256 {facts.sha256[:12] or 'unknown'}"]
    if facts.kind == "symlink":
        found.append(f"→ {printable(facts.target)}")
    return " ".join(found)


WRITERS: dict[str, Any] = {
    "table": write_table,
    "json": write_json,
    "sarif": write_sarif,
    "csv": write_csv,
    "unified": write_unified,
}
