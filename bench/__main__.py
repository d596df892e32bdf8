"""``python -m bench [PART…]``: irkit against the same work done with the docker command line, medians of paired runs."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.runner import runner
from bench.volatile import COUNT, GOAL_MS, volatile
from irkit.engine.connect import open_engine
from irkit.engine.interface import NetworkSpec
from irkit.errors import NotFound
from irkit.quarantine.seal import OPTIONS

RUNS = 5
CROWD, CROWD_RUNS, CROWD_LABEL = 30, 3, "dev.irkit.bench.crowd=1"
LABEL = "dev.irkit.bench=1"
IMAGE = "irkit-dev/bench:1"
QUARANTINE = (
    "--internal -o com.docker.network.bridge.inhibit_ipv4=true -o com.docker.network.bridge.enable_icc=false "
    "-o com.docker.network.bridge.enable_ip_masquerade=false"
)
EXPORT = "set -o pipefail; docker export irkit-bench | tee >(sha256sum >/dev/null) | zstd -T0 -3 -q >/dev/null"


def docker(*argv: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"docker {' '.join(argv)}: {done.stderr}")
    return done.stdout.strip()


def irkit(home: str, *argv: str, codes: tuple[int, ...] = (0, 4)) -> tuple[dict[str, Any], float, float]:
    """The JSON, the wall clock at the start, and the whole process's seconds."""
    began = time.time()
    env = {**os.environ, "IRKIT_HOME": home}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # whoever installed irkit has its bytecode
    done = subprocess.run([sys.executable, "-m", "irkit", *argv], capture_output=True, text=True, check=False, env=env)
    spent = time.time() - began
    if done.returncode not in codes:
        raise SystemExit(f"irkit {' '.join(argv)}: {done.stderr}")
    return (json.loads(done.stdout) if "--json" in argv else {}), began, spent


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def shell(script: str) -> float:
    began = time.monotonic()
    subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def victim() -> None:
    docker("rm", "-f", "irkit-bench", check=False)
    docker(
        "run",
        "-d",
        "--name",
        "irkit-bench",
        "--label",
        LABEL,
        "--network",
        "irkit-bench-net",
        "-p",
        "127.0.0.1::8080",
        "irkit-dev/web:1",
    )


def containment() -> tuple[list[float], list[float], list[float]]:
    """Whole-process seconds: to frozen, to proven, and the baseline's script."""
    frozen, proven, baseline = [], [], []
    for _ in range(RUNS):
        victim()
        script = (
            "docker pause irkit-bench; docker network disconnect irkit-bench-net irkit-bench; "
            f"docker network create --label {LABEL} {QUARANTINE} irkit-bench-q; docker network connect irkit-bench-q irkit-bench"
        )
        baseline.append(shell(script))
        docker("rm", "-f", "irkit-bench")
        docker("network", "rm", "irkit-bench-q")
        victim()
        with tempfile.TemporaryDirectory() as home:
            irkit(home, "key", "generate")
            run, began, _ = irkit(home, "contain", "irkit-bench", "--json")
            frozen.append(moment(run["timeline"]["frozen"]) - began)
            proven.append(moment(run["timeline"]["proven"] or run["timeline"]["finished"]) - began)
            docker("rm", "-f", "irkit-bench")
            docker("network", "rm", run["quarantine"]["network"], check=False)
    return frozen, proven, baseline


def snapshot() -> tuple[list[float], list[float], list[float]]:
    """Seconds: the changed-files step, the whole snapshot process, and the baseline; 5 MB changed in 500 MB."""
    docker("rm", "-f", "irkit-bench", check=False)
    docker(
        "run",
        "--name",
        "irkit-bench",
        "--label",
        LABEL,
        "irkit-dev/debian:1",
        "sh",
        "-c",
        "head -c 300000000 /dev/urandom > /srv/big",
    )
    docker("commit", "irkit-bench", IMAGE)
    docker("rm", "-f", "irkit-bench")
    docker("run", "-d", "--name", "irkit-bench", "--label", LABEL, IMAGE, "sleep", "600")
    docker(
        "exec",
        "irkit-bench",
        "sh",
        "-c",
        "mkdir /root/n; for i in 1 2 3 4 5; do head -c 1000000 /dev/urandom > /root/n/$i; done",
    )
    steps, whole, baseline = [], [], []
    for _ in range(RUNS):
        baseline.append(shell(EXPORT))
        with tempfile.TemporaryDirectory() as home:
            irkit(home, "key", "generate")
            run, _, spent = irkit(home, "snapshot", "irkit-bench", "--json")
            (step,) = [one for one in run["steps"] if one["id"] == "filesystem"]
            steps.append(moment(step["finished"]) - moment(step["started"]))
            whole.append(spent)
    return steps, whole, baseline


