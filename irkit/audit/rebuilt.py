"""What a rebuild would make, as a subject of an audit: the clean image with the configuration for the new container."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from irkit.audit.looked import Wanted
from irkit.audit.model import Json, Subject
from irkit.audit.policy import load_policy
from irkit.audit.programs import Limits
from irkit.audit.run import BY_ID, Audit, Gate, audit, gate, looked_at, of_image
from irkit.engine.interface import Engine
from irkit.errors import EngineError, NotFound
from irkit.host_paths import of_engine
from irkit.mounts import PROPAGATIONS, followed, seen_at, seen_through
from irkit.text import printable


@dataclass(frozen=True, slots=True)
class Word:
    """The audit's decision on what would be made.  ``fail_on``: the severity at which the policy stops it."""

    audit: Audit
    gate: Gate
    fail_on: str

    @property
    def reasons(self) -> tuple[str, ...]:
        """What stops it, a sentence each."""
        return tuple(printable(one, 300) for one in self.gate.reasons)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What else is not right or not known, and stops nothing."""
        return tuple(
            printable(f"{one.check.id} on {one.subject}: {one.evidence}", 300)
            for one in self.audit.findings
            if (one.bad or one.state == "unknown") and one not in self.gate.findings
        )

    def to_json(self) -> dict[str, Any]:
        """As ``audit`` of a run and of a plan."""
        return {
            "passed": self.gate.passed, "fail_on": self.fail_on, "counts": self.audit.counts(),
            "reasons": list(self.reasons), "warnings": list(self.warnings),
        }  # fmt: skip


def word_on(engine: Engine, name: str, body: Json, checkpoint: Callable[[], None] = lambda: None) -> Word | None:
    """What the audit says of a container that would be made with ``body``; ``None`` where the policy has no ``rebuild``.

    The image is scanned and listed where the policy says so.  Raises ``PlaybookInvalid``, ``NotFound``.
    """
    policy = load_policy(None, BY_ID)
    if not policy.rebuild:
        return None
    limits = Limits(float(policy.vulnerabilities.seconds), checkpoint=checkpoint)
    wanted = Wanted(policy.scan, policy.sbom)
    subjects = looked_at(engine, [of_recipe(engine, name, body)], wanted, policy, limits)
    found = audit(subjects, policy, datetime.datetime.now(datetime.UTC).date())
    return Word(found, gate(found, policy.rebuild), policy.rebuild)


def of_recipe(engine: Engine, name: str, body: Json) -> Subject:
    """From the body of ``POST /containers/create`` (Docker Engine API v1.41).  Raises ``NotFound`` without the image."""
    image = of_image(engine, str(body["Image"]))
    host: Mapping[str, Any] = body.get("HostConfig") or {}
    brought = (image.image or {}).get("Config") or {}
    own = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig") and value}
    container = {
        "Name": f"/{name}", "Config": {**brought, **own}, "HostConfig": host, "AppArmorProfile": _apparmor(host), "State": {"Running": False},
    }  # fmt: skip
    with contextlib.suppress(EngineError):  # without it the checks of mounts are `unknown`
        rows = [*_mounts(host), *_of_others(engine, host)]
        seen = seen_through(rows, _volumes(engine, host, rows))
        container["Mounts"] = followed(seen, partial(seen_at, of_engine(engine.endpoint), None))
    return Subject(
        name,
        container=container,
        image=image.image,
        history=image.history,
        base=image.base,
        info=_info(engine),
    )


def _info(engine: Engine) -> Json | None:
    try:
        return engine.info().raw
    except EngineError:
        return None


def _apparmor(host: Json) -> str:
    """The profile that the engine would choose; whether it has AppArmor at all, the check asks the engine's options."""
    for one in host.get("SecurityOpt") or ():
        if str(one).replace(":", "=", 1).startswith("apparmor="):
            return str(one)[len("apparmor=") :]
    return "unconfined" if host.get("Privileged") else "docker-default"


def _mounts(host: Json) -> Iterator[dict[str, Any]]:
    """Bind mounts and volumes, of both ways to ask for them."""
    for bind in host.get("Binds") or ():
        source, _, rest = str(bind).partition(":")
        destination, _, options = rest.partition(":")
        words = options.split(",")
        spread = next((one for one in words if one in PROPAGATIONS), "rprivate")
        named = {"Type": "bind", "Source": source} if source.startswith("/") else {"Type": "volume", "Name": source}
        yield {**named, "Destination": destination, "Propagation": spread, "RW": "ro" not in words}
    for mount in host.get("Mounts") or ():
        source, kind = str(mount.get("Source") or ""), mount.get("Type")
        place = {"Destination": str(mount.get("Target")), "RW": not mount.get("ReadOnly")}
        if kind == "bind":
            spread = str((mount.get("BindOptions") or {}).get("Propagation") or "rprivate")
            yield {"Type": "bind", "Source": source, "Propagation": spread, **place}
        elif kind == "volume":
            yield {"Type": "volume", "Name": source or place["Destination"], **place}


def _volumes(engine: Engine, host: Json, rows: list[Json]) -> Iterator[Json]:
    """Their inspects; of those that the engine makes with the container, as it will be.  Raises ``EngineError``."""
    asked: dict[str, Json] = {str(one["Name"]): {} for one in rows if one.get("Type") == "volume" and one.get("Name")}
    asked.update(_asked(host))
    for name, options in asked.items():
        try:
            yield engine.volume(name) if not name.startswith("/") else options
        except NotFound:
            yield {"Name": name, **options}


def _asked(host: Json) -> Iterator[tuple[str, Json]]:
    """The driver and the options that the request itself has for a volume; one without a name goes by its place."""
    for mount in host.get("Mounts") or ():
        if mount.get("Type") == "volume":
            driver = (mount.get("VolumeOptions") or {}).get("DriverConfig") or {}
            name = str(mount.get("Source") or mount.get("Target"))
            yield name, {"Name": name, "Driver": driver.get("Name"), "Options": driver.get("Options")}


def _of_others(engine: Engine, host: Json) -> Iterator[Json]:
    """What ``--volumes-from`` brings: all mounts of those containers.  Raises ``EngineError`` where one is not there."""
    for one in host.get("VolumesFrom") or ():
        yield from engine.container(str(one).partition(":")[0]).raw.get("Mounts") or ()
