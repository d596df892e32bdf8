"""``irkit bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.cli import bundle_age, bundle_make, bundle_read, bundle_time
from irkit.cli.bundle_common import authorities, tsa_option
from irkit.cli.custody import custody
from irkit.cli.options import identity_option, json_option, print_json
from irkit.errors import ExitCode
from irkit.text import human_size, printable

if TYPE_CHECKING:
    from irkit.evidence.verify import Verification


@click.group()
def command() -> None:
    """Make, verify and show evidence bundles: folders, or tar files of them."""


@command.command(
    "verify",
    epilog="\b\nExamples:\n  irkit bundle verify BUNDLE\n  irkit bundle verify BUNDLE --key responder.pub --json",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this public key, and only it.",
)
@click.option("--expect-head", default="", metavar="DIGEST", help="The chain of custody must end here.")
@tsa_option
@identity_option
@json_option
def verify(
    path: Path, key: Path | None, expect_head: str, tsa_cert: Path | None, identity: tuple[Path, ...], as_json: bool
) -> int:
    """Check that nothing in the bundle at PATH was altered, dropped or added since a trusted key sealed it.

    An encrypted bundle is verified without being read; with --identity the bundle inside is verified too.
    """
    from irkit.evidence.age import identities_from
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.verify import claimed_key, verify_bundle

    known = [public_from_file(key)] if key else trusted_keys("evidence")
    found = verify_bundle(path, known, expect_head, identities_from(identity), authorities(tsa_cert))
    if as_json:
        print_json(found.to_json())
    elif found.ok:
        click.echo(
            f"{click.style('VERIFIED', fg='green')}  {found.files} files, {human_size(found.size)}, {found.status}"
        )
        click.echo(f"  sealed {found.sealed} by {found.key_name} ({found.key})\n  {found.digest}")
        click.echo(f"  {_when(found)}")
        if "encrypted_from" in found.predicate and not identity:
            click.echo("  encrypted: the bundle inside was not opened; --identity FILE verifies it too")
        if found.hand_overs:
            click.echo(f"  {found.hand_overs} hand-overs, head {found.custody_head}")
    else:
        click.echo(click.style(f"NOT VERIFIED: {len(found.problems)} problems", fg="red"))
        for problem in found.problems:
            click.echo(f"  {printable(problem.file)}: {printable(problem.problem)}")
        if not found.key and (claimed := claimed_key(path)):
            click.echo(
                f"  hint: the seal claims the key {printable(claimed)}; give its public part with --key, or `irkit key trust`",
                err=True,
            )
    return ExitCode.DONE if found.ok else ExitCode.CHECK_FAILED


def _when(found: Verification) -> str:
    """How the time of the seal is known."""
    if found.stamp.state == "valid":
        return f"a timestamp proves that it was sealed by {found.stamp.time}"
    if found.stamp.state == "unchecked":
        return f"its timestamp says {found.stamp.time}, unchecked: {found.stamp.why}"
    return "when it was sealed is the responder's own claim: there is no timestamp"


@command.command("list", epilog="\b\nExample:\n  irkit bundle list BUNDLE")
@click.argument("path", type=click.Path(path_type=Path))
@identity_option
@json_option
def list_(path: Path, identity: tuple[Path, ...], as_json: bool) -> int:
    """What the bundle at PATH holds, and its gaps.  Nothing is verified by this."""
    from irkit.evidence.age import identities_from
    from irkit.evidence.reader import BundleReader

    index = BundleReader(path, identities_from(identity)).index
    if as_json:
        print_json(index)
        return ExitCode.DONE
    for row in index["artifacts"]:
        click.echo(
            f"{row['raw']['size']:>12}  {row['raw']['sha256'][:12]}  {printable(row['path'])}  {printable(row['source'], 60)}"
        )
    for gap in index["gaps"]:
        click.echo(f"gap: {printable(gap['collector'])}: {printable(gap['what'])}: {printable(gap['why'])}")
    return ExitCode.DONE


for one in (
    bundle_make.create,
    bundle_read.show,
    bundle_read.cat,
    bundle_read.extract,
    bundle_age.encrypt,
    bundle_age.decrypt,
    bundle_time.timestamp,
    custody,
):
    command.add_command(one)
