"""A service's downtime under a steady load: ``irkit failover`` against ``docker stop && docker run`` of the same image.

Requests go to the published port from the host, and to a name on a user's network from a sibling's network namespace, to a
service that publishes no port.  The load is steady: a request begins every 10 ms, whether or not those before it have
been answered, so that the patience of a client is not measured.  The downtime is the longest time between two answers:
of ``docker``'s from its first command on, of irkit's from the freeze on, in both cases until 1.5 s after the new container
has its place (for so long irkit looks whether it stays up).  What irkit does before and after it (it verifies an image, it acquires evidence) is told beside it, as "all of it": on
a host of two cores it is felt, too.  The load runs before all else on the host, as clients on other hosts would.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dateutil.parser import isoparse

from tests.load import get, steady

RUNS, GOAL = 3, 0.1
NAME, SIBLING, IMAGE = "irkit-bench", "irkit-bench-sibling", "irkit-dev/web:1"
NETWORK = "irkit-bench-net"
DEAF = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/srv/www")
"""PID 1 without a handler: it serves on until the engine kills it after ten seconds."""
OBEDIENT = ("/bin/sh", "-c", "trap 'exit 0' TERM; /bin/busybox httpd -f -p 8080 -h /srv/www & wait")
DRAINING = ("/bin/sh", "-c", "/bin/busybox httpd -f -p 8080 -h /srv/www & trap 'kill $!; sleep 60 & wait' TERM; wait")
"""It stops listening at SIGTERM and waits for its open connections, until the engine kills it."""
EVERY, PATIENCE, SETTLED = 0.01, 0.5, 1.5
URGENT = -15
"""The load's nice value."""
PORT = 18080
QUERY = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0" + bytes([len(NAME)]) + NAME.encode() + b"\0\0\x01\0\x01"
"""An A query for the name (RFC 1035, 4.1)."""


class Measured(NamedTuple):
    """Seconds: irkit's downtime, the longest silence of its whole run, its own word, and docker's downtime."""

    ours: list[float]
    whole: list[float]
    told: list[float]
    base: list[float]


def downtimes(label: str) -> Iterator[tuple[str, Measured]]:
    """For each kind of service: its name, and what was measured."""
    kinds = {"PID 1 ignores SIGTERM": DEAF, "PID 1 ends at SIGTERM": OBEDIENT, "it drains at SIGTERM": DRAINING}
    for kind, command in kinds.items():
        for way in ("port", "name"):
            found = Measured([], [], [], [])
            for _ in range(RUNS):
                with _service(label, command, way) as start:
                    seconds, whole, word = _irkit(way)
                    found.ours.append(seconds)
                    found.whole.append(whole)
                    found.told.append(word)
                with _service(label, command, way) as start:
                    found.base.append(_longest(_watched(way, lambda start=start: _replace(start))[0]))  # type: ignore[misc]
            yield f"{kind}, by {way}", found


def _longest(moments: list[float], since: float = 0.0, until: float = float("inf")) -> float:
    """The longest time between two answers, of those silences that touch the given time."""
    pairs = itertools.pairwise(moments)
    return max(after - before for before, after in pairs if after >= since and before <= until)


@contextlib.contextmanager
def _service(label: str, command: tuple[str, ...], way: str) -> Iterator[list[str]]:
    run = ["docker", "run", "-d", "--label", label, "--network", NETWORK]
    published = ["-p", f"127.0.0.1:{PORT}:8080"] if way == "port" else []
    start = [*run, "--name", NAME, *published, IMAGE, *command]
    _clean()
    subprocess.run([*run, "--name", SIBLING, IMAGE], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
    time.sleep(1)
    try:
        yield start
    finally:
        _clean()


def _clean() -> None:
    rows = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    ).stdout
    for name in (one for one in rows.split() if one.startswith(NAME)):
        subprocess.run(["docker", "rm", "-f", name], check=True, stdout=subprocess.DEVNULL)


def _replace(start: list[str]) -> None:
    """What a responder types: the old one keeps its data, so it is renamed, not removed."""
    for argv in (["docker", "stop", NAME], ["docker", "rename", NAME, f"{NAME}-old"], start):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _irkit(way: str) -> tuple[float, float, float]:
    """Seconds of silence at the switch, in all of the run, and as irkit says."""
    with tempfile.TemporaryDirectory() as home:
        env, call = {**os.environ, "IRKIT_HOME": home}, [sys.executable, "-m", "irkit"]
        for argv in (
            ["key", "generate"],
            ["key", "generate", "--name", "rel", "--use", "image"],
            ["image", "sign", IMAGE, "--key", "rel"],
        ):
            subprocess.run([*call, *argv], env=env, check=True, capture_output=True)

        def act() -> str:
            done = subprocess.run(
                [*call, "failover", NAME, "--image", IMAGE, "--json"],
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode not in (0, 4):
                raise SystemExit(done.stderr)
            return done.stdout

        moments, out = _watched(way, act)
        subprocess.run([*call, "release", "--leftovers"], env=env, check=False, capture_output=True)
    run = json.loads(out)
    told = run["failover"]["downtime"]
    (switch,) = [one for one in run["steps"] if one["uses"] == "recover.switch"]
    since, ended = (isoparse(one).timestamp() for one in (told["from"], switch["finished"]))
    return _longest(moments, since, ended), _longest(moments), float(told["seconds"])


def _watched(way: str, act: Callable[[], str | None]) -> tuple[list[float], str]:
    """When requests were answered while ``act`` ran (seconds since the epoch, sorted), and what it returns."""
    if way == "port":
        netns, ask = None, functools.partial(_get, "127.0.0.1", PORT)
    else:
        argv = ["docker", "inspect", "--format", "{{.State.Pid}}", SIBLING]
        pid = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        netns, ask = f"/proc/{pid}/ns/net", _get_by_name
    with steady(netns, ask, EVERY, URGENT) as rows:
        time.sleep(0.5)
        out = act()
        time.sleep(SETTLED)
    moments = sorted(one.ended for one in rows if one.answer)
    if len(moments) < 10:
        raise SystemExit(f"hardly anything was answered: {len(moments)}")
    return moments, out or ""


def _get(address: str, port: int) -> str:
    found = get(address, port, patience=PATIENCE)
    return found if " 200 " in found.partition("\r\n")[0] else ""


def _get_by_name() -> str:
    """Each request asks the engine's resolver anew, and takes the first address, as a client without a cache does."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(PATIENCE)
            link.sendto(QUERY, ("127.0.0.11", 53))
            answer = link.recv(512)
    except OSError:
        return ""
    if answer[6:8] == b"\0\0":
        return ""
    # the answers come after the question; each has a name, whole or as a pointer of two bytes, then type, class, TTL and length
    at = len(QUERY)
    at += 2 if answer[at] >= 0xC0 else answer.index(0, at) + 1 - at
    return _get(socket.inet_ntoa(answer[at + 10 : at + 14]), 8080)


def main(label: str, row: Callable[[str, list[float], list[float], float], None]) -> None:
    """Print one line a kind and way, and what irkit itself says of the same runs."""
    for name, found in downtimes(label):
        row(f"failover: {name}", found.ours, found.base, GOAL)
        for words, seconds in (("all of it", found.whole), ("the switch by irkit alone", found.told)):
            print(f"  {words:<42} {statistics.median(seconds) * 1000:8.0f} ms", flush=True)
