"""What a rebuild would make, as a subject of an audit: the clean image with the configuration for the new container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from irkit.audit.model import Json, Subject
from irkit.audit.run import of_image
from irkit.engine.interface import Engine
from irkit.errors import EngineError

PROPAGATIONS = ("shared", "rshared", "slave", "rslave", "private", "rprivate")


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
        container["Mounts"] = [*_mounts(host), *_of_others(engine, host)]
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


def _mounts(host: Json) -> Iterator[dict[str, str]]:
    """Bind mounts, of both ways to ask for them."""
    for bind in host.get("Binds") or ():
        source, _, rest = str(bind).partition(":")
        destination, _, options = rest.partition(":")
        if source.startswith("/"):
            spread = next((one for one in options.split(",") if one in PROPAGATIONS), "rprivate")
            yield {"Type": "bind", "Source": source, "Destination": destination, "Propagation": spread}
    for mount in host.get("Mounts") or ():
        if mount.get("Type") == "bind":
            spread = str((mount.get("BindOptions") or {}).get("Propagation") or "rprivate")
            yield {
                "Type": "bind",
                "Source": str(mount.get("Source")),
                "Destination": str(mount.get("Target")),
                "Propagation": spread,
            }


def _of_others(engine: Engine, host: Json) -> Iterator[Json]:
    """What ``--volumes-from`` brings: all mounts of those containers.  Raises ``EngineError`` where one is not there."""
    for one in host.get("VolumesFrom") or ():
        yield from engine.container(str(one).partition(":")[0]).raw.get("Mounts") or ()
