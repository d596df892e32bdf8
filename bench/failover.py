"""A service's downtime under a steady load: ``irkit failover`` against ``docker stop && docker run`` of the same image.

Requests go to the published port from the host, and to the name from a sibling on a user's network.  The downtime is the
longest time between two requests that were answered.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

RUNS, GOAL = 3, 0.1
NAME, SIBLING, IMAGE = "irkit-bench", "irkit-bench-sibling", "irkit-dev/web:1"
NETWORK = "irkit-bench-net"
DEAF = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/srv/www")
"""PID 1 without a handler: it serves on until the engine kills it after ten seconds."""
OBEDIENT = ("/bin/sh", "-c", "trap 'exit 0' TERM; /bin/busybox httpd -f -p 8080 -h /srv/www & wait")
DRAINING = ("/bin/sh", "-c", "/bin/busybox httpd -f -p 8080 -h /srv/www & trap 'kill $!; sleep 60 & wait' TERM; wait")
"""It stops listening at SIGTERM and waits for its open connections, until the engine kills it."""
ONE = "exec 3<>/dev/tcp/{name}/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q 200"
ASK = 'while :; do if timeout 0.25 bash -c "$0" 2>/dev/null; then date +%s.%N; fi; sleep 0.005; done'


def downtimes(label: str) -> Iterator[tuple[str, list[float], list[float], list[float]]]:
    """For each kind of service: its name, and seconds by irkit, of that by irkit's own word, and by the docker command line."""
    kinds = {"PID 1 ignores SIGTERM": DEAF, "PID 1 ends at SIGTERM": OBEDIENT, "it drains at SIGTERM": DRAINING}
    for kind, command in kinds.items():
        for way in ("port", "name"):
            ours, told, base = [], [], []
            for _ in range(RUNS):
                with _service(label, command) as start:
                    seconds, word = _irkit(way)
                    ours.append(seconds)
                    told.append(word)
                with _service(label, command) as start:
                    base.append(_watched(way, lambda start=start: _replace(start))[0])  # type: ignore[misc]
            yield f"{kind}, by {way}", ours, told, base


@contextlib.contextmanager
def _service(label: str, command: tuple[str, ...]) -> Iterator[list[str]]:
    run = ["docker", "run", "-d", "--label", label, "--network", NETWORK]
    start = [*run, "--name", NAME, "-p", "127.0.0.1:18080:8080", IMAGE, *command]
    _clean()
    subprocess.run([*run, "--name", SIBLING, IMAGE], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
    while not _answers():
        time.sleep(0.02)
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


def _irkit(way: str) -> tuple[float, float]:
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

        seconds, out = _watched(way, act)
        subprocess.run([*call, "release", "--leftovers"], env=env, check=False, capture_output=True)
    return seconds, float(json.loads(out)["failover"]["downtime"]["seconds"])


def _watched(way: str, act: Callable[[], str | None]) -> tuple[float, str]:
    """The longest silence while ``act`` runs, and what it returns."""
    moments: list[float] = []
    with (_from_host if way == "port" else _from_sibling)(moments):
        time.sleep(0.5)
        out = act()
        time.sleep(1.5)
    if len(moments) < 10:
        raise SystemExit(f"hardly anything was answered: {len(moments)}")
    return max(after - before for before, after in itertools.pairwise(moments)), out or ""


@contextlib.contextmanager
def _from_host(moments: list[float]) -> Iterator[None]:
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            if _answers():
                moments.append(time.time())
            time.sleep(0.005)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        moments.sort()


def _answers() -> bool:
    try:
        with socket.create_connection(("127.0.0.1", 18080), 0.25) as link:
            link.settimeout(0.25)
            link.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return link.recv(12).endswith(b"200")
    except OSError:
        return False


@contextlib.contextmanager
def _from_sibling(moments: list[float]) -> Iterator[None]:
    argv = ["docker", "exec", SIBLING, "timeout", "60", "bash", "-c", ASK, ONE.format(name=NAME)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            process.terminate()
            subprocess.run(["docker", "kill", SIBLING], check=False, capture_output=True)
            out, _ = process.communicate()
            moments += [float(line) for line in out.splitlines() if line.count(".") == 1 and len(line) > 15]


def main(label: str, row: Callable[[str, list[float], list[float], float], None]) -> None:
    """Print one line a kind and way, and what irkit itself says of the same runs."""
    for name, ours, told, base in downtimes(label):
        row(f"failover: {name}", ours, base, GOAL)
        print(f"{'  the same by irkit alone':<44} {statistics.median(told) * 1000:8.0f} ms", flush=True)
