"""A Docker Engine: the hot calls over :mod:`irkit.engine.wire`, all others through the Docker SDK, loaded when needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from irkit.clock import rfc3339
from irkit.engine.docker_config import endpoint_config
from irkit.engine.docker_evidence import DockerEvidence
from irkit.engine.interface import Call, Container, Endpoint, EngineInfo, Image, Json, Network, NetworkSpec
from irkit.engine.recording import CallLog
from irkit.engine.wire import TIMEOUT, Wire, decoded, error_for
from irkit.errors import EngineError, EnginePermission, EngineUnreachable, NotFound

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

CHUNK = 1024 * 1024
SETTLE = 2.0
CREATE_VERSION = "1.44"


class DockerEngine(DockerEvidence):
    """The engine at ``endpoint`` (``unix://``, ``tcp://``, ``ssh://``)."""

    def __init__(self, endpoint: str, *, use_wire: bool = True, tls: Any = None) -> None:
        self._endpoint = endpoint
        self._calls = CallLog()
        self._client: APIClient | None = None
        self._making = threading.Lock()
        self._tls = tls
        self._newest: tuple[int, ...] = ()
        self._wire = Wire(endpoint.removeprefix("unix://"), self._calls) if use_wire and self.local else None

    @property
    def endpoint(self) -> str:
        """The URL that is talked to."""
        return self._endpoint

    @property
    def local(self) -> bool:
        """A unix socket."""
        return self._endpoint.startswith("unix://")

    @property
    def calls(self) -> Sequence[Call]:
        """Every call so far."""
        return tuple(self._calls)

    # -- the two ways to call ---------------------------------------------------------------------------------

    def _call(self, method: str, path: str, body: object | None = None, **query: str) -> Any:
        if self._wire is not None:
            return self._wire.call(method, path, body, **query)
        response = self._response(method, path, body, query)
        return decoded(response.content, method)

    def _response(
        self,
        method: str,
        path: str,
        body: object | None = None,
        query: Mapping[str, str] | None = None,
        *,
        stream: bool = False,
        idle: float = TIMEOUT,
    ) -> Response:
        """One call by the SDK's session: recorded, its errors turned into the tree."""
        import requests

        client = self._sdk()
        started, status = time.time(), 0
        try:
            response: Response = client.request(
                method,
                f"{client.base_url}/v{client.api_version}{path}",
                params=dict(query or {}),
                json=body,
                stream=stream,
                timeout=idle,
            )
            status = response.status_code
        except requests.exceptions.RequestException as error:
            raise _unreachable(self._endpoint, error) from error
        finally:
            self._calls.append(
                Call(
                    method,
                    f"/v{client.api_version}{path}",
                    status,
                    rfc3339(started),
                    round((time.time() - started) * 1000, 3),
                )
            )
        if status >= 300:
            raise error_for(status, _reason(response))
        return response

    def _stream(self, method: str, path: str, body: object | None = None, **query: str) -> Iterator[bytes]:
        yield from self._read(self._response(method, path, body, query, stream=True), path)

    def _open(self, path: str, query: dict[str, str], idle: float) -> Iterator[bytes]:
        """A long answer, asked for at once and read when wanted."""
        return self._read(self._response("GET", path, None, query, stream=True, idle=idle), path)

    @staticmethod
    def _read(response: Response, path: str) -> Iterator[bytes]:
        import requests
        import urllib3

        try:
            yield from response.iter_content(CHUNK)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise EngineError(f"the engine broke off while sending {path}: {error}") from error
        finally:
            response.close()

    def _sdk(self) -> APIClient:
        """Made once, also when several collectors ask at the same time."""
        with self._making:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> APIClient:
        from docker import APIClient
        from docker.errors import DockerException

        try:
            return APIClient(base_url=self._endpoint, version="auto", timeout=int(TIMEOUT), tls=self._tls or False)
        except DockerException as error:
            raise _unreachable(self._endpoint, error) from error

    # -- the engine -------------------------------------------------------------------------------------------

    def info(self) -> EngineInfo:
        """``GET /info`` and ``GET /version``."""
        return EngineInfo(self._call("GET", "/info"), self._call("GET", "/version"))

    def container(self, ref: str) -> Container:
        """``GET /containers/{ref}/json``."""
        return Container(self._call("GET", f"/containers/{_segment(ref)}/json"))

    def containers(self, label: str = "") -> tuple[str, ...]:
        """``GET /containers/json?all=1``."""
        rows = self._call("GET", "/containers/json", all="1", filters=_label_filter(label))
        return tuple(row["Id"] for row in rows)

    def pause(self, container: str) -> None:
        """``POST /containers/{id}/pause``."""
        self._call("POST", f"/containers/{_segment(container)}/pause")

    def unpause(self, container: str) -> None:
        """``POST /containers/{id}/unpause``; the engine answers before its own state says so, hence the wait."""
        self._call("POST", f"/containers/{_segment(container)}/unpause")
        deadline = time.monotonic() + SETTLE
        while self.container(container).paused and time.monotonic() < deadline:
            time.sleep(0.02)

    def start(self, container: str) -> None:
        """``POST /containers/{id}/start``; 304 (already started) is no error."""
        self._unless_already(lambda: self._call("POST", f"/containers/{_segment(container)}/start"))

    def stop(self, container: str, grace: int | None = 10) -> None:
        """``POST /containers/{id}/stop?t=…``; 304 (already stopped) is no error."""
        query = {} if grace is None else {"t": str(grace)}
        self._unless_already(lambda: self._call("POST", f"/containers/{_segment(container)}/stop", **query))

    @staticmethod
    def _unless_already(call: Callable[[], object]) -> None:
        try:
            call()
        except EngineError as error:
            if error.status != 304:
                raise

    def rename(self, container: str, name: str) -> None:
        """``POST /containers/{id}/rename``."""
        self._call("POST", f"/containers/{_segment(container)}/rename", name=name)

    def remove(self, container: str, force: bool = False, volumes: bool = False) -> None:
        """``DELETE /containers/{id}``; ``v``: with its anonymous volumes that nobody else uses."""
        self._call(
            "DELETE", f"/containers/{_segment(container)}", force="1" if force else "0", v="1" if volumes else "0"
        )

    def set_restart_policy(self, container: str, policy: Json) -> None:
        """``POST /containers/{id}/update``."""
        self._call("POST", f"/containers/{_segment(container)}/update", {"RestartPolicy": dict(policy)})

    def create(self, config: Json, name: str) -> str:
        """``POST /containers/create``; in version 1.44 where there is one: before, read-only bind mounts were not so recursively."""
        if self._wire is not None and self._speaks(CREATE_VERSION):
            made = self._wire.call("POST", "/containers/create", dict(config), api=CREATE_VERSION, name=name)
        else:
            made = self._call("POST", "/containers/create", dict(config), name=name)
        return str(made["Id"])

    def _speaks(self, version: str) -> bool:
        """Whether the engine's newest API is at least this."""
        if not self._newest:
            found = str(self._call("GET", "/version").get("ApiVersion") or "")
            self._newest = tuple(int(one) if one.isdigit() else 0 for one in found.split("."))
        return self._newest >= tuple(map(int, version.split(".")))

    def update_service(self, service: str, version: int, spec: Json) -> None:
        """``POST /services/{id}/update?version=…``."""
        self._call("POST", f"/services/{_segment(service)}/update", dict(spec), version=str(version))

    # -- networks ---------------------------------------------------------------------------------------------

    def network(self, ref: str) -> Network:
        """``GET /networks/{ref}``."""
        return Network(self._call("GET", f"/networks/{_segment(ref)}"))

    def networks(self, label: str = "") -> tuple[Network, ...]:
        """``GET /networks``."""
        return tuple(Network(row) for row in self._call("GET", "/networks", filters=_label_filter(label)))

    def create_network(self, spec: NetworkSpec) -> str:
        """``POST /networks/create``."""
        body: dict[str, Any] = {
            "Name": spec.name, "CheckDuplicate": True, "Driver": "bridge", "Internal": spec.internal, "EnableIPv6": False,
            "Options": dict(spec.options), "Labels": dict(spec.labels),
        }  # fmt: skip
        if spec.subnet:
            body["IPAM"] = {"Driver": "default", "Config": [{"Subnet": spec.subnet}]}
        return str(self._call("POST", "/networks/create", body)["Id"])

    def remove_network(self, network: str) -> None:
        """``DELETE /networks/{id}``."""
        self._call("DELETE", f"/networks/{_segment(network)}")

    def connect(self, network: str, container: str, endpoint: Endpoint | None = None) -> None:
        """``POST /networks/{id}/connect``."""
        body: dict[str, Any] = {"Container": container}
        if endpoint is not None:
            body["EndpointConfig"] = endpoint_config(endpoint)
        self._call("POST", f"/networks/{_segment(network)}/connect", body)

    def disconnect(self, network: str, container: str) -> None:
        """``POST /networks/{id}/disconnect``."""
        self._call("POST", f"/networks/{_segment(network)}/disconnect", {"Container": container, "Force": False})

    # -- images -----------------------------------------------------------------------------------------------

    def image(self, ref: str) -> Image:
        """``GET /images/{ref}/json``."""
        return Image(self._call("GET", f"/images/{_segment(ref)}/json"))

    def image_ids(self) -> tuple[str, ...]:
        """``GET /images/json``."""
        return tuple(dict.fromkeys(str(row["Id"]) for row in self._call("GET", "/images/json") or ()))

    def remove_image(self, ref: str) -> None:
        """``DELETE /images/{name}``."""
        self._call("DELETE", f"/images/{_segment(ref)}", force="0")

    def image_history(self, ref: str) -> tuple[Json, ...]:
        """``GET /images/{ref}/history``."""
        return tuple(self._call("GET", f"/images/{_segment(ref)}/history"))

    def image_save(self, ref: str) -> Iterator[bytes]:
        """``GET /images/{ref}/get``."""
        return self._stream("GET", f"/images/{_segment(ref)}/get")

    # -- what a container left --------------------------------------------------------------------------------

    def changes(self, container: str) -> tuple[Json, ...]:
        """``GET /containers/{id}/changes``."""
        return tuple(self._call("GET", f"/containers/{_segment(container)}/changes") or ())

    def logs(self, container: str, stream: str) -> Iterator[bytes]:
        """``GET /containers/{id}/logs`` for one stream; the frames are taken off when there is no TTY."""
        tty = bool(self.container(container).config.get("Tty"))
        wanted = {"stdout": "1" if stream == "stdout" else "0", "stderr": "1" if stream == "stderr" else "0"}
        raw = self._stream("GET", f"/containers/{_segment(container)}/logs", timestamps="1", **wanted)
        return raw if tty else unframe(raw)

    def exec(self, container: str, argv: Sequence[str], *, detach: bool = False, user: str = "") -> tuple[int, bytes]:
        """``POST /containers/{id}/exec`` and ``POST /exec/{id}/start``."""
        body = {"AttachStdout": not detach, "AttachStderr": not detach, "Cmd": list(argv), "User": user}
        exec_id = str(self._call("POST", f"/containers/{_segment(container)}/exec", body)["Id"])
        start = {"Detach": detach, "Tty": False}
        if detach:
            self._call("POST", f"/exec/{exec_id}/start", start)
            return 0, b""
        said: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray()}
        for found in frames(self._stream("POST", f"/exec/{exec_id}/start", start)):
            for stream, payload in found:
                said.setdefault(stream, bytearray()).extend(payload)
        output = bytes(said[STDERR] + said[STDOUT])
        return int(self._call("GET", f"/exec/{exec_id}/json").get("ExitCode") or 0), output


