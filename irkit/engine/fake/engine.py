"""An engine in memory, at the interface :class:`irkit.engine.interface.Engine`: for unit tests of what goes wrong.

It keeps containers, networks with their addresses, and images, and refuses what Docker 20.10 refuses, in the same
words and with the same errors.  That it does is checked by ``tests/contract``, which the real engines pass too.  Beyond
the interface a test may stage a failure (:meth:`FakeEngine.fail`, :meth:`FakeEngine.die`), something that happens
between two calls (:meth:`FakeEngine.before`), and ask what was changed (:attr:`FakeEngine.mutations`).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from irkit.clock import now, rfc3339
from irkit.engine.fake.evidence import FakeEvidence, fake_volume
from irkit.engine.fake.state import NO_PID, FakeContainer, FakeImage, FakeNetwork, Place, Program
from irkit.engine.interface import Call, Container, Endpoint, EngineInfo, Image, Json, Network, NetworkSpec
from irkit.engine.wire import error_for
from irkit.errors import EngineError, EngineUnreachable

ENDPOINT = "unix:///nowhere/fake-docker.sock"
DEFAULT_POOL = "10.231.128.0/17"
VERSION = "20.10.24"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
NO_POOL = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
TAKEN = (
    'Conflict. The container name "/{name}" is already in use by container "{id}". '
    "You have to remove (or rename) that container to be able to reuse that name."
)
BAD_NAME = "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
HOST_MODE = "container cannot be disconnected from host network or connected to host network"
NONE_MODE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
SHARED_MODE = (
    "container sharing network namespace with another container or host cannot be connected to any other network"
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A call that changes something: the method's name, what it was asked, and why it failed, if it did."""

    method: str
    args: tuple[object, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that a test has staged for some of a method's calls; ``done``: after the engine has done as asked."""

    method: str
    first: int
    last: int | None
    done: bool
    act: Callable[[], None]

    def due(self, method: str, number: int, done: bool) -> bool:
        fits = self.method == method and self.done == done
        return fits and number >= self.first and (self.last is None or number <= self.last)


class FakeEngine(FakeEvidence):
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
        self.mutations: list[Mutation] = []
        self.programs: dict[tuple[str, ...], Program] = {}
        self._endpoint, self._version = endpoint, version
        self._pool, self._pool_size = IPv4Network(pool), pool_size
        self._calls: list[Call] = []
        self.volumes, self.remembered, self.objects, self.updates = {}, [], {}, []
        self._counts: Counter[str] = Counter()
        self._events: list[_Event] = []
        self._lock = threading.RLock()
        self._quiet = self._dead = False
        self._made = 0
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

    def before(
        self, method: str, act: Callable[[], None], *, at: int = 1, times: int | None = 1, done: bool = False
    ) -> None:
        """Call ``act`` in front of the ``at``-th call of ``method`` from now on, and of the next ones up to ``times``.

        ``times=None``: of all that follow.  With ``done`` it is called after the engine has done as asked, before it
        answers.  ``act`` may raise, and may use the engine within :meth:`unrecorded`.
        """
        with self._lock:
            first = self._counts[method] + at
            self._events.append(_Event(method, first, None if times is None else first + times - 1, done, act))

    def fail(self, method: str, error: EngineError, *, at: int = 1, times: int | None = 1, done: bool = False) -> None:
        """Let the ``at``-th call of ``method`` from now on raise ``error``; ``done``: although it was done as asked."""

        def act() -> None:
            raise error

        self.before(method, act, at=at, times=times, done=done)

    def die(self, method: str = "", *, at: int = 1, done: bool = False) -> None:
        """Nobody answers any more: at once, or from the ``at``-th call of ``method`` on."""

        def act() -> None:
            self._dead = True
            raise self._unreachable()

        if method:
            self.before(method, act, at=at, done=done)
        else:
            self._dead = True

    def revive(self) -> None:
        """It answers again, with all that it knew; nothing that was staged is left."""
        with self._lock:
            self._dead = False
            self._events.clear()

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[FakeEngine]:
        """For what somebody else does to the engine: no call is recorded or counted, and nothing staged comes in between."""
        with self._lock:
            before, self._quiet = self._quiet, True
            try:
                yield self
            finally:
                self._quiet = before

    def changed(self, *methods: str) -> list[tuple[object, ...]]:
        """What the mutations were, in order, as ``(method, argument, ...)``; only of ``methods``, if any are named."""
        return [(one.method, *one.args) for one in self.mutations if not methods or one.method in methods]

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
            return tuple(one.id for one in reversed(self._containers.values()) if _has(one.config["Labels"], label))

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

    def network(self, ref: str) -> Network:
        """By name, id, or the beginning of an id; with the running containers that have joined it."""
        with self._served("network", "GET", f"/networks/{ref}"):
            if not ref:
                raise error_for(404, "page not found")
            found = self._find_network(ref)
            members = {
                one.id: {
                    "Name": one.name, "EndpointID": place.endpoint_id, "MacAddress": place.raw()["MacAddress"],
                    "IPv4Address": f"{place.ipv4}/{place.prefix}" if place.ipv4 else "", "IPv6Address": "",
                }
                for one, place in self._joined(found)
            }  # fmt: skip
            return Network(found.raw(members))

    def networks(self, label: str = "") -> tuple[Network, ...]:
        """Without members."""
        with self._served("networks", "GET", "/networks"):
            return tuple(Network(one.raw({})) for one in self._networks.values() if _has(one.labels, label))

    def create_network(self, spec: NetworkSpec) -> str:
        """A bridge network on the subnet asked for, or on the first free one of the pool."""
        with self._served("create_network", "POST", "/networks/create", 201, spec):
            if spec.name in ("bridge", "host", "none"):
                raise error_for(403, f"operation is not permitted on predefined {spec.name} network ")
            if not spec.name or any(one.name == spec.name for one in self._networks.values()):
                raise error_for(409, f"network with name {spec.name} already exists")
            made = FakeNetwork(
                self._new_id("network"), spec.name, "bridge", spec.internal, self._subnet(spec.subnet), bool(spec.subnet),
                dict(spec.options), dict(spec.labels),
            )  # fmt: skip
            self._networks[made.id] = made
            return made.id

    def remove_network(self, network: str) -> None:
        """Gone, unless a running container is on it; stopped ones keep pointing at it."""
        with self._served("remove_network", "DELETE", f"/networks/{network}", 204, network):
            found = self._find_network(network)
            if found.predefined:
                raise error_for(403, f"{found.name} is a pre-defined network and cannot be removed")
            if self._joined(found):
                raise error_for(
                    403, f"error while removing network: network {found.name} id {found.id} has active endpoints"
                )
            del self._networks[found.id]

    def connect(self, network: str, container: str, endpoint: Endpoint | None = None) -> None:
        """A place on a network: joined at once by a running container, else remembered for its start.

        A running container that is refused an address keeps the unused entry in its inspect, as with Docker 20.10.
        """
        with self._served("connect", "POST", f"/networks/{network}/connect", 200, network, container, endpoint):
            if not network:
                raise error_for(301, "no reason given")
            if not container:
                raise error_for(400, 'invalid name or ID supplied: ""')
            box, place = self._find(container), Place.asked(endpoint)
            try:
                found = self._find_network(network)
            except EngineError:
                if box.running:
                    raise
                box.places[network] = place  # a stopped container may be given a network that does not exist
                return
            self._check_modes(box, found)
            self._check_place(box, found, place)
            if not box.running:
                box.places.setdefault(found.name, place)
                return
            current = box.places.setdefault(found.name, place)
            if current.endpoint_id:
                raise error_for(403, f"endpoint with name {box.name} already exists in network {found.name}")
            self._join(box, found, place)
            box.places[found.name] = place
            self._publish(box)

    def disconnect(self, network: str, container: str) -> None:
        """The place on a network given up."""
        with self._served("disconnect", "POST", f"/networks/{network}/disconnect", 200, network, container):
            if not network:
                raise error_for(301, "no reason given")
            box = self._find(container)
            if not box.running:
                self._forget(box, network)
                return
            found = self._find_network(network)
            if box.mode == "host" and found.driver == "host":
                raise error_for(400, HOST_MODE)
            place = box.places.get(found.name)
            if place is None or not place.endpoint_id:
                raise error_for(500, f"container {box.id} is not connected to network {found.name}")
            del box.places[found.name]
            self._publish(box)

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

    # -- one call ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _served(self, name: str, method: str, path: str, status: int = 200, *args: object) -> Iterator[_Answer]:
        with self._lock:
            answer = _Answer(status)
            if self._quiet:
                yield answer
                return
            self._counts[name] += 1
            number, started, said, shown = self._counts[name], time.time(), "", 0
            try:
                if self._dead:
                    raise self._unreachable()
                self._happen(name, number, False)
                yield answer
                self._happen(name, number, True)
                shown = answer.status
            except EngineError as error:
                said, shown = error.message, error.status or 0
                raise
            finally:
                spent = round((time.time() - started) * 1000, 3)
                self._calls.append(Call(method, f"/v1.41{path}", shown, rfc3339(started), spent))
                if method != "GET":
                    self.mutations.append(Mutation(name, args, said))

    def _happen(self, name: str, number: int, done: bool) -> None:
        for event in tuple(self._events):
            if event.due(name, number, done):
                event.act()

    def _unreachable(self) -> EngineUnreachable:
        return EngineUnreachable(f"no engine at {self._endpoint}: the socket is there, but nobody listens")

    def _new_id(self, kind: str) -> str:
        self._made += 1
        return hashlib.sha256(f"{kind} {self._made}".encode()).hexdigest()

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

    # -- networks ----------------------------------------------------------------------------------------------

    def _find_network(self, ref: str) -> FakeNetwork:
        for one in self._networks.values():
            if ref in (one.id, one.name):
                return one
        matches = [one for one in self._networks.values() if ref and one.id.startswith(ref)]
        if len(matches) != 1:
            raise error_for(404, f"network {ref} not found")
        return matches[0]

    def _joined(self, network: FakeNetwork) -> list[tuple[FakeContainer, Place]]:
        return [
            (one, place)
            for one in self._containers.values()
            for place in one.places.values()
            if place.endpoint_id and place.network_id == network.id
        ]

    def _subnet(self, asked: str) -> IPv4Network:
        used = [one.subnet for one in self._networks.values() if one.subnet]
        if asked:
            try:
                subnet = IPv4Network(asked, strict=False)
            except ValueError:
                raise error_for(500, f"Invalid subnet {asked} : invalid CIDR address: {asked}") from None
            if any(subnet.overlaps(one) for one in used):
                raise error_for(403, "Pool overlaps with other one on this address space")
            return subnet
        for subnet in self._pool.subnets(new_prefix=self._pool_size):
            if not any(subnet.overlaps(one) for one in used):
                return subnet
        raise error_for(404, NO_POOL)

    def _check_modes(self, box: FakeContainer, network: FakeNetwork) -> None:
        if box.mode.startswith("container:") or box.mode == "host":
            raise error_for(400, SHARED_MODE)
        if network.driver == "host":
            raise error_for(400, HOST_MODE)
        others = [name for name in box.places if name != network.name]
        if others and (network.driver == "null" or "none" in others):
            raise error_for(400, NONE_MODE)

    def _check_place(self, box: FakeContainer, network: FakeNetwork, place: Place) -> None:
        """What is refused before an address is looked for; on a network of the user's own, its short id is an alias."""
        fixed = place.fixed_ipv4 or place.fixed_ipv6
        if network.predefined:
            if fixed:
                raise error_for(400, "user specified IP address is supported on user defined networks only")
            if place.aliases:
                raise error_for(400, "network-scoped alias is supported only for containers in user defined networks")
            return
        if box.id[:12] not in (place.aliases or ()):
            place.aliases = [*(place.aliases or ()), box.id[:12]]
        if fixed and not network.own_subnet:
            raise error_for(
                400,
                "user specified IP address is supported only when connecting to networks with user configured subnets",
            )

    def _join(self, box: FakeContainer, network: FakeNetwork, place: Place) -> None:
        if network.subnet is not None:
            place.ipv4, place.prefix = self._address(network, place.fixed_ipv4), network.subnet.prefixlen
            place.gateway = network.gateway
        place.network_id, place.endpoint_id = network.id, self._new_id("endpoint")

    def _address(self, network: FakeNetwork, fixed: str) -> str:
        if network.subnet is None:
            raise error_for(500, "a network without addresses")
        _check_address(fixed)
        used = {network.gateway, *(place.ipv4 for _, place in self._joined(network))}
        if not fixed:
            for host in network.subnet.hosts():
                if str(host) not in used:
                    return str(host)
            raise error_for(
                500, f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})"
            )
        if IPv4Address(fixed) not in network.subnet:
            raise error_for(500, f"Invalid address {fixed}: It does not belong to any of this network's subnets")
        if fixed in used:
            raise error_for(403, "Address already in use")
        return fixed

    def _forget(self, box: FakeContainer, network: str) -> None:
        with contextlib.suppress(EngineError):
            network = self._find_network(network).name
        if network not in box.places:
            raise error_for(500, f"container {box.id} is not connected to the network {network}")
        del box.places[network]

    # -- images ------------------------------------------------------------------------------------------------

    def _find_image(self, ref: str, refusal: str) -> FakeImage:
        for one in self._images:
            if ref in (one.tag, one.id) or (len(ref) >= 12 and one.id.removeprefix("sha256:").startswith(ref)):
                return one
        raise error_for(404, refusal.format(ref=ref))


@dataclass(slots=True)
class _Answer:
    """The HTTP status of the call that is being served."""

    status: int


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    key, given, value = wanted.partition("=")
    return not wanted or (key in labels and (not given or labels[key] == value))


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


def _check_address(address: str) -> None:
    try:
        IPv4Address(address or "0.0.0.0")  # noqa: S104 - nothing is bound
    except ValueError:
        raise error_for(500, f"Invalid IPv4 address: {address})") from None
