"""Findings that another side shows as well: the same process, socket, setting or package, by its text, and as often."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from irkit.models import Finding

PID = re.compile(r"\bpid \d+")


class Known:
    """What the other side shows.  A process that was started anew has another pid, so a pid alone tells nothing.

    A second process with the text of a known one is shown: of several that can't be told apart, all are shown where there
    are more than on the other side.
    """

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._exact: set[tuple[str, str]] = set()
        self._counts: Counter[tuple[str, str]] = Counter()
        for one in findings:
            self._exact.add((one.rule, one.subject))
            self._counts[_text(one)] += 1

    def without(self, found: Iterable[Finding]) -> Iterator[Finding]:
        """Those that the other side does not show; all findings of one text must be in one call."""
        if not self._counts:
            yield from found
            return
        rest: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        left = self._counts.copy()
        for one in found:
            if (one.rule, one.subject) in self._exact:
                left[_text(one)] -= 1
            else:
                rest[_text(one)].append(one)
        for text, several in rest.items():
            if len(several) > left[text]:
                yield from several


def _text(one: Finding) -> tuple[str, str]:
    return one.rule, PID.sub("pid", one.subject)
