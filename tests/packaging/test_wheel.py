"""The wheel, built and installed into a clean environment, finds its playbooks, profiles, rules and schemas."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOOK = """
from irkit import resources, schemas
from irkit.playbook.model import load_playbook
from irkit.actions.acquisition import read_profile
from irkit.compare.rules import load_rules
import irkit, importlib.resources
names = sorted(load_playbook(path).id for path in resources.every("playbooks"))
assert {"contain", "release", "rebuild", "snapshot"} <= set(names), names
assert read_profile("standard")["tmpfs"] > 0 and len(load_rules()) > 5
assert list(resources.every("forensics/scenarios")) and schemas.load("run")["$schema"]
assert importlib.resources.files("irkit.review").joinpath("templates/report.html.j2").is_file()
print(irkit.__file__)
"""


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    run = {"check": True, "cwd": tmp_path, "capture_output": True, "text": True}
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, **run, env=clean)  # type: ignore[call-overload]
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "venv"], **run, env=clean)  # type: ignore[call-overload]
    python = str(tmp_path / "venv" / "bin" / "python")
    constraints = str(ROOT / "requirements-dev.lock")
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, str(wheel)], **run, env=clean)  # type: ignore[call-overload]
    found = subprocess.run([python, "-c", LOOK], **run, env=clean)  # type: ignore[call-overload]
    assert str(tmp_path) in found.stdout
    subprocess.run([str(tmp_path / "venv" / "bin" / "irkit"), "playbook", "list"], **run, env=clean)  # type: ignore[call-overload]
