"""Playing a scenario: a world of its own, staged traces, then irkit's real commands, then the score."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from irkit.drill.scenario import Scenario, Simulation, World
from irkit.engine.interface import Engine, NetworkSpec
from irkit.errors import CheckFailed, EngineError, Interrupted, NotFound
from irkit.quarantine.seal import LABEL as CASE_LABEL
from irkit.text import printable, text_from

LABEL = "dev.irkit.drill"
NETWORK, SUBNET, ADDRESS = "irkit-drill-net", "10.231.77.0/24", "10.231.77.10"
KEY = "drill-image"
ANSWER_SECONDS, STAGE_SECONDS, POLL = 15.0, 2.0, 0.1
DIFF_LINES = 12
STOP_SECONDS = 30
Say = Callable[[str], None]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Drill:
    """One play: where it happens, and what has come of it so far."""

    scenario: Scenario
    engine: Engine
    engine_url: str | None
    say: Say
    home: Path
    port: int = 0
    bundle: str = ""
    report: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, bool] = field(default_factory=dict)
    kept: bool = False

    def irkit(self, *words: str, accepted: Sequence[int] = (0,)) -> str:
        """Run a command of irkit as a user would; its standard output.  Raises ``CheckFailed`` when it fails."""
        self.say(f"  $ irkit {' '.join(words)}")
        code, output = _run([sys.executable, "-m", "irkit", *words], self._environment())
        self.steps.append({"command": ["irkit", *words], "exit": code, "ok": code in accepted})
        if code not in accepted:
            raise CheckFailed(f"`irkit {' '.join(words)}` ended with exit code {code}")
        return output

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "IRKIT_HOME": str(self.home)}
        if self.engine_url:
            environment["DOCKER_HOST"] = self.engine_url
        return environment


def play(drill: Drill, keep: bool) -> dict[str, Any]:
    """Play it and clean up, whatever happens; the result as ``irkit.drill/v1``.  Raises the error tree."""
    began = time.monotonic()
    with _signals_raise():
        try:
            _check_image(drill)
            removed = clean_up(drill.engine)
            if removed:
                drill.say(f"removed what an earlier drill left: {', '.join(removed)}")
            _phases(drill)
        finally:
            drill.kept = keep
            with _signals_wait():
                _finish(drill)
    return result(drill, time.monotonic() - began)


def _phases(drill: Drill) -> None:
    phases: tuple[tuple[str, Callable[[Drill], None]], ...] = (
        ("world", build_world), ("staging", stage), ("contain", contain), ("evidence", examine), ("recovery", recover),
    )  # fmt: skip
    for number, (name, run) in enumerate(phases, 1):
        drill.say(f"[{number}/{len(phases)}] {name}")
        run(drill)


def _check_image(drill: Drill) -> None:
    image = drill.scenario.world.image
    try:
        drill.engine.image(image)
    except NotFound as error:
        raise NotFound(
            f"the engine has no image {image}, which the drill is played on", hint="scripts/make-images web"
        ) from error


# -- the world ------------------------------------------------------------------------------------------------------


def build_world(drill: Drill) -> None:
    """A signed image, a network, and a service that answers."""
    world, engine = drill.scenario.world, drill.engine
    drill.irkit("key", "generate", "--name", KEY, "--use", "image")
    drill.irkit("image", "sign", world.image, "--key", KEY)
    engine.create_network(NetworkSpec(NETWORK, False, {}, {LABEL: "1"}, SUBNET))
    drill.port = _free_port()
    engine.start(engine.create(_service(world, drill.port), world.container))
    _answers(drill)


def _service(world: World, host_port: int) -> dict[str, Any]:
    port = f"{world.port}/tcp"
    return {
        "Image": world.image, "Labels": {LABEL: "1"}, "ExposedPorts": {port: {}},
        "HostConfig": {
            "NetworkMode": NETWORK, "RestartPolicy": {"Name": "unless-stopped"},
            "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": str(host_port)}]},
        },
        "NetworkingConfig": {"EndpointsConfig": {NETWORK: {"IPAMConfig": {"IPv4Address": ADDRESS}, "Aliases": ["web"]}}},
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(drill: Drill) -> None:
    """Wait for the service.  Raises ``CheckFailed``."""
    where = f"http://127.0.0.1:{drill.port}{drill.scenario.world.path}"
    if not _within(ANSWER_SECONDS, lambda: _get(drill.port, drill.scenario.world)):
        raise CheckFailed(
            f"the service does not answer at {where}",
            hint="the drill must run where the engine publishes its ports",
        )
    drill.say(f"  the service answers at {where}")


def _get(port: int, world: World) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", world.path)
        return world.expect.encode() in connection.getresponse().read(65536)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True


# -- what happens in it ---------------------------------------------------------------------------------------------


def stage(drill: Drill) -> None:
    """Every trace, each looked for before the response begins.  Raises ``CheckFailed`` when one is not in place."""
    container = drill.scenario.world.container
    for one in drill.scenario.simulations:
        code, output = drill.engine.exec(container, one.run, detach=one.detach)
        if code or not _within(STAGE_SECONDS, lambda one=one: _in_place(drill.engine, container, one)):  # type: ignore[misc]
            raise CheckFailed(f"{one.id} could not be staged (exit code {code}): {printable(output[-200:].strip())}")
        drill.say(f"  {one.technique:<10} {one.title} ({one.id})")


def _in_place(engine: Engine, container: str, one: Simulation) -> bool:
    return engine.exec(container, one.verify)[0] == 0


def contain(drill: Drill) -> None:
    """``irkit contain``; done with gaps is done."""
    drill.run = json.loads(drill.irkit("contain", drill.scenario.world.container, "--json", accepted=(0, 4)))
    state = drill.run["quarantine"]["state"]
    drill.held["quarantine-proven"] = state == "proven"
    drill.say(f"  quarantine: {state or 'none'}; {len(drill.run['findings'])} findings, {len(drill.run['gaps'])} gaps")
    if not drill.run["bundle"]:
        raise CheckFailed("irkit contain has sealed no bundle")
    drill.bundle = drill.run["bundle"]["path"]


def examine(drill: Drill) -> None:
    """Verify the bundle, show what changed, write the report."""
    verified = json.loads(drill.irkit("bundle", "verify", drill.bundle, "--json"))
    drill.held["bundle-verified"] = verified.get("ok") is True
    _show_diff(drill, drill.irkit("diff", drill.bundle))
    report = drill.home / "report.html"
    drill.irkit("report", drill.bundle, "-o", str(report))
    drill.report = str(report)


def _show_diff(drill: Drill, text: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines[:DIFF_LINES]:
        drill.say(f"    {printable(line, 160)}")
    if len(lines) > DIFF_LINES:
        drill.say(f"    and {len(lines) - DIFF_LINES} lines more")


def recover(drill: Drill) -> None:
    """A clean container in its place, which answers where the old one did."""
    world = drill.scenario.world
    drill.irkit("rebuild", world.container, "--image", world.image)
    _answers(drill)
    drill.held["service-restored"] = True


def score(scenario: Scenario, findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each staged fact, and whether it is among the findings."""
    seen = [(str(one["rule"]), str(one["severity"]), text_from(one, "subject")) for one in findings]
    rows = []
    for one in scenario.simulations:
        severities = [
            level for rule, level, subject in seen if rule == one.truth.rule and one.truth.subject_contains in subject
        ]
        rows.append({
            "id": one.id, "technique": one.technique, "title": one.title, "rule": one.truth.rule,
            "subject_contains": one.truth.subject_contains, "found": bool(severities), "severity": severities[0] if severities else None,
        })  # fmt: skip
    return rows


