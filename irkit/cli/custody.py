"""``irkit bundle custody``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli.options import json_option, passphrase_source, print_json, signing_options
from irkit.errors import ExitCode
from irkit.text import printable


@click.group("custody")
def custody() -> None:
    """Who handed a sealed bundle over to whom, when and why."""


@custody.command(
    "add",
    epilog='\b\nExample:\n  irkit bundle custody add BUNDLE --to "Ann Lee, forensics" --why "analysis of case 12"',
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--to", required=True, help="Who receives it.")
@click.option("--why", required=True, help="What for.")
@click.option("--from", "giver", default="", help="Who hands it over.  [default: you]")
@signing_options
@json_option
def add(
    path: Path, to: str, why: str, giver: str, key: str, passphrase_file: Path | None, passphrase_fd: int | None, as_json: bool
) -> int:  # fmt: skip
    """Sign a hand-over of the bundle at PATH, after the bundle was verified; the chain's new head is printed.

    Write the head down elsewhere: a chain that is cut at its end can be told by it alone.
    """
    from irkit.evidence.custody import hand_over
    from irkit.evidence.handling import verified
    from irkit.evidence.keys import load_signer, trusted_keys
    from irkit.evidence.verify import verify_bundle

    signer = load_signer(key, "evidence", passphrase_source(passphrase_file, passphrase_fd))
    keys = list(trusted_keys("evidence"))
    verified(verify_bundle(path, keys), "added")
    entry = hand_over(path, signer, keys, to=to, why=why, giver=giver)
    if as_json:
        print_json({"schema": "irkit.custody/v1", "head": entry.digest, "entries": [entry.to_json()]})
    else:
        click.echo(
            f"{entry.seq}  {entry.time}  {printable(entry.giver)} → {printable(entry.receiver)}\n  head {entry.digest}"
        )
    return ExitCode.DONE


@custody.command("show", epilog="\b\nExample:\n  irkit bundle custody show BUNDLE --expect-head sha256:…")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--expect-head", default="", metavar="DIGEST", help="The chain must end here.")
@json_option
def show(path: Path, expect_head: str, as_json: bool) -> int:
    """The hand-overs of the bundle at PATH whose signatures hold.  The bundle itself is not verified by this."""
    from irkit.errors import CheckFailed, UsageProblem
    from irkit.evidence import names
    from irkit.evidence.custody import Chain, load, read_chain
    from irkit.evidence.keys import trusted_keys
    from irkit.evidence.store import open_store, read_small

    store = open_store(path)
    try:
        seal = read_small(store, names.SEAL)
    except CheckFailed:
        raise UsageProblem(f"{path} holds no sealed bundle") from None
    try:
        chain = read_chain(load(store), seal, list(trusted_keys("evidence")), expect_head)
    except CheckFailed as error:
        chain = Chain(problems=(error.message,))
    if as_json:
        print_json(
            {
                "schema": "irkit.custody/v1", "head": chain.head, "entries": [one.to_json() for one in chain.entries],
                "problems": list(chain.problems),
            }
        )  # fmt: skip
        return ExitCode.CHECK_FAILED if chain.problems else ExitCode.DONE
    for one in chain.entries:
        click.echo(f"{one.seq}  {one.time}  {printable(one.giver)} → {printable(one.receiver)}: {printable(one.why)}")
        click.echo(f"   signed by {one.key_name}  {one.digest}")
    if not chain.entries and not chain.problems:
        click.echo("no hand-overs", err=True)
    for problem in chain.problems:
        click.echo(f"{names.CUSTODY}: {printable(problem)}")
    return ExitCode.CHECK_FAILED if chain.problems else ExitCode.DONE
