"""``irkit release``."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import click

from irkit import cases
from irkit.actions.inside import TAKEN_DOWN
from irkit.cases import Case
from irkit.cli.options import catching_signals, engine_option, json_option, print_json, show_event
from irkit.cli.running import Finished, RunConfig, run_playbook
from irkit.engine.connect import open_engine
from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError, ExitCode, IrkitError, NotFound, Refused, UsageProblem
from irkit.quarantine.release import clear_away, compare, leftovers, planned, relays, remove_lapsed_relays
from irkit.quarantine.state import SavedState
from irkit.text import printable

EPILOG = """\b
Examples:
  irkit release web-1
  irkit release web-1 --dry-run        # say what it would do
  irkit release web-1 --force          # although its evidence is not sealed
  irkit release --leftovers            # networks, firewall tables and replacements that nothing needs any more
"""


@click.command(epilog=EPILOG)
@click.argument("target", required=False)
@click.option("--force", is_flag=True, help="Release although the case has no sealed evidence.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--leftovers", "clear", is_flag=True, help="Remove what irkit left on this engine and nothing needs.")
@engine_option
@json_option
def command(target: str | None, force: bool, dry_run: bool, clear: bool, engine: str | None, as_json: bool) -> int:
    """Give TARGET its former networks, addresses, aliases and restart policy back, and thaw it.

    What differs afterwards from what was saved is listed, with exit code 4.
    """
    if clear == bool(target):
        raise UsageProblem("name a TARGET, or give --leftovers", hint="`irkit release --help`")
    if clear:
        return _clear(engine, dry_run, as_json)
    assert target is not None  # noqa: S101 - see above

    def admit(case: Case | None, container: Container) -> None:
        if case is None or case.read_json("quarantine.json") is None:
            raise Refused(f"{container.name} is not contained by irkit", hint="`irkit case list` shows what is")
        if not case.bundles and not force:
            raise Refused(
                f"the case {case.id} has no sealed evidence yet",
                hint=f"`irkit contain {container.name} --again`, or --force",
            )

    if dry_run:
        return _dry_run(target, engine, admit, as_json)
    with catching_signals() as signals:
        config = RunConfig(target, "release", engine, "", lambda name: None, show_event, {}, needs_key=False)
        finished = run_playbook(config, signals, admit)
    if finished.outcome.error is not None:
        raise finished.outcome.error
    differences = _differences(finished)
    if as_json:
        print_json({**finished.to_json(), "schema": "irkit.release/v1", "differences": differences})
    for difference in differences:
        click.echo(f"  differs: {printable(difference)}", err=True)
    counted = f"{len(differences)} {'difference' if len(differences) == 1 else 'differences'}"
    click.echo(
        f"{printable(finished.context.target.name)} is released"
        + (f", with {counted}" if differences else ", exactly as it was"),
        err=as_json,
    )
    return ExitCode.GAPS if differences else ExitCode.DONE


def _differences(finished: Finished) -> list[str]:
    """What is not as it was, and what could not be cleared away."""
    context = finished.context
    saved = SavedState.from_json(context.case.read_json("quarantine.json") or {})
    holder = context.engine.container(saved.holder_id)
    found = compare(saved, context.engine.container(context.target.id), holder)
    return found + [one for one in context.facts.result.get("problems", ()) if one not in found]


def _dry_run(target: str, engine: str | None, admit: object, as_json: bool) -> int:
    opened = open_engine(engine)
    container = opened.container(target)
    case = cases.active_case(container.id)
    if callable(admit):
        admit(case, container)
    assert case is not None  # noqa: S101 - admitted
    steps = planned(opened, SavedState.from_json(case.read_json("quarantine.json") or {}), container, case.id)
    down = (case.read_json(TAKEN_DOWN) or {}).get("interfaces", ())
    steps += [f"set the interface {row['name']} of its namespace up again" for row in down]
    if as_json:
        print_json({"schema": "irkit.release/v1", "case": case.id, "dry_run": True, "planned": steps})
    else:
        click.echo(f"irkit would, for {printable(container.name)} (case {case.id}):")
        for step in steps:
            click.echo(f"  {printable(step)}")
    return ExitCode.DONE


def _clear(engine: str | None, dry_run: bool, as_json: bool) -> int:
    opened = open_engine(engine)
    there = relays()
    replacements, waiting, problems = _never_served(opened, remove=not dry_run)
    found = leftovers(opened, lambda case: _holds(opened, case), there.in_use)
    kept = {} if dry_run else _cleared(opened, found, there.lapsed)
    problems += [problem for several in kept.values() for problem in several]
    document = {
        "cases": found,
        "relays": there.lapsed,
        "relays_in_use": there.in_use,
        "replacements": replacements,
        "waiting": waiting,
        "problems": problems,
    }
    if as_json:
        print_json({"schema": "irkit.leftovers/v1", "dry_run": dry_run, **document})
    else:
        done = "would remove" if dry_run else "removed"
        for what, names in ((LEFT, found), (RULES, there.lapsed)):
            for case in names:
                click.echo(f"{'could not remove all of' if (what, case) in kept else done} {what} of {printable(case)}")
        for name in replacements:
            click.echo(f"{done} the container {printable(name)}, which a failover made and which never served")
        if not found and not there.lapsed and not replacements:
            click.echo("nothing is left over", err=True)
    for case in there.in_use:
        click.echo(f"  a run of {printable(case)} still relays connections: left alone", err=True)
    for name in waiting:
        click.echo(f"  {printable(name)} is ready to take over: left for `irkit resume`", err=True)
    for problem in problems:
        click.echo(f"  {printable(problem)}", err=True)
    return ExitCode.GAPS if problems else ExitCode.DONE


LEFT, RULES = "what was left", "the lapsed rules of a relay"


def _cleared(engine: Engine, found: list[str], lapsed: list[str]) -> dict[tuple[str, str], list[str]]:
    """The problems of each that is not gone."""
    kept = {(LEFT, case): problems for case in found if (problems := clear_away(engine, case))}
    try:
        if lapsed:
            remove_lapsed_relays()
    except EngineError as error:
        kept |= {
            (RULES, case): [f"the rules of a lapsed relay could not be removed: {error.message}"] for case in lapsed
        }
    return kept


def _holds(engine: Engine, case_id: str) -> bool:
    """Whether a case of this home still holds a container that exists, or a run of it is about to.

    One that is not known here does not; nor does one whose run was killed before it contained anything.
    """
    try:
        case = cases.load_case(case_id)
        if case.state not in cases.OPEN_STATES or not engine.container(case.target.id).id:
            return False
        return case.read_json("quarantine.json") is not None or cases.under_way(case.target.id)
    except IrkitError:
        return False


class _Replacements(NamedTuple):
    """Of killed failovers of this home, which froze nothing: removed; ready to take over, so left for a resume; problems."""

    removed: list[str]
    waiting: list[str]
    problems: list[str]


def _never_served(engine: Engine, remove: bool) -> _Replacements:
    told = _Replacements([], [], [])
    for case in cases.list_cases():
        try:
            _replacement(engine, case, remove, told)
        except IrkitError as error:
            told.problems.append(f"what a failover has left of {case.id} could not be removed: {error.message}")
    return told


def _replacement(engine: Engine, case: Case, remove: bool, told: _Replacements) -> None:
    """The one of a case, if it is there and no run of the case goes on.  A run is not resumed without its target."""
    from irkit.recover.failover import Names, discard

    record = case.read_json("failover.json") if case.state == "open" else None
    if record is None or case.read_json("quarantine.json") is not None or cases.under_way(case.target.id):
        return
    name, made = Names.of(case.target.name, case.id).temporary, str(record.get("id"))
    try:
        if engine.container(name).id != made:
            return
    except NotFound:
        return
    if record.get("ready"):
        with contextlib.suppress(NotFound):
            engine.container(case.target.id)
            told.waiting.append(name)
            return
    if remove:
        discard(engine, name, made, "")
    told.removed.append(name)
