"""YARA rules, compiled (yara-x, the extra ``irkit[yara]``): for memory (``acquire``) and for files (``compare``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from irkit.errors import IrkitError, UsageProblem

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of one file of rules."""
MISSING = "yara-x is not installed"
HINT = "pip install 'irkit[yara]'"


@dataclass(frozen=True, slots=True)
class Sources:
    """Files of rules, each a namespace of its own, so that two files may use one name."""

    paths: tuple[Path, ...]

    def compiled(self) -> Any:
        """A ``yara_x.Rules``, compiled once for the same bytes.

        Raises ``UsageProblem`` that names file, line and column of what is wrong, and ``IrkitError`` without yara-x.
        """
        return _compiled(tuple((str(path), _read(path)) for path in self.paths))


def scanner(rules: Any, timeout: int, matches: int) -> Any:
    """A ``yara_x.Scanner``.  ``timeout``: seconds for one scan; ``matches``: at most so many places of one pattern."""
    found = module().Scanner(rules)
    found.set_timeout(timeout)
    found.max_matches_per_pattern(matches)
    return found


def module() -> Any:
    """The module ``yara_x``.  Raises ``IrkitError`` that says how to get it."""
    try:
        import yara_x
    except ImportError as error:
        raise IrkitError(MISSING, hint=HINT) from error
    return yara_x


def metadata(rule: Any) -> Mapping[str, str | int | float | bool]:
    """A rule's ``meta``; of a name that stands there twice, the first."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in rule.metadata:
        if isinstance(value, str | int | float | bool):
            found.setdefault(name, value)
    return found


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageProblem(f"can't read {path}: {error.strerror}") from error
    if len(data) > SIZE_LIMIT:
        raise UsageProblem(f"{path}: larger than {SIZE_LIMIT} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageProblem(f"{path}: not UTF-8 text") from error


@lru_cache(maxsize=8)
def _compiled(sources: tuple[tuple[str, str], ...]) -> Any:
    yara_x = module()
    compiler = yara_x.Compiler()
    compiler.enable_includes(False)
    for name, text in sources:
        compiler.new_namespace(name)
        try:
            compiler.add_source(text, origin=name)
        except yara_x.CompileError as error:
            raise UsageProblem(_words(name, compiler.errors(), error), hint=_shown(error)) from error
    return compiler.build()


def _words(name: str, errors: list[dict[str, Any]], error: Exception) -> str:
    if not errors:
        return f"{name}: {error}"
    first = errors[-1]
    return f"{name}:{first.get('line', 1)}:{first.get('column', 1)}: {first.get('title', error)}"


def _shown(error: Exception) -> str:
    """The last words of the compiler's drawing, which say what it expected."""
    lines = [line.strip(" |^-") for line in str(error).splitlines() if "^" in line]
    return next((line for line in lines if line), "the file can't be compiled")
