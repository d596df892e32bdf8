"""``python -m bench.storage``: the export, changed files and verification against the same bytes by plain tools.

``IRKIT_BENCH_LARGE=1`` adds 5 GB.  The costs of 1, 10 and 100 thousand files and of 0.1, 1 (and 5) GB need no engine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.__main__ import EXPORT, IMAGE, LABEL, RUNS, clean, docker, irkit, moment, peak, row, shell

LARGE = os.environ.get("IRKIT_BENCH_LARGE") == "1"
PIECE = """
import sys, time
from pathlib import Path
from irkit.acquire.filesystem import acquire_changes
from irkit.acquire.layers import Layers
from irkit.evidence.writer import BundleWriter
base = Path(sys.argv[1])
began = time.monotonic()
acquire_changes(Layers(str(base / 'u'), (str(base / 'l'),), 'bench'), BundleWriter(base / 'bundle'), 10**13, lambda change: None)
print(time.monotonic() - began)
"""


def changed_files(base: Path) -> float:
    """Seconds for an upper directory, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PIECE, str(base)], capture_output=True, text=True, check=True)
    shutil.rmtree(base / "bundle")
    return float(done.stdout)


def growth(name: str, files: int, size: int, runs: int) -> None:
    """An upper directory of so many files of so many bytes, against ``tar | sha256sum``."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "u").mkdir()
        (base / "l").mkdir()
        block = os.urandom(min(size, 1 << 20))
        for number in range(files):
            if number % 1000 == 0:
                (base / f"u/{number // 1000}").mkdir()
            with (base / f"u/{number // 1000}/{number}").open("wb") as file:
                for start in range(0, size, len(block) or 1):
                    file.write(block[: size - start])
        ours, theirs = [], []
        for _ in range(runs):
            theirs.append(shell(f"tar -C {base}/u -c . | sha256sum"))
            ours.append(changed_files(base))
        row(name, ours, theirs, 1.3)


def costs() -> None:
    """How cost grows."""
    growth("changed files, 1,000 of 1 kB / tar | sha256sum", 1000, 1000, RUNS)
    growth("changed files, 10,000 of 1 kB / tar | sha256sum", 10_000, 1000, 3)
    growth("changed files, 100,000 of 1 kB / tar | sha256sum", 100_000, 1000, 3)
    growth("changed files, 0.1 GB / tar | sha256sum", 10, 10_000_000, RUNS)
    growth("changed files, 1 GB / tar | sha256sum", 100, 10_000_000, 3)
    if LARGE:
        growth("changed files, 5 GB / tar | sha256sum", 500, 10_000_000, 1)


def engine() -> None:
    """The export of 500 MB, a commit with save, and verification."""
    docker("rm", "-f", "irkit-bench", check=False)
    fill = "head -c 300000000 /dev/urandom > /srv/big; cp -a /usr/lib /srv/lib"
    docker("run", "--name", "irkit-bench", "--label", LABEL, "irkit-dev/debian:1", "sh", "-c", fill)
    docker("commit", "irkit-bench", IMAGE)
    docker("rm", "-f", "irkit-bench")
    change = "mkdir /root/n; for i in 1 2 3 4 5; do head -c 1000000 /dev/urandom > /root/n/$i; done; exec sleep 3600"
    docker("run", "-d", "--name", "irkit-bench", "--label", LABEL, IMAGE, "sh", "-c", change)
    time.sleep(2)
    export, ours, changed, checks, plain = [], [], [], [], []
    for _ in range(RUNS):
        export.append(shell(EXPORT))
        with tempfile.TemporaryDirectory() as home:
            irkit(home, "key", "generate")
            run, _, _ = irkit(home, "snapshot", "irkit-bench", "--export", "--json")
            steps = {one["uses"]: moment(one["finished"]) - moment(one["started"]) for one in run["steps"]}
            ours.append(steps["acquire.export"])
            changed.append(steps["acquire.filesystem"])
            bundle = run["bundle"]["path"]
            plain.append(shell(f"cd {bundle} && sha256sum --quiet -c manifest-sha256.txt"))
            began = time.monotonic()
            irkit(home, "bundle", "verify", bundle)
            checks.append(time.monotonic() - began)
    row("export, every file's digest / export, sha256, zstd", ours, export, 1.0)
    row("bundle verify, whole process / sha256sum -c", checks, plain, 1 / 0.9)
    commit = shell(f"docker commit irkit-bench {IMAGE}2 && docker save {IMAGE}2 | gzip -1 > /dev/null")
    docker("rmi", f"{IMAGE}2", check=False)
    row("changed files (5 MB) / docker commit and save | gzip", changed, [commit] * RUNS, 1 / 100)


def large() -> None:
    """Peak memory with 5 GB in a container."""
    docker("rm", "-f", "irkit-bench", check=False)
    fill = "head -c 5000000000 /dev/urandom > /srv/big"
    docker("run", "--name", "irkit-bench", "--label", LABEL, "irkit-dev/debian:1", "sh", "-c", fill)
    with tempfile.TemporaryDirectory() as home:
        irkit(home, "key", "generate")
        for name, argv in (("export", ["--export"]), ("changed files", [])):
            megabytes = peak(home, "snapshot", "irkit-bench", *argv, "--json")
            print(f"peak memory, 5 GB, {name:<25} {megabytes:8.0f} MB   (goal: under 100 MB)", flush=True)


def main() -> None:
    print(f"{'':<44} {'irkit':>11} {'baseline':>11}    ratio   goal")
    costs()
    try:
        engine()
        if LARGE:
            large()
    finally:
        clean()


if __name__ == "__main__":
    main()
