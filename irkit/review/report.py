"""One self-contained HTML page from a bundle: no script, no outside request, everything escaped twice.

Control characters are escaped by :func:`irkit.text.printable`, markup by jinja2's autoescape.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from irkit.compare.findings import bundle_changes, bundle_findings
from irkit.errors import IrkitError
from irkit.evidence.keys import PublicKey
from irkit.evidence.reader import BundleReader
from irkit.evidence.verify import Verification, verify_bundle
from irkit.models import FileFacts
from irkit.text import human_size, printable, text_from

CHANGES_SHOWN = 2000
ROWS_SHOWN = 2000


def write_report(bundle: Path, keys: Iterable[PublicKey], output: Path) -> Verification:
    """Verify ``bundle`` and write the page; a bundle that does not verify gets one too, and it says so."""
    verification = verify_bundle(bundle, keys)
    page = render(verification, _contents(bundle))
    output.write_text(page, encoding="utf-8")
    return verification


def render(verification: Verification, contents: dict[str, Any]) -> str:
    """The page."""
    template = files("irkit.review").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, loader=DictLoader({"report": template}), undefined=StrictUndefined)
    environment.filters["shown"] = lambda value: printable(str(value))
    environment.filters["size"] = lambda value: human_size(int(value))
    return environment.get_template("report").render(verification=verification, **contents)


def _contents(bundle: Path) -> dict[str, Any]:
    """What the bundle says; a part that can't be read is told, never passed over."""
    contents: dict[str, Any] = {
        "index": {"artifacts": [], "gaps": []}, "run": {}, "proof": {}, "processes": [], "sockets": [], "findings": [],
        "changes": [], "more_changes": 0, "calls": 0, "unreadable": [],
    }  # fmt: skip
    try:
        reader = BundleReader(bundle)
    except IrkitError as error:
        contents["unreadable"].append(error.message)
        return contents
    contents["index"] = reader.index
    parts = {
        "run": lambda: _json(reader, "run/run.json", {}), "proof": lambda: _json(reader, "quarantine/proof.json", {}),
        "processes": lambda: [_process(row) for row in _json(reader, "process/processes.json", [])[:ROWS_SHOWN]],
        "sockets": lambda: _json(reader, "network/sockets.json", [])[:ROWS_SHOWN], "findings": lambda: bundle_findings(reader),
        "calls": lambda: sum(1 for _ in reader.lines("run/engine-calls.jsonl")),
    }  # fmt: skip
    for name, read in parts.items():
        try:
            contents[name] = read()
        except (IrkitError, KeyError, TypeError, ValueError) as error:
            contents["unreadable"].append(f"{name}: {error}")
    try:
        contents["changes"], contents["more_changes"] = _changes(reader)
    except (IrkitError, KeyError, TypeError, ValueError) as error:
        contents["unreadable"].append(f"changes: {error}")
    return contents


def _json(reader: BundleReader, name: str, default: Any) -> Any:
    return reader.json(name) if reader.find(name) else default


def _process(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "pid": row["pid"], "ppid": row["ppid"], "uid": row["uid"][:1], "started": row["started"],
        "argv": " ".join(text_from(item, "text") for item in row["argv"]), "exe": text_from(row["exe"], "path"),
        "deleted": row["exe"]["deleted"], "memory": row["exe"]["memory"], "sha256": row["exe"]["sha256"],
    }  # fmt: skip


def _changes(reader: BundleReader) -> tuple[list[dict[str, str]], int]:
    """The first ones, and how many more there are: memory stays flat."""
    rows: Iterator[Any] = bundle_changes(reader)
    shown = [
        {
            "path": one.path,
            "change": one.change,
            "kind": one.kind,
            "origin": one.origin,
            "before": _facts(one.before),
            "after": _facts(one.after),
        }
        for one in itertools.islice(rows, CHANGES_SHOWN)
    ]
    return shown, sum(1 for _ in rows)


def _facts(facts: FileFacts | None) -> str:
    if facts is None:
        return "—"
    words = f"{facts.mode:04o} {facts.uid}:{facts.gid}"
    if facts.kind == "file":
        words += f" {facts.size} B {facts.sha256[:16] or 'no digest'}"
    return f"{words} → {facts.target}" if facts.kind == "symlink" else words
