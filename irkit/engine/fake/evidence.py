"""The fake engine's side of :mod:`irkit.engine.evidence_calls`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irkit.clock import now
from irkit.engine.evidence_calls import Json
from irkit.engine.fake.staging import FakeStaging
from irkit.engine.wire import error_for
from irkit.streams import IDLE

if TYPE_CHECKING:
    from irkit.engine.fake.state import FakeContainer

STREAMS = {"stdout": 1, "stderr": 2}
NO_MANAGER = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'


def fake_volume(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """As ``GET /volumes/{name}`` shows a new one."""
    return {
        "Name": name, "Driver": "local", "Mountpoint": f"/nonexistent/volumes/{name}/_data", "Labels": dict(labels),
        "Options": None, "Scope": "local", "CreatedAt": now(),
    }  # fmt: skip


class FakeEvidence(FakeStaging):
    """Mixed into ``FakeEngine``.  A test puts volumes and events in; the engine keeps its last 256."""

    volumes: dict[str, dict[str, Any]]
    remembered: list[dict[str, Any]]
    objects: dict[tuple[str, str], dict[str, Any]]
    updates: list[str]
    task_states: list[str]
    images: dict[str, bytes] | None = None
    """What a checkpoint consists of; ``None``: the engine's experimental features are off."""
    _find: Callable[[str], FakeContainer]
    _containers: dict[str, FakeContainer]

    @property
    def calls_dropped(self) -> int:
        """None are."""
        return 0

    def remember(self, kind: str, action: str, actor: str, moment_ns: int, attributes: Mapping[str, str]) -> None:
        """An event from now on; the oldest one is forgotten."""
        row = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": dict(attributes)},
            "timeNano": moment_ns,
        }
        self.remembered = [*self.remembered, row][-256:]

    def raw_logs(self, container: str, idle: float = IDLE) -> Iterator[bytes]:
        """What its program prints, a frame a line."""
        with self._served("raw_logs", "GET", f"/containers/{container}/logs"):
            found = self._find(container)
            driver = str((found.host_config.get("LogConfig") or {}).get("Type") or "json-file")
            if driver == "none":
                raise error_for(501, "configured logging driver does not support reading")
            tty = bool(found.config.get("Tty"))
            stamp = found.started[:19].encode() + b".000000000Z "
            frames = []
            for name, text in found.printed:
                for line in text.splitlines(keepends=True):
                    data = stamp + line
                    frames.append(data if tty else struct.pack(">BxxxL", STREAMS[name], len(data)) + data)
            return iter(frames)

    def events(self, since: str, until: str, idle: float = IDLE) -> Iterator[bytes]:
        """What was remembered, of the window."""
        with self._served("events", "GET", f"/events?since={since}&until={until}"):
            first, last = float(since) * 1e9, float(until) * 1e9
            rows = [row for row in self.remembered if first <= row["timeNano"] <= last]
            return iter([json.dumps(row).encode() + b"\n" for row in rows])

    def volume(self, name: str) -> Json:
        """One that a test has put in."""
        with self._served("volume", "GET", f"/volumes/{name}"):
            if name not in self.volumes:
                raise error_for(404, f"get {name}: no such volume")
            return self.volumes[name]

    def volume_names(self) -> tuple[str, ...]:
        """All that a test or ``create_volume`` put in."""
        with self._served("volume_names", "GET", "/volumes"):
            return tuple(self.volumes)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> Json:
        """New, or the one that is there."""
        with self._served("create_volume", "POST", "/volumes/create", 201, name):
            return self.volumes.setdefault(name, fake_volume(name, labels))

    def remove_volume(self, name: str) -> None:
        """Gone, unless a container uses it."""
        with self._served("remove_volume", "DELETE", f"/volumes/{name}", 204, name):
            if name not in self.volumes:
                raise error_for(404, f"get {name}: no such volume")
            users = [one.id for one in self._containers.values() if name in one.volumes]
            if users:
                raise error_for(409, f"remove {name}: volume is in use - [{', '.join(users)}]")
            del self.volumes[name]

    def plugins(self) -> tuple[Json, ...]:
        """None."""
        with self._served("plugins", "GET", "/plugins"):
            return ()

    def swarm(self, kind: str, ref: str) -> Json:
        """One that a test has put in; by default no manager."""
        with self._served("swarm", "GET", f"/{kind}s/{ref}"):
            if (kind, ref) not in self.objects:
                raise error_for(503, NO_MANAGER)
            return self.objects[kind, ref]

    def service_tasks(self, service: str) -> tuple[Json, ...]:
        """One for each replica, by the present spec; ``task_states`` says how they stand at each call (``running``)."""
        with self._served("service_tasks", "GET", "/tasks", 200, service):
            found = self.objects.get(("service", service))
            if found is None:
                raise error_for(503, NO_MANAGER)
            state = self.task_states.pop(0) if self.task_states else "running"
            replicas = (found["Spec"].get("Mode") or {}).get("Replicated", {}).get("Replicas", 1)
            return tuple({"Spec": found["Spec"]["TaskTemplate"], "Status": {"State": state}} for _ in range(replicas))

    def update_service(self, service: str, version: int, spec: Json) -> None:
        """The service's spec replaced, its former one kept; ``updates`` says how Swarm ends it (``completed`` by default)."""
        with self._served("update_service", "POST", f"/services/{service}/update", 200, service, version, dict(spec)):
            found = self.objects.get(("service", service))
            if found is None:
                raise error_for(503, NO_MANAGER)
            if found["Version"]["Index"] != version:
                raise error_for(500, "rpc error: code = Unknown desc = update out of sequence")
            self._update(found, spec)

    def _update(self, found: dict[str, Any], spec: Json) -> None:
        former, found["Spec"] = found["Spec"], dict(spec)
        found["PreviousSpec"] = former
        found["Version"] = {"Index": found["Version"]["Index"] + 1}
        if former["TaskTemplate"] == spec["TaskTemplate"]:
            return  # nothing is rolled out
        state = self.updates.pop(0) if self.updates else "completed"
        found["UpdateStatus"] = {"State": state, "StartedAt": now(), "Message": f"update {state}"}
        if state == "rollback_completed":
            found["Spec"] = former

    def export(self, container: str, idle: float = IDLE) -> Iterator[bytes]:
        """What a test has put in."""
        with self._served("export", "GET", f"/containers/{container}/export"):
            return iter([self._find(container).exported])

    def image_archive(self, ref: str, idle: float = IDLE) -> Iterator[bytes]:
        """As ``image_save``."""
        saved: Iterator[bytes] = self.image_save(ref)  # type: ignore[attr-defined]
        return saved

    def top(self, container: str) -> Json:
        """Its first process."""
        with self._served("top", "GET", f"/containers/{container}/top"):
            found = self._find(container)
            if not found.running:
                raise error_for(409, f"Container {found.id} is not running")
            return {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", str(found.pid), "init"]]}

    def checkpoint(self, container: str, name: str, folder: str) -> None:
        """Off, as by default; with ``images`` what CRIU would write."""
        with self._served("checkpoint", "POST", f"/containers/{container}/checkpoints"):
            self._find(container)
            if self.images is None:
                raise error_for(404, "page not found")
            (Path(folder) / name).mkdir()
            for file, data in self.images.items():
                (Path(folder) / name / file).write_bytes(data)
