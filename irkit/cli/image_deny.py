"""``irkit image deny``."""

from __future__ import annotations

import click

from irkit.cli.options import json_option, print_json
from irkit.errors import ExitCode, UsageProblem
from irkit.text import printable


@click.command(
    "deny",
    epilog="\b\nExamples:\n  irkit image deny sha256:9f86d0… --why 'cryptominer, case 20261126-7'\n  irkit image deny",
)
@click.argument("digests", nargs=-1, metavar="[DIGEST]...")
@click.option("--why", default="", metavar="TEXT", help="Kept with it, and shown when it is met.")
@click.option("--remove", is_flag=True, help="Allow these digests again.")
@json_option
def deny(digests: tuple[str, ...], why: str, remove: bool, as_json: bool) -> int:
    """Never trust an image again that has DIGEST as its index, manifest, configuration or a layer; without one, list them."""
    from irkit.trust import denied

    if remove and not digests:
        raise UsageProblem("which digests?", hint="`irkit image deny` lists them")
    if remove:
        rows = denied.remove(digests)
    elif digests:
        rows = denied.add(digests, why)
    else:
        rows = list(denied.load().values())
    if as_json:
        print_json({"schema": "irkit.denied/v1", "path": str(denied.path()), "denied": [one.to_json() for one in rows]})
    else:
        for one in rows:
            click.echo(f"{one.digest}  {'allowed again' if remove else one.time}  {printable(one.why)}".rstrip())
    return ExitCode.DONE
