"""``irkit drill``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from irkit import resources
from irkit.cli.options import engine_option, json_option, print_json
from irkit.errors import ExitCode
from irkit.text import printable

EPILOG = """\b
Examples:
  irkit drill list
  irkit drill run first-light
  irkit drill run first-light --json > drill.json
"""


@click.group()
def command() -> None:
    """Play a staged, benign compromise, and see whether irkit finds all of it."""


@command.command("list", epilog="\b\nExample:\n  irkit drill list")
@json_option
def list_scenarios(as_json: bool) -> None:
    """The scenarios: your own, and the shipped ones."""
    from irkit.drill.scenario import KIND, load_scenario

    scenarios = [load_scenario(path) for path in resources.every(KIND)]
    if as_json:
        rows = [
            {
                "id": one.id,
                "name": one.name,
                "description": one.description,
                "simulations": len(one.simulations),
            }
            for one in scenarios
        ]
        print_json({"schema": "irkit.drills/v1", "scenarios": rows})
        return
    for one in scenarios:
        click.echo(f"{one.id:<16} {printable(one.name)}: {printable(one.description)} ({len(one.simulations)} traces)")


@command.command(epilog=EPILOG)
@click.argument("scenario")
@click.option("--keep", is_flag=True, help="Leave the containers and networks for a look; the next drill removes them.")
@engine_option
@json_option
def run(scenario: str, engine: str | None, keep: bool, as_json: bool) -> int:
    """Play SCENARIO, a name or a file, with irkit's own commands.

    A service of the drill's own is compromised harmlessly, contained, examined and rebuilt. Nothing but what carries
    the drill's label is touched. Exit code 0: all found, all checks held, all commands did their work; 3: not so.
    """
    from irkit.drill.play import Drill, play
    from irkit.drill.scenario import KIND, load_scenario
    from irkit.engine.connect import open_engine

    def say(text: str) -> None:
        click.echo(text, err=as_json)

    loaded = load_scenario(resources.find(KIND, scenario))
    opened = open_engine(engine)
    home = Path(tempfile.mkdtemp(prefix="irkit-drill-"))
    say(f"drill {loaded.id}: {printable(loaded.name)}, on {opened.endpoint}; IRKIT_HOME {home}")
    played = Drill(loaded, opened, engine, say, home)
    done = False
    try:
        outcome = play(played, keep)
        done = True
    finally:
        if not done:
            show_paths(home, played.bundle, played.report, say)
    if as_json:
        print_json(outcome)
    show(outcome, say)
    return ExitCode.DONE if outcome["passed"] else ExitCode.CHECK_FAILED


def show(outcome: Mapping[str, Any], say: Any) -> None:
    """The score; its last line is what scripts look for."""
    for row in outcome["staged"]:
        mark = click.style("✓", fg="green") if row["found"] else click.style("✗", fg="red")
        say(f"  {mark} {row['id']:<20} {row['technique']:<10} {row['rule']}")
    for check in outcome["checks"]:
        mark = click.style("✓", fg="green") if check["ok"] else click.style("✗", fg="red")
        say(f"  {mark} check {check['name']}")
    for step in outcome["commands"]:
        if not step["ok"]:
            say(f"  {click.style('✗', fg='red')} exit code {step['exit']}: {' '.join(step['command'])}")
    show_paths(Path(outcome["home"]), outcome["bundle"] or "", outcome["report"] or "", say)
    say(last_line(outcome))


def show_paths(home: Path, bundle: str, report: str, say: Any) -> None:
    """Where everything is."""
    for name, path in (("home", str(home)), ("bundle", bundle), ("report", report)):
        if path:
            say(f"  {name:<8} {path}")


def last_line(outcome: Mapping[str, Any]) -> str:
    """``drill first-light: 7 of 7 staged facts found``."""
    missed = f"; missed: {', '.join(outcome['missed'])}" if outcome["missed"] else ""
    return f"drill {outcome['scenario']}: {outcome['found']} of {outcome['total']} staged facts found{missed}"
