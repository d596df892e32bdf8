"""``irkit diff``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.cli.diff_progress import Progress
from irkit.cli.diff_sides import Opening, Side, as_one, opened, same_image, save
from irkit.cli.options import engine_option, identity_option, json_option, passphrase_source
from irkit.errors import ExitCode, UsageProblem
from irkit.models import SEVERITIES

if TYPE_CHECKING:
    from irkit.compare.comparison import Comparison, Row
    from irkit.compare.rules import Timings

FORMATS = ("table", "json", "sarif", "csv", "unified")
EPILOG = """\b
Examples:
  irkit diff web-1                              # a container against its image, and what it means
  irkit diff BUNDLE --format unified            # a bundle, offline: the texts that changed, line by line
  irkit diff web-1 --save-baseline good.tar     # what it is like now …
  irkit diff web-1 --against good.tar           # … and what is different since
  irkit diff web-1 --against team/web:1.4.3     # against another image
  irkit diff team/web:1.4.2 --against team/web:1.4.1
  irkit diff web-1 --ioc feed.json --fail-on high --format sarif > diff.sarif
"""


@click.command(epilog=EPILOG)
@click.argument("subject", metavar="TARGET|BUNDLE|IMAGE")
@click.option(
    "--against", metavar="WHAT", help="A container, bundle, baseline or image instead of SUBJECT's own image."
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
)
@click.option("--all", "everything", is_flag=True, help="List every change, those that are folded as noise, too.")
@click.option("--names", is_flag=True, help="List the changes alone, one a line; no findings.")
@click.option(
    "--fail-on", type=click.Choice([*SEVERITIES, "never"]), default="never", show_default=True,
    help="Exit code 3 for a finding of this severity, or a worse one.",
)  # fmt: skip
@click.option(
    "--ioc", "lists", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A list of indicators: plain, CSV, STIX 2.1 or MISP.",
)  # fmt: skip
@click.option("--yara/--no-yara", default=True, help="Scan changed files by YARA rules.  [default: yara]")
@click.option("--volumes/--no-volumes", default=True, help="Read a container's volumes, too.  [default: volumes]")
@click.option(
    "--progress/--no-progress", "progress", default=None, help="Say on stderr how far it is.  [default: on a terminal]"
)  # fmt: skip
@click.option("--timings", is_flag=True, help="Say what each rule cost.")
@click.option(
    "--save-baseline", "baseline", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Seal what TARGET is like now as a bundle, for --against.",
)  # fmt: skip
@click.option(
    "--key", "trusted", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trust this public key for the bundle."
)  # fmt: skip
@click.option(
    "--seal-key",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="The private key that seals a baseline.",
)
@identity_option
@engine_option
@json_option
def command(
    subject: str, against: str | None, form: str, everything: bool, names: bool, fail_on: str, lists: tuple[Path, ...], yara: bool,
    volumes: bool, progress: bool | None, timings: bool, baseline: Path | None, trusted: Path | None, seal_key: str, identity: tuple[Path, ...],
    engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """What changed, and what it means: findings by rules, YARA and indicators, noise folded and counted.

    Of a container (live, frozen or stopped), of a bundle, offline, after verifying it, or of an image. A container's
    tmpfs, volumes and memory-only programs are part of it.
    """
    from irkit.cli.diff_output import WRITERS, Shown
    from irkit.compare.comparison import Comparison
    from irkit.compare.rules import Timings
    from irkit.compare.verdicts import Verdicts

    form = "json" if as_json else form
    how = Opening(engine, trusted, identity, volumes, Progress(progress))
    clock = Timings() if timings else None
    found = Comparison(Verdicts.load(lists, timings=clock, yara=yara), diffs=form == "unified")
    with ExitStack() as stack:
        side = stack.enter_context(opened(subject, how))
        other = stack.enter_context(opened(against, how)) if against else None
        rows = how.progress.count("judging, changes", compared(found, side, other, how, stack), total(side, other))
        WRITERS[form](rows, found, Shown(side.name, other.name if other else "its image", everything, names))
        if clock is not None:
            _print_timings(clock)
        if baseline is not None:
            from irkit.evidence.keys import load_signer

            save(side, baseline, load_signer(seal_key, "evidence", passphrase_source(None, None)))
            click.echo(f"{baseline}", err=True)
    if _failed(found, fail_on) and not names:
        return ExitCode.CHECK_FAILED
    return ExitCode.GAPS if found.gaps else ExitCode.DONE


def total(side: Side, other: Side | None) -> int:
    """How many changes there will be; 0 where only the comparison itself can tell."""
    if side.evidence is None or other is not None:
        return 0
    return side.evidence.inventory.count


def compared(found: Comparison, side: Side, other: Side | None, how: Opening, stack: ExitStack) -> Iterator[Row]:
    """The rows of one side against another, or against its own image.  Raises ``UsageProblem``."""
    if side.evidence is None and other is None:
        raise UsageProblem(f"{side.name} is an image: say what to hold it against", hint="--against IMAGE")
    if side.evidence is not None and other is None:
        return found.of_evidence(side.evidence)
    assert other is not None  # noqa: S101 - for the type only
    if side.evidence is not None and same_image(side, other):
        return found.of_evidence(side.evidence, other.evidence)
    whole = stack.enter_context(as_one(side, other, how))
    return found.of_evidence(whole, other.evidence, disk=False)


def _failed(found: Comparison, fail_on: str) -> bool:
    if fail_on == "never":
        return False
    bad = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return any(one.severity in bad for one in found.findings)


def _print_timings(clock: Timings) -> None:
    for row in clock.rows():
        click.echo(f"{row['ms']:>10} ms  {row['tried']:>8} tried  {row['findings']:>6} found  {row['rule']}", err=True)
