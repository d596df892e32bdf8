"""One self-contained HTML page from a bundle: no script, no outside request, everything escaped twice.

Control characters are escaped by :func:`irkit.text.printable`, markup by jinja2's autoescape.  The template is given
finished strings only, so that a bundle that does not verify, of any shape, still gets its page.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import starmap
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template

from irkit.compare.content import TextDiff
from irkit.compare.crowd import few
from irkit.compare.findings import Judged, bundle_changes, bundle_judged
from irkit.compare.verdicts import Verdicts
from irkit.errors import EvidenceAltered, IrkitError, UsageProblem
from irkit.evidence import names
from irkit.evidence.keys import PublicKey
from irkit.evidence.reader import BundleReader
from irkit.evidence.store import open_store
from irkit.evidence.verify import Verification, claimed_key, verify_bundle
from irkit.home import write_file
from irkit.models import Change, FileFacts, Finding, Gap
from irkit.text import human_size, printable, text_from

ROWS_SHOWN = 2000
EACH_SHOWN = 100
TEXT_SHOWN = 4000
DIFFS_SHOWN, DIFF_LINES = 100, 400
DOCUMENT_LIMIT = 64 * 1024 * 1024
BROKEN = (IrkitError, LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError, EOFError)
UNREADABLE = (*BROKEN, ArithmeticError, tarfile.TarError)
RUN, PROOF, CALLS = "run/run.json", "quarantine/proof.json", "custody/calls.jsonl"
CHANGE_LISTS = ("filesystem/changes.jsonl", "tmpfs/entries.jsonl")
PROCESSES, SOCKETS = "process/processes.json", "network/sockets.json"
AUDIT, AUDIT_STATES = "audit/audit.json", ("fail", "warn", "unknown", "excepted")
MARKS = {
    "succeeded": "good", "degraded": "warn", "skipped": "dim", "undecided": "warn", "planned": "dim", "failed": "bad", "interrupted": "bad", "blocked": "good", "reached": "bad",
    "unknown": "warn", "critical": "bad", "high": "bad", "medium": "warn", "proven": "good", "frozen-only": "warn",
    "fail": "bad", "warn": "warn", "excepted": "dim",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written, and whether the bundle verified."""

    path: Path
    verification: Verification


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; ``mark`` colours it: ``good``, ``warn``, ``bad``, ``dim`` or nothing."""

    cells: tuple[str, ...]
    mark: str = ""


@dataclass(slots=True)
class Table:
    """The first rows of a section, how many more there are, and what could not be read."""

    rows: list[Row] = field(default_factory=list)
    more: int = 0
    note: str = ""


class GuardedReader(BundleReader):
    """A reader for a bundle that may not verify: no documents or lines that would fill the memory."""

    def stream(self, name: str) -> Iterator[bytes]:
        """As the base class.  Raises ``EvidenceAltered`` for a document or a line beyond the limit."""
        held = 0
        for block in super().stream(name):
            cut = block.rfind(b"\n") if name.endswith(".jsonl") else -1
            held = held + len(block) if cut < 0 else len(block) - cut - 1
            if held > DOCUMENT_LIMIT and name.endswith((".json", ".jsonl")):
                raise EvidenceAltered(f"{name} is too large to be shown")
            yield block


def write_report(
    bundle: Path, keys: Iterable[PublicKey], output: Path | None = None, identities: Sequence[Any] = ()
) -> Report:
    """Verify ``bundle`` and write its page, by default ``irkit-report-CASE.html`` in the working folder.

    A bundle that does not verify gets a page too, and the page says so.  Raises ``UsageProblem`` when ``bundle`` is
    none, or when ``output`` lies inside it or is no ordinary file; ``StorageError`` when it can't be written.
    """
    _check_place(bundle, output or Path("page"))
    verification = verify_bundle(bundle, keys, identities=identities)
    contents = _contents(bundle, verification, identities)
    path = output or Path(f"irkit-report-{_plain_name(contents['facts']['case'])}.html")
    _check_place(bundle, path)
    write_file(path, render(verification, contents).encode("utf-8"))
    return Report(path, verification)


def render(verification: Verification, contents: Mapping[str, Any]) -> str:
    """The page, from finished strings."""
    return _template().render(verification=verification, **contents)


@cache
def _template() -> Template:
    text = files("irkit.review").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, loader=DictLoader({"report": text}), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = _shown
    environment.filters["size"] = human_size
    return environment.get_template("report")


def _check_place(bundle: Path, path: Path) -> None:
    """A page inside the bundle would break its seal; one over a link or a device would harm something else."""
    place = path.parent.resolve() / path.name
    if place.is_relative_to(bundle.resolve()):
        raise UsageProblem("the page can't lie inside the bundle: the seal would not hold any more", hint="-o FILE")
    if os.path.lexists(place) and not stat.S_ISREG(place.lstat().st_mode):
        raise UsageProblem(f"{path} is there and is not an ordinary file")


def _plain_name(case: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", case.lower())[:80].strip("-") or "unknown"


def _shown(value: object) -> str:
    return printable(str(value), TEXT_SHOWN)


def _row(*cells: object, mark: str = "") -> Row:
    return Row(tuple(_shown(cell) for cell in cells), mark)


def _contents(bundle: Path, verification: Verification, identities: Sequence[Any] = ()) -> dict[str, Any]:
    """What the bundle says, as finished strings; a part that can't be read is told, never passed over."""
    unreadable, reader = "", None
    try:
        reader = _open(bundle, identities)
    except UNREADABLE as error:
        unreadable = _sentence(error)
    run = _document(reader, RUN)
    proof = _document(reader, PROOF)
    judging, looked_at = _Judging(), (*CHANGE_LISTS, PROCESSES, SOCKETS)
    tables = {
        "steps": _fill(reader, (RUN,), lambda _: map(_step, run["steps"])),
        "probes": _fill(reader, (PROOF,), lambda _: map(_probe, proof["probes"])),
        "findings": _fill(reader, looked_at, lambda it: _findings(judging.of(it).comparison.findings)),
        "folded": _fill(reader, CHANGE_LISTS, lambda it: starmap(_row, judging.folded(it))),
        "diffs": _fill(reader, CHANGE_LISTS, lambda it: map(_diff, judging.of(it).diffs)),
        "diffs_more": judging.more,
        "unseen": _fill(reader, looked_at, lambda it: map(_gap_of, judging.gaps(it))),
        "changes": _fill(reader, CHANGE_LISTS, lambda it: map(_change, bundle_changes(it))),
        "processes": _fill(reader, (PROCESSES,), lambda it: map(_process, it.json(PROCESSES))),
        "sockets": _fill(reader, (SOCKETS,), lambda it: map(_socket, it.json(SOCKETS))),
        "calls": _fill(reader, (CALLS,), lambda it: (Row(()) for _ in it.lines(CALLS))),
        "audit": _fill(
            reader,
            (AUDIT,),
            lambda it: (_audited(one) for one in it.json(AUDIT)["findings"] if one["state"] in AUDIT_STATES),
        ),
        "vulnerabilities": _fill(reader, (AUDIT,), lambda it: _vulnerable(it.json(AUDIT)["scans"])),
        "packages": _fill(reader, (AUDIT,), lambda it: map(_packages, it.json(AUDIT)["sboms"])),
        "gaps": _fill(reader, (), lambda it: map(_gap, it.index["gaps"])),
        "artifacts": _fill(reader, (), lambda it: map(_artifact, it.index["artifacts"])),
    }
    wanted = (RUN, PROOF, CALLS, *CHANGE_LISTS, PROCESSES, SOCKETS)
    return {
        **tables, "audited": reader is not None and reader.find(AUDIT) is not None, "unreadable": unreadable, "facts": _facts(reader, verification, run), "state": _state(run, proof),
        "claimed": "" if verification.key else _shown(claimed_key(bundle)), "target": _target(reader, run),
        "missing": [name for name in wanted if reader is not None and reader.find(name) is None],
    }  # fmt: skip


