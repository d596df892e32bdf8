"""The body for ``POST /containers/create`` that makes a container as another one was, from another image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irkit.engine.docker_config import endpoint_config
from irkit.engine.interface import Container, Endpoint, Image

FROM_IMAGE = ("Cmd", "Entrypoint", "WorkingDir", "User", "StopSignal", "Healthcheck", "Shell", "OnBuild")
OWN = (
    "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped",
    "NetworkDisabled", "StopTimeout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to create: ``body`` for the engine, the networks to join afterwards, and what differs, in words."""

    body: Mapping[str, Any]
    networks: tuple[Endpoint, ...]
    notes: tuple[str, ...]


def recipe(before: Container, old_image: Image | None, image_id: str) -> Recipe:
    """From the container as it was before irkit touched it.  What its old image brought is left to the new image."""
    config: dict[str, Any] = {name: before.config[name] for name in OWN if name in before.config}
    notes = []
    if old_image is None:
        notes.append(
            "the old image is gone: what came from it can't be told from what was set on the container, all of it is kept"
        )
    brought = old_image.config if old_image else {}
    for name in FROM_IMAGE:
        value = before.config.get(name)
        if value and value != brought.get(name):
            config[name] = value
    config["Env"] = [item for item in before.config.get("Env") or () if item not in (brought.get("Env") or ())]
    for name in ("Labels", "ExposedPorts", "Volumes"):
        old = brought.get(name) or {}
        config[name] = {
            key: value for key, value in (before.config.get(name) or {}).items() if key not in old or old[key] != value
        }
    if before.config.get("Hostname") and before.config["Hostname"] != before.id[:12] and before.network_mode != "host":
        config["Hostname"] = before.config["Hostname"]
    endpoints = tuple(_fresh(before, one) for one in before.endpoints)
    first = next((one for one in endpoints if one.network == before.network_mode), None)
    body = {**config, "Image": image_id, "HostConfig": _host_config(before)}
    if first is not None:
        body["NetworkingConfig"] = {"EndpointsConfig": {first.network: endpoint_config(first)}}
    rest = tuple(one for one in endpoints if one is not first and one.network not in ("bridge", "host", "none"))
    return Recipe(body, rest, (*notes, *_volume_notes(before)))


def _host_config(before: Container) -> dict[str, Any]:
    host = {name: value for name, value in before.host_config.items() if name not in ("ContainerIDFile",)}
    if host.get("Links"):
        host["Links"] = [_link(item) for item in host["Links"]]
    return host


def _link(item: str) -> str:
    """``/db:/web/alias`` as inspect writes it → ``db:alias`` as create takes it."""
    source, _, target = item.partition(":")
    return f"{source.lstrip('/')}:{target.rpartition('/')[2]}"


def _fresh(before: Container, endpoint: Endpoint) -> Endpoint:
    """An endpoint without what belonged to the old container alone: its MAC and the alias of its id."""
    aliases = tuple(one for one in endpoint.aliases if one != before.id[:12])
    return Endpoint(
        endpoint.network, endpoint.network_id, "", "", "", "", aliases, endpoint.links, endpoint.fixed_ipv4, endpoint.fixed_ipv6,
        endpoint.driver_opts,
    )  # fmt: skip


def _volume_notes(before: Container) -> list[str]:
    named = {str(item).partition(":")[0] for item in before.host_config.get("Binds") or ()}
    named |= {str(item.get("Source")) for item in before.host_config.get("Mounts") or ()}
    notes = []
    for mount in before.raw.get("Mounts") or ():
        if mount.get("Type") == "volume" and mount.get("Name") not in named:
            notes.append(
                f"{mount.get('Destination')}: its anonymous volume stays with the old container, the new one begins empty"
            )
        elif mount.get("RW"):
            notes.append(
                f"{mount.get('Destination')}: shared with the old container as it is; irkit has not checked its contents"
            )
    return notes
