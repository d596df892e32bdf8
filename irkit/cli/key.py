"""``irkit key``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from irkit.cli.options import json_option, passphrase_source, print_json
from irkit.errors import ExitCode, KeyProblem, UsageProblem

if TYPE_CHECKING:
    from irkit.evidence.keys import PublicKey

USES = click.Choice(["evidence", "image", "approval", "playbook"])
Function = TypeVar("Function", bound=Callable[..., Any])


def passphrase_options(function: Function) -> Function:
    """``--passphrase``, ``--passphrase-file`` and ``--passphrase-fd`` of a new key."""
    decorators = (
        click.option("--passphrase", is_flag=True, help="Ask for a passphrase."),
        click.option(
            "--passphrase-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Read the passphrase from a file's first line.",
        ),
        click.option("--passphrase-fd", type=int, metavar="N", help="Read the passphrase from a file descriptor."),
    )
    return functools.reduce(lambda wrapped, decorate: decorate(wrapped), reversed(decorators), function)


def _secret(name: str, asked: bool, file: Path | None, descriptor: int | None) -> bytes | None:
    secret: bytes | None = None
    if asked:
        secret = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode()
    elif file or descriptor is not None:
        secret = passphrase_source(file, descriptor)(name)
    if secret == b"":
        raise KeyProblem("the passphrase is empty")
    return secret


@click.group()
def command() -> None:
    """Make, trust, rotate, revoke and list keys."""


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
@passphrase_options
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

    secret = _secret(name, passphrase, passphrase_file, passphrase_fd)
    public = keys.generate(name, kind, uses, secret).public
    if as_json:
        print_json({"schema": "irkit.key/v1", **public.to_json()})
    else:
        click.echo(f"{public.name}  {public.kind}  {public.id}\n  public part: {keys.keys_folder() / (name + '.pub')}")
    return ExitCode.DONE


@command.command(
    "import",
    epilog="\b\nExamples:\n  irkit key import cosign.key --name release --use image --passphrase-file secret",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="The key's name here.")
@click.option(
    "--use", "uses", type=USES, multiple=True, default=("evidence",), show_default=True, help="What it may vouch for."
)
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its passphrase, from a file's first line.",
)
@click.option("--passphrase-fd", type=int, metavar="N", help="Its passphrase, from a file descriptor.")
@json_option
def import_(
    file: Path, name: str, uses: tuple[str, ...], passphrase_file: Path | None, passphrase_fd: int | None, as_json: bool
) -> int:  # fmt: skip
    """Take over a private key made elsewhere: PKCS#8 (openssl), or cosign's own format. It keeps its passphrase."""
    from irkit.evidence import keys

    return _say(keys.import_key(name, file, uses, passphrase_source(passphrase_file, passphrase_fd)).public, as_json)


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
                f"{key.name:<20} {key.kind:<8} {'+'.join(key.uses):<16} {'private' if key.private else 'public':<8} {key.id}{_limits(key)}"
            )
    return ExitCode.DONE


@command.command("trust", epilog="\b\nExample:\n  irkit key trust release.pub --name release --use image")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="The key's name here.")
@click.option(
    "--use",
    "uses",
    type=click.Choice([*USES.choices, "tsa"]),
    multiple=True,
    required=True,
    help="What it may vouch for; tsa: FILE is a timestamp authority's certificate.",
)
@click.option("--valid-from", default="", metavar="TIME", help="It may vouch for what was sealed from then on.")
@click.option("--valid-until", default="", metavar="TIME", help="It may vouch for what was sealed until then.")
@json_option
def trust(file: Path, name: str, uses: tuple[str, ...], valid_from: str, valid_until: str, as_json: bool) -> int:
    """Trust somebody else's public key (PEM), or a timestamp authority's certificate."""
    from irkit.evidence import authorities, keyring, keys
    from irkit.evidence.validity import parse_time

    if "tsa" in uses:
        if uses != ("tsa",):
            raise UsageProblem("--use tsa stands alone: it takes a certificate, not a key")
        count = len(authorities.trust_authority(name, file))
        if as_json:
            print_json({"schema": "irkit.authority/v1", "name": name, "certificates": count})
        else:
            click.echo(f"{name}  timestamp authority, {count} {'certificate' if count == 1 else 'certificates'}")
        return ExitCode.DONE
    since, until = (parse_time(text) if text else "" for text in (valid_from, valid_until))
    keyring.check_limits(since, until)
    public = keys.trust(name, file.read_bytes(), uses)
    if since or until:
        public = keyring.limit(name, since, until)
    return _say(public, as_json)


def _say(public: PublicKey, as_json: bool) -> int:
    if as_json:
        print_json({"schema": "irkit.key/v1", **public.to_json()})
    else:
        click.echo(f"{public.name}  {public.kind}  {'+'.join(public.uses)}  {public.id}{_limits(public)}")
    return ExitCode.DONE


def _limits(public: PublicKey) -> str:
    """What is said of a key in a list, when anything is."""
    words = []
    if public.validity.revoked:
        words.append(f"REVOKED as of {public.validity.revoked[:19]}Z")
    if public.validity.since:
        words.append(f"from {public.validity.since[:19]}Z")
    if public.validity.until:
        words.append(f"until {public.validity.until[:19]}Z")
    return "  " + ", ".join(words) if words else ""


@command.command(
    "revoke",
    epilog='\b\nExample:\n  irkit key revoke ann --at 2026-03-01T12:00:00Z --why "her laptop was stolen"',
)
@click.argument("name")
@click.option("--at", default="", metavar="TIME", help="Since when it may have been in other hands.  [default: now]")
@click.option("--why", required=True, help="What happened.")
@json_option
def revoke(name: str, at: str, why: str, as_json: bool) -> int:
    """Revoke a key: what it signed holds only where a timestamp proves that it was sealed before that.

    The seal's own time counts for nothing then: whoever has the key can write any. Only this machine knows of it.
    """
    from irkit.clock import now
    from irkit.evidence import keyring
    from irkit.evidence.validity import parse_time

    return _say(keyring.revoke(name, parse_time(at) if at else now(), why), as_json)


@command.command(
    "rotate",
    epilog="\b\nExamples:\n  irkit key rotate\n  irkit key rotate --name default --type ed25519 --passphrase",
)
@click.option("--name", default="default", show_default=True, help="The key's name here.")
@click.option("--type", "kind", type=click.Choice(["p256", "ed25519"]), help="The kind of key.  [default: as before]")
@passphrase_options
@json_option
def rotate(
    name: str, kind: str | None, passphrase: bool, passphrase_file: Path | None, passphrase_fd: int | None, as_json: bool
) -> int:  # fmt: skip
    """Make a new key in the place of one of your own; its old private part is removed.

    The old public key stays under another name: what it sealed until now still verifies. Give the new public key to
    whoever verifies your bundles.
    """
    from irkit.evidence import keyring

    secret = _secret(name, passphrase, passphrase_file, passphrase_fd)
    signer, retired = keyring.rotate(name, kind, secret)
    if as_json:
        print_json({"schema": "irkit.rotated/v1", "key": signer.public.to_json(), "retired": retired.to_json()})
        return ExitCode.DONE
    _say(signer.public, as_json=False)
    return _say(retired, as_json=False)


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
