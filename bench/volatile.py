"""What vanishes, of 200 processes: how long a target stays frozen for it, against a shell that reads the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime

COUNT, RUNS, GOAL_MS = 200, 5, 250
STEPS = ("processes", "network-state", "mapped-files")
SHELL = """
for pid in {pids}; do
  cat /proc/$pid/status /proc/$pid/cmdline /proc/$pid/environ /proc/$pid/maps /proc/$pid/stat /proc/$pid/cgroup
  ls -l /proc/$pid/fd /proc/$pid/ns; cat /proc/$pid/fdinfo/*; sha256sum /proc/$pid/exe
done; cat /proc/$pid/net/*; nsenter -t $pid -n ip -j address
"""


def volatile(image: str, label: str) -> tuple[list[float], list[float]]:
    """Seconds: the three steps of a run, and the shell; each of a container with 200 processes."""
    argv = ["docker", "run", "-d", "--name", "irkit-bench", "--label", label, image]
    script = f"for i in $(seq {COUNT - 1}); do sleep 600 & done; wait"
    subprocess.run(["docker", "rm", "-f", "irkit-bench"], capture_output=True, check=False)
    subprocess.run([*argv, "sh", "-c", script], check=True, stdout=subprocess.DEVNULL)
    while len(pids := _pids()) < COUNT:
        time.sleep(0.1)
    subprocess.run(["docker", "pause", "irkit-bench"], check=True, stdout=subprocess.DEVNULL)
    ours, shell = [], []
    for _ in range(RUNS):
        began = time.monotonic()
        subprocess.run(["bash", "-c", SHELL.format(pids=" ".join(pids))], capture_output=True, check=False)
        shell.append(time.monotonic() - began)
        ours.append(_snapshot())
    subprocess.run(["docker", "rm", "-f", "irkit-bench"], check=True, stdout=subprocess.DEVNULL)
    return ours, shell


def _pids() -> list[str]:
    done = subprocess.run(["docker", "top", "irkit-bench", "-o", "pid"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1:]


def _snapshot() -> float:
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "IRKIT_HOME": home}
        call = [sys.executable, "-m", "irkit"]
        subprocess.run([*call, "key", "generate"], env=env, capture_output=True, check=True)
        done = subprocess.run(
            [*call, "snapshot", "irkit-bench", "--json", "--var", "profile=quick"],
            env=env,
            capture_output=True,
            check=False,
        )
        steps = [one for one in json.loads(done.stdout)["steps"] if one["id"] in STEPS]
    if len(steps) != len(STEPS):
        raise SystemExit(f"not every step ran: {done.stderr.decode()}")
    return sum((_moment(one["finished"]) - _moment(one["started"])) for one in steps)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
