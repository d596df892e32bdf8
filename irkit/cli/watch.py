"""``irkit watch``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from irkit.cli.options import engine_option, json_option, print_json, recipient_option
from irkit.errors import ExitCode, UsageProblem
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.watch.model import Rules
    from irkit.watch.server import Listen, Server
    from irkit.watch.service import Source, Watch

EPILOG = """\b
Examples:
  irkit watch --example > ~/.local/share/irkit/watch.yaml  # rules to begin with
  irkit watch --check                                     # is IRKIT_HOME/watch.yaml good?
  falco -o json_output=true | irkit watch                 # alerts from standard input
  irkit watch --file /var/log/falco.json                  # follow a file
  irkit watch --source falco --source events --listen 10.0.0.5:8765 \\
      --token-file /etc/irkit/token --tls-cert cert.pem --tls-key key.pem
  irkit watch --source events --dry-run                   # what would be done
  irkit watch --source json --file alerts.jsonl --once    # what is there, then end
"""
SOURCES = ("falco", "events", "json")


@click.command(epilog=EPILOG)
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Choice(SOURCES),
    help="Where alerts come from; several may be given.  [default: falco]",
)
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Follow this file instead of standard input.",
)
@click.option(
    "--listen",
    metavar="ADDR:PORT",
    help="Take alerts by HTTP: POST /falco or /json.  TLS is required unless it is loopback.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The token that senders must have, in a file that only you can read.",
)
@click.option("--token-fd", type=int, metavar="N", help="Read the token from a file descriptor.")
@click.option(
    "--tls-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The certificate, PEM, with its chain.",
)
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its private key, PEM.")
@click.option(
    "--metrics",
    metavar="ADDR:PORT",
    help="Metrics for Prometheus without a token, on loopback only; --listen has them too, with the token.",
)
@click.option(
    "--rules", type=click.Path(dir_okay=False, path_type=Path), help="The rules.  [default: IRKIT_HOME/watch.yaml]"
)
@click.option("--check", is_flag=True, help="Only check the rules.")
@click.option("--example", is_flag=True, help="Print rules to begin with.")
@click.option("--dry-run", is_flag=True, help="Only dry runs: nothing is changed, nobody is asked.")
@click.option("--once", is_flag=True, help="Handle what is there, wait for the runs, and end.")
@click.option(
    "--key",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="The private key that signs the runs' evidence.",
)
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its passphrase.")
@recipient_option
@engine_option
@json_option
def command(
    sources: tuple[str, ...], file: Path | None, listen: str | None, token_file: Path | None, token_fd: int | None, tls_cert: Path | None,
    tls_key: Path | None, metrics: str | None, rules: Path | None, check: bool, example: bool, dry_run: bool, once: bool, key: str,
    passphrase_file: Path | None, recipients: tuple[str, ...], engine: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Start playbooks when detectors raise alerts, by the rules of watch.yaml.

    What changes anything waits for `irkit case approve`, unless its rule says `approval: none`. SIGHUP reads the rules
    anew; SIGTERM ends the watch and leaves runs under way to themselves. With --json each decision is one line.
    Exit codes: 7 when something waits for an approval at the end, 4 when alerts were missed or runs did not succeed.
    """
    if example:
        click.echo(files("irkit.watch").joinpath("example.yaml").read_text(), nl=False)
        return ExitCode.DONE
    from irkit.watch.rules import default_path, load_rules

    path = (rules or default_path()).absolute()
    if not path.is_file():
        raise UsageProblem(
            f"no rules: there is no {path}", hint=f"`irkit watch --example > {path}` writes some to begin with"
        )
    if check:
        return _check(load_rules(path), as_json=as_json)
    if once and listen:
        raise UsageProblem("--once ends when all is read, and a listener never ends")
    options = _options(key, passphrase_file, recipients, engine)
    listener = _listener(listen, sources, token_file, token_fd, tls_cert, tls_key)
    return _watch(
        path,
        sources or ("falco",),
        file,
        listener,
        metrics,
        options,
        engine,
        dry_run=dry_run,
        once=once,
        as_json=as_json,
    )


