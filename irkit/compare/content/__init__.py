"""What the bytes of changed files say: kinds, ELF facts, text diffs, entries of files that matter, wiped logs.

All of it works on bytes that an attacker may have written: bounded in time and size, no exception for malformed input.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from irkit.compare.content.catalog import FILES, entries, kind_of
from irkit.compare.content.logs import LogFacts, LogSide, is_log, log_wiped
from irkit.compare.content.looks import HEAD, Look, look
from irkit.compare.content.model import EntryChange, problem
from irkit.compare.content.randomness import entropy, sampled
from irkit.compare.content.vocabulary import FACTS

if TYPE_CHECKING:
    from irkit.compare.content.diff import TextDiff, changed_lines, text_diff
    from irkit.compare.content.elf import ElfFacts, elf_facts

_LATER = {
    "ElfFacts": "elf", "elf_facts": "elf", "TextDiff": "diff", "changed_lines": "diff", "text_diff": "diff",
}  # fmt: skip
"""What few changes need, and whose import takes milliseconds: imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "FACTS", "FILES", "HEAD", "ElfFacts", "EntryChange", "LogFacts", "LogSide", "Look", "TextDiff", "changed_lines", "elf_facts", "entries", "entropy", "is_log", "kind_of",
    "log_wiped", "look", "problem", "sampled", "text_diff",
]  # fmt: skip
