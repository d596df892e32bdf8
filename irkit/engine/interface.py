"""What irkit asks of an engine, as types.  Shapes follow the Docker Engine API v1.41 (docs.docker.com/engine/api)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from irkit.engine.evidence_calls import EvidenceCalls

Json = Mapping[str, Any]


class Call(NamedTuple):
    """One call that irkit made to the engine: part of the custody."""

    method: str
    path: str
    status: int
    started: str
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """One line of the call log."""
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "started": self.started,
            "ms": self.milliseconds,
        }


class PortBinding(NamedTuple):
    """A published port: ``container_port`` (``80``), ``protocol`` (``tcp``), and where the host listens."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int

    @classmethod
    def from_inspect(cls, ports: Json | None) -> tuple[PortBinding, ...]:
        """From ``NetworkSettings.Ports``: ``{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}``."""
        found = []
        for key, bindings in (ports or {}).items():
            number, _, protocol = key.partition("/")
            for item in bindings or ():
                if item.get("HostPort"):
                    found.append(cls(int(number), protocol or "tcp", item.get("HostIp", ""), int(item["HostPort"])))
        return tuple(sorted(found, key=lambda one: (one.container_port, one.protocol, one.host_ip, one.host_port)))


class Endpoint(NamedTuple):
    """A container's place on one network, with what is needed to give it back the same one."""

    network: str
    network_id: str
    ipv4: str
    ipv6: str
    mac: str
    gateway: str
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    fixed_ipv4: str = ""
    fixed_ipv6: str = ""
    driver_opts: Mapping[str, str] = {}

    @classmethod
    def from_inspect(cls, name: str, raw: Json) -> Endpoint:
        """From one value of ``NetworkSettings.Networks``."""
        fixed = raw.get("IPAMConfig") or {}
        return cls(
            network=name,
            network_id=raw.get("NetworkID") or "",
            ipv4=raw.get("IPAddress") or "",
            ipv6=raw.get("GlobalIPv6Address") or "",
            mac=raw.get("MacAddress") or "",
            gateway=raw.get("Gateway") or "",
            aliases=tuple(raw.get("Aliases") or ()),
            links=tuple(raw.get("Links") or ()),
            fixed_ipv4=fixed.get("IPv4Address") or "",
            fixed_ipv6=fixed.get("IPv6Address") or "",
            driver_opts=dict(raw.get("DriverOpts") or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """As saved for a release."""
        return {
            "network": self.network, "network_id": self.network_id, "ipv4": self.ipv4, "ipv6": self.ipv6, "mac": self.mac,
            "gateway": self.gateway, "aliases": list(self.aliases), "links": list(self.links), "fixed_ipv4": self.fixed_ipv4,
            "fixed_ipv6": self.fixed_ipv6, "driver_opts": dict(self.driver_opts),
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Json) -> Endpoint:
        """The reverse of :meth:`to_json`."""
        return cls(**{**raw, "aliases": tuple(raw["aliases"]), "links": tuple(raw["links"])})


class Container(NamedTuple):
    """A container as the engine describes it (``GET /containers/{id}/json``)."""

    raw: Json

    @property
    def id(self) -> str:
        """The full 64-digit id."""
        return str(self.raw["Id"])

    @property
    def name(self) -> str:
        """The name without the engine's leading slash."""
        return str(self.raw["Name"]).removeprefix("/")

    @property
    def image_ref(self) -> str:
        """The image as the container's creator named it."""
        return str(self.raw["Config"].get("Image") or "")

    @property
    def image_id(self) -> str:
        """``sha256:…``: the config's digest (overlay2) or the manifest's (containerd image store)."""
        return str(self.raw["Image"])

    @property
    def state(self) -> Json:
        """``State`` as it is."""
        value: Json = self.raw["State"]
        return value

    @property
    def running(self) -> bool:
        """Whether processes exist (a paused container is running too)."""
        return bool(self.state.get("Running"))

    @property
    def paused(self) -> bool:
        """Whether it is frozen."""
        return bool(self.state.get("Paused"))

    @property
    def pid(self) -> int:
        """The first process's id in the engine's pid namespace, 0 when not running."""
        return int(self.state.get("Pid") or 0)

    @property
    def config(self) -> Json:
        """``Config`` as it is."""
        value: Json = self.raw["Config"]
        return value

    @property
    def host_config(self) -> Json:
        """``HostConfig`` as it is."""
        value: Json = self.raw["HostConfig"]
        return value

    @property
    def network_mode(self) -> str:
        """``default``, ``bridge``, ``host``, ``none``, ``container:ID`` or a network's name."""
        return str(self.host_config.get("NetworkMode") or "default")

    @property
    def restart_policy(self) -> dict[str, Any]:
        """``{"Name": "always", "MaximumRetryCount": 0}``."""
        return dict(self.host_config.get("RestartPolicy") or {"Name": "no", "MaximumRetryCount": 0})

    @property
    def auto_remove(self) -> bool:
        """Whether the engine removes it when it stops (``--rm``)."""
        return bool(self.host_config.get("AutoRemove"))

    @property
    def labels(self) -> Mapping[str, str]:
        """The container's labels."""
        value: Mapping[str, str] = self.config.get("Labels") or {}
        return value

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its networks, by name.

        Left out are those that refused a running container (address taken, none left): Docker 20.10 goes on naming
        them, without an id, an endpoint or an address.
        """
        networks = (self.raw.get("NetworkSettings") or {}).get("Networks") or {}
        marks = ("EndpointID", "NetworkID", "IPAddress")
        return tuple(
            Endpoint.from_inspect(name, networks[name])
            for name in sorted(networks)
            if not self.running or any(networks[name].get(mark) for mark in marks)
        )

    @property
    def ports(self) -> tuple[PortBinding, ...]:
        """Its published ports, as they are bound now."""
        return PortBinding.from_inspect((self.raw.get("NetworkSettings") or {}).get("Ports"))

    @property
    def graph_data(self) -> Mapping[str, str]:
        """The storage driver's folders; empty with the containerd image store."""
        value: Mapping[str, str] = (self.raw.get("GraphDriver") or {}).get("Data") or {}
        return value

    @property
    def log_path(self) -> str:
        """Where the engine's log driver writes, if it says so."""
        return str(self.raw.get("LogPath") or "")


class Member(NamedTuple):
    """A container on a network, as the network describes it."""

    container_id: str
    name: str
    ipv4: str
    ipv6: str


class Network(NamedTuple):
    """A network (``GET /networks/{id}``)."""

    raw: Json

    @property
    def id(self) -> str:
        """The full id."""
        return str(self.raw["Id"])

    @property
    def name(self) -> str:
        """The name."""
        return str(self.raw["Name"])

    @property
    def driver(self) -> str:
        """``bridge``, ``host``, ``null``, ``macvlan``, ``overlay`` …"""
        return str(self.raw.get("Driver") or "")

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        value: Mapping[str, str] = self.raw.get("Labels") or {}
        return value

    @property
    def gateways(self) -> tuple[str, ...]:
        """The gateways of its subnets, where the engine names them."""
        return tuple(item["Gateway"].partition("/")[0] for item in self._ipam if item.get("Gateway"))

    @property
    def _ipam(self) -> Sequence[Json]:
        return (self.raw.get("IPAM") or {}).get("Config") or ()

    @property
    def bridge(self) -> str:
        """The bridge's interface name on the engine's host (libnetwork: ``br-`` and 12 digits of the id)."""
        named = (self.raw.get("Options") or {}).get("com.docker.network.bridge.name")
        return str(named or f"br-{self.id[:12]}")

    @property
    def members(self) -> tuple[Member, ...]:
        """The running containers on it."""
        return tuple(
            Member(key, item.get("Name") or "", (item.get("IPv4Address") or "").partition("/")[0], (item.get("IPv6Address") or "").partition("/")[0])
            for key, item in sorted((self.raw.get("Containers") or {}).items())
        )  # fmt: skip


class NetworkSpec(NamedTuple):
    """A network to make."""

    name: str
    internal: bool
    options: Mapping[str, str]
    labels: Mapping[str, str]
    subnet: str = ""


class Image(NamedTuple):
    """An image (``GET /images/{name}/json``)."""

    raw: Json

    @property
    def id(self) -> str:
        """``sha256:…``."""
        return str(self.raw["Id"])

    @property
    def layers(self) -> tuple[str, ...]:
        """The digests of the uncompressed layers (``diff_ids``), lowest first."""
        return tuple((self.raw.get("RootFS") or {}).get("Layers") or ())

    @property
    def tags(self) -> tuple[str, ...]:
        """``repository:tag`` names."""
        return tuple(self.raw.get("RepoTags") or ())

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """``repository@sha256:…`` names."""
        return tuple(self.raw.get("RepoDigests") or ())

    @property
    def config(self) -> Json:
        """The container configuration that the image brings."""
        return self.raw.get("Config") or {}

    @property
    def created(self) -> str:
        """When it was made, RFC 3339."""
        return str(self.raw.get("Created") or "")

    @property
    def platform(self) -> str:
        """``linux/amd64``."""
        return f"{self.raw.get('Os', '')}/{self.raw.get('Architecture', '')}"


class EngineInfo(NamedTuple):
    """The engine itself (``GET /info`` and ``GET /version``)."""

    raw: Json
    version_raw: Json

    @property
    def id(self) -> str:
        """The engine's own id."""
        return str(self.raw.get("ID") or "")

    @property
    def version(self) -> str:
        """``20.10.24``."""
        return str(self.version_raw.get("Version") or self.raw.get("ServerVersion") or "")

    @property
    def api_version(self) -> str:
        """``1.41``."""
        return str(self.version_raw.get("ApiVersion") or "")

    @property
    def storage_driver(self) -> str:
        """``overlay2``, ``overlayfs`` (containerd image store) …"""
        return str(self.raw.get("Driver") or "")

    @property
    def cgroup_version(self) -> str:
        """``1`` or ``2``."""
        return str(self.raw.get("CgroupVersion") or "1")

    @property
    def log_driver(self) -> str:
        """The default log driver."""
        return str(self.raw.get("LoggingDriver") or "")

    @property
    def root_dir(self) -> str:
        """The engine's data root."""
        return str(self.raw.get("DockerRootDir") or "")

    @property
    def system_time(self) -> str:
        """The engine's clock, RFC 3339."""
        return str(self.raw.get("SystemTime") or "")


class Engine(EvidenceCalls, Protocol):
    """The seam between irkit and a container engine.

    Every method raises an error of the ``EngineError`` family: ``EngineUnreachable``, ``EnginePermission``,
    ``NotFound``, ``Conflict``, or ``EngineError`` for what else the engine refuses.
    """

    @property
    def endpoint(self) -> str:
        """The endpoint that is really talked to, as a URL."""

    @property
    def local(self) -> bool:
        """Whether it is reached by a unix socket, so that its host may be this one."""

    @property
    def calls(self) -> Sequence[Call]:
        """Every call made so far, oldest first."""

    def info(self) -> EngineInfo:
        """The engine's description of itself."""

    def container(self, ref: str) -> Container:
        """A container by name or id."""

    def containers(self, label: str = "") -> tuple[str, ...]:
        """Ids of all containers, running or not, with a label (``key`` or ``key=value``) if given."""

    def pause(self, container: str) -> None:
        """Freeze every process of it.  ``Conflict`` when it is paused or not running."""

    def unpause(self, container: str) -> None:
        """Thaw it."""

    def start(self, container: str) -> None:
        """Start it; no error when it runs already."""

    def stop(self, container: str, grace: int | None = 10) -> None:
        """Its stop signal (SIGTERM), ``grace`` seconds, SIGKILL; no error when it is stopped already.

        ``None``: as many seconds as the container itself was given (``StopTimeout``), else the engine's 10.
        """

    def rename(self, container: str, name: str) -> None:
        """Give it another name."""

    def remove(self, container: str, force: bool = False, volumes: bool = False) -> None:
        """Remove it.  ``volumes``: with its anonymous volumes that no other container has; else they are kept."""

    def set_restart_policy(self, container: str, policy: Json) -> None:
        """Change its restart policy."""

    def create(self, config: Json, name: str) -> str:
        """Make a container from an API v1.41 body; its id."""

    def service_tasks(self, service: str) -> tuple[Json, ...]:
        """The tasks of a Swarm service that shall run, whatever their state.  Raises ``EngineError`` off a manager."""

    def update_service(self, service: str, version: int, spec: Json) -> None:
        """Replace a Swarm service's whole spec.  ``version``: the index that it was read at; another one is refused."""

    def network(self, ref: str) -> Network:
        """A network by name or id."""

    def networks(self, label: str = "") -> tuple[Network, ...]:
        """All networks, with a label if given (without their members)."""

    def create_network(self, spec: NetworkSpec) -> str:
        """Make a bridge network; its id."""

    def remove_network(self, network: str) -> None:
        """Remove a network that has no containers."""

    def connect(self, network: str, container: str, endpoint: Endpoint | None = None) -> None:
        """Join a network, with the fixed addresses, aliases, links and options of ``endpoint``."""

    def disconnect(self, network: str, container: str) -> None:
        """Leave a network."""

    def image(self, ref: str) -> Image:
        """An image by name or id."""

    def image_ids(self) -> tuple[str, ...]:
        """Ids of all images, those without a name too; not the intermediate ones that a build left below them."""

    def remove_image(self, ref: str) -> None:
        """Remove a name of an image, and the image with its last one.  Raises ``Conflict`` while a container uses it."""

    def volume_names(self) -> tuple[str, ...]:
        """Names of all volumes, anonymous ones too."""

    def create_volume(self, name: str, labels: Mapping[str, str]) -> Json:
        """Make an empty volume of the ``local`` driver; as :meth:`volume` gives it.

        One of that name that is there already comes back as it is: ask for it first.
        """

    def remove_volume(self, name: str) -> None:
        """Remove a volume.  Raises ``Conflict`` while a container, running or not, uses it."""

    def image_history(self, ref: str) -> tuple[Json, ...]:
        """How the image was made, newest first."""

    def image_save(self, ref: str) -> Iterator[bytes]:
        """The image as ``docker save`` writes it, a tar stream."""

    def changes(self, container: str) -> tuple[Json, ...]:
        """``docker diff``: names only, and not to be relied on (engine-facts)."""

    def logs(self, container: str, stream: str) -> Iterator[bytes]:
        """``stdout`` or ``stderr`` from the beginning, each line with its RFC 3339 time."""

    def exec(self, container: str, argv: Sequence[str], *, detach: bool = False, user: str = "") -> tuple[int, bytes]:
        """Run a program in a running container (drills only): exit code and output; ``(0, b"")`` when detached.

        Standard error stands before standard output: the engine sends them in any order, even in the middle of a line.
        """
