"""``python -m bench rules``: rules and YARA over many changed files, offline from a bundle: seconds, peak memory, what each rule cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.__main__ import LABEL, docker, irkit

NAME = "irkit-bench"
MAKE = (
    "mkdir /srv/web /opt/x; i=0; while [ $i -lt {groups} ]; do i=$((i+1)); d=/srv/web/$i; mkdir $d; "
    'awk -v d=$d \'BEGIN {{ for (f = 0; f < 1000; f++) {{ n = d "/" f (f % 4 == 0 ? ".sh" : f % 4 == 1 ? ".php" : f % 4 == 2 ? ".txt" : ".dat"); '
    'print (f % 4 == 0 ? "#!/bin/sh" : f % 4 == 1 ? "<?php" : "row"), d, f > n; '
    'for (l = 0; l < 12; l++) print "echo line", l, "of", f, d > n; close(n) }} }}\'; done'
)
"""Scripts, pages, texts and others of some 400 bytes, a thousand in each folder."""
SMALL, LARGE = 10, 100
"""Thousands of files."""
GOAL_GROWTH, GOAL_MEMORY, SHOWN = 1.3, 1.5, 8


def measured(bundle: str, home: str, *argv: str) -> tuple[float, float, str]:
    """Seconds of the processor's (a machine may be busy), peak megabytes and standard error of one ``irkit diff``."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "irkit", "diff", bundle, "--json", *argv], stdout=subprocess.DEVNULL, stderr=said,
            env={**os.environ, "IRKIT_HOME": home},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        spent = usage.ru_utime + usage.ru_stime
        said.seek(0)
        text = said.read()
    if process.returncode not in (0, 4):
        raise SystemExit(f"irkit diff: exit {process.returncode}\n{text}")
    return spent, usage.ru_maxrss * 1024 / 1e6, text


def main() -> None:
    """Ten times as many files: the cost of each, and the memory beside them."""
    cost, memory = {}, {}
    for thousands in (SMALL, LARGE):
        docker("rm", "-fv", NAME, check=False)
        docker("run", "-d", "--name", NAME, "--label", LABEL, "irkit-dev/debian:1", "sleep", "3600")
        docker("exec", NAME, "sh", "-c", MAKE.format(groups=thousands))
        with tempfile.TemporaryDirectory() as home:
            irkit(home, "key", "generate")
            irkit(home, "snapshot", NAME, "--json")
            docker("rm", "-fv", NAME)
            (bundle,) = map(str, Path(home).glob("cases/*/bundles/*"))
            spent, peak, _ = measured(bundle, home)
            without, _, _ = measured(bundle, home, "--no-yara")
            cost[thousands], memory[thousands] = spent / thousands * 1000, peak
            print(
                f"rules and YARA, {thousands},000 changed files {spent:7.2f} s of CPU ({without:.2f} s without YARA), "
                f"{cost[thousands]:.0f} µs a file, {peak:.0f} MB at most",
                flush=True,
            )
            if thousands == LARGE:
                _, _, told = measured(bundle, home, "--timings")
                rows = [line for line in told.splitlines() if " tried " in line]
                print("\n".join(rows[:SHOWN]), flush=True)
    for name, seen, goal in (("cost a file", cost, GOAL_GROWTH), ("peak memory", memory, GOAL_MEMORY)):
        ratio = seen[LARGE] / seen[SMALL]
        print(
            f"{f'rules and YARA, {name}, ten times as many':<44} {ratio:6.3f}   <= {goal:.2f}{'' if ratio <= goal else '  MISSED'}",
            flush=True,
        )
