"""Runs the scripts of ``inside`` in a container.  Needs the docker command line, and no irkit."""

from __future__ import annotations

import ast
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

IMAGE = "irkit-dev/corpus:1"
ROOT = Path(__file__).resolve().parents[2]
RUN = ("--tmpfs", "/run:exec,mode=755")
"""How a container of the corpus is run, besides its name; ``/var/lib/app`` is a volume by the image."""
TAKE_STDIN = "import sys; exec(compile(sys.stdin.read(), 'stage', 'exec'))"
LOADER = """
import sys, types
module = types.ModuleType("tests.corpus.inside.common")
exec({common!r}, module.__dict__)
sys.modules[module.__name__] = module
exec({script!r})
"""


@dataclass(frozen=True)
class Staged:
    """One benign change.  ``change``: added, changed, deleted.  ``origin``: layer, tmpfs, volume.  ``group``: what kind of noise it is."""

    path: str
    change: str
    origin: str
    group: str


def make_image() -> None:
    """Make the image in the engine that DOCKER_HOST names; nothing to do where it is there."""
    subprocess.run([str(ROOT / "scripts/make-images"), "corpus"], check=True)


def run(name: str, *argv: str) -> None:
    """Start a container of the corpus."""
    subprocess.run(["docker", "run", "-d", "--name", name, *RUN, *argv, IMAGE], check=True, stdout=subprocess.DEVNULL)


def stage_benign(container: str) -> list[Staged]:
    """More than 5,000 benign changes; each of them."""
    return [Staged(*row) for row in ast.literal_eval(_inside(container, "benign.py"))]


def stage_planted(container: str) -> list[str]:
    """The planted ones; their ids.  One more is made from outside: a process by ``docker exec``."""
    planted = ast.literal_eval(_inside(container, "planted.py"))
    subprocess.run(["docker", "exec", "-d", container, "/usr/bin/sleep", "86399"], check=True)
    return [*planted, "executed-into"]


def _inside(container: str, script: str) -> str:
    folder = Path(__file__).parent / "inside"
    text = LOADER.format(common=(folder / "common.py").read_text(), script=(folder / script).read_text())
    # Isolated and without site: nothing of the container's own Python is written, and no planted start-up file runs.
    argv = ["docker", "exec", "-i", container, "python3", "-B", "-I", "-S", "-c", TAKE_STDIN]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{script}: {done.stderr.strip()[-2000:]}")
    return done.stdout