STDOUT, STDERR = 1, 2


def unframe(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The payload of the engine's multiplexed stream as it comes, whichever stream it is of.  Raises as :func:`frames`."""
    for found in frames(chunks):
        if found:
            yield b"".join(payload for _, payload in found)


def frames(chunks: Iterator[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Take the 8-byte headers off the engine's multiplexed stream (API: "Attach to a container", stream format).

    Yields ``(stream, payload)`` of each frame in a chunk, 1 for standard output and 2 for standard error; raises
    ``EngineError`` when the stream ends inside a frame.
    """
    buffer = bytearray()
    left = stream = 0
    for chunk in chunks:
        buffer += chunk
        found = []
        while buffer:
            if left == 0:
                if len(buffer) < 8:
                    break
                stream, left = buffer[0], int.from_bytes(buffer[4:8], "big")
                del buffer[:8]
                continue
            take = min(left, len(buffer))
            found.append((stream, bytes(buffer[:take])))
            del buffer[:take]
            left -= take
        yield found
    if left or buffer:
        raise EngineError("the engine's stream ended in the middle of a frame")


def _segment(ref: str) -> str:
    from urllib.parse import quote

    if not ref:
        raise NotFound("No such container or network: an empty name", status=404)
    return quote(ref, safe=":@/") if "/" in ref else quote(ref, safe=":@")


def _label_filter(label: str) -> str:
    return json.dumps({"label": [label]} if label else {})


def _reason(response: Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200].strip() or f"HTTP {response.status_code}"


def _unreachable(endpoint: str, error: Exception) -> EngineError:
    text = str(error)
    if "Permission denied" in text or "PermissionError" in text:
        return EnginePermission(f"no right to talk to the engine at {endpoint}")
    if "Read timed out" in text:
        return EngineUnreachable(f"the engine at {endpoint} does not answer within {TIMEOUT:.0f} s")
    if "FileNotFoundError" in text or "No such file" in text:
        return EngineUnreachable(f"no engine at {endpoint}: there is no such socket")
    return EngineUnreachable(f"no engine at {endpoint}: {text.splitlines()[0][:200]}")
