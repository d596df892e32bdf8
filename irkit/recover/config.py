"""The body for ``POST /containers/create`` that makes a container as another one was, from another image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.engine.docker_config import endpoint_config
from irkit.engine.interface import Container, Endpoint, Image

FROM_IMAGE = ("Cmd", "Entrypoint", "WorkingDir", "User", "StopSignal", "Healthcheck", "Shell", "OnBuild")
OWN = (
    "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped",
    "NetworkDisabled", "StopTimeout", "MacAddress",
)  # fmt: skip
NO_NETWORK = ("host", "none")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to create: ``body`` for the engine, the networks to join afterwards, and what differs, in words.

    ``leave``: networks that the engine joins by itself and the old container was not on.  ``hidden``: texts that must
    stand in no message; neither they nor the body are in its ``repr``.
    """

    body: Mapping[str, Any] = field(repr=False)
    networks: tuple[Endpoint, ...]
    notes: tuple[str, ...]
    leave: tuple[str, ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)


def recipe(before: Container, old_image: Image | None, image_id: str) -> Recipe:
    """From the container as it was before irkit touched it.  What its old image brought is left to the new image."""
    brought = old_image.config if old_image else {}
    config = {name: before.config[name] for name in OWN if before.config.get(name) is not None}
    config.update(_commands(before, brought))
    config["Env"] = [item for item in before.config.get("Env") or () if item not in (brought.get("Env") or ())]
    for name in ("Labels", "ExposedPorts", "Volumes"):
        old = brought.get(name) or {}
        config[name] = {
            key: value for key, value in (before.config.get(name) or {}).items() if key not in old or old[key] != value
        }
    _name_itself(before, config)
    first, rest, leave, macs = _networks(before)
    if first is not None and first.mac:
        config["MacAddress"] = first.mac  # before API 1.44 that of an endpoint is not heeded
    body = {**config, "Image": image_id, "HostConfig": _host_config(before)}
    if first is not None and before.network_mode != "default":
        body["NetworkingConfig"] = {"EndpointsConfig": {first.network: endpoint_config(first)}}
    gone = (
        ["the old image is gone: what came from it can't be told from what was set on the container, all of it is kept"]
        if old_image is None
        else []
    )
    return Recipe(body, rest, (*gone, *_volume_notes(before), *macs), leave)


def _commands(before: Container, brought: Mapping[str, Any]) -> dict[str, Any]:
    """What was set on the container itself of the things that an image brings too."""
    found = {name: before.config[name] for name in FROM_IMAGE if before.config.get(name) and before.config[name] != brought.get(name)}  # fmt: skip
    if brought.get("Entrypoint") and not before.config.get("Entrypoint"):
        found["Entrypoint"] = [""]  # the API's way to have none although the image has one
    if "Entrypoint" in found and before.config.get("Cmd"):
        found["Cmd"] = before.config["Cmd"]  # with an entrypoint given, the engine takes no command from the image
    return found


def _name_itself(before: Container, config: dict[str, Any]) -> None:
    """The host's name, unless it is the container's id or belongs to who shares the network's namespace with it."""
    name, mode = before.config.get("Hostname"), before.network_mode
    if mode.startswith("container:"):
        config.pop("Domainname", None)
        config["ExposedPorts"] = {}  # refused there, and without a meaning
    elif name and name != before.id[:12] and mode != "host" and before.host_config.get("UTSMode") != "host":
        config["Hostname"] = name


def _networks(before: Container) -> tuple[Endpoint | None, tuple[Endpoint, ...], tuple[str, ...], list[str]]:
    """The network to be made on, those to join, those to leave again, and what to say about MAC addresses."""
    mode = before.network_mode
    if mode in NO_NETWORK or mode.startswith("container:"):
        return None, (), (), []
    main = "bridge" if mode == "default" else mode
    fresh, notes = [], []
    for old in before.endpoints:
        one = _fresh(before, old, main)
        fresh.append(one)
        if one.mac:
            notes.append(f"{old.network}: the MAC address {one.mac} is not the engine's own choice, and is kept")
    first = next((one for one in fresh if main in (one.network, one.network_id)), None)
    leave = () if first is not None else (main,)
    rest = tuple(one for one in fresh if one is not first)
    return first, rest, leave, notes


def _fresh(before: Container, endpoint: Endpoint, main: str) -> Endpoint:
    """An endpoint without what belonged to the old container alone: the addresses it was given, the alias of its id."""
    mac = endpoint.mac if endpoint.mac != generated_mac(endpoint.ipv4) else ""
    if endpoint.network == main:
        mac = str(before.config.get("MacAddress") or mac)
    fresh = Endpoint(
        endpoint.network, endpoint.network_id, "", "", mac, "", tuple(one for one in endpoint.aliases if one != before.id[:12]),
        endpoint.links, endpoint.fixed_ipv4, endpoint.fixed_ipv6, endpoint.driver_opts,
    )  # fmt: skip
    if endpoint.network == "bridge":  # it takes neither aliases nor addresses, and says so by refusing
        fresh = fresh._replace(aliases=(), links=(), fixed_ipv4="", fixed_ipv6="")
    return fresh


def generated_mac(ipv4: str) -> str:
    """The MAC address that an engine before version 28 makes of an IPv4 address (libnetwork, ``netutils.GenerateMACFromIP``)."""
    parts = ipv4.split(".")
    return "02:42:" + ":".join(f"{int(one):02x}" for one in parts) if len(parts) == 4 else ""


def _host_config(before: Container) -> dict[str, Any]:
    host = {name: value for name, value in before.host_config.items() if name not in ("ContainerIDFile",)}
    if host.get("Links"):
        host["Links"] = [_link(item) for item in host["Links"]]
    if host.get("Ulimits"):
        host["Ulimits"] = [{**one, "Name": _limit(str(one.get("Name") or ""))} for one in host["Ulimits"]]
    return host


def _limit(name: str) -> str:
    """``RLIMIT_NOFILE``, as Podman's inspect writes it, → ``nofile``, the only form that ``create`` takes."""
    return name.removeprefix("RLIMIT_").lower()


def _link(item: str) -> str:
    """``/db:/web/alias`` as inspect writes it → ``db:alias`` as create takes it."""
    source, _, target = item.partition(":")
    return f"{source.lstrip('/')}:{target.rpartition('/')[2]}"


def is_anonymous(container: Container, mount: Mapping[str, Any]) -> bool:
    """Whether a mount is a volume that the engine named: the next container would get another one."""
    if mount.get("Type") != "volume":
        return False
    named = {str(item).partition(":")[0] for item in container.host_config.get("Binds") or ()}
    wanted = container.host_config.get("Mounts") or ()
    named |= {str(item.get("Source")) for item in wanted if item.get("Source")}
    if mount.get("Name") in named:
        return False
    declared = set(container.config.get("Volumes") or ()) | {str(item.get("Target")) for item in wanted}
    # what --volumes-from brought is neither named nor declared here
    return mount.get("Destination") in declared or not container.host_config.get("VolumesFrom")


def _volume_notes(before: Container) -> list[str]:
    notes = []
    for mount in before.raw.get("Mounts") or ():
        if is_anonymous(before, mount):
            notes.append(
                f"{mount.get('Destination')}: its anonymous volume stays with the old container, the new one begins empty"
            )
        elif mount.get("RW") and mount.get("Type") != "tmpfs":
            notes.append(
                f"{mount.get('Destination')}: shared with the old container as it is; irkit has not checked its contents"
            )
    return notes
