"""The error tree: every error that a user can meet, each with an exit code and a hint.

``irkit.cli.main`` is the one place that catches them.  Exit codes (docs/architecture.md): 0 done, 1 failed,
2 wrong usage, 3 a check did not hold, 4 done with gaps, 5 refused or aborted, 6 interrupted, 7 waiting.
"""

from __future__ import annotations

import errno


class ExitCode:
    """The exit codes of every command, by name."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CHECK_FAILED = 3
    GAPS = 4
    REFUSED = 5
    INTERRUPTED = 6
    WAITING = 7


class IrkitError(Exception):
    """Base of all errors that irkit raises on purpose: one sentence, and a hint that helps."""

    exit_code = ExitCode.FAILED
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint


class UsageProblem(IrkitError):
    """The command's words are off (a bad option value, a malformed file that the user wrote)."""

    exit_code = ExitCode.USAGE


class PlaybookInvalid(UsageProblem):
    """A playbook, profile, rule or scenario file does not fit its schema."""


class EngineError(IrkitError):
    """The engine refused a call or failed at it."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class EngineUnreachable(EngineError):
    """Nobody answers at the engine's endpoint."""

    hint = "is the engine running? `irkit doctor` tells what answers; DOCKER_HOST or --engine names another one"


class EnginePermission(EngineError):
    """The endpoint is there, but this user may not talk to it."""

    hint = "run irkit as root, or as a member of the group that owns the socket (often `docker`)"


class NotFound(EngineError):
    """The engine knows no such container, image or network."""

    hint = "`docker ps -a` lists the containers of this engine; --engine names another engine"


class Conflict(EngineError):
    """The engine says that the thing is in the wrong state for the call (HTTP 304 or 409)."""


class CheckFailed(IrkitError):
    """A check did not hold: evidence altered, quarantine not proven, image not trusted."""

    exit_code = ExitCode.CHECK_FAILED


class EvidenceAltered(CheckFailed):
    """A bundle does not verify."""


class NotTrusted(CheckFailed):
    """An image has no good signature by a trusted key."""


class RegistryProblem(NotTrusted):
    """A registry does not answer, or not as it should: what can't be asked for can't be trusted.

    ``status``: of its answer; 0 when there was none.
    """

    def __init__(self, message: str, *, hint: str | None = None, status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Refused(IrkitError):
    """irkit will not do this now (a case is running, evidence is not sealed, the user said no)."""

    exit_code = ExitCode.REFUSED


class Interrupted(IrkitError):
    """A signal stopped the run; it can be resumed."""

    exit_code = ExitCode.INTERRUPTED


class Waiting(Interrupted):
    """An approval is missing, and the run was told not to wait: it can be resumed when there is one."""

    exit_code = ExitCode.WAITING


class ServerUnreachable(IrkitError):
    """A server that is not the engine does not answer (a timestamp authority); it may pass."""


class DeadlinePassed(IrkitError):
    """A step, or the run, took longer than the playbook gives it."""


class StorageError(IrkitError):
    """The disk under IRKIT_HOME is full or can't be written."""

    hint = "free some space, or set IRKIT_HOME to a folder on another disk; `irkit doctor` shows what is free"


class KeyProblem(IrkitError):
    """A key is missing, unreadable, of the wrong kind, or its passphrase is wrong."""


_DISK = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "read-only file system",
}


def storage_error(error: OSError, doing: str) -> StorageError:
    """Turn an ``OSError`` met while writing irkit's own files into a sentence."""
    reason = _DISK.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"{doing}: {reason}")


def transient(error: IrkitError) -> bool:
    """Whether the same call may succeed a moment later: nobody answered, or the engine had a trouble of its own."""
    if isinstance(error, EngineUnreachable | ServerUnreachable):
        return True
    return isinstance(error, EngineError) and error.status is not None and (error.status >= 500 or error.status == 429)
