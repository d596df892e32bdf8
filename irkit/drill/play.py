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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from irkit.cases import drill_lock
from irkit.drill.scenario import Scenario, World, score
from irkit.engine.interface import Engine, NetworkSpec
from irkit.errors import CheckFailed, EngineError, Interrupted, NotFound, Refused
from irkit.quarantine.seal import LABEL as CASE_LABEL
from irkit.text import printable

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

    def irkit(self, *words: str, accepted: Sequence[int] = (0,), needed: bool = False) -> str:
        """Run a command as a user would; its standard output.  Raises ``CheckFailed`` when a needed one fails."""
        self.say(f"  $ irkit {' '.join(words)}")
        code, output = _run([sys.executable, "-m", "irkit", *words], self._environment())
        self.steps.append({"command": ["irkit", *words], "exit": code, "ok": code in accepted})
        if code not in accepted:
            if needed:
                raise CheckFailed(f"`irkit {' '.join(words)}` ended with exit code {code}")
            self.say(f"  ! ended with exit code {code}")
        return output

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "IRKIT_HOME": str(self.home)}
        if self.engine_url:
            environment["DOCKER_HOST"] = self.engine_url
        return environment


def play(drill: Drill, keep: bool) -> dict[str, Any]:
    """Play it and clean up, whatever happens; the result as ``irkit.drill/v1``.  Raises the error tree."""
    began = time.monotonic()
    with drill_lock(drill.engine.info().id or drill.engine.endpoint), _signals_raise():
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
    phases = {"world": build_world, "staging": stage, "contain": contain, "evidence": examine, "recovery": recover}
    for number, (name, run) in enumerate(phases.items(), 1):
        drill.say(f"[{number}/{len(phases)}] {name}")
        run(drill)


def _check_image(drill: Drill) -> None:
    image = drill.scenario.world.image
    try:
        drill.engine.image(image)
    except NotFound as error:
        raise NotFound(f"the drill's image {image} is not there", hint="scripts/make-images web") from error


def build_world(drill: Drill) -> None:
    """A signed image, a network, and a service that answers."""
    world, engine = drill.scenario.world, drill.engine
    drill.irkit("key", "generate", "--name", KEY, "--use", "image", needed=True)
    drill.irkit("image", "sign", world.image, "--key", KEY, needed=True)
    engine.create_network(NetworkSpec(NETWORK, False, {}, {LABEL: "1"}, SUBNET))
    drill.port = _free_port()
    engine.start(engine.create(_service(world, drill.port), world.container))
    if not _answers(drill):
        raise CheckFailed("the drill has no service", hint="play it where the engine publishes its ports")


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


def _answers(drill: Drill) -> bool:
    """Wait for the service."""
    answers = _within(ANSWER_SECONDS, lambda: _get(drill.port, drill.scenario.world))
    where = f"http://127.0.0.1:{drill.port}{drill.scenario.world.path}"
    drill.say(f"  the service {'answers' if answers else 'does not answer'} at {where}")
    return answers


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


def _check_inside(drill: Drill, container: str) -> None:
    """Refuse to stage anything unless exec really lands in the container.

    With an engine that runs under a plain chroot, setns(2) goes to the machine's own root instead.
    """
    hostname = str(drill.engine.container(container).config["Hostname"])
    _, output = drill.engine.exec(container, ["cat", "/etc/hostname"])
    if output.decode("utf-8", "replace").strip() != hostname:
        raise Refused(
            "docker exec does not land in the container on this engine: staging would change the machine itself",
            hint="does the engine run under a plain chroot? use pivot_root, or another engine",
        )


def stage(drill: Drill) -> None:
    """Every trace, each looked for before the response begins.  Raises ``CheckFailed`` when one is not in place."""
    container = drill.scenario.world.container
    _check_inside(drill, container)
    for one in drill.scenario.simulations:
        code, output = drill.engine.exec(container, one.run, detach=one.detach)
        if code or not _within(STAGE_SECONDS, lambda one=one: drill.engine.exec(container, one.verify)[0] == 0):  # type: ignore[misc]
            raise CheckFailed(f"{one.id} could not be staged (exit code {code}): {printable(output[-200:].strip())}")
        drill.say(f"  {one.technique:<10} {one.title} ({one.id})")


def contain(drill: Drill) -> None:
    """``irkit contain``; done with gaps is done.  Without a sealed bundle there is nothing to score."""
    said = drill.irkit("contain", drill.scenario.world.container, "--json", accepted=(0, 4))
    drill.run = _object(said)
    if not drill.run.get("bundle"):
        raise CheckFailed(f"irkit contain ended with exit code {drill.steps[-1]['exit']} and without a sealed bundle")
    state, found, gaps = drill.run["quarantine"]["state"], len(drill.run["findings"]), len(drill.run["gaps"])
    drill.held["quarantine-proven"] = state == "proven"
    drill.say(f"  quarantine: {state or 'none'}; {found} findings, {gaps} gaps")
    drill.bundle = drill.run["bundle"]["path"]


def _object(text: str) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        return dict(json.loads(text))
    return {}


def examine(drill: Drill) -> None:
    """Verify the bundle, show what changed, write the report."""
    verified = _object(drill.irkit("bundle", "verify", drill.bundle, "--json"))
    drill.held["bundle-verified"] = drill.steps[-1]["ok"] and verified.get("ok") is True
    _show_diff(drill, drill.irkit("diff", drill.bundle))
    report = drill.home / "report.html"
    drill.irkit("report", drill.bundle, "-o", str(report))
    drill.report = str(report) if report.is_file() else ""


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
    drill.held["service-restored"] = drill.steps[-1]["ok"] and _answers(drill)


def result(drill: Drill, seconds: float) -> dict[str, Any]:
    """``irkit.drill/v1``."""
    staged = score(drill.scenario, drill.run.get("findings", ()))
    checks = [{"name": name, "ok": drill.held.get(name, False)} for name in drill.scenario.checks]
    missed = [row["id"] for row in staged if not row["found"]]
    passed = not missed and all(one["ok"] for one in (*checks, *drill.steps))
    return {
        "schema": "irkit.drill/v1", "scenario": drill.scenario.id, "engine": drill.engine.endpoint, "passed": passed,
        "found": len(staged) - len(missed), "total": len(staged), "missed": missed, "staged": staged,
        "checks": checks, "commands": drill.steps, "timeline": drill.run.get("timeline"),
        "findings": len(drill.run.get("findings", ())), "gaps": len(drill.run.get("gaps", ())),
        "home": str(drill.home), "bundle": drill.bundle or None, "report": drill.report or None,
        "kept": drill.kept, "seconds": round(seconds, 3),
    }  # fmt: skip


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
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_wait() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
