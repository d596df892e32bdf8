"""What leaves the engine: programs, requests, notifications, other playbooks.  All off unless the operator allows it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

from irkit.actions.context import Context, Result
from irkit.config import NAME, load_config
from irkit.errors import CheckFailed, IrkitError, Refused, UsageProblem, Waiting
from irkit.text import printable

OUTPUT_LIMIT = 64 * 1024
POLL = 0.05
GRACE = 2.0


def about(ctx: Context) -> dict[str, Any]:
    """What receivers are told of a run: ``irkit.notification/v1``, without the message.  No evidence, no secrets."""
    facts = ctx.facts
    return {
        "schema": "irkit.notification/v1", "case": ctx.case.id, "run": ctx.run, "target": ctx.target.to_json(),
        "quarantine": facts.quarantine_state or None, "findings": len(facts.findings), "gaps": len(ctx.writer.gaps),
        "bundle": {"digest": facts.sealed.digest, "status": facts.sealed.status} if facts.sealed else None,
    }  # fmt: skip


def run_program(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Start a program that the operator's configuration names: no shell, a small environment, the run as JSON on stdin.

    Raises ``Refused`` for any other, ``CheckFailed`` for an exit code that was not expected.
    """
    argv = [_word(one) for one in args["argv"]]
    if not argv or argv[0] not in load_config().programs:
        raise Refused(
            f"the program {argv[0] if argv else ''!r} may not be started",
            hint=f"add it to actions.run.programs in IRKIT_HOME/{NAME}",
        )
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as told:
        told.write(json.dumps(about(ctx)).encode())
        told.seek(0)
        try:
            process = subprocess.Popen(
                argv, stdin=told, stdout=output, stderr=subprocess.STDOUT, cwd="/", start_new_session=True, env=_environment(ctx),
            )  # fmt: skip
        except OSError as error:
            raise IrkitError(f"{argv[0]} can't be started: {error.strerror}") from error
        code = _wait(ctx, process)
        text = _beginning(output)
    if code not in args["expect"]:
        raise CheckFailed(f"{argv[0]} ended with {code}: {printable(text, 300)}")
    return Result("succeeded", f"{argv[0]} ended with {code}", {"exit_code": code, "output": text})


def _word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageProblem(f"an argument of a program must be a text or a number, not {value!r}")
    if "\0" in str(value):
        raise UsageProblem("an argument of a program can't hold a NUL")
    return str(value)


def _environment(ctx: Context) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "HOME") if name in os.environ}
    return {
        **kept, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "IRKIT_CASE": ctx.case.id,
        "IRKIT_RUN": ctx.run, "IRKIT_TARGET_ID": ctx.target.id,
    }  # fmt: skip


def _wait(ctx: Context, process: subprocess.Popen[bytes]) -> int:
    """Until it ends; a signal or a deadline ends it, and all that it started in its session's group."""
    try:
        while True:
            try:
                return process.wait(POLL)
            except subprocess.TimeoutExpired:
                ctx.checkpoint()
    except BaseException:
        _end(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _end(process, signal.SIGKILL)
            process.wait()
        raise


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _beginning(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT_LIMIT).decode("utf-8", "replace")


def notify(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Send one sentence and what is known of the run.  Raises ``UsageProblem`` for a channel that there is not."""
    from irkit.actions import channels

    known = load_config().channels
    if args["channel"] not in known:
        raise UsageProblem(
            f"no channel {args['channel']!r}",
            hint=f"IRKIT_HOME/{NAME} has under `notify`: {', '.join(known) or 'none'}",
        )
    channel = known[args["channel"]]
    channels.send(channel, str(args["message"]), str(args["severity"]), about(ctx))
    return Result("succeeded", f"told {channel.name} ({channel.type})")


def http(ctx: Context, args: Mapping[str, Any]) -> Result:
    """One request.  Raises ``Refused`` for an address that is not allowed, ``CheckFailed`` for an unexpected status."""
    from irkit.actions import channels

    url, method = str(args["url"]), str(args["method"])
    if not load_config().allows(url):
        raise Refused(
            f"the address {printable(url, 200)} may not be asked",
            hint=f"add a prefix of it to actions.http.allow in IRKIT_HOME/{NAME}",
        )
    status, body = channels.request(method, url, args["body"])
    expected = args["expect"] or range(200, 300)
    if status not in expected:
        raise CheckFailed(f"{method} {printable(url, 200)}: status {status}: {printable(body, 200)}")
    try:
        value = json.loads(body)
    except ValueError:
        value = body
    return Result("succeeded", f"{method} {printable(url, 200)}: {status}", {"status": status, "body": value})


def run_playbook(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Another playbook on another container: its own case, journal and evidence.  Its failure is this step's failure."""
    if ctx.launch is None:
        raise Refused("this run can't start others")
    begun = time.monotonic()
    told = ctx.launch(str(args["playbook"]), str(args["target"]), args["vars"] or {})
    words = f"{args['playbook']} on {printable(str(args['target']), 80)}: {told['status']}, case {told['case']}"
    data = {name: told.get(name) for name in ("case", "run", "status", "quarantine", "bundle")}
    if told["status"] == "waiting":
        raise Waiting(
            f"{words}: {told.get('message', '')}", hint=f"`irkit case pending`; then `irkit resume {ctx.case.id}`"
        )
    if told["status"] in ("failed", "aborted", "interrupted"):
        raise CheckFailed(f"{words}: {told.get('message', '')}", hint=f"`irkit case show {told['case']}`")
    outcome = {"succeeded": "succeeded", "skipped": "skipped"}.get(str(told["status"]), "degraded")
    return Result(outcome, f"{words} ({time.monotonic() - begun:.1f} s)", data)