class _Judging:
    """One comparison for all sections that need it."""

    def __init__(self) -> None:
        self._verdicts: Verdicts | None = None
        self._judged: Judged | None = None

    def of(self, reader: GuardedReader) -> Judged:
        """Compare, once."""
        if self._judged is None:
            self._verdicts = Verdicts.load()
            self._judged = bundle_judged(reader, self._verdicts, DIFFS_SHOWN)
        return self._judged

    def folded(self, reader: GuardedReader) -> Iterable[tuple[str, str, int]]:
        """What is folded as noise."""
        judged = self.of(reader)
        return judged.folded(self._verdicts.noise) if self._verdicts is not None else ()

    def gaps(self, reader: GuardedReader) -> list[Gap]:
        """What the comparison itself could not look at: the bundle's own gaps have their table."""
        known = {(one["collector"], one["what"], one["why"]) for one in reader.index["gaps"]}
        return [one for one in self.of(reader).comparison.gaps if (one.collector, one.what, one.why) not in known]

    @property
    def more(self) -> int:
        """Text diffs that are not shown."""
        return self._judged.more if self._judged is not None else 0


def _gap_of(one: Gap) -> Row:
    return _row(one.collector, one.what, one.why)


def _diff(one: TextDiff) -> Row:
    """Every line of it is escaped already; the page escapes what HTML takes for its own."""
    lines = one.lines[: DIFF_LINES + 2]
    cut = one.truncated or len(one.lines) > len(lines)
    name = next((line[5:] for line in (lines[1], lines[0]) if line[4:] != "/dev/null"), "")
    return Row((name, f"+{one.added} −{one.removed}{', cut' if cut else ''}", "\n".join(lines)))


