"""Helper containers: made from a trusted image by its id, each in one network namespace, removed when the proof is over.

A helper has a read-only root, no mounts, no capability but ``NET_RAW``, and ends by itself should irkit be killed.  It
runs irkit's agent (:mod:`irkit.quarantine.agent`) in the image's ``python3``.  What it answers is data: it runs beside
hostile containers, so it is read with limits and checked.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from irkit.engine.interface import Container, Engine
from irkit.errors import Conflict, EngineError, EngineUnreachable, NotFound
from irkit.quarantine.seal import LABEL, ROLE

HELPER = "helper"
LIFETIME = 180
"""Seconds after which a helper ends, whatever became of irkit; the engine then removes it."""
BATCH = 250
"""Tries a call: Linux takes 128 KiB in one argument (``MAX_ARG_STRLEN``, execve(2))."""
LIMIT = 16 * 1024 * 1024
HOST = "host"
WITHOUT = (("user namespace", "UsernsMode", HOST), ("pids.max", "PidsLimit", 0))
"""What an engine may refuse, and what is asked for then: its users are mapped, but the host's network goes with the host's
users alone; its cgroups have no controller to limit processes by."""
NAME = re.compile(r"irkit-helper-[0-9a-f]{12}")


def is_helper(container: Container) -> bool:
    """Whether a container is one of irkit's helpers: by what only its creator says as well, as an image brings labels too."""
    host = container.host_config
    weak = [str(one).removeprefix("CAP_") for one in host.get("CapAdd") or ()] == ["NET_RAW"] and not host.get(
        "Privileged"
    )
    return container.labels.get(ROLE) == HELPER and bool(NAME.fullmatch(container.name)) and weak


@functools.cache
def agent_source() -> str:
    """The agent's text."""
    return resources.files("irkit.quarantine").joinpath("agent.py").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Helper:
    """One that runs.  ``place``: whose namespace it shares, in words; ``mode``: the engine's ``NetworkMode``."""

    id: str
    place: str
    mode: str


class Helpers:
    """All helpers of one proof; a context manager that removes them.  ``problems``: what could not be removed."""

    def __init__(self, engine: Engine, image_id: str, case_id: str) -> None:
        self._engine, self._image, self._case = engine, image_id, case_id
        self._made: list[str] = []
        self.running: list[Helper] = []
        self.problems: list[str] = []

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, place: str, mode: str, *, sniff: bool = False) -> Helper:
        """A helper in the namespace that ``mode`` names.  Raises ``EngineError`` when the engine refuses."""
        more: dict[str, Any] = {}
        while True:
            try:
                return self._start(place, mode, sniff, more)
            except EngineUnreachable:
                raise
            except EngineError as error:
                other = {key: value for words, key, value in WITHOUT if words in error.message and key not in more}
                if not other:
                    raise
                more.update(other)

    def _start(self, place: str, mode: str, sniff: bool, more: Mapping[str, Any]) -> Helper:
        body = specification(self._image, mode, {LABEL: self._case, ROLE: HELPER}, sniff=sniff)
        body = {**body, "HostConfig": {**body["HostConfig"], **more}}
        made = self._engine.create(body, f"irkit-helper-{secrets.token_hex(6)}")
        self._made.append(made)
        self._engine.start(made)
        helper = Helper(made, place, mode)
        self.running.append(helper)
        return helper

    def ask(self, helper: Helper, verb: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The agent's answer.  Raises ``EngineError`` when the helper is gone or does not speak as the agent does."""
        argv = [*python(), verb, *([json.dumps(request)] if request is not None else [])]
        code, out = self._engine.exec(helper.id, argv)
        if code != 0 or len(out) > LIMIT:
            last = out[-300:].decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise EngineError(f"the helper in {helper.place} failed (exit {code}): {last}")
        try:
            answer = json.loads(
                out.strip().rpartition(b"\n")[2]
            )  # before it may stand what Python says on standard error
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(f"the helper in {helper.place} does not answer as irkit's agent does")
        return answer

    def probe(
        self, helper: Helper, tries: Sequence[Mapping[str, Any]], wait: float
    ) -> tuple[list[dict[str, Any]], list[Any]]:
        """The outcome of each try, in order, and the rows of neighbours after them."""
        told: list[dict[str, Any]] = []
        rows: list[Any] = []
        for begin in range(0, len(tries), BATCH):
            batch = list(tries[begin : begin + BATCH])
            answer = self.ask(helper, "probe", {"tries": batch, "wait": wait})
            if not isinstance(answer.get("tries"), list) or len(answer["tries"]) != len(batch):
                raise EngineError(f"the helper in {helper.place} did not tell of every try")
            told += answer["tries"]
            rows += answer.get("neighbours") or []
        return told, rows

    def close(self) -> None:
        """Remove all that were made, also those that never started."""
        while self._made:
            one = self._made.pop()
            try:
                self._engine.remove(one, force=True, volumes=True)
            except (NotFound, Conflict):
                continue  # gone, or the engine is at it: it was made with AutoRemove
            except EngineError as error:
                self.problems.append(f"the helper {one[:12]} could not be removed: {error.message}")


def python() -> list[str]:
    """How the agent is started: without the image's site packages, environment and user folders."""
    return ["python3", "-I", "-S", "-c", agent_source()]


def specification(image_id: str, mode: str, labels: Mapping[str, str], *, sniff: bool) -> dict[str, Any]:
    """The body of ``POST /containers/create`` (API v1.41)."""
    return {
        "Image": image_id, "Entrypoint": python(), "Cmd": ["serve", str(LIFETIME), "1" if sniff else "0"], "User": "0:0", "WorkingDir": "/",
        "Labels": dict(labels), "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": mode, "ReadonlyRootfs": True, "CapDrop": ["ALL"], "CapAdd": ["NET_RAW"], "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 64, "AutoRemove": True, "IpcMode": "private", "ShmSize": 1 << 20, "Privileged": False,
            "LogConfig": {"Type": "none"}, "RestartPolicy": {"Name": "no"},
        },
    }  # fmt: skip