def _check(rules: Rules, *, as_json: bool) -> int:
    rows = [
        {"id": one.id, "playbook": one.playbook_id, "digest": one.digest, "changes": one.changes, "approval": one.asks, "dry_run_first": one.dry_run_first}
        for one in rules.rules
    ]  # fmt: skip
    if as_json:
        print_json(
            {
                "schema": "irkit.watch-check/v1",
                "path": str(rules.path),
                "digest": rules.digest,
                "rules": rows,
                "remarks": list(rules.remarks),
            }
        )
        return ExitCode.DONE
    for one in rules.rules:
        how = "asks first" if one.asks else "changes, UNASKED" if one.changes else "only reads"
        click.echo(f"{one.id:<24} {one.playbook_id:<20} {how}" + ("" if one.dry_run_first else ", no dry run"))
    for remark in rules.remarks:
        click.echo(f"! {printable(remark)}", err=True)
    return ExitCode.DONE


def _options(key: str, passphrase_file: Path | None, recipients: tuple[str, ...], engine: str | None) -> list[str]:
    """The words that every run gets: they run elsewhere, so paths are made absolute."""
    words = ["--key", str(Path(key).absolute()) if "/" in key and not key.startswith("file:") else key]
    if passphrase_file is not None:
        words += ["--passphrase-file", str(passphrase_file.absolute())]
    for one in recipients:
        words += ["--recipient", str(Path(one).absolute()) if Path(one).is_file() else one]
    return [*words, "--engine", engine] if engine else words


def _listener(
    listen: str | None, sources: tuple[str, ...], token_file: Path | None, token_fd: int | None, cert: Path | None, key: Path | None
) -> Listen | None:  # fmt: skip
    if listen is None:
        if token_file or token_fd is not None or cert or key:
            raise click.UsageError("--token-file, --token-fd, --tls-cert and --tls-key go with --listen.")
        return None
    from irkit.watch.server import Listen, address

    named = [one for one in sources or ("falco",) if one != "events"]
    if not named:
        raise click.UsageError("--listen takes alerts of the sources falco and json: name one.")
    paths = tuple((f"/{one}", one) for one in named)
    listener = Listen(
        *address(listen),
        _token(token_file, token_fd),
        cert,
        key,
        (("/", named[0]), *paths) if len(named) == 1 else paths,
    )
    listener.check()
    return listener


def _token(file: Path | None, descriptor: int | None) -> str:
    """The first line.  Raises ``UsageProblem`` for a file that others can read, or none at all."""
    if (file is None) == (descriptor is None):
        raise UsageProblem(
            "--listen needs a token: --token-file FILE or --token-fd N",
            hint="openssl rand -hex 32 > FILE; chmod 600 FILE",
        )
    try:
        handle = os.open(file, os.O_RDONLY) if file is not None else int(descriptor or 0)
        with os.fdopen(handle, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if file is not None and stat.S_ISREG(mode) and mode & 0o077:
                raise UsageProblem(f"{file} can be read or written by others", hint=f"chmod 600 {file}")
            return opened.readline(4096).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"can't read the token: {error}") from error


