"""Programs of others that an audit starts: scanners and Syft.  An argument list, never a shell; time and output are limited.

They run in an empty folder with few variables: a ``.trivyignore`` or a ``TRIVY_SEVERITY`` that lies about would hide
what they find.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from irkit.errors import IrkitError
from irkit.text import printable

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of a report."""
WORDS_LIMIT = 64 * 1024
"""Bytes of what a program says on stderr; its end counts."""
POLL, BLOCK = 0.2, 65536
KEPT = (
    "HOME", "PATH", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "DOCKER_CONFIG", "TRIVY_CACHE_DIR", "TRIVY_DB_REPOSITORY",
    "TRIVY_JAVA_DB_REPOSITORY", "GRYPE_DB_CACHE_DIR", "GRYPE_DB_UPDATE_URL",
)  # fmt: skip


class ProgramFailed(IrkitError):
    """A program could not be started, failed, took too long, or said too much or nothing that can be read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``seconds``: for one start of a program; ``checkpoint``: called while it runs, raises to end it."""

    seconds: float = 600
    output: int = OUTPUT_LIMIT
    checkpoint: Callable[[], None] = lambda: None


def find(program: str) -> str | None:
    """Where a program lies on PATH, absolute; links stay, as some programs go by the name that they are called by."""
    found = shutil.which(program)
    return str(Path(found).absolute()) if found else None


def run(argv: Sequence[str], folder: Path, limits: Limits, extra: Mapping[str, str] | None = None) -> bytes:
    """What it prints on stdout.  Raises ``ProgramFailed``; what it started in its session's group ends with it."""
    name = Path(argv[0]).name
    environment = {
        **{one: os.environ[one] for one in KEPT if one in os.environ},
        "TMPDIR": str(folder),
        **(extra or {}),
    }
    empty = folder / "empty"
    empty.mkdir(mode=0o700, exist_ok=True)
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=empty, env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ProgramFailed(f"{name} can't be started: {error.strerror}") from error
    try:
        said, words = _read(process, name, limits)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if code:
        raise ProgramFailed(f"{name} failed ({code}): {_last(words)}")
    return said


def _read(process: subprocess.Popen[bytes], name: str, limits: Limits) -> tuple[bytes, bytes]:
    """Both pipes to their ends, and the program to its own: only then is there nothing left to end."""
    until = time.monotonic() + limits.seconds
    said, words = bytearray(), bytearray()
    with selectors.DefaultSelector() as waiting:
        for pipe, held in ((process.stdout, said), (process.stderr, words)):
            if pipe is not None:
                waiting.register(pipe, selectors.EVENT_READ, held)
        while waiting.get_map() or process.poll() is None:
            limits.checkpoint()
            if time.monotonic() > until:
                raise ProgramFailed(f"{name} took longer than {limits.seconds:g} seconds")
            if not waiting.get_map():
                time.sleep(POLL / 10)
            for key, _ in waiting.select(POLL) if waiting.get_map() else ():
                _take(waiting, key.fileobj, key.data)
            if len(said) > limits.output:
                raise ProgramFailed(f"{name} printed more than {limits.output} bytes")
            del words[:-WORDS_LIMIT]
    return bytes(said), bytes(words)


def _take(waiting: selectors.BaseSelector, pipe: IO[bytes] | Any, held: bytearray) -> None:
    block = os.read(pipe.fileno(), BLOCK)
    if block:
        held += block
    else:
        waiting.unregister(pipe)


def _last(words: bytes) -> str:
    lines = [line for line in words.decode("utf-8", "replace").splitlines() if line.strip()]
    return printable(lines[-1].strip(), 300) if lines else "it says nothing"


def document(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object from a program's output.  Raises ``ProgramFailed``."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProgramFailed(f"{name}'s output is not JSON") from error
    if not isinstance(found, dict):
        raise ProgramFailed(f"{name}'s output is no JSON object")
    return found
