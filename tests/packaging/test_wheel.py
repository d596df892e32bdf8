"""The wheel, built and installed into a clean environment, finds its playbooks, profiles, rules and schemas."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOOK = """
from irkit import resources, schemas
from irkit.playbook.reader import load_playbook
from irkit.profiles import load_profile
from irkit.compare.rules import load_rules
import irkit, importlib.resources
names = sorted(load_playbook(path).id for path in resources.every("playbooks"))
assert {"contain", "release", "rebuild", "snapshot"} <= set(names), names
assert load_profile("standard").limit("tmpfs") > 0 and len(load_rules()) > 5
assert list(resources.every("forensics/scenarios")) and schemas.load("run")["$schema"]
assert importlib.resources.files("irkit.review").joinpath("templates/report.html.j2").is_file()
print(irkit.__file__)
"""


def call(folder: Path, *argv: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(argv, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    call(tmp_path, sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("*.whl")
    call(tmp_path, sys.executable, "-m", "venv", "venv")
    python = str(tmp_path / "venv" / "bin" / "python")
    call(tmp_path, python, "-m", "pip", "install", "-q", "-c", str(ROOT / "requirements-dev.lock"), str(wheel))
    assert str(tmp_path) in call(tmp_path, python, "-c", LOOK)
    assert "contain" in call(tmp_path, str(tmp_path / "venv" / "bin" / "irkit"), "playbook", "list")
