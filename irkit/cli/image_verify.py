"""``irkit image verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.cli.options import engine_option, json_option, print_json
from irkit.errors import ExitCode, NotFound, UsageProblem
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.engine.interface import Container, Engine
    from irkit.trust.model import Verdict

CONTAINER = "container:"
MARKS = {"held": ("✓", "green"), "broken": ("✗", "red"), "unchecked": ("·", "yellow")}
policy_option = click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The trust policy.  [default: IRKIT_HOME/trust.yaml]",
)


@click.command(
    "verify",
    epilog="\b\nExamples:\n  irkit image verify registry.example/team/web:1.4.2\n  irkit image verify container:web-1\n"
    "  irkit image verify registry.example/team/web:1.4.2 --registry-only --json\n  irkit image verify team/web:1.4.2 --key release.pub",
)
@click.argument("image", metavar="IMAGE|CONTAINER")
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file of an irkit signature.  [default: those in IRKIT_HOME/signatures]",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this public key for irkit's signatures, and only it; the policy is not asked.",
)
@policy_option
@click.option(
    "--reference", default="", metavar="REF", help="What a container's image is called, when it was made by digest."
)
@click.option("--registry-only", is_flag=True, help="Ask the registry alone, no engine.")
@click.option(
    "--platform", default="", metavar="OS/ARCH", help="Of an index, this platform's image.  [default: the engine's]"
)
@click.option(
    "--timeout",
    default=120,
    show_default=True,
    metavar="SECONDS",
    type=click.IntRange(1, 3600),
    help="For all that registries are asked.",
)
@engine_option
@json_option
def verify(
    image: str, signature: Path | None, key: Path | None, policy_file: Path | None, reference: str, registry_only: bool,
    platform: str, timeout: int, engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Check the chain from signatures to IMAGE on this engine, or to a running CONTAINER; exit 3 when a link does not hold.

    The trust policy says whose signatures count for which repository. A container is named as such, or container:NAME.
    """
    from irkit.engine.connect import open_engine
    from irkit.evidence.keys import public_from_file
    from irkit.trust.policy import load_policy
    from irkit.trust.verify import verify as check

    found = None if registry_only else open_engine(engine)
    container = None if found is None else _container(found, image)
    if container is not None:
        image = reference or container.image_ref
    elif reference:
        raise UsageProblem("--reference goes with a container", hint=f"{CONTAINER}NAME")
    verdict = check(
        image, load_policy(policy_file), found, container=container, signature=signature,
        key=public_from_file(key, "image") if key else None, platform=platform, seconds=timeout,
        say=lambda words: click.echo(f"  {printable(words)}", err=True),
    )  # fmt: skip
    if as_json:
        print_json(verdict.to_json())
    else:
        _show(verdict)
    return ExitCode.DONE if verdict.accepted else ExitCode.CHECK_FAILED


def _container(engine: Engine, word: str) -> Container | None:
    """The container that a word means; ``None`` when it means an image.  Raises ``UsageProblem`` when it may mean both."""
    if word.startswith(CONTAINER):
        return engine.container(word.removeprefix(CONTAINER))
    if any(mark in word for mark in "/:@"):
        return None
    try:
        found = engine.container(word)
    except NotFound:
        return None
    try:
        engine.image(word)
    except NotFound:
        return found
    raise UsageProblem(
        f"{word!r} is a container and an image",
        hint=f"{CONTAINER}{word} for the container, {word}:latest for the image",
    )


def _show(verdict: Verdict) -> None:
    for link in verdict.links:
        mark, colour = MARKS[link.result]
        click.echo(f"  {click.style(mark, fg=colour)} {link.name:<13} {link.subject[:19]:<20} {printable(link.detail)}")
    for one in verdict.tried:
        mark, colour = MARKS["held" if one.accepted else "broken"]
        click.echo(f"    {click.style(mark, fg=colour)} {one.kind:<10} {one.where}: {printable(one.reason)}")
    word, colour = ("TRUSTED", "green") if verdict.accepted else ("NOT TRUSTED", "red")
    keys = ", ".join(f"{one.key} ({one.key_id[:19]})" for one in verdict.keys)
    click.echo(f"{click.style(word, fg=colour)}  {verdict.reference}{' = ' + verdict.config if verdict.config else ''}")
    click.echo(f"  {f'by {keys}' if verdict.accepted else printable(verdict.reason)}")
    if verdict.image_id:
        click.echo(f"  create from {verdict.image_id}")
    if verdict.hint:
        click.echo(f"  hint: {printable(verdict.hint)}", err=True)
