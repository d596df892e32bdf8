"""``irkit key``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli.options import json_option, passphrase_source, print_json
from irkit.errors import ExitCode, KeyProblem, UsageProblem

USES = click.Choice(["evidence", "image"])


@click.group()
def command() -> None:
    """Make, trust and list keys."""


@command.command(
    "generate",
    epilog="\b\nExamples:\n  irkit key generate\n  irkit key generate --name release --use image --passphrase",
)
@click.option("--name", default="default", show_default=True, help="The key's name here.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["p256", "ed25519"]),
    default="p256",
    show_default=True,
    help="The kind of key.",
)
@click.option(
    "--use",
    "uses",
    type=USES,
    multiple=True,
    default=("evidence",),
    show_default=True,
    help="What it may vouch for.",
)
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase.")
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the passphrase from a file's first line.",
)
@click.option("--passphrase-fd", type=int, metavar="N", help="Read the passphrase from a file descriptor.")
@json_option
def generate(
    name: str,
    kind: str,
    uses: tuple[str, ...],
    passphrase: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> int:
    """Make a key pair."""
    from irkit.evidence import keys

    secret: bytes | None = None
    if passphrase:
        secret = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode()
    elif passphrase_file or passphrase_fd is not None:
        secret = passphrase_source(passphrase_file, passphrase_fd)(name)
    if secret == b"":
        raise KeyProblem("the passphrase is empty")
    public = keys.generate(name, kind, uses, secret).public
    if as_json:
        print_json({"schema": "irkit.key/v1", **public.to_json()})
    else:
        click.echo(f"{public.name}  {public.kind}  {public.id}\n  public part: {keys.keys_folder() / (name + '.pub')}")
    return ExitCode.DONE


@command.command("list", epilog="\b\nExample:\n  irkit key list --json")
@click.option("--pem", metavar="NAME", help="Print one public key as PEM.")
@json_option
def list_(pem: str | None, as_json: bool) -> int:
    """The keys that are trusted here, and for what."""
    from irkit.evidence import keys

    found = list(keys.trusted_keys())
    if pem:
        for key in found:
            if key.name == pem:
                click.echo(key.pem.decode(), nl=False)
                return ExitCode.DONE
        raise KeyProblem(f"no key {pem!r}", hint="`irkit key list`")
    if as_json:
        print_json({"schema": "irkit.keys/v1", "keys": [key.to_json() for key in found]})
    elif not found:
        click.echo("no keys yet: `irkit key generate`", err=True)
    else:
        for key in found:
            click.echo(
                f"{key.name:<20} {key.kind:<8} {'+'.join(key.uses):<16} {'private' if key.private else 'public':<8} {key.id}"
            )
    return ExitCode.DONE


@command.command("trust", epilog="\b\nExample:\n  irkit key trust release.pub --name release --use image")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="The key's name here.")
@click.option(
    "--use",
    "uses",
    type=click.Choice(["evidence", "image", "tsa"]),
    multiple=True,
    required=True,
    help="What it may vouch for; tsa: FILE is a timestamp authority's certificate.",
)
def trust(file: Path, name: str, uses: tuple[str, ...]) -> int:
    """Trust somebody else's public key (PEM), or a timestamp authority's certificate."""
    from irkit.evidence import authorities, keys

    if "tsa" in uses:
        if uses != ("tsa",):
            raise UsageProblem("--use tsa stands alone: it takes a certificate, not a key")
        count = len(authorities.trust_authority(name, file))
        click.echo(f"{name}  timestamp authority, {count} {'certificate' if count == 1 else 'certificates'}")
        return ExitCode.DONE
    public = keys.trust(name, file.read_bytes(), uses)
    click.echo(f"{public.name}  {public.kind}  {'+'.join(public.uses)}  {public.id}")
    return ExitCode.DONE


@command.command("age", epilog="\b\nExample:\n  irkit key age -o ann.key")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new file.")
@json_option
def age(output: Path, as_json: bool) -> int:
    """Make an age identity, which opens encrypted bundles, and print its recipient.  It is written without a passphrase."""
    from irkit.evidence.age import make_identity

    recipient = make_identity(output)
    if as_json:
        print_json({"schema": "irkit.age/v1", "identity": str(output), "recipient": recipient})
    else:
        click.echo(recipient)
    return ExitCode.DONE
