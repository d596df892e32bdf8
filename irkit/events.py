"""Progress as an observer: the library never prints, the command line decides how to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Event(NamedTuple):
    """Something worth telling: ``kind`` is ``step-started``, ``step-finished``, ``note``, ``warning`` or ``progress``."""

    kind: str
    message: str
    step: str = ""
    outcome: str = ""
    seconds: float = 0.0


Observer = Callable[[Event], None]


def silent(event: Event) -> None:
    """An observer that tells nobody."""
