"""``irkit diff``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from irkit.cli.options import engine_option, identity_option, json_option
from irkit.errors import EvidenceAltered, ExitCode
from irkit.models import Change, FileFacts, Gap
from irkit.text import printable

MARKS = {"added": ("A", "green"), "changed": ("C", "yellow"), "deleted": ("D", "red")}


@click.command(epilog="\b\nExamples:\n  irkit diff web-1\n  irkit diff ~/.local/share/irkit/cases/…/bundles/… --json")
@click.argument("subject", metavar="TARGET|BUNDLE")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this public key for the bundle.",
)
@identity_option
@engine_option
@json_option
def command(subject: str, key: Path | None, identity: tuple[Path, ...], engine: str | None, as_json: bool) -> int:
    """What was added, changed and deleted since the image, with type, mode, owner, size and sha256 before and after.

    Of a container (live, frozen or stopped), or of a bundle, offline, after verifying it. A container's tmpfs is part
    of it.
    """
    gaps: list[Gap] = []
    changes = (
        _of_bundle(Path(subject), key, identity, gaps)
        if "/" in subject or Path(subject).exists()
        else _of_container(subject, engine, gaps)
    )
    (_print_json if as_json else _print)(subject, changes, gaps)
    return ExitCode.GAPS if gaps else ExitCode.DONE


def _of_bundle(path: Path, key: Path | None, identity: tuple[Path, ...], gaps: list[Gap]) -> Iterator[Change]:
    from irkit.compare.findings import bundle_changes
    from irkit.evidence.age import identities_from
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.verify import verify_bundle

    identities = identities_from(identity)
    known = [public_from_file(key)] if key else trusted_keys("evidence")
    found = verify_bundle(path, known, identities=identities)
    if not found.ok:
        first = found.problems[0]
        raise EvidenceAltered(
            f"the bundle does not verify: {first.file}: {first.problem}",
            hint="`irkit bundle verify` lists all problems",
        )
    reader = BundleReader(path, identities)
    gaps += [Gap(**one) for one in reader.index["gaps"] if one["collector"] in ("filesystem", "tmpfs")]
    return bundle_changes(reader)


def _of_container(name: str, engine_url: str | None, gaps: list[Gap]) -> Iterator[Change]:
    from irkit.acquire.filesystem import bound, live_changes
    from irkit.acquire.host import HostView, locate
    from irkit.acquire.layers import find_layers
    from irkit.engine.connect import open_engine

    container = open_engine(engine_url).container(name)
    view = locate(container)
    if isinstance(view, str):
        gaps.append(Gap("tmpfs", container.name, view))
    seen = view if isinstance(view, HostView) else None

    def note(path: str, why: str) -> None:
        gaps.append(Gap("filesystem", path, why))

    return live_changes(find_layers(container, seen), seen, note, bound(container))


def _print_json(subject: str, changes: Iterable[Change], gaps: list[Gap]) -> None:
    """One object, written as it is found: memory stays flat."""
    sys.stdout.write(f'{{"schema": "irkit.diff/v1", "subject": {json.dumps(subject)}, "changes": [')
    for number, change in enumerate(changes):
        sys.stdout.write(("," if number else "") + "\n " + json.dumps(change.to_json()))
    sys.stdout.write(f'\n], "gaps": {json.dumps([gap.to_json() for gap in gaps])}}}\n')


def _print(subject: str, changes: Iterable[Change], gaps: list[Gap]) -> None:
    counts = dict.fromkeys(MARKS, 0)
    for change in changes:
        counts[change.change] += 1
        mark, colour = MARKS[change.change]
        where = " (tmpfs)" if change.origin == "tmpfs" else ""
        click.echo(f"{click.style(mark, fg=colour)} {printable(change.path)}{where}  {_words(change)}")
    click.echo(f"{counts['added']} added, {counts['changed']} changed, {counts['deleted']} deleted", err=True)
    for gap in gaps:
        click.echo(f"  gap: {printable(gap.what)}: {printable(gap.why)}", err=True)


def _words(change: Change) -> str:
    if change.before is None or change.after is None:
        facts = change.after or change.before
        return _facts(facts) if facts else ""
    pairs = [
        (name, getattr(change.before, name), getattr(change.after, name))
        for name in ("kind", "mode", "uid", "gid", "size", "target")
    ]
    words = [
        f"{name} {_value(name, before)} → {_value(name, after)}" for name, before, after in pairs if before != after
    ]
    if change.before.sha256 != change.after.sha256:
        words.append(f"sha256 {change.before.sha256[:12] or '-'} → {change.after.sha256[:12] or '-'}")
    return ", ".join(words) or "times or attributes"


def _value(name: str, value: object) -> str:
    return f"{value:04o}" if name == "mode" and isinstance(value, int) else printable(str(value))


def _facts(facts: FileFacts) -> str:
    words = [facts.kind, f"{facts.mode:04o}", f"{facts.uid}:{facts.gid}"]
    if facts.kind == "file":
        words += [f"{facts.size} B", f"sha256 {facts.sha256[:12] or 'unknown'}"]
    if facts.kind == "symlink":
        words.append(f"→ {printable(facts.target)}")
    return " ".join(words)