def result(drill: Drill, seconds: float) -> dict[str, Any]:
    """``irkit.drill/v1``."""
    staged = score(drill.scenario, drill.run.get("findings", ()))
    checks = [{"name": name, "ok": drill.held.get(name, False)} for name in drill.scenario.checks]
    missed = [row["id"] for row in staged if not row["found"]]
    return {
        "schema": "irkit.drill/v1", "scenario": drill.scenario.id, "engine": drill.engine.endpoint,
        "passed": not missed and all(check["ok"] for check in checks), "found": len(staged) - len(missed), "total": len(staged),
        "missed": missed, "staged": staged, "checks": checks, "commands": drill.steps, "timeline": drill.run.get("timeline"),
        "findings": len(drill.run.get("findings", ())), "gaps": len(drill.run.get("gaps", ())),
        "home": str(drill.home), "bundle": drill.bundle or None, "report": drill.report or None, "kept": drill.kept,
        "seconds": round(seconds, 3),
    }  # fmt: skip


# -- the end --------------------------------------------------------------------------------------------------------


def new_home() -> Path:
    """A fresh folder for one drill's keys and cases; it stays, for whoever wants to look."""
    return Path(tempfile.mkdtemp(prefix="irkit-drill-"))


def clean_up(engine: Engine, home: Path | None = None) -> list[str]:
    """Remove drills' containers, their networks, and the quarantines of their cases; what was removed."""
    containers = [engine.container(one) for one in engine.containers(f"{LABEL}=1")]
    joined = {endpoint.network for container in containers for endpoint in container.endpoints}
    cases = {path.name for path in (home / "cases").glob("*")} if home else set()
    networks = {one.id: one.name for one in engine.networks(LABEL)}
    networks |= {
        one.id: one.name for one in engine.networks(CASE_LABEL) if one.name in joined or one.labels[CASE_LABEL] in cases
    }
    for container in containers:
        with contextlib.suppress(NotFound):
            engine.remove(container.id, force=True)
    for network in networks:
        with contextlib.suppress(NotFound):
            engine.remove_network(network)
    return [*(one.name for one in containers), *networks.values()]


def _finish(drill: Drill) -> None:
    if drill.kept:
        drill.say(f"kept: the containers and networks with the label {LABEL}; the next drill removes them")
        return
    try:
        removed = clean_up(drill.engine, drill.home)
    except EngineError as error:
        if sys.exception() is None:
            raise
        drill.say(f"the clean-up failed: {error.message}; the next drill tries again")
        return
    drill.say(f"removed {', '.join(removed)}" if removed else "nothing to remove")


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """A program in a session of its own, so that a signal reaches it through us, once, and we wait for it."""
    with subprocess.Popen(
        argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        try:
            output, _ = child.communicate()
        except BaseException:
            child.terminate()
            with _signals_wait(), contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=STOP_SECONDS)
            child.kill()
            raise
    return child.returncode, output.decode("utf-8", "replace")


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(f"the drill was stopped by {signal.Signals(number).name}")


@contextmanager
def _signals_raise() -> Iterator[None]:
    before = [signal.signal(number, _interrupt) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _signals_wait() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