def crowd() -> list[tuple[float, float, float, float]]:
    """Seconds for 30 containers at once: until all are sealed off, the calls for that alone, the whole process, all its calls.

    The engine's limits are taken before and after irkit, and their mean counts: a machine's speed drifts.
    """
    found = []
    for _ in range(CROWD_RUNS):
        limits = [_limits()]
        people()
        with tempfile.TemporaryDirectory() as home:
            irkit(home, "key", "generate")
            run, began, spent = irkit(home, "contain", "--label", CROWD_LABEL, "--json")
            if len(run["runs"]) != CROWD or any(one["quarantine"]["state"] != "proven" for one in run["runs"]):
                raise SystemExit(f"not all of {CROWD} were proven")
            off = max(moment(one["timeline"]["sealed_off"]) for one in run["runs"]) - began
            disperse()
            irkit(home, "release", "--leftovers")
        limits.append(_limits())
        sealing, everything = (statistics.mean(pair) for pair in zip(*limits, strict=True))
        found.append((off, sealing, spent, everything))
    return found


def _limits() -> tuple[float, float]:
    people()
    sealing = calls_alone(False)
    people()
    return sealing, calls_alone(True)


def people() -> None:
    disperse()
    for number in range(CROWD):
        name = f"irkit-bench-{number}"
        docker(
            "run",
            "-d",
            "--name",
            name,
            "--label",
            LABEL,
            "--label",
            CROWD_LABEL,
            "--network",
            "irkit-bench-net",
            "irkit-dev/web:1",
        )


def disperse() -> None:
    found = docker("ps", "-aq", "--filter", f"label={CROWD_LABEL}").split()
    if found:
        docker("rm", "-f", *found)
    for network in docker("network", "ls", "-q", "--filter", f"label={CROWD_LABEL}").split():
        docker("network", "rm", network)


def calls_alone(reading: bool) -> float:
    """Seconds for irkit's calls by as many threads and nothing else; ``reading``: those for proof and evidence too."""
    key, _, value = CROWD_LABEL.partition("=")

    def contain(container: str) -> None:
        engine = open_engine()
        spec = NetworkSpec(f"irkit-bench-{container[:12]}", True, OPTIONS, {key: value})
        before = engine.container(container)
        engine.pause(container)
        with contextlib.suppress(NotFound):
            engine.network(spec.name)  # whether this case has one already
        made = engine.create_network(spec)
        network = engine.network(made)
        for endpoint in engine.container(container).endpoints:
            engine.disconnect(endpoint.network_id, container)
        engine.connect(network.id, container)
        engine.container(container)
        if not reading:
            return
        engine.container(container)
        engine.networks(CROWD_LABEL)
        for _ in range(5):  # its old network, and neighbours of which each is one more container
            engine.network(made)
            engine.container(container)
        list(engine.events("0.0", f"{time.time():.9f}"))
        engine.container(container)
        engine.image(before.image_id)
        engine.image_history(before.image_id)
        engine.image(before.image_id)
        engine.info()
        engine.plugins()
        for endpoint in 2 * before.endpoints:
            engine.network(endpoint.network_id)
        list(engine.raw_logs(container))

    began = time.monotonic()
    engine = open_engine()
    everybody = engine.containers(CROWD_LABEL)
    for one in everybody:  # who is there, before anybody is touched
        engine.container(one)
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(contain, everybody))
    return time.monotonic() - began


def memory() -> dict[str, float]:
    """Peak megabytes of each command on a large case: 600 MB in one file, 40,000 files, 150 MB of logs."""
    docker("rm", "-f", "irkit-bench", check=False)
    script = (
        "head -c 600000000 /dev/urandom > /srv/big; mkdir /srv/many; cd /srv/many; seq 1 40000 | xargs touch; "
        "head -c 110000000 /dev/urandom | base64; exec sleep 600"
    )
    docker("run", "-d", "--name", "irkit-bench", "--label", LABEL, "irkit-dev/debian:1", "sh", "-c", script)
    while docker("top", "irkit-bench", "-o", "pid,args").split()[-2:] != ["sleep", "600"] or "exec" in docker(
        "top", "irkit-bench", "-o", "pid,args"
    ):
        time.sleep(0.5)
    with tempfile.TemporaryDirectory() as home:
        irkit(home, "key", "generate")
        peaks = {"contain": peak(home, "contain", "irkit-bench", "--json")}
        (bundle,) = map(str, Path(home).glob("cases/*/bundles/*"))
        peaks["bundle verify"] = peak(home, "bundle", "verify", bundle)
        peaks["diff --json"] = peak(home, "diff", bundle, "--json")
        peaks["report"] = peak(home, "report", bundle, "--output", f"{home}/report.html")
        docker("rm", "-f", "irkit-bench")
        for network in docker("network", "ls", "-q", "--filter", "label=dev.irkit.case").split():
            docker("network", "rm", network, check=False)
    return peaks


