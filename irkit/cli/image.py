"""``irkit image``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli import image_deny, image_policy, image_snapshot, image_verify
from irkit.cli.options import engine_option, json_option, parse_vars, passphrase_source, print_json, signing_options
from irkit.errors import ExitCode


@click.group()
def command() -> None:
    """Sign and verify images, by their registry's signatures or by irkit's own; take one as evidence."""


@command.command(
    "sign",
    epilog="\b\nExamples:\n  irkit key generate --name release --use image\n  irkit image sign team/web:1.4.2 --key release\n"
    "  irkit image sign registry.example/team/web:1.4.2 --key release --registry -a env=prod",
)
@click.argument("image")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the signature goes.  [default: IRKIT_HOME/signatures]",
)
@click.option(
    "--annotation",
    "-a",
    "annotations",
    multiple=True,
    metavar="NAME=VALUE",
    help="Signed with it; a policy may ask for it.",
)
@click.option(
    "--registry", "at_registry", is_flag=True, help="Ask the registry for the manifest's digest, and sign it too."
)
@click.option(
    "--push", is_flag=True, help="Put a signature that cosign verifies beside the image in its registry, too."
)
@signing_options
@engine_option
@json_option
def sign(
    image: str,
    output: Path | None,
    annotations: tuple[str, ...],
    at_registry: bool,
    push: bool,
    key: str,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Sign what IMAGE contains now: manifest where it is known, configuration and layers, each read and hashed."""
    from irkit.engine.connect import open_engine
    from irkit.evidence.keys import load_signer
    from irkit.trust.image import sign_image
    from irkit.trust.policy import load_policy
    from irkit.trust.push import push_signature

    at_registry = at_registry or push
    signer = load_signer(key, "image", passphrase_source(passphrase_file, passphrase_fd))
    found, policy, notes = open_engine(engine), load_policy() if at_registry else None, parse_vars(annotations)
    path, content, manifests = sign_image(
        found, image, signer, output, annotations=notes, at_registry=at_registry, policy=policy
    )
    pushed = push_signature(found, image, content, signer, notes, policy) if push else ""
    if as_json:
        print_json(
            {
                "schema": "irkit.signature/v1",
                "signature": str(path),
                "config": content.config,
                "layers": list(content.layers),
                "manifests": list(manifests),
                "pushed": pushed,
                "key": signer.public.id,
            }
        )
    else:
        click.echo(str(path))
    return ExitCode.DONE


command.add_command(image_verify.verify)
command.add_command(image_policy.policy)
command.add_command(image_deny.deny)
command.add_command(image_snapshot.snapshot)
