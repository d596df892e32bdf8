"""``irkit image``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli.options import engine_option, json_option, passphrase_source, print_json, signing_options
from irkit.errors import ExitCode


@click.group()
def command() -> None:
    """Sign and verify images, without a registry."""


@command.command(
    "sign",
    epilog="\b\nExample:\n  irkit key generate --name release --use image\n  irkit image sign team/web:1.4.2 --key release",
)
@click.argument("image")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the signature goes.  [default: IRKIT_HOME/signatures]",
)
@signing_options
@engine_option
@json_option
def sign(
    image: str,
    output: Path | None,
    key: str,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Sign what IMAGE contains now: its configuration and layers, each read from the engine and hashed."""
    from irkit.engine.connect import open_engine
    from irkit.evidence.keys import load_signer
    from irkit.trust.image import sign_image

    signer = load_signer(key, "image", passphrase_source(passphrase_file, passphrase_fd))
    path, content = sign_image(open_engine(engine), image, signer, output)
    if as_json:
        print_json(
            {
                "schema": "irkit.signature/v1",
                "signature": str(path),
                "config": content.config,
                "layers": list(content.layers),
                "key": signer.public.id,
            }
        )
    else:
        click.echo(str(path))
    return ExitCode.DONE


@command.command("verify", epilog="\b\nExample:\n  irkit image verify team/web:1.4.2 --key release.pub")
@click.argument("image")
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The signature's file.  [default: those in IRKIT_HOME/signatures]",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this public key, and only it.",
)
@engine_option
@json_option
def verify(image: str, signature: Path | None, key: Path | None, engine: str | None, as_json: bool) -> int:
    """Check that a key trusted for images signed exactly what IMAGE contains, for its repository."""
    from irkit.engine.connect import open_engine
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.trust.image import verify_image

    good = verify_image(
        open_engine(engine), image, [public_from_file(key, "image")] if key else trusted_keys("image"), signature
    )
    if as_json:
        print_json(good.to_json())
    else:
        click.echo(
            f"{click.style('TRUSTED', fg='green')}  {image} = {good.content.config}\n  signed {good.signed} by {good.key_name} ({good.key})"
        )
    return ExitCode.DONE
