"""The new container held against the old one, field by field: what differs, and why it does.

Only names of fields are told, never values: an environment, a label or a command may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.engine.interface import Container
from irkit.recover.config import generated_mac, is_anonymous
from irkit.text import printable

UNEXPECTED = "unexpected"
GIVEN_ANEW = frozenset(
    ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen")
)
"""Fields of an endpoint that the engine chooses when it joins a network (Engine API v1.41, ``EndpointSettings``)."""
NETWORK = re.compile(r"Networks\[(?P<name>[^\]]*)\](?:\.(?P<field>.*))?", re.DOTALL)
MOUNT = re.compile(r"Mounts\[(?P<place>.*)\](?:\.(?P<field>[A-Za-z]+))?", re.DOTALL)
BY_NAME = frozenset(("Env", "Labels", "ExposedPorts", "Volumes", "PortBindings", "Sysctls", "Tmpfs", "StorageOpt"))
"""Mappings whose keys are somebody's own names."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of ``inspect`` that is not as it was: ``Config.Env[NAME]``, ``Networks[NAME].MacAddress``, ``Mounts[/data].Name``.

    ``why``: one word: ``image``, ``id``, ``secret``, ``hardened``, ``network``, ``volume``, ``port``, ``refused``,
    or ``unexpected``.
    """

    path: str
    why: str

    def to_json(self) -> dict[str, str]:
        """As in ``rebuilt.differs``."""
        return {"field": printable(self.path, 300), "why": self.why}


@dataclass(frozen=True, slots=True)
class Meant:
    """What was meant to differ.

    ``secrets``: variables with new values.  ``hardened``: fields that were changed, with all below them.
    ``old_image``, ``new_image``: the images' ``Config``; a field may differ by them only if its values are theirs.
    """

    secrets: frozenset[str] = frozenset()
    hardened: frozenset[str] = frozenset()
    old_image: Mapping[str, Any] = field(default_factory=dict)
    new_image: Mapping[str, Any] = field(default_factory=dict)


def differences(before: Container, after: Container, meant: Meant) -> tuple[Difference, ...]:
    """Every field of ``Config``, ``HostConfig``, networks, published ports and mounts that is not equal."""
    return _Comparison(before, after, meant).run()


def fields(container: Container) -> dict[str, Any]:
    """The compared parts of ``inspect``, flat.  Nothing, null and empty are the same to the engine, and are left out."""
    settings = container.raw.get("NetworkSettings") or {}
    return {
        **_config_fields(container.config),
        **dict(_flat("HostConfig", container.host_config)),
        **dict(_flat("Networks", settings.get("Networks") or {}, named=True)),
        **dict(_flat("Ports", settings.get("Ports") or {}, named=True)),
        **dict(
            _flat("Mounts", {str(one.get("Destination")): one for one in container.raw.get("Mounts") or ()}, named=True)
        ),
    }


def _config_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    pairs = (str(entry).partition("=") for entry in config.get("Env") or ())
    env = {name: value if mark else None for name, mark, value in pairs}
    return dict(_flat("Config", {**config, "Env": env}))


def _flat(path: str, value: Any, *, named: bool = False) -> Iterator[tuple[str, Any]]:
    """Mappings field by field, ``named`` ones as ``path[name]``; lists are one value, as their order matters."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            inside = f"{path}[{key}]" if named else f"{path}.{key}"
            yield from _flat(inside, inner, named=not named and key in BY_NAME)
    if path.endswith("]"):  # that it is there says something, even of {"80/tcp": {}}
        yield path, bool(value) if isinstance(value, Mapping) else value
    elif not isinstance(value, Mapping) and value not in (None, "", []):
        yield path, value


@dataclass(frozen=True, slots=True)
class _Comparison:
    before: Container
    after: Container
    meant: Meant

    def run(self) -> tuple[Difference, ...]:
        old, new = fields(self.before), fields(self.after)
        old_image, new_image = _config_fields(self.meant.old_image), _config_fields(self.meant.new_image)
        found = []
        for path in sorted({*old, *new}):
            one, other = old.get(path), new.get(path)
            if one != other or (path in old) != (path in new):
                images = one in (None, old_image.get(path)) and other in (None, new_image.get(path))
                found.append(Difference(path, self._why(path, one, other, images)))
        return tuple(found)

    def _why(self, path: str, old: Any, new: Any, images: bool) -> str:
        if any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in self.meant.hardened):
            return "hardened"
        if path.startswith("Config.Env[") and path[len("Config.Env[") : -1] in self.meant.secrets:
            return "secret"
        if path == "Config.Image" or (path.startswith("Config.") and images):
            return "image"
        if path == "Config.Hostname" and old in (None, self.before.id[:12]) and new in (None, self.after.id[:12]):
            return "id"
        if path == "HostConfig.ContainerIDFile":
            return "id"
        for form, judge in ((NETWORK, self._network), (MOUNT, self._mount)):
            if (match := form.fullmatch(path)) is not None:
                return judge(match[1], match[2] or "", old, new)
        return self._port(path) if path.startswith("Ports[") else UNEXPECTED

    def _network(self, name: str, last: str, old: Any, new: Any) -> str:
        endpoint = next((one for one in self.before.endpoints if one.network == name), None)
        if endpoint is None:  # Docker 20.10 goes on naming a network that the container could not join
            return "refused" if new is None else UNEXPECTED
        if last in GIVEN_ANEW:
            fixed = {"IPAddress": endpoint.fixed_ipv4, "GlobalIPv6Address": endpoint.fixed_ipv6}.get(last)
            return UNEXPECTED if fixed and new != fixed else "network"
        if last == "MacAddress":
            return "network" if not old or old == generated_mac(endpoint.ipv4) else UNEXPECTED
        if (name, last) == ("bridge", "DNSNames"):
            return "network"  # only of one that joined later; nobody is found by name there
        if last in ("Aliases", "DNSNames"):
            return "id" if _without(old, self.before) == _without(new, self.after) else UNEXPECTED
        return UNEXPECTED

    def _mount(self, place: str, last: str, old: Any, new: Any) -> str:
        mount = next((one for one in self.before.raw.get("Mounts") or () if one.get("Destination") == place), None)
        if mount is not None and last in ("Name", "Source") and is_anonymous(self.before, mount):
            return "volume"
        by = [self.meant.old_image if new is None else {}, self.meant.new_image if old is None else {}]
        return "image" if any(place in (one.get("Volumes") or {}) for one in by) else UNEXPECTED

    def _port(self, path: str) -> str:
        """The engine chooses a host's port where none was asked for."""
        port = path.removeprefix("Ports[").removesuffix("]")
        wanted = (self.before.host_config.get("PortBindings") or {}).get(port) or ()
        chosen = not wanted or any(one.get("HostPort") in ("", "0", None) for one in wanted)
        return "port" if chosen else UNEXPECTED


def _without(names: Any, container: Container) -> list[str]:
    """Names but for the one that is the container's id."""
    return [str(one) for one in names or () if one != container.id[:12]]
