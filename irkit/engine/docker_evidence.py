"""The Docker API's side of :mod:`irkit.engine.evidence_calls`."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from irkit.engine.evidence_calls import Json
from irkit.errors import NotFound, UsageProblem
from irkit.streams import IDLE

if TYPE_CHECKING:
    from pathlib import Path

    from irkit.engine.recording import CallLog
    from irkit.engine.wire import Wire

SWARM = ("service", "task", "node")


class DockerEvidence:
    """Mixed into ``DockerEngine``, which brings the two ways to call."""

    if TYPE_CHECKING:
        _wire: Wire | None
        _calls: CallLog

        def _call(self, method: str, path: str, body: object | None = None, **query: str) -> Any: ...

        def _open(self, path: str, query: dict[str, str], idle: float) -> Iterator[bytes]: ...

    @property
    def calls_dropped(self) -> int:
        """Past ``recording.LIMIT``."""
        return self._calls.dropped

    def record_calls(self, path: Path) -> None:
        """Append every call, those so far too, to a file of the case, so that a crash loses none.  ``StorageError``."""
        self._calls.record_to(path)

    def raw_logs(self, container: str, idle: float = IDLE) -> Iterator[bytes]:
        """``GET /containers/{id}/logs?stdout=1&stderr=1&timestamps=1&tail=all``."""
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": "all"}
        return self._long(f"/containers/{_quoted(container)}/logs", query, idle)

    def events(self, since: str, until: str, idle: float = IDLE) -> Iterator[bytes]:
        """``GET /events``; the stream ends, because ``until`` has passed."""
        return self._long("/events", {"since": since, "until": until}, idle)

    def volume(self, name: str) -> Json:
        """``GET /volumes/{name}``."""
        found: Json = self._call("GET", f"/volumes/{_quoted(name)}")
        return found

    def volume_names(self) -> tuple[str, ...]:
        """``GET /volumes``."""
        return tuple(str(row["Name"]) for row in self._call("GET", "/volumes").get("Volumes") or ())

    def create_volume(self, name: str, labels: Mapping[str, str]) -> Json:
        """``POST /volumes/create``."""
        body = {"Name": name, "Driver": "local", "Labels": dict(labels)}
        made: Json = self._call("POST", "/volumes/create", body)
        return made

    def remove_volume(self, name: str) -> None:
        """``DELETE /volumes/{name}``."""
        self._call("DELETE", f"/volumes/{_quoted(name)}")

    def plugins(self) -> tuple[Json, ...]:
        """``GET /plugins``."""
        return tuple(self._call("GET", "/plugins") or ())

    def swarm(self, kind: str, ref: str) -> Json:
        """``GET /services/{id}``, ``/tasks/{id}`` or ``/nodes/{id}``."""
        if kind not in SWARM:
            raise UsageProblem(f"not a kind of swarm object: {kind}")
        found: Json = self._call("GET", f"/{kind}s/{_quoted(ref)}")
        return found

    def service_tasks(self, service: str) -> tuple[Json, ...]:
        """``GET /tasks?filters=…``.  ``ready``: what waits to be started again."""
        filters = json.dumps({"service": [service], "desired-state": ["running", "ready"]})
        return tuple(self._call("GET", "/tasks", filters=filters) or ())

    def export(self, container: str, idle: float = IDLE) -> Iterator[bytes]:
        """``GET /containers/{id}/export``."""
        return self._long(f"/containers/{_quoted(container)}/export", {}, idle)

    def image_archive(self, ref: str, idle: float = IDLE) -> Iterator[bytes]:
        """``GET /images/{name}/get``."""
        return self._long(f"/images/{_quoted(ref)}/get", {}, idle)

    def top(self, container: str) -> Json:
        """``GET /containers/{id}/top``."""
        found: Json = self._call("GET", f"/containers/{_quoted(container)}/top")
        return found

    def checkpoint(self, container: str, name: str, folder: str) -> None:
        """``POST /containers/{id}/checkpoints``."""
        body = {"CheckpointID": name, "CheckpointDir": folder, "Exit": False}
        self._call("POST", f"/containers/{_quoted(container)}/checkpoints", body)

    def _long(self, path: str, query: dict[str, str], idle: float) -> Iterator[bytes]:
        if self._wire is None:
            return self._open(path, query, idle)
        from irkit.engine.streaming import open_stream

        target = f"/v{self._wire.version}{path}?{urllib.parse.urlencode(query)}"
        return open_stream(self._wire.path, target, self._calls, idle)


def _quoted(ref: str) -> str:
    if not ref:
        raise NotFound("No such container or volume: an empty name", status=404)
    return urllib.parse.quote(ref, safe=":@")
