"""``python -m bench diff``: ``irkit diff`` against ``docker diff`` (names only) and a plain compare of two exports; its growth; the corpus."""

from __future__ import annotations

import subprocess
import tempfile
import time

from bench.__main__ import IMAGE, LABEL, RUNS, docker, irkit, row, shell
from tests.corpus import exports, stage
from tests.corpus.score import score
from tests.corpus.truth import load

NAME = "irkit-bench"
FILL = "head -c 300000000 /dev/urandom > /srv/big; for i in 1 2 3; do cp -a /usr/lib /srv/lib$i; done"
"""Makes some 600 MB of Debian's 110: one large file, and some thousand small ones."""
LITTLE = "mkdir /root/n; for i in 1 2 3 4 5; do echo $i > /root/n/$i; done; echo x >> /etc/passwd; rm /etc/motd"
MANY = "cd /srv; for d in $(seq {folders}); do mkdir m$d; for f in $(seq 1000); do echo $d $f > m$d/$f; done; done"
SMALL, LARGE = 10, 100
"""Thousands of files."""
GOAL_DOCKER, GOAL_EXPORTS, GOAL_GROWTH, GOAL_UNPLANTED = 2.0, 0.2, 1.3, 5


def little() -> None:
    """A big image in which little has changed: whole processes."""
    docker("run", "--name", NAME, "--label", LABEL, "irkit-dev/debian:1", "sh", "-c", FILL)
    docker("commit", NAME, IMAGE)
    docker("rm", "-f", NAME)
    docker("run", "-d", "--name", NAME, "--label", LABEL, IMAGE, "sleep", "3600")
    docker("exec", NAME, "sh", "-c", LITTLE)
    ours, names, plain = [], [], []
    with tempfile.TemporaryDirectory() as home:
        for _ in range(RUNS):
            names.append(shell(f"docker diff {NAME}"))
            ours.append(timed(home))
            began = time.monotonic()
            exports.compare(exports.tree_of_image(IMAGE), exports.tree(NAME))
            plain.append(time.monotonic() - began)
    docker("rm", "-f", NAME)
    row("diff, 8 changes in 600 MB / docker diff", ours, names, GOAL_DOCKER)
    row("diff, 8 changes in 600 MB / two exports", ours, plain, GOAL_EXPORTS)


def timed(home: str) -> float:
    """Seconds of one ``irkit diff --json``, without making Python of it."""
    began = time.monotonic()
    irkit(home, "diff", NAME, codes=(0, 3, 4))
    return time.monotonic() - began


def growth() -> None:
    """Many changed files: linear in what changed."""
    costs = {}
    for thousands in (SMALL, LARGE):
        docker("run", "-d", "--name", NAME, "--label", LABEL, "irkit-dev/debian:1", "sleep", "3600")
        docker("exec", NAME, "sh", "-c", MANY.format(folders=thousands))
        with tempfile.TemporaryDirectory() as home:
            timed(home)
            spent = min(timed(home) for _ in range(2))
            names = shell(f"docker diff {NAME}")
        docker("rm", "-f", NAME)
        costs[thousands] = spent / thousands * 1000
        print(
            f"diff, {thousands},000 changed files {spent:8.2f} s, {costs[thousands]:6.0f} µs a file; docker diff {names:.2f} s",
            flush=True,
        )
    ratio = costs[LARGE] / costs[SMALL]
    verdict = "" if ratio <= GOAL_GROWTH else "  MISSED"
    print(f"{'diff, cost a file, ten times as many':<44} {ratio:6.3f}   <= {GOAL_GROWTH:.2f}{verdict}", flush=True)


def corpus() -> None:
    """Precision and recall over what ``tests/corpus`` plants."""
    stage.make_image()
    stage.run(NAME, "--label", LABEL)
    benign = stage.stage_benign(NAME)
    planted = stage.stage_planted(NAME)
    with tempfile.TemporaryDirectory() as home:
        document, _, spent = irkit(home, "diff", NAME, "--ioc", str(stage.INDICATORS), "--json", codes=(0, 3, 4))
    names = subprocess.run(["docker", "diff", NAME], capture_output=True, text=True, check=True).stdout
    docker("rm", "-fv", NAME)
    seen = {"disk", "tmpfs", "process", "mount"} | ({"volume"} if document["schema"] != "irkit.diff/v1" else set())
    result = score(document, load(), benign, seen)
    listed = {line[2:] for line in names.split("\n") if line}
    disk = {change.path for plant in load() if plant.seen == "disk" for change in plant.changes}
    print(
        f"corpus, {len(benign)} benign and {len(planted)} planted changes: {spent:.2f} s; unaccounted {len(result.unaccounted)}, "
        f"wrong or missing raw changes of plants {len(result.raw)}; docker diff misses {len(disk - listed)} of {len(disk)} on disk",
        flush=True,
    )
    total = len(result.found) + len(result.missed)
    if "findings" not in document:
        print("corpus: no findings in this version's document: recall and precision can't be measured", flush=True)
        return
    verdict = "" if not result.missed and len(result.unplanted) <= GOAL_UNPLANTED else "  MISSED"
    print(
        f"corpus: recall {result.recall:.3f} ({len(result.found)} of {total}), precision {result.precision:.3f}, "
        f"{len(result.unplanted)} findings not planted (goal: all, at most {GOAL_UNPLANTED}){verdict}",
        flush=True,
    )


def main() -> None:
    for part in (little, growth, corpus):
        docker("rm", "-fv", NAME, check=False)
        part()


if __name__ == "__main__":
    main()
