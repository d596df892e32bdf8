"""``irkit release``."""

from __future__ import annotations

import click

from irkit.cases import Case
from irkit.cli.options import catching_signals, engine_option, json_option, print_json, show_event
from irkit.cli.running import RunConfig, run_playbook
from irkit.engine.interface import Container
from irkit.errors import EngineError, ExitCode, Refused
from irkit.quarantine.release import compare
from irkit.quarantine.state import SavedState
from irkit.text import printable


@click.command(
    epilog="\b\nExamples:\n  irkit release web-1\n  irkit release web-1 --force    # although its evidence is not sealed"
)
@click.argument("target")
@click.option("--force", is_flag=True, help="Release although the case has no sealed evidence.")
@engine_option
@json_option
def command(target: str, force: bool, engine: str | None, as_json: bool) -> int:
    """Give TARGET its former networks, addresses, aliases and restart policy back, and thaw it.

    What differs afterwards from what was saved is listed, with exit code 4.
    """

    def admit(case: Case | None, container: Container) -> None:
        if case is None or case.read_json("quarantine.json") is None:
            raise Refused(f"{container.name} is not contained by irkit", hint="`irkit case list` shows what is")
        if not case.bundles and not force:
            raise Refused(
                f"the case {case.id} has no sealed evidence yet",
                hint=f"`irkit contain {container.name} --again`, or --force",
            )

    with catching_signals() as signals:
        finished = run_playbook(
            RunConfig(target, "release", engine, "", lambda name: None, show_event, {}, needs_key=False),
            signals,
            admit,
        )
    if finished.outcome.error is not None:
        raise finished.outcome.error
    context = finished.context
    raw = context.case.read_json("quarantine.json")
    differences = compare(SavedState.from_json(raw), context.engine.container(context.target.id)) if raw else []
    context.case.with_state("released")
    network = f"irkit-{context.case.id}"
    try:
        context.engine.remove_network(network)
    except EngineError as error:
        if error.status != 404:
            differences.append(f"the quarantine network {network} could not be removed: {error.message}")
    if as_json:
        print_json({**finished.to_json(), "schema": "irkit.release/v1", "differences": differences})
    for difference in differences:
        click.echo(f"  differs: {printable(difference)}", err=True)
    click.echo(
        f"{context.target.name} is released"
        + (f", with {len(differences)} differences" if differences else ", exactly as it was"),
        err=as_json,
    )
    return ExitCode.GAPS if differences else ExitCode.DONE
