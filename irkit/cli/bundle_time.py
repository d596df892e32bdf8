"""``irkit bundle timestamp``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli.bundle_common import authorities, key_option, tsa_option
from irkit.cli.options import json_option, print_json
from irkit.errors import ExitCode


@click.command(
    "timestamp",
    epilog="\b\nExamples:\n  irkit bundle timestamp BUNDLE --tsa https://tsa.example/ --tsa-cert root.pem\n"
    "  irkit bundle verify BUNDLE --tsa-cert root.pem",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--tsa", required=True, metavar="URL", help="The timestamp authority (RFC 3161 over HTTP).")
@click.option("--replace", is_flag=True, help="In place of the timestamp that is there; an earlier one proves more.")
@tsa_option
@key_option
@json_option
def timestamp(path: Path, tsa: str, replace: bool, tsa_cert: Path | None, key: Path | None, as_json: bool) -> int:
    """Have an authority state when the bundle at PATH was sealed at the latest; the bundle is verified first.

    Only the seal's signature goes to the authority, as a digest. When it can't be reached the bundle stays as it was.
    """
    from irkit.evidence import handling
    from irkit.evidence.authorities import trusted_authorities
    from irkit.evidence.keys import public_from_file, trusted_keys

    roots = authorities(tsa_cert) or trusted_authorities()
    known = [public_from_file(key)] if key else list(trusted_keys("evidence"))
    written = handling.timestamp(path, tsa, known, roots, replace=replace)
    if as_json:
        print_json(
            {
                "schema": "irkit.timestamp/v1",
                "path": str(path),
                "digest": written.digest,
                "timestamp": written.stamp.to_json(),
            }
        )
    else:
        state = (
            "checked"
            if written.stamp.state == "valid"
            else "not checked: no certificate of the authority is trusted here"
        )
        click.echo(f"{written.stamp.time}  {state}")
    return ExitCode.DONE
