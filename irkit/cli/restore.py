"""``irkit restore``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit.cli.options import (
    ask_secret,
    catching_signals,
    engine_option,
    json_option,
    passphrase_source,
    print_json,
    show_event,
    signing_options,
)
from irkit.cli.recovering import secret_options, secret_variables
from irkit.cli.running import Finished, RunConfig, run_playbook
from irkit.engine.connect import open_engine
from irkit.errors import EngineError, NotFound, UsageProblem
from irkit.text import printable, text_from

if TYPE_CHECKING:
    from irkit.cases import Case
    from irkit.engine.interface import Container, Engine

EPILOG = """\b
Examples:
  irkit restore web-1 --from /backup/web-data.tar.zst
  irkit restore web-1 --from /backup/data --volume /var/lib/data --image registry.example/team/web:1.4.2
  irkit restore web-data --from hook:nightly --no-recreate     # restore.hooks in config.yaml: restic, borg …
"""
SHOWN = 20


@click.command(epilog=EPILOG)
@click.argument("subject", metavar="TARGET|VOLUME")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="SOURCE",
    help="The backup: a folder, a tar file (plain, .gz, .zst, .xz), or hook:NAME of config.yaml.",
)
@click.option("--volume", default="", metavar="NAME|PATH", help="Which volume of TARGET.  [default: its only one]")
@click.option(
    "--image",
    default="",
    metavar="REF",
    help="The clean image; needed where TARGET is contained. The trust policy must vouch for it.",
)
@click.option("--no-recreate", is_flag=True, help="Make the fresh volume, and leave the container as it is.")
@click.option("--stop", is_flag=True, help="Stop TARGET first, if it runs: its stop signal, its grace time, SIGKILL.")
@click.option("--devices", is_flag=True, help="Make device nodes that the backup has.")
@click.option(
    "--limit-bytes",
    type=click.IntRange(1),
    metavar="N",
    help="How many bytes of files the backup may have.  [default: 256 GiB]",
)
@click.option(
    "--limit-files", type=click.IntRange(1), metavar="N", help="How many entries it may have.  [default: 5000000]"
)
@click.option(
    "--health-timeout",
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long the new container may take to be healthy.",
)
@secret_options
@signing_options
@engine_option
@json_option
def command(
    subject: str, source: str, volume: str, image: str, no_recreate: bool, stop: bool, devices: bool, limit_bytes: int | None,
    limit_files: int | None, health_timeout: int, secrets: tuple[str, ...], keep_secrets: tuple[str, ...], drop_secrets: tuple[str, ...], key: str, passphrase_file: Path | None, passphrase_fd: int | None,
    engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Restore a volume of TARGET (or VOLUME) from a backup, into a fresh volume.

    The suspect volume is acquired, sealed and verified before; it stays as it is. What differs between it and the
    restored one is shown. Then the container is made anew with the fresh volume; the old one stays under another name.
    The backup is held to be hostile: nothing of it is put anywhere but in the fresh volume.
    """
    target, volume = _subject(open_engine(engine), subject, volume)
    source = source if source.startswith("hook:") else str(Path(source).absolute())
    if not source.startswith("hook:") and not Path(source).exists():
        raise UsageProblem(f"there is no {source}", hint="a folder, a tar file, or hook:NAME")
    variables: dict[str, Any] = {
        "source": source, "volume": volume, "image": image, "recreate": not no_recreate, "devices": devices,
        "health_timeout": health_timeout, "stop": stop, **secret_variables(secrets, keep_secrets, drop_secrets),
    }  # fmt: skip
    limits = {"limit_bytes": limit_bytes, "limit_files": limit_files}
    variables.update({name: value for name, value in limits.items() if value is not None})
    config = RunConfig(
        target, "restore", engine, key, passphrase_source(passphrase_file, passphrase_fd), show_event, variables,
        can_ask=bool(passphrase_file or passphrase_fd is not None or sys.stdin.isatty()), ask_secret=ask_secret,
    )  # fmt: skip
    can_ask = sys.stdin.isatty() and sys.stderr.isatty()

    def admit(case: Case | None, container: Container) -> None:
        from irkit.actions.restorable import check

        check(open_engine(engine), case, container, variables, can_ask)

    with catching_signals() as signals:
        finished = run_playbook(config, signals, admit)
    report = finished.context.facts.result.get("restored")
    if as_json:
        print_json(finished.to_json())
    if finished.outcome.error is not None:
        _say_stopped(finished)
        raise finished.outcome.error
    if report is not None and not as_json:
        _show(report)
    return finished.outcome.exit_code


def _say_stopped(finished: Finished) -> None:
    """A service that was stopped for nothing is down, and nobody else says so."""
    ctx = finished.context
    if any(one["uses"] == "container.stop" and one["outcome"] == "succeeded" for one in ctx.steps):
        with contextlib.suppress(EngineError):
            found = ctx.engine.container(ctx.target.id)
            if not found.running:
                name = printable(found.name)
                click.echo(
                    f"  {name} was stopped for this, and is as it was but stopped: `docker start {name}`", err=True
                )


def _subject(engine: Engine, subject: str, volume: str) -> tuple[str, str]:
    """The container and its volume.  Raises ``UsageProblem`` for a volume that not exactly one container uses."""
    try:
        return engine.container(subject).id, volume
    except NotFound:
        pass
    try:
        engine.volume(subject)
    except NotFound as error:
        raise NotFound(f"no container and no volume {subject!r} on {engine.endpoint}", status=404) from error
    users = [one for one in map(engine.container, engine.containers()) if _mounts(one, subject)]
    if len(users) != 1:
        names = ", ".join(sorted(one.name for one in users)) or "none"
        raise UsageProblem(
            f"{len(users)} containers use the volume {subject}: {names}",
            hint=f"irkit restore TARGET --volume {subject}",
        )
    return users[0].id, subject


def _mounts(one: Container, volume: str) -> bool:
    return any(row.get("Name") == volume for row in one.raw.get("Mounts") or ())


def _show(report: Mapping[str, Any]) -> None:
    from irkit.actions.restoring import sentence

    for kind, mark in (("added", "+"), ("removed", "-"), ("changed", "~"), ("attributes", "m")):
        for row in report[kind][:SHOWN]:
            click.echo(f"{mark} {printable(text_from(row, 'path'), 200)}")
        if report["counts"][kind] > SHOWN:
            click.echo(f"{mark} … {report['counts'][kind] - SHOWN} more in {report['path']}")
    click.echo(printable(sentence(report)))
    if report["old_container"]:
        click.echo(
            f"the old container is {printable(report['old_container'])}, with the suspect volume {printable(report['volume'])}"
        )
