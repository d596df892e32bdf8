"""What commands that make a container anew have in common: secrets, hardening, a person's word."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from irkit import secret_sources
from irkit.engine.interface import Engine
from irkit.errors import ExitCode
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.audit.rebuilt import Word
    from irkit.recover.plan import Plan

Command = TypeVar("Command", bound=Callable[..., Any])

_SECRETS = (
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME=@FILE|NAME=fd:N",
        help="A variable's new value, from a file or a descriptor.",
    ),
    click.option(
        "--keep-secret",
        "keep_secrets",
        multiple=True,
        metavar="NAME",
        help="Carry this variable over although it is burnt.",
    ),
    click.option("--drop-secret", "drop_secrets", multiple=True, metavar="NAME", help="Leave this variable out."),
)
_HARDEN = (
    click.option(
        "--harden",
        is_flag=False,
        flag_value="all",
        default="",
        metavar="[=LIST]",
        help="Take misconfigurations away: all, or those of a list (docs/recover.md). Each is told before it is done.",
    ),
    click.option("--keep", multiple=True, metavar="NAME", help="With --harden: leave this one as it is."),
    click.option("--yes", is_flag=True, help="Agree to what --harden changes; else you are asked."),
)


def secret_options(command: Command) -> Command:
    """``--secret``, ``--keep-secret``, ``--drop-secret``; see :func:`secret_variables`."""
    return _with(command, _SECRETS)


def harden_options(command: Command) -> Command:
    """``--harden``, ``--keep``, ``--yes``; see :func:`harden_variables`."""
    return _with(command, _HARDEN)


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def secret_variables(secrets: tuple[str, ...], keep: tuple[str, ...], drop: tuple[str, ...]) -> dict[str, Any]:
    """A playbook's variables for :func:`secret_options`.  Raises ``UsageProblem`` for a value in the clear."""
    return {
        "secrets": [_reference(one) for one in secrets],
        "keep_secrets": list(keep),
        "drop_secrets": list(drop),
    }


def harden_variables(harden: str, keep: tuple[str, ...]) -> dict[str, Any]:
    """A playbook's variables for :func:`harden_options`.  Raises ``UsageProblem`` for names that there are not."""
    from irkit.recover.harden import chosen

    names = [one for one in harden.split(",") if one]
    chosen(names, keep)
    return {"harden": names, "keep": list(keep)}


def _reference(text: str) -> str:
    """A reference that also holds for a run that goes on elsewhere.  Raises ``UsageProblem``, before an image is read."""
    source = secret_sources.parse(text)
    source.check()
    return text if source.file is None else f"{source.name}=@{source.file}"


def agreed(question: str) -> bool:
    """Only a person at a terminal agrees without ``--yes``."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        return False


def verified_id(engine: Engine, variables: Mapping[str, Any]) -> str:
    """The id of ``image``, verified as a run would do it.  Raises ``NotTrusted``."""
    from irkit.trust.policy import load_policy
    from irkit.trust.verify import verify

    signature = Path(variables["signature"]) if variables["signature"] else None
    verdict = verify(variables["image"], load_policy(), engine, signature=signature)
    verdict.require()
    return verdict.image_id


def audited(engine: Engine, plan: Plan) -> Word | None:
    """The audit's word on what the plan would make, as the run asks for it; ``None`` where the policy asks for none."""
    from irkit.audit.rebuilt import word_on

    return word_on(engine, plan.before.name, plan.recipe.body)


def show_plan(head: str, lines: tuple[str, ...], word: Word | None) -> None:
    """What would be done, a line each, and what the audit says of it."""
    click.echo(head)
    for line in lines or ("nothing differs but what the image brings",):
        click.echo(f"  {printable(line, 2000)}")
    if word is None:
        click.echo("  the audit is not asked: IRKIT_HOME/audit.yaml has no `rebuild`")
        return
    click.echo(f"  the audit {'lets it pass' if word.gate.passed else 'stops it'} (rebuild: {word.fail_on})")
    for what, told in (("stops", word.reasons), ("warns", word.warnings)):
        for one in told:
            click.echo(f"    {what}: {one}")


def plan_code(word: Word | None) -> int:
    """The exit code of a plan: that of the run, which the audit would stop."""
    return ExitCode.DONE if word is None or word.gate.passed else ExitCode.CHECK_FAILED
