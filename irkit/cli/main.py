"""The entry point: commands loaded only when they are called, and the one place that catches errors."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from irkit import __version__
from irkit.errors import ExitCode, IrkitError
from irkit.text import printable

COMMANDS = {
    "contain": "Freeze, isolate and prove it, acquire signed evidence.",
    "scope": "Who and what a compromised container can reach.",
    "snapshot": "Acquire signed evidence without containing.",
    "diff": "What changed, in a container or in a bundle.",
    "release": "Give a contained container its former place back.",
    "failover": "A clean container takes over at once; the compromised one stays in quarantine.",
    "rebuild": "A clean container from a signed image in place of a compromised one.",
    "eradicate": "Remove what is compromised, once verified evidence holds it; deny its digests.",
    "restore": "A fresh volume from a backup in the place of a suspect one.",
    "run": "Run a playbook on a container.",
    "watch": "Start playbooks when detectors raise alerts, by your rules.",
    "resume": "Go on with a run that was killed or interrupted.",
    "report": "One HTML page from a bundle.",
    "bundle": "Make, verify and show evidence bundles.",
    "case": "List and show cases; approve what a run asks for.",
    "image": "Sign and verify images; take one as evidence; the trust policy; denied digests.",
    "key": "Make, trust, rotate and revoke keys.",
    "playbook": "List, check and describe playbooks.",
    "rules": "List, check and test the rules that give changes a meaning.",
    "audit": "Configuration against the CIS Docker Benchmark, with the fix for each.",
    "drill": "Play a staged compromise.",
    "doctor": "What will work on this machine, and how to mend the rest.",
}


GARBAGE = 50_000
"""Objects made before the collector looks for cycles: it finds none in modules, and looking costs before "frozen"."""


class LazyGroup(click.Group):
    """Commands by name, imported when they are needed: every import counts before the target is frozen."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a responder needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load ``irkit.cli.NAME``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"irkit.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help without loading every command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog='Shell completion: eval "$(_IRKIT_COMPLETE=bash_source irkit)"  (or zsh_source, fish_source)',
)
@click.version_option(__version__, prog_name="irkit")
def cli() -> None:
    """Incident response for containers.

    A container is compromised: `irkit contain NAME` freezes it, isolates it and proves that, and acquires signed
    evidence. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check did not hold, 4 done with gaps, 5 refused,
    6 interrupted, 7 waiting for an approval.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command.  Everything that goes wrong ends here, in a sentence."""
    gc.set_threshold(GARBAGE)
    try:
        result: Any = cli.main(args=None if argv is None else list(argv), prog_name="irkit", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except click.Abort:
        return _say("aborted", None, ExitCode.REFUSED)
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except IrkitError as error:
        if os.environ.get("IRKIT_DEBUG"):
            raise
        return _say(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", None, ExitCode.INTERRUPTED)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as error:
        if os.environ.get("IRKIT_DEBUG"):
            raise
        return _say(
            f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""),
            None,
            ExitCode.FAILED,
        )
    return result if isinstance(result, int) else ExitCode.DONE


def _say(message: str, hint: str | None, code: int) -> int:
    click.echo(f"irkit: {printable(message)}", err=True)
    if hint:
        click.echo(f"  hint: {printable(hint)}", err=True)
    return code