def _open(bundle: Path, identities: Sequence[Any]) -> GuardedReader:
    """A reader, when the bundle is made of ordinary files and folders alone: a link or a pipe is never opened."""
    entries = open_store(bundle, identities).entries()
    for name, size in entries.items():
        if size < 0:
            raise EvidenceAltered(f"{name} is not an ordinary file: nothing was read")
    if entries.get(names.INDEX, 0) > DOCUMENT_LIMIT:
        raise EvidenceAltered("the index is too large to be one")
    return GuardedReader(bundle, identities)


def _sentence(error: BaseException) -> str:
    text = str(error) if isinstance(error, IrkitError | OSError) else f"not of the expected form ({error!r})"
    return printable(text, 300)


def _fill(
    reader: GuardedReader | None, needs: tuple[str, ...], rows_of: Callable[[GuardedReader], Iterable[Row]]
) -> Table:
    """The first rows of a section, the rest only counted: memory stays flat."""
    table = Table()
    if reader is None:
        table.note = "Not read: the bundle's index can't be used."
        return table
    if needs and not any(reader.find(name) for name in needs):
        table.note = f"The bundle holds no {' and no '.join(needs)}."
        return table
    try:
        rows = iter(rows_of(reader))
        table.rows.extend(itertools.islice(rows, ROWS_SHOWN))
        table.more = sum(1 for _ in rows)
    except UNREADABLE as error:
        table.note = f"Not read to its end: {_sentence(error)}"
    return table


def _document(reader: GuardedReader | None, name: str) -> dict[str, Any]:
    try:
        found = reader.json(name) if reader is not None and reader.find(name) else {}
    except UNREADABLE:
        return {}  # its table says why
    return found if isinstance(found, dict) else {}


