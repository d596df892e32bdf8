"""The watch itself: takes alerts, decides, moves runs on, and keeps what must not be forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from irkit.engine.interface import Engine
from irkit.errors import IrkitError
from irkit.home import home, private_folder
from irkit.text import printable
from irkit.watch.alert import Malformed, parse
from irkit.watch.children import Children
from irkit.watch.decide import Decider, Decision, told
from irkit.watch.inbox import Begun, Inbox, Note, Received, Thing
from irkit.watch.journal import Decisions, Tell
from irkit.watch.metrics import Metrics
from irkit.watch.model import Rules
from irkit.watch.rules import load_rules
from irkit.watch.runs import Runs
from irkit.watch.state import State

TAKE = 0.2
SAVE_EVERY = 1.0
BATCH = 50
ALIVE = 60.0


class Source(Protocol):
    """Something that puts alerts into the inbox until they end, or the watch does."""

    name: str

    def run(self) -> None:
        """In a thread of its own."""


@dataclass(slots=True)
class Watch:
    """One watch.  ``lasting``: sources that never end by themselves; ``ending``: those that do (a pipe, ``--once``)."""

    rules_path: Path
    rules: Rules
    engine: Engine
    state: State
    journal: Decisions
    metrics: Metrics
    inbox: Inbox
    children: Children
    say: Callable[[str], None]
    dry_only: bool = False
    reload: bool = False
    """Set by a signal's handler: a plain value, because a lock could be held by whom the signal interrupts."""
    ending: bool = False
    reloaders: list[Callable[[], None]] = field(default_factory=list)
    missed: int = 0
    runs: Runs = field(init=False)
    _decider: Decider = field(init=False)
    _ticked: float = field(default=0.0)
    _saved: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._decider = Decider(self.rules, self.engine, self.state, dry_only=self.dry_only)
        self.runs = Runs(self._decider, self.children, self.journal, self.metrics, self.say, self.dry_only)

    @classmethod
    def open(
        cls, rules_path: Path, engine: Engine, children: Children, say: Callable[[str], None], tell: Tell, *, dry_only: bool = False
    ) -> Watch:  # fmt: skip
        """With what was kept in ``IRKIT_HOME/watch``.  Raises the error tree for rules or a state that can't be read.

        Where there are dry runs only, they have a state of their own: what they handled is not handled.
        """
        rules = load_rules(rules_path)
        folder = private_folder(home() / "watch")
        state = State.load(folder / ("state-dry.json" if dry_only else "state.json"))
        journal = Decisions(folder, tell)
        return cls(rules_path, rules, engine, state, journal, Metrics(), Inbox(rules.queue), children, say, dry_only)

    @property
    def alive(self) -> bool:
        """Whether it still decides."""
        return time.monotonic() - self._ticked < ALIVE

    def run(self, ending: Sequence[Source], lasting: Sequence[Source], beside: Sequence[Source] = ()) -> None:
        """Until ``ending`` is set; or until all of ``ending`` have ended, when there is nothing lasting, with the runs.

        ``beside``: what keeps no watch from ending (metrics).
        """
        self.metrics.set("irkit_watch_start_timestamp_seconds", time.time())
        self._ticked = time.monotonic()
        self.journal.write(
            "watch-started",
            rules=str(self.rules.path),
            digest=self.rules.digest,
            sources=[one.name for one in (*ending, *lasting)],
        )
        self.runs.take_up()
        threads = [threading.Thread(target=self._source, args=(one,), daemon=True) for one in ending]
        others = [threading.Thread(target=self._source, args=(one,), daemon=True) for one in (*lasting, *beside)]
        for thread in (*threads, *others):
            thread.start()
        try:
            while not self.ending:
                self._round()
                idle = not len(self.inbox) and not any(one.is_alive() for one in threads)
                if not lasting and idle and not self._work_left():
                    break
                if not all(one.is_alive() for one in others):
                    raise IrkitError(
                        "a source that should last has ended: see the journal", hint="begin the watch anew"
                    )
        finally:
            self.inbox.stop.set()
            self._last_round()
        for thread in threads:
            thread.join(2.0)

    def _work_left(self) -> bool:
        """Whether anything but an approval is waited for."""
        self.runs.tick()
        return len(self.runs.jobs) > self.runs.waiting() or len(self.inbox) > 0

    def _source(self, source: Source) -> None:
        try:
            source.run()
        except IrkitError as error:
            self.inbox.put(Note("source-error", source.name, error.message))
        except Exception as error:  # one source's fault must not hide behind a thread that is gone
            self.inbox.put(Note("source-error", source.name, f"irkit's own fault: {type(error).__name__}: {error}"))

    def _round(self) -> None:
        self._ticked = time.monotonic()
        if self.reload:
            self.reload = False
            self._reload()
        for number in range(BATCH):
            thing = self.inbox.take(0.0 if number else TAKE)
            if thing is None:
                break
            self._thing(thing)
        self.runs.tick()
        self._dropped()
        self.journal.tick()
        self.metrics.set("irkit_watch_queue_length", len(self.inbox))
        if self.state.dirty and time.monotonic() - self._saved > SAVE_EVERY:
            self.state.save()
            self._saved = time.monotonic()

    def _last_round(self) -> None:
        """What came in is decided on and kept; it is started by the next watch."""
        while (thing := self.inbox.take(0.0)) is not None:
            self._thing(thing)
        self._dropped()
        self.state.save()
        self.journal.tick(last=True)
        self.journal.write(
            "watch-stopped", under_way=self.runs.under_way(), waiting=self.runs.waiting(), left=len(self.runs.jobs)
        )
        self.journal.close()

    def _thing(self, thing: Thing) -> None:
        if isinstance(thing, Begun):
            self.state.place(thing.position)
            self.state.save()
            return
        if isinstance(thing, Note):
            self.missed += 1
            if thing.kind == "gap" and thing.source == "events":
                self.metrics.count("irkit_watch_event_gaps_total")
            self.say(printable(f"{thing.source}: {thing.message}"))
            self.journal.write(thing.kind, source=thing.source, why=printable(thing.message, 500))
            return
        word = self._alert(thing)
        if thing.reply is not None:
            thing.reply.decision = word
            thing.reply.event.set()

    def _alert(self, thing: Received) -> str:
        self.metrics.count("irkit_watch_alerts_received_total", source=thing.source)
        self.metrics.set("irkit_watch_last_alert_timestamp_seconds", thing.time, source=thing.source)
        about = {"source": thing.source}
        try:
            alert = parse(thing.source, thing.line, thing.time, self._decider.rules.mapped)
            about = told(alert)
            decision = self._decider.decide(alert)
        except Malformed as error:
            decision = Decision("malformed", error.message)
        except IrkitError as error:
            decision = Decision("failed", error.message)
        except Exception as error:  # one alert's trouble must not end the watch
            decision = Decision("failed", f"irkit's own fault: {type(error).__name__}: {error}")
        if thing.position is not None:
            self.state.place(thing.position)
        self._tell(about, decision)
        return decision.word

    def _tell(self, about: dict[str, str], decision: Decision) -> None:
        self.metrics.count("irkit_watch_alerts_total", source=about["source"], decision=decision.word)
        self.missed += decision.word in ("malformed", "failed", "dropped", "unreachable", "unusable")
        facts = {"rule": decision.rule, "container": decision.container, "name": decision.name, "case": decision.case}
        facts = {name: value for name, value in facts.items() if value}
        if decision.job is None:
            return self.journal.alert(decision.word, about, decision.why, **facts)
        why, job = printable(decision.why, 500), {"job": decision.job.id, "playbook": decision.job.playbook_id}
        # before anything is begun
        return self.journal.commit(self.state, decision.word, alert=decision.job.alert, why=why, **facts, **job)

    def _dropped(self) -> None:
        for source, count in self.inbox.dropped().items():
            self.missed += count
            self.metrics.count("irkit_watch_alerts_total", count, source=source, decision="dropped")
            self.journal.write("dropped", source=source, count=count, why=f"{self.inbox.limit} alerts wait already")
            self.say(f"{source}: {count} alerts dropped: {self.inbox.limit} wait already")

    def _reload(self) -> None:
        """New rules, or the old ones if the new ones are no good."""
        try:
            rules = load_rules(self.rules_path)
            for one in self.reloaders:
                one()
        except IrkitError as error:
            self.metrics.count("irkit_watch_reloads_total", result="refused")
            self.journal.write("reload-refused", why=printable(error.message, 500), digest=self._decider.rules.digest)
            self.say(printable(f"the rules were not read anew, the old ones stay: {error.message}"))
            return
        self.rules = self._decider.rules = rules
        self.metrics.count("irkit_watch_reloads_total", result="done")
        self.journal.write("reloaded", digest=rules.digest, rules=str(rules.path))
        self.say(f"the rules were read anew: {len(rules.rules)} of them")
