"""The explicit mapping from a name in a playbook to an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

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
    rehearsed: bool = True
    """Whether a dry run of something that only reads may run it: a proof of a quarantine that was not made is none."""


def _in(module: str, function: str) -> Run:
    """An action's code, imported when it is first run: every import counts before the target is frozen."""

    def run(context: Context, arguments: Mapping[str, Any]) -> Result:
        loaded: Run = getattr(import_module(f"irkit.actions.{module}"), function)
        return loaded(context, arguments)

    return run


PROFILED = "acquire.profile"
"""Never runs as itself: :mod:`irkit.playbook.profiled` puts the collectors' steps in its place."""

_ALL = (
    Action("container.freeze", "change", "Freeze every process of the target (pause).", _in("containment", "freeze"), urgent=True),
    Action("container.thaw", "change", "Thaw the target, unless it was frozen before irkit came.", _in("containment", "thaw")),
    Action("quarantine.seal", "change", "Leave every network and join the case's quarantine.", _in("containment", "seal"), urgent=True),
    Action("quarantine.prove", "read", "Try to get out of the quarantine and into it.", _in("proof", "prove_quarantine"), (Param("outside", str, ""), Param("timeout_ms", int, 1000)), urgent=True, rehearsed=False),
    Action("quarantine.observe", "change", "Let the target run inside its proven quarantine, and record its traffic.", _in("observation", "observe"), (Param("seconds", int, 60), Param("sinkhole", bool, False), Param("limit_bytes", int, 256 * 1024 * 1024))),
    Action("quarantine.release", "change", "Give the target its former networks back.", _in("containment", "release")),
    Action("acquire.processes", "read", "Processes from the host's /proc.", _in("acquisition", "processes"), urgent=True),
    Action("acquire.network", "read", "Sockets, routes and neighbours from the host's /proc.", _in("acquisition", "network"), urgent=True),
    Action("acquire.mapped", "read", "A digest of every mapped executable, and the bytes of those that no disk keeps.", _in("acquisition", "mapped"), (Param("profile", str, "standard"),)),
    Action("acquire.memory", "read", "Memory as ELF core files, as the profile asks.", _in("acquisition", "memory"), (Param("profile", str, "full"),)),
    Action("acquire.checkpoint", "read", "A CRIU checkpoint by the engine, where it can; the target goes on as before.", _in("acquisition", "checkpoint"), (Param("profile", str, required=True),)),
    Action("acquire.tmpfs", "read", "The contents of tmpfs mounts.", _in("acquisition", "tmpfs"), (Param("profile", str, "standard"),)),
    Action("acquire.filesystem", "read", "Changed files as an OCI layer, with a list of changes.", _in("acquisition", "filesystem"), (Param("profile", str, "standard"),)),
    Action("acquire.export", "read", "The whole file system by the engine's export, with every file's digest.", _in("storage", "export"), (Param("profile", str, "full"),)),
    Action("acquire.volumes", "read", "Volumes and bind mounts, as the profile asks.", _in("storage", "volumes"), (Param("profile", str, "full"),)),
    Action("acquire.image", "read", "What the image is: manifests, configuration, layers.", _in("storage", "image")),
    Action("acquire.image-save", "read", "The image itself, as the engine saves it.", _in("storage", "image_save"), (Param("profile", str, "full"),)),
    Action("acquire.logs", "read", "Standard output and error, with times, and the log driver's own files.", _in("acquisition", "logs"), (Param("profile", str, "standard"),)),
    Action("acquire.host", "read", "Kernel, modules, clock and settings of the target's host.", _in("acquisition", "host")),
    Action("acquire.engine", "read", "What the engine knows: inspect, image, history, networks, volumes, events.", _in("acquisition", "engine_state")),
    Action(PROFILED, "read", "Each collector that a profile asks for, in its order, as a step of its own.", _in("acquisition", "profiled"), (Param("profile", str, "standard"), Param("stage", str, required=True))),
    Action("compare.findings", "read", "Match what was acquired against the rules.", _in("closing", "findings")),
    Action("evidence.seal", "read", "Sign the bundle.", _in("closing", "seal")),
    Action("evidence.verify", "read", "Read the sealed bundle back and check every byte.", _in("closing", "verify")),
    Action("image.verify", "read", "Check that an image is signed by a trusted key, byte by byte.", _in("recovery", "verify_image"), (Param("image", str, required=True), Param("signature", str, ""))),
    Action("recover.rebuild", "change", "Make the container anew from a verified image; keep the old one under another name.", _in("recovery", "rebuild"), (Param("image", str, required=True), Param("image_id", str, required=True), Param("health_timeout", int, 60))),
)  # fmt: skip

ACTIONS: Mapping[str, Action] = {action.name: action for action in _ALL}