def _watch(
    path: Path, sources: tuple[str, ...], file: Path | None, listener: Listen | None, metrics: str | None, options: list[str],
    engine: str | None, *, dry_run: bool, once: bool, as_json: bool,
) -> int:  # fmt: skip
    from irkit import cases
    from irkit.engine.connect import open_engine
    from irkit.watch.children import Children
    from irkit.watch.service import Watch

    def say(text: str) -> None:
        click.echo(f"  {text}", err=True)

    def tell(record: Mapping[str, Any]) -> None:
        if as_json:
            click.echo(json.dumps(record, separators=(",", ":")))
        else:
            say(_line(record))

    with cases.watch_lock(), _signals() as signals:
        watch = Watch.open(path, open_engine(engine), Children(options), say, tell, dry_only=dry_run)
        signals.watch = watch
        servers = _servers(watch, listener, metrics)
        pipes, lasting = _sources(watch, sources, file, listener, engine, once=once)
        beside: list[Source] = []
        for one in servers:
            say(f"listening on {one.url}")
            (lasting if one.listen.paths else beside).append(one)
        for remark in watch.rules.remarks:
            say(f"! {printable(remark)}")
        watch.run(pipes, lasting, beside)
    if signals.caught:
        say(
            f"ended by {signals.caught}: {watch.runs.under_way()} runs go on by themselves, {watch.runs.waiting()} wait for approvals"
        )
        return ExitCode.DONE
    if watch.runs.waiting():
        return ExitCode.WAITING
    return ExitCode.GAPS if watch.missed or watch.runs.trouble else ExitCode.DONE


def _servers(watch: Watch, listener: Listen | None, metrics: str | None) -> list[Server]:
    from irkit.watch.server import Listen, Server, address

    wanted = [] if listener is None else [listener]
    if metrics is not None:
        plain = Listen(*address(metrics))
        if not plain.loopback:
            raise UsageProblem(
                "--metrics listens on loopback only", hint="--listen has /metrics too, with its token and TLS"
            )
        wanted.append(plain)
    made = [Server(one, watch.inbox, watch.metrics, alive=lambda: watch.alive) for one in wanted]
    watch.reloaders += [one.reload for one in made]
    return made


def _sources(
    watch: Watch, sources: tuple[str, ...], file: Path | None, listener: Listen | None, engine: str | None, *, once: bool
) -> tuple[list[Source], list[Source]]:  # fmt: skip
    """Those that end, and those that don't."""
    from irkit.engine.connect import open_engine
    from irkit.watch.events import KEY, Events
    from irkit.watch.lines import Follow, Pipe

    lines = [one for one in dict.fromkeys(sources) if one != "events"]
    found: list[Source] = []
    pipes: list[Source] = []
    if "events" in sources:
        found.append(Events(lambda: open_engine(engine), watch.inbox, watch.state.positions.get(KEY), once=once))
    if file is not None and len(lines) != 1:
        raise UsageProblem("--file is of one source: --source falco or --source json")
    if file is not None:
        absolute = file.absolute()
        found.append(Follow(lines[0], absolute, watch.inbox, watch.state.positions.get(f"file:{absolute}"), once=once))
    elif lines and listener is None:
        if len(lines) > 1:
            raise UsageProblem("standard input is of one source: --source falco or --source json")
        pipes.append(Pipe(lines[0], sys.stdin.fileno(), watch.inbox))
    return ([*pipes, *found], []) if once else (pipes, found)


def _line(record: Mapping[str, Any]) -> str:
    """A decision for a person."""
    alert = record.get("alert") or {}
    what = f"{alert.get('source', record.get('source', ''))}: {alert.get('rule', '')}".strip(": ")
    where = f" on {record['name']}" if record.get("name") else ""
    rule = f" [{record['rule']}]" if record.get("rule") else ""
    ended = f" {record['outcome']}" if record.get("outcome") else ""
    more = (
        f": {record['why']}"
        if record.get("why")
        else f": {record['count']} {record.get('of', '')}"
        if "count" in record
        else ""
    )
    case = f"  (case {record['case']})" if record.get("case") else ""
    return f"{record['time'][11:19]}Z {record['decision']}{ended}{rule} {what}{where}{more}{case}"


class _Signals:
    def __init__(self) -> None:
        self.caught = ""
        self.watch: Watch | None = None

    def end(self, number: int, _: FrameType | None) -> None:
        self.caught = signal.Signals(number).name
        if self.watch is None:
            raise KeyboardInterrupt
        self.watch.ending = True

    def reload(self, number: int, _: FrameType | None) -> None:
        if self.watch is not None:
            self.watch.reload = True


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    wanted = {signal.SIGINT: signals.end, signal.SIGTERM: signals.end, signal.SIGHUP: signals.reload}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
