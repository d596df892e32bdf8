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
INDICATORS = Path(__file__).with_name("indicators.csv")
"""What some of the planted changes stand in."""
OTHER_USER = "irkit-dev/corpus-user:1"
"""The same image with another user, who is not root."""
SETTINGS = (
    "--user=0", "--privileged", "--userns=host", "--ipc=host", "--cap-add=SYS_PTRACE", "--security-opt=seccomp=unconfined",
    "--device=/dev/kmsg", "--volume=/run:/host/run:ro", "--volume=/boot:/host/boot:ro", "--env=BASH_ENV=/opt/app/etc/env",
)  # fmt: skip
"""Of a container that is made, and never started: what leads to the host, or to root."""
COMMAND = ("/bin/busybox", "sh", "-c", "sleep 86400; : wget")
RIGHTS = ("--user=0", "--cap-add=NET_ADMIN")
"""Of one that runs: what its process has beyond what the image asks for."""
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


def make_settings(created: str, running: str, devices: bool = True) -> None:
    """Two containers of an image whose user is not root, in which settings are planted and nothing else.

    Without ``devices``, none: the command line refuses them to Podman, of which it knows no operating system.
    """
    settings = [one for one in SETTINGS if devices or not one.startswith("--device")]
    build = ["docker", "build", "--quiet", "--tag", OTHER_USER, "-"]
    text, quiet = f"FROM {IMAGE}\nUSER 1000\n".encode(), {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(build, input=text, check=True, capture_output=True, env=quiet)
    make = ["docker", "create", "--name", created, *settings, OTHER_USER, *COMMAND]
    start = ["docker", "run", "-d", "--name", running, *RIGHTS, OTHER_USER]
    for argv in (make, start):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def stage_benign(container: str) -> list[Staged]:
    """More than 5,000 benign changes; each of them."""
    return [Staged(*row) for row in ast.literal_eval(_inside(container, "benign.py"))]


def stage_planted(container: str) -> list[str]:
    """The planted ones; their ids.  Two more are made from outside: a process by ``docker exec``, and a file beneath a mount."""
    planted = ast.literal_eval(_inside(container, "planted.py"))
    subprocess.run(["docker", "exec", "-d", container, "/usr/bin/sleep", "86399"], check=True)
    _beneath(container, "/var/lib/app/under.dat")
    return [*planted, "executed-into", "beneath-a-mount"]


def _beneath(container: str, path: str) -> None:
    """A file on the container's disk where a volume covers it: a plain bind of the root shows what its mounts hide."""
    ask = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    pid = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    script = f"/bin/busybox mount --bind / /mnt && echo irkit corpus >/mnt{path}"
    own = os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")  # there only its own root may
    within = ["/bin/busybox", "unshare", "-m", "/bin/busybox", "sh", "-c", script]
    subprocess.run(["nsenter", "-t", pid, "-m", *(["-U"] if own else []), "--", *within], check=True)


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
