"""What the fake engine remembers, and how an inspect shows it (shapes as Docker 20.10 answers, API v1.41)."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from irkit.clock import now
from irkit.engine.interface import Endpoint

NEVER = "0001-01-01T00:00:00Z"
NO_PID = 4194304
"""Process ids begin above the kernel's highest (``PID_MAX_LIMIT``), so that none of them is ever a real process."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a program prints, and the code it ends with; ``None`` for one that goes on running."""

    out: bytes = b""
    err: bytes = b""
    code: int | None = None


@dataclass(slots=True)
class FakeImage:
    """An image.  ``config`` is what it brings to a container."""

    tag: str
    config: dict[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] | None = None
    """Its layers' digests; ``None``: one of its own."""
    history: tuple[str, ...] = ("",)
    """``CreatedBy`` of each step, newest first."""
    repo_digests: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its id, the same in every fake engine."""
        return f"sha256:{hashlib.sha256(self.tag.encode()).hexdigest()}"

    def raw(self) -> dict[str, Any]:
        """As ``GET /images/{ref}/json`` shows it."""
        return {
            "Id": self.id, "RepoTags": [self.tag], "RepoDigests": list(self.repo_digests), "Created": "2026-01-01T00:00:00Z", "Os": "linux",
            "Architecture": "amd64", "Config": copy.deepcopy(self.config), "Size": 1,
            "RootFS": {"Type": "layers", "Layers": list(self._layers())},
        }  # fmt: skip

    def _layers(self) -> tuple[str, ...]:
        own = f"sha256:{hashlib.sha256(self.id.encode()).hexdigest()}"
        return (own,) if self.layers is None else self.layers

    def archive(self) -> bytes:
        """As ``docker save`` writes it, without layers."""
        name = f"{self.id.removeprefix('sha256:')}.json"
        files = {
            name: {"architecture": "amd64", "os": "linux", "config": self.config},
            "manifest.json": [{"Config": name, "RepoTags": [self.tag], "Layers": []}],
        }
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path, document in files.items():
                data = json.dumps(document).encode()
                entry = tarfile.TarInfo(path)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


@dataclass(slots=True)
class FakeNetwork:
    """A network.  ``own_subnet``: the user chose its subnet, so that fixed addresses are allowed."""

    id: str
    name: str
    driver: str = "bridge"
    internal: bool = False
    subnet: IPv4Network | None = None
    own_subnet: bool = False
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=now)

    @property
    def predefined(self) -> bool:
        """Whether it is one of those that every engine has."""
        return self.name in ("bridge", "host", "none")

    @property
    def gateway(self) -> str:
        """The first address of its subnet, which no container gets."""
        return str(next(iter(self.subnet.hosts()))) if self.subnet else ""

    def raw(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """As ``GET /networks/{ref}`` shows it."""
        config = {"Subnet": str(self.subnet)} if self.subnet else {}
        if config and not self.own_subnet:
            config["Gateway"] = self.gateway
        return {
            "Name": self.name, "Id": self.id, "Created": self.created, "Scope": "local", "Driver": self.driver, "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": None, "Config": [config] if config else []}, "Internal": self.internal,
            "Attachable": False, "Ingress": False, "Containers": dict(members), "Options": dict(self.options), "Labels": dict(self.labels),
        }  # fmt: skip


@dataclass(slots=True)
class Place:
    """A container's place on a network.  ``endpoint_id`` is set while it is really joined, which needs a running container."""

    network_id: str = ""
    fixed_ipv4: str = ""
    fixed_ipv6: str = ""
    aliases: list[str] | None = None
    links: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    endpoint_id: str = ""
    ipv4: str = ""
    prefix: int = 0
    gateway: str = ""

    @classmethod
    def asked(cls, endpoint: Endpoint | None) -> Place:
        """What ``connect`` asks for."""
        if endpoint is None:
            return cls()
        return cls(
            fixed_ipv4=endpoint.fixed_ipv4, fixed_ipv6=endpoint.fixed_ipv6, aliases=list(endpoint.aliases),
            links=list(endpoint.links), driver_opts=dict(endpoint.driver_opts),
        )  # fmt: skip

    @classmethod
    def from_body(cls, raw: Mapping[str, Any]) -> Place:
        """What ``create`` asks for, in the API's ``EndpointSettings``."""
        fixed = raw.get("IPAMConfig") or {}
        return cls(
            fixed_ipv4=fixed.get("IPv4Address", ""), fixed_ipv6=fixed.get("IPv6Address", ""), aliases=list(raw.get("Aliases") or ()),
            links=list(raw.get("Links") or ()), driver_opts=dict(raw.get("DriverOpts") or {}),
        )  # fmt: skip

    def leave(self) -> None:
        """What a stop takes away: the address, not the wish for one."""
        self.endpoint_id = self.ipv4 = self.gateway = ""
        self.prefix = 0

    def raw(self) -> dict[str, Any]:
        """As in ``NetworkSettings.Networks``."""
        fixed = {"IPv4Address": self.fixed_ipv4, "IPv6Address": self.fixed_ipv6}
        mac = "02:42:" + ":".join(f"{int(part):02x}" for part in self.ipv4.split(".")) if self.ipv4 else ""
        return {
            "IPAMConfig": {key: value for key, value in fixed.items() if value} or None, "Links": copy.copy(self.links),
            "Aliases": copy.copy(self.aliases), "NetworkID": self.network_id, "EndpointID": self.endpoint_id, "Gateway": self.gateway,
            "IPAddress": self.ipv4, "IPPrefixLen": self.prefix, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "MacAddress": mac, "DriverOpts": copy.copy(self.driver_opts),
        }  # fmt: skip


