"""What the bytes of a changed file say: what they are, what an ELF file tells of itself, what was changed in a text.

Each file's bytes go by once; one that is larger than ``WHOLE`` is digested whole and looked at up to there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from irkit.compare.describe import Value
from irkit.compare.evidence import Evidence
from irkit.models import Gap

if TYPE_CHECKING:
    from irkit.compare.content import EntryChange, TextDiff
    from irkit.compare.verdicts import Verdicts
    from irkit.compare.yara import Hit

BLOCK = 1024 * 1024
WHOLE = 64 * BLOCK
TEXT = 1024 * 1024
"""A text up to this size is searched by rules and compared line by line."""
HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """What was seen of one file.  ``values``: facts for rules; ``digests``: hex, by algorithm."""

    values: Mapping[str, Value] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    hits: Sequence[Hit] = ()
    entries: Sequence[EntryChange] = ()
    diff: TextDiff | None = None


NOTHING = Content()


class Examiner:
    """Looks at the files of a side."""

    def __init__(self, side: Evidence, verdicts: Verdicts, gaps: list[Gap]) -> None:
        self._side = side
        self._verdicts = verdicts
        self._gaps = gaps
        self._native = ""
