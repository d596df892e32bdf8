"""A Swarm service gets the verified image by the engine's own service update, and its former spec back when that fails.

Docker Engine API v1.41, ``POST /services/{id}/update``: the spec is replaced as a whole, so everything that irkit does
not name (secrets and configs by name, networks, mounts, placement) stays as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError

SERVICE, TASK = "com.docker.swarm.service.id", "com.docker.swarm.task.id"
POLL = 0.5
WAYS = ("UpdateConfig", "RollbackConfig")
STEADY = 2
"""How many times in a row all tasks must be seen to run."""
SUPERSEDED = "somebody else has updated it since: its UpdateConfig was left as it was for irkit's update"
FAILED = ("paused", "rollback_started", "rollback_completed", "rollback_paused")


@dataclass(frozen=True, slots=True)
class Updated:
    """What was done to a service: its id and name, the image that it had, and the one that it has.

    ``running`` of its ``wanted`` tasks run by the new one; ``unsure``: why that is not known, or not enough.
    """

    id: str
    name: str
    old_image: str
    image: str
    running: int = 0
    wanted: int = 0
    unsure: str = ""


def service_of(container: Container) -> str:
    """The id of the service that a container is a task of, or an empty string."""
    return str(container.labels.get(SERVICE) or "")


def new_spec(spec: Mapping[str, Any], image: str) -> dict[str, Any]:
    """``ServiceSpec`` with another image, rolled out even if it is the same one, and rolled back by Swarm when it fails."""
    made: dict[str, Any] = copy.deepcopy(dict(spec))
    task = made["TaskTemplate"]
    task["ContainerSpec"]["Image"] = image
    task["ForceUpdate"] = int(task.get("ForceUpdate") or 0) + 1
    made["UpdateConfig"] = {"Parallelism": 1, **(made.get("UpdateConfig") or {}), "FailureAction": "rollback"}
    return made


@dataclass(frozen=True, slots=True)
class Begun:
    """An update that was asked for: enough to know it again after a kill.  No secret is in it, and no whole spec.

    ``force``: the ``ForceUpdate`` that it asks for.  ``began``: when the update before it began, RFC 3339 or empty.
    ``ways``: the former ``UpdateConfig`` and ``RollbackConfig``, those that there were.
    """

    service: str
    image: str
    old_image: str
    force: int
    began: str
    ways: Mapping[str, Any]

    @classmethod
    def of(cls, found: Mapping[str, Any], service: str, image: str) -> Begun:
        """From the service as it is before the update."""
        spec = found["Spec"]
        ways = {name: spec[name] for name in WAYS if name in spec}
        return cls(service, image, _image(spec), _force(spec) + 1, _began(found), ways)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Begun:
        """Raises ``KeyError`` for a record that is none."""
        ways = {name: raw["ways"][name] for name in WAYS if name in raw["ways"]}
        return cls(str(raw["service"]), str(raw["image"]), str(raw["old_image"]), int(raw["force"]), str(raw["began"]), ways)  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """For the run's folder."""
        return {"schema": "irkit.service-update/v1", **dataclasses.asdict(self)}

    def made(self, found: Mapping[str, Any]) -> bool:
        """Whether the engine has taken it: it is in force, or Swarm has gone back from it since."""
        if self.in_force(found):
            return True
        state = (found.get("UpdateStatus") or {}).get("State")
        return _began(found) != self.began and state in FAILED and _image(found["Spec"]) == self.old_image

    def former(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The spec before the update: what Swarm keeps as ``PreviousSpec``, unless it is in force again."""
        spec = found["Spec"]
        if self.in_force(found):
            previous = found.get("PreviousSpec") or {}
            # after the second update, of the settings alone, what came before is not kept any more: nor is it needed
            spec = previous if previous and _force(previous) < self.force else spec
        return {**{name: value for name, value in spec.items() if name not in WAYS}, **self.ways}

    def in_force(self, found: Mapping[str, Any]) -> bool:
        """Whether the service has this spec now."""
        return _image(found["Spec"]) == self.image and _force(found["Spec"]) == self.force


def _image(spec: Mapping[str, Any]) -> str:
    return str(spec["TaskTemplate"]["ContainerSpec"].get("Image") or "")


def _force(spec: Mapping[str, Any]) -> int:
    return int(spec["TaskTemplate"].get("ForceUpdate") or 0)


def _began(found: Mapping[str, Any]) -> str:
    return str((found.get("UpdateStatus") or {}).get("StartedAt") or "")


def update(
    engine: Engine, service: str, image: str, timeout: float, checkpoint: Callable[[], None],
    past: Begun | None = None, keep: Callable[[Begun], None] = lambda begun: None,
) -> Updated:  # fmt: skip
    """Update, and wait until Swarm says that it is completed and the tasks run.

    Raises ``EngineError`` when the update fails, which says whether the former spec is back.

    ``timeout`` in seconds.  ``keep`` is told before the engine is asked; ``past``: what it was told by a run that was
    killed, whose update is waited for and not asked for again.
    """
    deadline = time.monotonic() + timeout
    found = engine.swarm("service", service)
    if past is not None and (past.service, past.image) == (service, image) and past.made(found):
        begun, spec = past, past.former(found)
    else:
        begun, spec = Begun.of(found, service, image), found["Spec"]
        keep(begun)
        engine.update_service(service, int(found["Version"]["Index"]), new_spec(spec, image))
    try:
        _wait(engine, service, begun.began, timeout, checkpoint)
    except EngineError as error:
        error.message = f"{error.message}; {_back(engine, service, spec, timeout)}"
        error.args = (error.message,)
        raise
    name = str(spec.get("Name") or service)
    running, wanted, unsure = _running(engine, begun, name, deadline, checkpoint)
    if unsure != SUPERSEDED:
        _settings_back(engine, service, spec, tasks=False)
    return Updated(service, name, begun.old_image, image, running, wanted, unsure)


def _running(
    engine: Engine, begun: Begun, name: str, deadline: float, checkpoint: Callable[[], None]
) -> tuple[int, int, str]:
    """How many tasks run by the new spec, how many shall, and why that is not known or not enough.

    Swarm says ``completed`` at once where no task stood before.  Seen to run twice: one may end as soon as it has begun.
    """
    running, wanted, seen = 0, 0, 0
    while True:
        checkpoint()
        try:
            found, tasks = engine.swarm("service", begun.service), engine.service_tasks(begun.service)
        except EngineError as error:
            return running, wanted, f"whether its tasks run is not known ({error.message})"
        if not begun.in_force(found):
            return running, wanted, SUPERSEDED
        running = sum(1 for one in tasks if _runs(one, begun))
        mode = found["Spec"].get("Mode") or {}
        wanted = max(1, len(tasks)) if "Global" in mode else int((mode.get("Replicated") or {}).get("Replicas", 1))
        seen = seen + 1 if running >= wanted else 0
        if seen == STEADY:
            return running, wanted, ""
        if time.monotonic() > deadline:
            return running, wanted, f"{running} of its {wanted} tasks run: `docker service ps {name}` says why"
        time.sleep(POLL)


def _runs(task: Mapping[str, Any], begun: Begun) -> bool:
    spec = {"TaskTemplate": task["Spec"]}
    state = (task.get("Status") or {}).get("State")
    return state == "running" and _image(spec) == begun.image and _force(spec) == begun.force


def _wait(engine: Engine, service: str, began: str, timeout: float, checkpoint: Callable[[], None]) -> None:
    deadline = time.monotonic() + timeout
    while True:
        checkpoint()
        status = engine.swarm("service", service).get("UpdateStatus") or {}
        if str(status.get("StartedAt") or "") != began:
            state = status.get("State")
            if state == "completed":
                return
            if state in FAILED:
                raise EngineError(f"the service's update failed: {status.get('Message') or state}")
        if time.monotonic() > deadline:
            raise EngineError(f"the service's update has not ended after {timeout:.0f} s")
        time.sleep(POLL)


def _back(engine: Engine, service: str, spec: Mapping[str, Any], timeout: float) -> str:
    """See to it that the former spec is in force, whether Swarm has rolled back by itself or not; what came of it."""
    deadline = time.monotonic() + timeout
    try:
        while (state := _state(engine, service)) == "rollback_started" and time.monotonic() < deadline:
            time.sleep(POLL)
        _settings_back(engine, service, spec, tasks=True)
        now = engine.swarm("service", service)["Spec"]["TaskTemplate"]["ContainerSpec"].get("Image")
    except EngineError as error:
        return f"whether its former spec is back is not known ({error.message})"
    if now != spec["TaskTemplate"]["ContainerSpec"].get("Image"):
        return "its former spec could not be put back"
    return "its former spec is back" + ("" if state == "rollback_completed" else ", and Swarm is rolling it out")


def _state(engine: Engine, service: str) -> str:
    return str((engine.swarm("service", service).get("UpdateStatus") or {}).get("State") or "")


def _settings_back(engine: Engine, service: str, spec: Mapping[str, Any], *, tasks: bool) -> None:
    """The former way of updating, and after a failure the former ``tasks``; nothing is called when all is as it should be."""
    now = engine.swarm("service", service)
    wanted = dict(now["Spec"])
    if tasks and _state_is_bad(now):
        wanted["TaskTemplate"] = spec["TaskTemplate"]
    for name in WAYS:
        if name in spec:
            wanted[name] = spec[name]
        else:
            wanted.pop(name, None)
    if wanted != now["Spec"]:
        engine.update_service(service, int(now["Version"]["Index"]), wanted)


def _state_is_bad(service: Mapping[str, Any]) -> bool:
    return (service.get("UpdateStatus") or {}).get("State") != "completed"
