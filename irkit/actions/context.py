"""What a run knows, handed to every action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from irkit.acquire.host import HostView
from irkit.actions.ahead import Ahead
from irkit.cases import Case
from irkit.clock import now
from irkit.engine.interface import Container, Engine, Network
from irkit.events import Event, Observer
from irkit.evidence.writer import BundleWriter
from irkit.home import write_json

if TYPE_CHECKING:
    from irkit.actions.relaying import Diversion
    from irkit.actions.shared import Shared
    from irkit.evidence.keys import Signer
    from irkit.evidence.seal import Sealed
    from irkit.models import Finding, Probe
    from irkit.profiles import Profile
    from irkit.target import Target
    from irkit.trust.model import Verdict


class Result(NamedTuple):
    """What an action did.  ``outcome``: succeeded, degraded (done, with gaps) or skipped (nothing to do)."""

    outcome: str
    message: str
    data: Mapping[str, Any] = {}


@dataclass(slots=True, eq=False, repr=False)
class Facts:
    """What the steps of a run found out, for later steps and for the run's result.  ``no_wall``: why no firewall is up."""

    timeline: dict[str, str] = field(default_factory=dict)
    view: HostView | None = None
    not_seen: str = ""
    processes: list[dict[str, Any]] = field(default_factory=list)
    sockets: list[dict[str, Any]] = field(default_factory=list)
    quarantine_state: str = ""
    quarantine_network: str = ""
    quarantine_note: str = ""
    bridge: str = ""
    no_wall: str = "none was put up"
    cables_cut: bool = False
    probes: tuple[Probe, ...] = ()
    own_rules_kept: bool = False
    helper: Verdict | None = None
    """The helper image, once it was verified: it is read whole for that."""
    sealed: Sealed | None = None
    findings: list[Finding] = field(default_factory=list)
    changes: int = 0
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False, repr=False)
class Context:
    """One run on one target.  ``planned``: the actions that the playbook uses.

    ``sealed_off`` is called when the target has left its networks, or could not; ``together``: the ids of all targets
    of the command.
    """

    engine: Engine
    case: Case
    run: str
    target: Target
    before: Container
    writer: BundleWriter
    observer: Observer
    checkpoint: Callable[[], None]
    signer: Callable[[], Signer]
    facts: Facts = field(default_factory=Facts)
    steps: list[dict[str, Any]] = field(default_factory=list)
    vars: Mapping[str, Any] = field(default_factory=dict)
    planned: frozenset[str] = frozenset()
    profile: Profile | None = None
    sealed_off: Callable[[], None] = lambda: None
    together: frozenset[str] = frozenset()
    shared: Shared | None = None
    """What it has in common with the other targets of the command."""
    network_ahead: Ahead[Network] | None = None
    diversion: Diversion | None = None
    """New connections to published ports go to the replacement by irkit meanwhile."""
    endings: list[Callable[[], None]] = field(default_factory=list)
    """Called when the run ends, in whatever way, before its result is written."""
    launch: Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]] | None = None
    """Run another playbook on another container: ``(playbook, target, vars)``."""
    ask_secret: Callable[[str], str | None] = lambda name: None
    """Ask a person for a variable's new value, hidden; ``None`` when there is nobody to ask."""
    agree: Callable[[str], bool] = lambda question: True
    """Ask whether what was just told may be done.  A playbook's own approvals come before its steps."""
    step: str = ""
    """The id of the step that runs now; of one beside it, see ``irkit.playbook.performer``."""
    _kept: bool = False

    def mark(self, moment: str) -> None:
        """Note a moment of the timeline."""
        self.facts.timeline[moment] = now()

    def warn(self, message: str) -> None:
        """Tell the responder."""
        self.observer(Event("warning", message))

    def note(self, message: str) -> None:
        """Tell the responder."""
        self.observer(Event("note", message))

    def keep_before(self) -> None:
        """Write down the target as it was, for a run that is killed and goes on: after the first step, not before it.

        Not of a run that encrypts as it writes, which can't go on: its environment would lie there plain.
        """
        if not self._kept:
            self._kept = True
            path = self.run_folder / "before.json"
            if not self.writer.identities and not path.exists():
                write_json(path, dict(self.before.raw))

    @property
    def run_folder(self) -> Path:
        """Where the journal lies."""
        return self.case.folder / "runs" / self.run

    @property
    def host_view(self) -> HostView | None:
        """The target's processes as seen from here, or ``None``: ``facts.not_seen`` says why."""
        if self.facts.view is None and not self.facts.not_seen:
            from irkit.acquire.host import locate

            found = locate(self.before)
            if isinstance(found, HostView):
                self.facts.view = found
            else:
                self.facts.not_seen = found
        return self.facts.view
