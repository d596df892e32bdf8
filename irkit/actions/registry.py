"""The explicit mapping from a name in a playbook to an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from irkit.actions import acquisition, closing, containment, recovery
from irkit.actions.context import Context, Result

Run = Callable[[Context, Mapping[str, Any]], Result]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: its type, and its default unless it is required."""

    name: str
    type: type
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """A verb.  ``effect``: ``read``, ``change`` or ``destroy``; ``urgent``: before isolation, so nothing slow is done for it."""

    name: str
    effect: str
    summary: str
    run: Run
    params: tuple[Param, ...] = ()
    urgent: bool = False


_ALL = (
    Action("container.freeze", "change", "Freeze every process of the target (pause).", containment.freeze, urgent=True),
    Action("container.thaw", "change", "Thaw the target, unless it was frozen before irkit came.", containment.thaw),
    Action("quarantine.seal", "change", "Leave every network and join the case's quarantine.", containment.seal, urgent=True),
    Action("quarantine.prove", "read", "Try to get out of the quarantine and into it.", containment.prove_quarantine, (Param("outside", str, ""), Param("timeout_ms", int, 250)), urgent=True),
    Action("quarantine.release", "change", "Give the target its former networks back.", containment.release),
    Action("acquire.processes", "read", "Processes from the host's /proc.", acquisition.processes, urgent=True),
    Action("acquire.network", "read", "Sockets, routes and neighbours from the host's /proc.", acquisition.network, urgent=True),
    Action("acquire.tmpfs", "read", "The contents of tmpfs mounts.", acquisition.tmpfs, (Param("profile", str, "standard"),)),
    Action("acquire.filesystem", "read", "Changed files as an OCI layer, with a list of changes.", acquisition.filesystem, (Param("profile", str, "standard"),)),
    Action("acquire.logs", "read", "Standard output and error, with times.", acquisition.logs),
    Action("acquire.engine", "read", "What the engine knows: inspect, image, history, networks.", acquisition.engine_state),
    Action("compare.findings", "read", "Match what was acquired against the rules.", closing.findings),
    Action("evidence.seal", "read", "Sign the bundle.", closing.seal),
    Action("evidence.verify", "read", "Read the sealed bundle back and check every byte.", closing.verify),
    Action("image.verify", "read", "Check that an image is signed by a trusted key, byte by byte.", recovery.verify_image, (Param("image", str, required=True), Param("signature", str, ""))),
    Action("recover.rebuild", "change", "Make the container anew from a verified image; keep the old one under another name.", recovery.rebuild, (Param("image", str, required=True), Param("image_id", str, required=True), Param("health_timeout", int, 60))),
)  # fmt: skip

ACTIONS: Mapping[str, Action] = {action.name: action for action in _ALL}