def _part(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _facts(reader: GuardedReader | None, verification: Verification, run: Mapping[str, Any]) -> dict[str, str]:
    """Custody: what was signed comes before what merely lies in the bundle."""
    index = reader.index if reader is not None else {}
    tool = _part(index, "tool")
    signed = {**index, **verification.predicate}
    plain = {"case": signed, "run": signed, "sealed": signed, "status": signed, "opened": run, "opened_by": run}
    facts = {name: _shown(source.get(name) or "unknown") for name, source in plain.items()}
    return {**facts, "tool": _shown(f"{tool.get('name', 'unknown')} {tool.get('version', '')}").strip()}


def _state(run: Mapping[str, Any], proof: Mapping[str, Any]) -> Row:
    source = proof or _part(run, "quarantine")
    state = str(source.get("state") or "no proof in this bundle")
    return _row(state, source.get("network") or "none", source.get("note") or "", mark=MARKS.get(state, "bad"))


def _target(reader: GuardedReader | None, run: Mapping[str, Any]) -> list[Row]:
    target = _part(reader.index if reader is not None else {}, "target") or _part(run, "target")
    moments = sorted(_part(run, "timeline").items(), key=lambda item: str(item[1]))
    rows = [_row(name.replace("_", " "), target.get(name) or "unknown") for name in ("name", "id", "image", "image_id", "engine")]  # fmt: skip
    return rows + [_row(str(name).replace("_", " "), time) for name, time in moments]


def _step(step: Mapping[str, Any]) -> Row:
    seconds = f"{float(step.get('seconds') or 0):.3f} s"
    texts = [step.get(name, "") for name in ("started", "finished", "message")]
    name, outcome = f"{step['id']}: {step.get('name', '')}", str(step["outcome"])
    return _row(outcome, name, step.get("uses", ""), texts[0], texts[1], seconds, texts[2], mark=MARKS.get(outcome, ""))


def _probe(probe: Mapping[str, Any]) -> Row:
    cells = [probe[name] for name in ("result", "direction", "path", "detail", "time")]
    return _row(*cells, f"{float(probe.get('ms') or 0):.1f} ms", mark=MARKS.get(str(probe["result"]), "bad"))


def _findings(findings: Sequence[Finding]) -> Iterator[Row]:
    """The first of each rule: what an attacker makes a thousand of must not bury another one."""
    for one, more in few(findings, EACH_SHOWN):
        yield _finding(one)
        if more:
            yield _row(
                one.severity,
                one.title,
                f"… and {more} more of {one.rule}",
                "`irkit diff BUNDLE --all` lists them",
                "",
                "",
                mark="warn",
            )


def _finding(one: Finding) -> Row:
    attack = ", ".join(one.attack)
    return _row(one.severity, one.title, one.subject, one.reason, attack, one.next, mark=MARKS.get(one.severity, ""))


def _change(one: Change) -> Row:
    target = f" → {one.after.target}" if one.after and one.after.kind == "symlink" else ""
    origin = f" ({one.origin})" if one.origin != "layer" else ""
    columns = (lambda it: f"{it.mode:04o}", lambda it: f"{it.uid}:{it.gid}", lambda it: str(it.size))
    middle = [_both(one, column) for column in columns]
    digests = [facts.sha256 or "–" if facts else "–" for facts in (one.before, one.after)]
    mark = {"deleted": "bad", "changed": "warn"}.get(one.change, "")
    return _row(one.change, one.path + target + origin, one.kind, *middle, *digests, mark=mark)


def _both(one: Change, column: Callable[[FileFacts], str]) -> str:
    values = [column(facts) for facts in (one.before, one.after) if facts is not None]
    return " → ".join(dict.fromkeys(values))


def _process(row: Mapping[str, Any]) -> Row:
    """Names and words only: the values of the environment stay in the bundle."""
    exe = row["exe"]
    marks = [word for word, name in (("deleted", "deleted"), ("in memory", "memory")) if exe[name]]
    argv = " ".join(text_from(item, "text") for item in row["argv"])
    user = " / ".join(dict.fromkeys(str(uid) for uid in row["uid"]))
    program = text_from(exe, "path")
    mark = "bad" if marks else ""
    return _row(
        ", ".join(marks), row["pid"], row["ppid"], user, argv, program, exe["sha256"], row["started"], mark=mark
    )


def _socket(row: Mapping[str, Any]) -> Row:
    pids = ", ".join(str(pid) for pid in row["pids"]) or "none"
    if "local" not in row:
        return _row(row["protocol"], row.get("path", ""), "", row["state"], pids)
    ends = [f"{row[end]} port {row[f'{end}_port']}" for end in ("local", "remote")]
    return _row(row["protocol"], *ends, row["state"], pids)


def _audited(one: Mapping[str, Any]) -> Row:
    cells = [one[name] for name in ("state", "severity", "id", "title", "subject", "evidence")]
    return _row(*cells, one["reason"] or one["fix"], mark=MARKS.get(str(one["state"]), ""))


def _vulnerable(scans: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """What the policy refuses comes first in each scan: they are sorted by severity, not by state."""
    for scan in scans:
        rows = sorted(scan["vulnerabilities"], key=lambda one: one["state"] != "refused")
        for one in rows:
            cells = [one[name] for name in ("state", "severity", "id", "package", "version")]
            by = f"{scan['scanner']} {scan['version']}, database of {scan['database_built'] or 'a day that it does not tell'}"
            mark = "bad" if one["state"] == "refused" else "dim" if one["state"] == "ignored" else ""
            yield _row(*cells, one["fixed"] or "none known", one["reason"], by, mark=mark)


def _packages(one: Mapping[str, Any]) -> Row:
    return _row(one["packages"], one["format"], one["tool"], one["image"], one["sha256"])


def _gap(row: Mapping[str, Any]) -> Row:
    return _row(row["collector"], row["what"], row["why"], mark="warn")


def _artifact(row: Mapping[str, Any]) -> Row:
    raw, stored, whole = row["raw"], row["stored"], bool(row["complete"])
    sizes = [human_size(int(one["size"])) for one in (raw, stored)]
    state = "complete" if whole else "incomplete"
    source = f"{row['source']} ({row['method']})"
    return _row(state, row["path"], source, *sizes, raw["sha256"], stored["sha256"], mark="" if whole else "warn")
