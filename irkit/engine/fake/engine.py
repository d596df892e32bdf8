"""An engine in memory, at the interface :class:`irkit.engine.interface.Engine`: for unit tests of what goes wrong.

It keeps containers, networks with their addresses, and images, and refuses what Docker 20.10 refuses, in the same
words and with the same errors.  That it does is checked by ``tests/contract``, which the real engines pass too.  Beyond
the interface a test may stage a failure (:meth:`FakeEngine.fail`, :meth:`FakeEngine.die`), something that happens
between two calls (:meth:`FakeEngine.before`), and ask what was changed (:attr:`FakeEngine.mutations`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from irkit.clock import now
from irkit.engine.fake.evidence import FakeEvidence, fake_volume
from irkit.engine.fake.networks import FakeNetworks, has
from irkit.engine.fake.state import NO_PID, FakeContainer, FakeImage, FakeNetwork, Place, Program
from irkit.engine.interface import Call, Container, EngineInfo, Image, Json
from irkit.engine.wire import error_for
from irkit.errors import EngineError

ENDPOINT = "unix:///nowhere/fake-docker.sock"
DEFAULT_POOL = "10.231.128.0/17"
VERSION = "20.10.24"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
TAKEN = (
    'Conflict. The container name "/{name}" is already in use by container "{id}". '
    "You have to remove (or rename) that container to be able to reuse that name."
)
BAD_NAME = "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"


class FakeEngine(FakeNetworks, FakeEvidence):
    """An engine with the networks that every engine has, and with ``images``.

    ``pool``/``pool_size``: where it takes subnets from when none is asked for.
    """

    def __init__(
        self,
        *images: str,
        endpoint: str = ENDPOINT,
        pool: str = DEFAULT_POOL,
        pool_size: int = 24,
        version: str = VERSION,
    ) -> None:
        super().__init__(endpoint)
        self.programs: dict[tuple[str, ...], Program] = {}
        self._version = version
        self._pool, self._pool_size = IPv4Network(pool), pool_size
        self.volumes, self.remembered, self.objects, self.updates, self.task_states = {}, [], {}, [], []
        self._containers: dict[str, FakeContainer] = {}
        self._images = [FakeImage(tag, {"Env": ["PATH=/bin"], "Labels": {}}) for tag in images]
        self._networks: dict[str, FakeNetwork] = {}
        docker0 = {"com.docker.network.bridge.name": "docker0"}
        bridge = FakeNetwork(self._new_id("network"), "bridge", subnet=IPv4Network("10.231.0.0/24"), options=docker0)
        for one in (
            bridge,
            *(FakeNetwork(self._new_id("network"), *pair) for pair in (("host", "host"), ("none", "null"))),
        ):
            self._networks[one.id] = one

    # -- what a test stages and asks ---------------------------------------------------------------------------

    def set_health(self, container: str, status: str) -> None:
        """What its health check says from now on."""
        self._find(container).health = status

    def set_subnet(self, network: str, subnet: str) -> None:
        """Another subnet for it from now on; a ``/32`` has no address for anybody."""
        self._find_network(network).subnet = IPv4Network(subnet)

    def end(self, container: str, code: int = 0) -> None:
        """Its first process ends by itself."""
        self._ended(self._find(container), code)

    # -- the interface -----------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """A URL where nobody is."""
        return self._endpoint

    @property
    def local(self) -> bool:
        """Whether the URL is that of a unix socket."""
        return self._endpoint.startswith("unix://")

    @property
    def calls(self) -> Sequence[Call]:
        """Every call so far."""
        return tuple(self._calls)

    def info(self) -> EngineInfo:
        """Version and drivers of a Docker 20.10."""
        with self._served("version", "GET", "/version"):
            version = {"Version": self._version, "ApiVersion": "1.41", "Os": "linux", "Arch": "amd64"}
        with self._served("info", "GET", "/info"):
            return EngineInfo(
                {
                    "ID": "FAKE", "Driver": "overlay2", "CgroupVersion": "1", "LoggingDriver": "json-file", "SystemTime": now(),
                    "DockerRootDir": "/nowhere/docker", "ServerVersion": self._version, "Containers": len(self._containers),
                },
                version,
            )  # fmt: skip

    def container(self, ref: str) -> Container:
        """By name, id, or the beginning of an id."""
        with self._served("container", "GET", f"/containers/{ref}/json"):
            if not ref:
                raise error_for(301, "no reason given")
            return Container(self._find(ref).raw())

    def containers(self, label: str = "") -> tuple[str, ...]:
        """Newest first."""
        with self._served("containers", "GET", "/containers/json"):
            return tuple(one.id for one in reversed(self._containers.values()) if has(one.config["Labels"], label))

    def pause(self, container: str) -> None:
        """Running → paused."""
        with self._served("pause", "POST", f"/containers/{container}/pause", 204, container):
            found = self._find(container)
            if not found.running:
                raise error_for(409, f"Container {found.id} is not running")
            if found.status == "paused":
                raise error_for(409, f"Container {found.id} is already paused")
            found.status = "paused"

    def unpause(self, container: str) -> None:
        """Paused → running."""
        with self._served("unpause", "POST", f"/containers/{container}/unpause", 204, container):
            found = self._find(container)
            if found.status != "paused":
                raise error_for(500, f"Container {found.id} is not paused")
            found.status = "running"

    def start(self, container: str) -> None:
        """Join the networks, then run; when a network refuses, it does not run and is on none."""
        with self._served("start", "POST", f"/containers/{container}/start", 204, container) as answer:
            found = self._find(container)
            if found.status == "paused":
                raise error_for(409, "cannot start a paused container, try unpause instead")
            if found.running:
                answer.status = 304
                return
            try:
                self._join_all(found)
            except EngineError as error:
                for place in found.places.values():
                    place.leave()
                found.error, found.exit_code = error.message, 128
                raise
            self._made += 1
            found.status, found.pid, found.exit_code, found.error = "running", NO_PID + self._made, 0, ""
            found.started = now()
            program = self.programs.get(_command(found), Program())
            found.printed += [("stdout", program.out), ("stderr", program.err)]
            if program.code is not None:
                self._ended(found, program.code)

    def stop(self, container: str, grace: int | None = 10) -> None:
        """Running or paused → exited, at once."""
        with self._served("stop", "POST", f"/containers/{container}/stop", 204, container) as answer:
            found = self._find(container)
            if not found.running:
                answer.status = 304
                return
            self._ended(found, 137)

    def rename(self, container: str, name: str) -> None:
        """Another name, unless it is taken."""
        with self._served("rename", "POST", f"/containers/{container}/rename", 204, container, name):
            found = self._find(container)
            if not name:
                raise error_for(400, "Neither old nor new names may be empty")
            if name == found.name:
                raise error_for(400, "Renaming a container with the same name as its current name")
            try:
                self._reserve(name, slash="/")
            except EngineError as error:
                raise error_for(error.status or 0, f"Error when allocating new name: {error.message}") from None
            found.name = name

    def remove(self, container: str, force: bool = False, volumes: bool = False) -> None:
        """Gone, with its places on networks.  It has no anonymous volumes."""
        with self._served("remove", "DELETE", f"/containers/{container}", 204, container):
            found = self._find(container)
            if found.running and not force:
                advice = "Unpause and then stop" if found.status == "paused" else "Stop"
                raise error_for(
                    409,
                    f"You cannot remove a {found.status} container {found.id}. {advice} the container before attempting removal or force remove",
                )
            del self._containers[found.id]

    def set_restart_policy(self, container: str, policy: Json) -> None:
        """Only remembered: nothing is ever restarted."""
        with self._served(
            "set_restart_policy", "POST", f"/containers/{container}/update", 200, container, dict(policy)
        ):
            found = self._find(container)
            _check_policy(policy)
            if found.host_config["AutoRemove"] and policy.get("Name") not in ("", "no"):
                raise error_for(
                    409,
                    f"Cannot update container {found.id}: Restart policy cannot be updated because AutoRemove is enabled for the container",
                )
            found.host_config["RestartPolicy"] = dict(policy)

    def create(self, config: Json, name: str) -> str:
        """Made, and on its networks by name only: it gets addresses when it is started."""
        with self._served("create", "POST", "/containers/create", 201, dict(config), name):
            image = self._find_image(str(config.get("Image") or ""), "No such image: {ref}")
            host = {
                "NetworkMode": "default",
                "AutoRemove": False,
                "PortBindings": None,
                **(config.get("HostConfig") or {}),
            }
            host["RestartPolicy"] = dict(host.get("RestartPolicy") or {"Name": "", "MaximumRetryCount": 0})
            _check_policy(host["RestartPolicy"])
            asked = (config.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
            if len(asked) > 1:
                raise error_for(400, f"Container cannot be connected to network endpoints: {', '.join(asked)}")
            self._reserve(name)
            made = FakeContainer(self._new_id("container"), name, image, _merged(config, image), host, {})
            made.config["Hostname"] = config.get("Hostname") or made.id[:12]
            self._settle(made, asked)
            self._containers[made.id] = made
            for volume in made.volumes:
                self.volumes.setdefault(volume, fake_volume(volume, {}))
            return made.id

    def image(self, ref: str) -> Image:
        """By name or id."""
        with self._served("image", "GET", f"/images/{ref}/json"):
            return Image(self._find_image(ref, "no such image: {ref}: No such image: {ref}:latest").raw())

    def image_ids(self) -> tuple[str, ...]:
        """Newest first."""
        with self._served("image_ids", "GET", "/images/json"):
            return tuple(one.id for one in reversed(self._images))

    def add_image(self, image: FakeImage) -> None:
        """One more image that it knows."""
        self._images.append(image)

    def remove_image(self, ref: str) -> None:
        """Gone, unless a container uses it."""
        with self._served("remove_image", "DELETE", f"/images/{ref}", 200):
            found = self._find_image(ref, "No such image: {ref}")
            if any(one.image is found for one in self._containers.values()):
                raise error_for(409, f"conflict: unable to remove repository reference {ref} (must force)")
            self._images = [one for one in self._images if one is not found]

    def image_history(self, ref: str) -> tuple[Json, ...]:
        """One step."""
        with self._served("image_history", "GET", f"/images/{ref}/history"):
            found = self._find_image(ref, "No such image: {ref}:latest")
            return tuple(
                {
                    "Id": found.id,
                    "Created": 1767225600,
                    "CreatedBy": step,
                    "Size": 1,
                    "Tags": [found.tag],
                    "Comment": "",
                }
                for step in found.history
            )

    def image_save(self, ref: str) -> Iterator[bytes]:
        """A tar stream with the manifest and the configuration."""
        with self._served("image_save", "GET", f"/images/{ref}/get"):
            data = self._find_image(ref, "No such image: {ref}").archive()
        yield data

    def changes(self, container: str) -> tuple[Json, ...]:
        """What a test has put in."""
        with self._served("changes", "GET", f"/containers/{container}/changes"):
            return tuple(self._find(container).changes)

    def logs(self, container: str, stream: str) -> Iterator[bytes]:
        """What its program prints, line by line."""
        with self._served("logs", "GET", f"/containers/{container}/logs"):
            found = self._find(container)
            lines = [line for name, text in found.printed if name == stream for line in text.splitlines(keepends=True)]
            return iter([f"{found.started} ".encode() + line for line in lines])

    def exec(self, container: str, argv: Sequence[str], *, detach: bool = False, user: str = "") -> tuple[int, bytes]:
        """What :attr:`programs` says of ``argv``; nothing, successfully, by default."""
        with self._served("exec", "POST", f"/containers/{container}/exec", 201, container, tuple(argv)):
            found = self._find(container)
            if not found.running:
                raise error_for(409, f"Container {found.id} is not running")
            if found.status == "paused":
                raise error_for(409, f"Container {found.id} is paused, unpause the container before exec")
            program = self.programs.get(tuple(argv), Program())
            return (0, b"") if detach else (program.code or 0, program.err + program.out)

    # -- containers --------------------------------------------------------------------------------------------

    def _find(self, ref: str) -> FakeContainer:
        for one in self._containers.values():
            if ref in (one.id, one.name):
                return one
        matches = [one for one in self._containers.values() if ref and one.id.startswith(ref)]
        if len(matches) != 1:
            raise error_for(404, f"No such container: {ref}")
        return matches[0]

    def _reserve(self, name: str, slash: str = "") -> None:
        if not NAME.fullmatch(name):
            raise error_for(400, BAD_NAME.format(name=slash + name))
        for one in self._containers.values():
            if one.name == name:
                raise error_for(409, TAKEN.format(name=name, id=one.id))

    def _settle(self, box: FakeContainer, asked: Mapping[str, Any]) -> None:
        """The networks that a new container has."""
        shared = box.mode.startswith("container:")
        if shared:
            with contextlib.suppress(EngineError):  # whether it is there is asked when it starts
                box.host_config["NetworkMode"] = f"container:{self._find(box.mode.partition(':')[2]).id}"
        else:
            box.places["bridge" if box.mode == "default" else box.mode] = Place()
        for name, raw in asked.items():
            box.places[name] = Place.from_body(raw)

    def _ended(self, box: FakeContainer, code: int) -> None:
        box.status, box.pid, box.exit_code, box.finished, box.ports = "exited", 0, code, now(), {}
        for place in box.places.values():
            place.leave()
        if box.host_config["AutoRemove"]:
            del self._containers[box.id]

    def _join_all(self, box: FakeContainer) -> None:
        if box.mode.startswith("container:"):
            holder = self._find(box.mode.partition(":")[2])
            if not holder.running:
                raise error_for(409, f"cannot join network of a non running container: {holder.id}")
        for name, place in box.places.items():
            found = self._find_network(place.network_id or name)
            self._check_place(box, found, place)
            self._join(box, found, place)
        self._publish(box)

    def _publish(self, box: FakeContainer) -> None:
        """Published ports are bound while it is on a bridge that leads outside."""
        joined = [self._networks[place.network_id] for place in box.places.values() if place.endpoint_id]
        outside = any(one.driver == "bridge" and not one.internal for one in joined)
        ports: dict[str, list[dict[str, str]] | None] = {}
        for key in box.config.get("ExposedPorts") or () if outside else ():
            ports[key] = None
        for key, bindings in (box.host_config.get("PortBindings") or {}).items() if outside else ():
            ports[key] = [row for item in bindings for row in self._bound(box, item)]
        box.ports = ports

    def _bound(self, box: FakeContainer, binding: Mapping[str, str]) -> list[dict[str, str]]:
        port = binding.get("HostPort") or str(49152 + self._made)
        for other in self._containers.values():
            taken = {row["HostPort"] for rows in other.ports.values() for row in rows or ()}
            if other is not box and port in taken:
                raise error_for(
                    500,
                    f"driver failed programming external connectivity on endpoint {box.name}: Bind for 0.0.0.0:{port} failed: port is already allocated",
                )
        return [
            {"HostIp": one, "HostPort": port}
            for one in ([binding["HostIp"]] if binding.get("HostIp") else ["0.0.0.0", "::"])  # noqa: S104 - what an engine answers
        ]

    # -- images ------------------------------------------------------------------------------------------------

    def _find_image(self, ref: str, refusal: str) -> FakeImage:
        for one in self._images:
            if ref in (one.tag, one.id) or (len(ref) >= 12 and one.id.removeprefix("sha256:").startswith(ref)):
                return one
        raise error_for(404, refusal.format(ref=ref))


def _command(box: FakeContainer) -> tuple[str, ...]:
    return (*(box.config.get("Entrypoint") or ()), *(box.config.get("Cmd") or ()))


def _merged(config: Json, image: FakeImage) -> dict[str, Any]:
    """The container's ``Config``: what was given, and what the image brings."""
    given = {key: value for key, value in config.items() if key not in ("HostConfig", "NetworkingConfig")}
    merged: dict[str, Any] = {"Entrypoint": None, "Cmd": None, "Tty": False, **image.config, **given}
    merged["Labels"] = {**(image.config.get("Labels") or {}), **(config.get("Labels") or {})}
    names = {item.partition("=")[0] for item in config.get("Env") or ()}
    kept = [item for item in image.config.get("Env") or () if item.partition("=")[0] not in names]
    merged["Env"] = [*(config.get("Env") or ()), *kept]
    return merged


def _check_policy(policy: Json) -> None:
    name = policy.get("Name") or ""
    if name not in POLICIES:
        raise error_for(400, f"invalid restart policy '{name}'")
    if policy.get("MaximumRetryCount") and name != "on-failure":
        raise error_for(400, f"maximum retry count cannot be used with restart policy '{name}'")
