"""Digests that must never run here again: ``IRKIT_HOME/denied.json``, beside the trust policy and stronger than it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from irkit.clock import now
from irkit.errors import StorageError, UsageProblem, storage_error
from irkit.home import home, private_folder, write_json
from irkit.trust.reference import DIGEST

SCHEMA = "irkit.denied/v1"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why and since when."""

    digest: str
    why: str
    time: str

    def to_json(self) -> dict[str, str]:
        """As in ``irkit image deny --json``."""
        return {"digest": self.digest, "why": self.why, "time": self.time}


def path() -> Path:
    """The list's file."""
    return home() / "denied.json"


def load() -> Mapping[str, Denial]:
    """All denied digests.  A list that can't be read is an error, never an empty one.  Raises ``StorageError``."""
    try:
        raw = json.loads(path().read_bytes())
        if raw["schema"] != SCHEMA:
            raise ValueError("not a list of this version")
        rows = [Denial(str(one["digest"]), str(one["why"]), str(one["time"])) for one in raw["denied"]]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, f"can't read {path()}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path()} can't be read: {error}",
            hint="until it is mended no image is trusted here: mend it, or remove it",
        ) from error
    return {one.digest: one for one in rows}


def add(digests: Iterable[str], why: str) -> list[Denial]:
    """Deny digests (of an index, manifest, configuration or layer).  One that is denied already stays as it is.

    Raises ``UsageProblem``, ``StorageError``.
    """
    wanted = list(digests)
    for one in wanted:
        if not DIGEST.fullmatch(one):
            raise UsageProblem(f"not a digest: {one!r}", hint="sha256: and 64 digits, in lower case")
    with _locked():
        rows = dict(load())
        for one in wanted:
            rows.setdefault(one, Denial(one, why, now()))
        _save(rows.values())
    return [rows[one] for one in wanted]


def remove(digests: Iterable[str]) -> list[Denial]:
    """Allow digests again; those that were denied.  Raises ``UsageProblem`` for one that is not."""
    with _locked():
        rows = dict(load())
        missing = [one for one in digests if one not in rows]
        if missing:
            raise UsageProblem(f"not denied: {missing[0]!r}", hint="`irkit image deny` lists what is")
        gone = [rows.pop(one) for one in digests]
        _save(rows.values())
    return gone


def _save(rows: Iterable[Denial]) -> None:
    write_json(path(), {"schema": SCHEMA, "denied": [one.to_json() for one in rows]})


@contextmanager
def _locked() -> Iterator[None]:
    folder = private_folder(home())
    with (folder / ".denied.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
