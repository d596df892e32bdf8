"""What the bytes of changed files say: kinds, ELF facts, text diffs, entries of files that matter, wiped logs.

All of it works on bytes that an attacker may have written: bounded in time and size, no exception for malformed input.
"""

from irkit.compare.content.catalog import FILES, entries, kind_of
from irkit.compare.content.diff import TextDiff, changed_lines, text_diff
from irkit.compare.content.elf import ElfFacts, elf_facts
from irkit.compare.content.logs import LogFacts, LogSide, is_log, log_wiped
from irkit.compare.content.looks import HEAD, Look, look
from irkit.compare.content.model import EntryChange, problem
from irkit.compare.content.randomness import entropy, sampled
from irkit.compare.content.vocabulary import FACTS

__all__ = [
    "FACTS", "FILES", "HEAD", "ElfFacts", "EntryChange", "LogFacts", "LogSide", "Look", "TextDiff", "changed_lines", "elf_facts", "entries", "entropy", "is_log", "kind_of",
    "log_wiped", "look", "problem", "sampled", "text_diff",
]  # fmt: skip
