"""What must hold before a volume is restored.  All of it is asked before anything is stopped or acquired, and again later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from irkit.acquire.volumes import Mounted
from irkit.engine.interface import Container, Engine
from irkit.errors import CheckFailed, NotFound, Refused, UsageProblem

if TYPE_CHECKING:
    from irkit.cases import Case


def check(engine: Engine, case: Case | None, container: Container, args: Mapping[str, Any], can_ask: bool) -> None:
    """Everything that can be said by looking.  ``args``: of ``volume.restore``, and ``stop``: whether it is stopped first.

    ``can_ask``: whether a person can be asked for secrets.  Raises ``Refused``, ``UsageProblem``, ``CheckFailed``.
    """
    allowed(engine, container, bool(args.get("stop")))
    chosen(container, str(args["volume"]))
    if not args["recreate"]:
        return
    contained = case is not None and case.state == "contained"
    needs_image(container.name, contained, str(args["image"]))
    before = _before(case, container) if contained else container
    from irkit.actions.recovery import refuse_task

    refuse_task(before, container.name)
    if not args["image"]:
        not_denied(container)
    if not can_ask and (contained or any(args.get(one) for one in ("secrets", "keep_secrets", "drop_secrets"))):
        _secrets_answered(engine, before, args)


def allowed(engine: Engine, container: Container, stopped: bool = False) -> None:
    """Raises ``Refused``."""
    if not engine.local:
        raise Refused(
            f"the engine {engine.endpoint} is reached from afar, and its volumes are folders of its own host",
            hint="run irkit on that host",
        )
    if os.geteuid() != 0:
        raise Refused("only root can give restored files their owners", hint="run irkit as root")
    if container.running and not container.paused and not stopped:
        raise Refused(
            f"{container.name} runs, and writes to the volume",
            hint=f"--stop stops it first; `irkit contain {container.name}` freezes it, where it is compromised; in a playbook, container.stop or container.freeze",
        )


def needs_image(name: str, contained: bool, image: str) -> None:
    """Raises ``Refused`` for a contained container without a clean image."""
    if contained and not image:
        raise Refused(
            f"{name} is contained: it is made anew only from a verified image",
            hint="--image REF, or --no-recreate for the volume alone",
        )


def not_denied(container: Container, image: str = "") -> None:
    """Raises ``CheckFailed`` when the image that it would be made from is denied here."""
    from irkit.trust import denied

    image = image or container.image_id
    if image in denied.load():
        raise CheckFailed(
            f"the image {image} is denied here: {container.name} is not made from it again", hint="--image REF"
        )


def chosen(container: Container, wanted: str) -> Mounted:
    """The volume that is meant: by its name or where it is mounted; the only one when none is named."""
    volumes = [one for one in map(Mounted.of, container.raw.get("Mounts") or ()) if one.type == "volume"]
    mine = [one for one in volumes if wanted in ("", one.name, one.destination)]
    if len(mine) != 1:
        known = ", ".join(f"{one.name} ({one.destination})" for one in volumes) or "none"
        what = f"no volume {wanted!r}" if wanted else f"{len(volumes)} volumes"
        raise UsageProblem(
            f"{container.name} has {what}", hint=f"--volume NAME or --volume DESTINATION; it has: {known}"
        )
    return mine[0]


def _before(case: Case | None, container: Container) -> Container:
    raw = case.read_json("container.json") if case is not None else None
    return Container(raw) if raw else container


def _secrets_answered(engine: Engine, before: Container, args: Mapping[str, Any]) -> None:
    """Raises ``Refused`` for a burnt one that nothing is said about.  Those of the clean image are not known yet."""
    from irkit.recover.config import recipe
    from irkit.recover.secrets import find_burnt, parse_answers, refuse_missing

    try:
        old_image = engine.image(before.image_id)
    except NotFound:
        old_image = None
    plan = recipe(before, old_image, str(args["image"]))
    refuse_missing(find_burnt(before, plan, None, parse_answers(args)))