def peak(home: str, *argv: str) -> float:
    """The peak resident megabytes of one irkit process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "IRKIT_HOME": home}
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):
        raise SystemExit(f"irkit {' '.join(argv)}: exit {process.returncode}")
    return usage.ru_maxrss * 1024 / 1e6


def row(name: str, ours: list[float], base: list[float], goal: float) -> None:
    """One line: medians, the median of the paired ratios, and the goal (a ratio at most)."""
    ratio = statistics.median(one / other for one, other in zip(ours, base, strict=True))
    verdict = "" if ratio <= goal else "  MISSED"
    print(
        f"{name:<44} {statistics.median(ours) * 1000:8.0f} ms {statistics.median(base) * 1000:8.0f} ms   {ratio:6.3f}   <= {goal:.2f}{verdict}",
        flush=True,
    )


def clean() -> None:
    docker("rm", "-f", "irkit-bench", check=False)
    docker("rmi", IMAGE, check=False)
    for network in docker("network", "ls", "-q", "--filter", f"label={LABEL}", check=False).split():
        docker("network", "rm", network, check=False)


def _contain() -> None:
    frozen, proven, baseline = containment()
    row("whole process to frozen / isolation script", frozen, baseline, 1.0)
    row("whole process to proven / isolation script", proven, baseline, 2.0)


def _snapshot() -> None:
    steps, whole, export = snapshot()
    row("changed-files step / export, sha256, zstd", steps, export, 1 / 20)
    row("whole snapshot process / export, sha256, zstd", whole, export, 1.0)


def _volatile() -> None:
    read, shell_read = volatile("irkit-dev/debian:1", LABEL)
    row(f"{COUNT} processes / a shell that reads the same", read, shell_read, 1.0)
    spent = statistics.median(read) * 1000
    verdict = "" if spent < GOAL_MS else "  MISSED"
    print(f"{COUNT} processes, no memory: frozen for {spent:.0f} ms   (goal: under {GOAL_MS} ms){verdict}", flush=True)


def _crowd() -> None:
    off, sealing, whole, everything = (list(column) for column in zip(*crowd(), strict=True))
    row(f"{CROWD} at once: all sealed off / these calls", off, sealing, 1.2)
    row(f"{CROWD} at once: whole process / all its calls", whole, everything, 1.2)


def _memory() -> None:
    for name, megabytes in memory().items():
        verdict = "" if megabytes < 100 else "  MISSED"
        print(f"peak memory, {name:<31} {megabytes:8.0f} MB   (goal: under 100 MB){verdict}", flush=True)


def _diff() -> None:
    from bench import diff

    diff.main()


def _rules() -> None:
    from bench import rules

    rules.main()


def _storage() -> None:
    from bench import storage

    storage.main()


def _failover() -> None:
    from bench import failover

    failover.main(LABEL, row)


PARTS = {
    "contain": _contain, "snapshot": _snapshot, "runner": runner, "volatile": _volatile, "crowd": _crowd, "memory": _memory, "diff": _diff,
    "rules": _rules, "storage": _storage, "failover": _failover,
}  # fmt: skip
"""``python -m bench PART…``; all of them, in this order, when none is named."""


def main(chosen: list[str]) -> None:
    unknown = [one for one in chosen if one not in PARTS]
    if unknown:
        raise SystemExit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    clean()
    docker("network", "create", "--label", LABEL, "irkit-bench-net")
    with contextlib.ExitStack() as stack:
        stack.callback(clean)
        print(
            f"{'':<44} {'irkit':>11} {'baseline':>11}    ratio   goal   (medians of {RUNS}; of a crowd, and of failover, {CROWD_RUNS})"
        )
        for name in chosen or PARTS:
            PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
