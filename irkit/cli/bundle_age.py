"""``irkit bundle encrypt`` and ``decrypt``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.cli.bundle_common import is_free, key_option
from irkit.cli.options import identity_option, json_option, passphrase_source, print_json, signing_options
from irkit.errors import ExitCode, UsageProblem
from irkit.text import human_size

if TYPE_CHECKING:
    from irkit.evidence.keys import PublicKey
    from irkit.evidence.verify import Verification


@click.command(
    "encrypt",
    epilog="\b\nExamples:\n  irkit bundle encrypt BUNDLE --recipient age1… -o encrypted\n"
    "  irkit bundle encrypt BUNDLE --recipient team.txt --recipient ~/.ssh/ann.pub -o encrypted.tar",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--recipient", "recipients", multiple=True, required=True, metavar="AGE|SSH|FILE",
    help="Who can read it: age1…, an ssh public key, or a file with one a line.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder, or a new file FILE.tar."
)
@signing_options
@json_option
def encrypt(
    path: Path, recipients: tuple[str, ...], output: Path, key: str, passphrase_file: Path | None, passphrase_fd: int | None, as_json: bool
) -> int:  # fmt: skip
    """Encrypt the bundle at PATH, after it was verified, into a new bundle that your key seals.

    Anybody can verify the new bundle without being able to read it. The bundle at PATH stays: remove it yourself.
    """
    from irkit.evidence import age, handling
    from irkit.evidence.keys import load_signer, trusted_keys

    is_free(output)
    to = age.recipients_from(recipients)
    signer = load_signer(key, "evidence", passphrase_source(passphrase_file, passphrase_fd))
    digest, written = handling.encrypt(path, output, to, signer, trusted_keys("evidence"))
    return _done("irkit.encrypted/v1", output, written, as_json, {"recipients": len(to), "plain_digest": digest})


@click.command("decrypt", epilog="\b\nExample:\n  irkit bundle decrypt encrypted.tar --identity ann.key -o plain")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
@key_option
@identity_option
@json_option
def decrypt(path: Path, output: Path, key: Path | None, identity: tuple[Path, ...], as_json: bool) -> int:
    """Give the plain bundle back, to the byte, out of the encrypted one at PATH; both are verified."""
    from irkit.evidence import age
    from irkit.evidence.handling import as_written, verified
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.store import open_store
    from irkit.evidence.verify import verify_bundle

    is_free(output)
    if not identity:
        raise UsageProblem("--identity is missing", hint="--identity FILE names an age identity or an ssh private key")
    identities = age.identities_from(identity)
    known: list[PublicKey] = [public_from_file(key)] if key else list(trusted_keys("evidence"))
    verified(verify_bundle(path, known), "decrypted")
    if not age.is_encrypted(open_store(path)):
        raise UsageProblem(f"{path} is not encrypted")
    verified(verify_bundle(path, known, identities=identities), "decrypted")
    age.copy_out(open_store(path, identities), output)
    return _done("irkit.decrypted/v1", output, as_written(verify_bundle(output, known)), as_json, {})


def _done(schema: str, output: Path, found: Verification, as_json: bool, more: dict[str, object]) -> int:
    if as_json:
        print_json({"schema": schema, "path": str(output), "digest": found.digest, "status": found.status, **more})
    else:
        click.echo(f"{output}\n  {found.files} files, {human_size(found.size)}, {found.status}\n  {found.digest}")
    return ExitCode.DONE
