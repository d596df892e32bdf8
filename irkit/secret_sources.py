"""Secrets by reference, ``NAME=@FILE`` or ``NAME=fd:N``: clear text stands in no command, playbook, journal or result."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from irkit.errors import UsageProblem
from irkit.text import printable

REFERENCE = re.compile(r"(?P<name>[^=@\s\x00-\x1f]{1,128})=(?:@(?P<file>[^\x00]{1,4096})|fd:(?P<number>[0-9]{1,6}))")
LIMIT = 128 * 1024 - 1
"""Linux takes no longer string from an environment (MAX_ARG_STRLEN of execve(2))."""
FORM = "NAME=@FILE or NAME=fd:N; a value is never given in the clear"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value for one variable is to be read: a file, or a descriptor that irkit was started with."""

    name: str
    file: Path | None
    descriptor: int = -1

    def check(self) -> None:
        """Whether it can be read at all, reading nothing: a pipe gives its words only once.  Raises ``UsageProblem``."""
        if self.file is None:
            self._open().close()
        elif self.file.is_dir() or not os.access(self.file, os.R_OK):
            raise self._problem(f"{self.file} can't be read")

    def read(self) -> str:
        """The value, without one newline at its end.  Raises ``UsageProblem``, which never holds any of it."""
        what = str(self.file) if self.file is not None else f"the descriptor {self.descriptor}"
        try:
            with self._open() as source:
                raw = source.read(LIMIT + 2)
        except OSError as error:
            raise self._problem(f"{what} can't be read: {error.strerror}") from error
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        if not raw:
            raise self._problem(f"{what} is empty")
        if len(raw) > LIMIT:
            raise self._problem(f"{what} is longer than {LIMIT} bytes")
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            raise self._problem(f"{what} is not UTF-8") from None  # the error itself would quote from it
        if "\0" in value:
            raise self._problem(f"{what} has a NUL byte in it")
        return value

    def _open(self) -> IO[bytes]:
        if self.file is not None:
            return self.file.open("rb")
        try:
            inheritable = os.get_inheritable(self.descriptor)
        except OSError:
            inheritable = False
        # What irkit opens itself is not inheritable (PEP 446): a run that goes on must not take its own file for a secret.
        if not inheritable:
            raise self._problem(f"irkit was not started with a descriptor {self.descriptor}")
        return os.fdopen(self.descriptor, "rb", closefd=False)

    def _problem(self, words: str) -> UsageProblem:
        return UsageProblem(f"the secret {printable(self.name, 60)}: {printable(words, 200)}", hint=FORM)


def parse(text: object) -> Source:
    """One reference.  Raises ``UsageProblem``, without the words that it refuses: they may be a secret."""
    found = REFERENCE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UsageProblem("a secret is not given by a reference", hint=FORM)
    if found["file"] is not None:
        return Source(found["name"], Path(found["file"]).absolute())
    return Source(found["name"], None, int(found["number"]))


def parse_all(texts: Iterable[object]) -> tuple[Source, ...]:
    """Several, each name once.  Raises ``UsageProblem``."""
    found = tuple(parse(one) for one in texts)
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageProblem(f"the secret {printable(twice, 60)} is given twice", hint=FORM)
    return found