@dataclass(slots=True)
class FakeContainer:
    """A container.  ``status``: created, running, paused or exited."""

    id: str
    name: str
    image: FakeImage
    config: dict[str, Any]
    host_config: dict[str, Any]
    places: dict[str, Place]
    status: str = "created"
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started: str = NEVER
    finished: str = NEVER
    health: str = ""
    ports: dict[str, list[dict[str, str]] | None] = field(default_factory=dict)
    printed: list[tuple[str, bytes]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    exported: bytes = bytes(1024)
    created: str = field(default_factory=now)

    @property
    def running(self) -> bool:
        """Whether it has processes, frozen ones too."""
        return self.status in ("running", "paused")

    @property
    def mode(self) -> str:
        """Its network mode."""
        return str(self.host_config.get("NetworkMode") or "default")

    @property
    def volumes(self) -> dict[str, str]:
        """Names of the volumes that it was given by ``Binds``, and where they are mounted."""
        pairs = (str(one).split(":") for one in self.host_config.get("Binds") or ())
        return {pair[0]: pair[1] for pair in pairs if len(pair) > 1 and not pair[0].startswith("/")}

    def _mounts(self) -> list[dict[str, Any]]:
        return [
            {
                "Type": "volume", "Name": name, "Source": f"/nonexistent/volumes/{name}/_data", "Destination": point,
                "Driver": "local", "Mode": "z", "RW": True, "Propagation": "",
            }
            for name, point in self.volumes.items()
        ]  # fmt: skip

    def raw(self) -> dict[str, Any]:
        """As ``GET /containers/{ref}/json`` shows it."""
        state: dict[str, Any] = {
            "Status": self.status, "Running": self.running, "Paused": self.status == "paused", "Restarting": False, "OOMKilled": False,
            "Dead": False, "Pid": self.pid, "ExitCode": self.exit_code, "Error": self.error, "StartedAt": self.started,
            "FinishedAt": self.finished,
        }  # fmt: skip
        if self.health:
            state["Health"] = {"Status": self.health, "FailingStreak": 0, "Log": []}
        command = [*(self.config.get("Entrypoint") or ()), *(self.config.get("Cmd") or ())]
        return {
            "Id": self.id, "Created": self.created, "Path": command[0] if command else "", "Args": command[1:], "State": state,
            "Image": self.image.id, "LogPath": "", "Name": f"/{self.name}", "RestartCount": 0, "Driver": "overlay2", "Platform": "linux",
            "HostConfig": copy.deepcopy(self.host_config), "GraphDriver": {"Name": "overlay2", "Data": {}}, "Mounts": self._mounts(),
            "Config": copy.deepcopy(self.config),
            "NetworkSettings": {
                "Ports": copy.deepcopy(self.ports), "Networks": {name: place.raw() for name, place in self.places.items()},
            },
        }  # fmt: skip
