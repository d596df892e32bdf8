"""The journal of decisions: what became of each alert, and why.

Hash-chained like a run's (:mod:`irkit.playbook.journal`), in ``IRKIT_HOME/watch/journal.jsonl``.  A flood of alerts must not
become a flood of records: of one kind only the first few of a minute are written each, the others as one ``tally``.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from irkit.clock import now
from irkit.errors import EvidenceAltered
from irkit.playbook.journal import Journal, read_journal
from irkit.text import printable
from irkit.watch.state import State

SCHEMA = "irkit.decision/v1"
EACH = 10
"""Records of one kind in a minute."""
MINUTE = 60.0
ROTATE = 32 * 1024 * 1024
TAIL = 1000
"""How many of the last records are looked through for those that a kill may have kept from the journal."""
TALLIED = frozenset({"unmatched"})
"""Never written one by one."""
Tell = Callable[[Mapping[str, Any]], None]


class Decisions:
    """The journal being written; ``tell`` gets each record as it is printed."""

    def __init__(self, folder: Path, tell: Tell = lambda record: None) -> None:
        self._path = folder / "journal.jsonl"
        self._tell = tell
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._since = time.monotonic()
        self._journal = self._open()

    def _open(self) -> Journal:
        if not self._path.exists():
            return Journal(self._path)
        try:
            return Journal.reopen(self._path)
        except EvidenceAltered as error:
            raise EvidenceAltered(error.message, hint="look at it, then move it away to begin a new one") from error

    def write(self, decision: str, **facts: Any) -> None:
        """One record, on the disk when this returns.  Raises ``StorageError``."""
        self._journal.write(decision, **facts)
        self._tell({"schema": SCHEMA, "time": now(), "decision": decision, **facts})
        self._rotate()

    def commit(self, state: State, decision: str, **facts: Any) -> None:
        """The state as it is now, and a record of how it came to that: both, whenever the watch is killed.  Raises ``StorageError``."""
        facts["mark"] = secrets.token_hex(8)
        state.untold.append({"decision": decision, **facts})
        state.save()
        self.write(decision, **facts)
        state.untold.pop()

    def make_up(self, state: State) -> None:
        """What a watch that was killed had put into the state, and perhaps not into the journal."""
        there = {row.get("mark") for row in deque(read_journal(self._path), TAIL)}
        for record in state.untold:
            if record["mark"] not in there:
                self.write(record["decision"], **{name: value for name, value in record.items() if name != "decision"})
        state.untold.clear()

    def alert(self, decision: str, alert: Mapping[str, Any], why: str = "", **facts: Any) -> None:
        """What became of an alert; counted only, when there were many of the kind in this minute."""
        kind = (decision, str(alert.get("source", "")), str(facts.get("rule", "")))
        self._counts[kind] += 1
        if decision not in TALLIED and self._counts[kind] <= EACH:
            self.write(decision, alert=dict(alert), why=printable(why, 500), **facts)

    def tick(self, *, last: bool = False) -> None:
        """Each minute, and at the end, what was only counted."""
        if not last and time.monotonic() - self._since < MINUTE:
            return
        for (decision, source, rule), count in sorted(self._counts.items()):
            left = count if decision in TALLIED else count - EACH
            if left > 0:
                self.write("tally", of=decision, source=source, rule=rule, count=left)
        self._counts.clear()
        self._since = time.monotonic()

    def _rotate(self) -> None:
        if self._path.stat().st_size < ROTATE:
            return
        self._journal.close()
        beside = self._path.with_name(f"journal-{now()[:19].replace(':', '')}z.jsonl".lower())
        self._path.rename(beside)
        previous, self._journal = self._journal.head, Journal(self._path)
        self._journal.write("continued", file=beside.name, head=previous)

    def close(self) -> None:
        """No more records."""
        self.tick(last=True)
        self._journal.close()
