"""What ``irkit contain`` will do about a row: sentences that promise no more than contain does (docs/quarantine.md)."""

from __future__ import annotations

from dataclasses import dataclass

from irkit.engine.interface import Container
from irkit.quarantine.state import SavedState

PROBED_PEERS = 32  # as many of a network's peers as contain probes; the rest is a gap there
Answer = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Containment:
    """How far contain gets with this target.

    ``stays``: why it can't leave its network, or an empty string.  ``holder``: the container whose network namespace it
    shares, which leaves the networks in its place; empty when the namespace is its own.
    """

    running: bool
    visible: bool
    stays: str
    holder: str = ""

    @classmethod
    def of(cls, container: Container, visible: bool, holder: Container | None = None) -> Containment:
        """``visible``: whether the target's processes are seen from here, without which nothing can be probed."""
        # Asked of what contain itself goes by, so that the two never differ.
        stays = SavedState.of(container, holder).cannot_leave
        return cls(container.running, visible, stays, holder.name if holder else "")

    def network(self, what: str = "", probed: bool = True, limit: str = "") -> Answer:
        """The sentence and ``closed`` of what goes over a network.

        ``probed``: whether contain has a probe for it; ``limit``: what it probes, in words, when that is not all.
        """
        what = what or (
            f"{self.holder} leaves the network, and the target with it" if self.holder else "leaves the network"
        )
        if self.stays:
            return f"stays: {self.stays}; {self._stands_still('send or answer anything')}", "frozen"
        if not self.running:
            return f"{what}: closed; not probed, as the target is not running", "yes"
        if not self.visible:
            return f"{what}: closed; can't be probed from here", "yes"
        if limit:
            return f"{what}: closed; {limit}", "yes"
        return f"{what}: closed and probed" if probed else f"{what}: closed, not probed", "yes"

    def connection(self) -> Answer:
        """The sentence and ``closed`` of an established connection."""
        if self.stays:
            return f"not cut; {self._stands_still('send or answer anything')}", "frozen"
        return "dead once the network is left", "yes"

    def hold(self, verb: str, then: str = "") -> Answer:
        """The sentence and ``closed`` of what is not cut: the target can't ``verb`` as long as it does not run."""
        return f"not cut; {self._stands_still(verb)}" + (f"; {then}" if then else ""), "frozen"

    def _stands_still(self, verb: str) -> str:
        if self.running:
            return f"while the target is frozen it can't {verb}"
        return f"the target is not running and can't {verb} until somebody starts it"
