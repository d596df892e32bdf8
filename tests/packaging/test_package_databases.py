"""Package databases of real managers, held against the managers' own word."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from irkit.compare.packages import judge, read_packages
from irkit.compare.packages.versions import dpkg, rpm
from tests.fakes.tree import Tree

VERSIONS = (
    "1", "1.0", "1.0-0", "0:1.0", "1.0-1", "1.0-1+b1", "1.0~rc1", "1.0~rc1-1", "1.0~~", "1.0~", "1.0a", "1.0+dfsg", "1.0-1-2", "1:0", "01.0",
    "1.10", "1.9", "1.0.0", "2.0.final", "2.0z", "2.0+", "2.0-alpha", "1.a.2", "1..2", "10",
)  # fmt: skip


@pytest.mark.skipif(not shutil.which("dpkg"), reason="no dpkg here")
def test_the_order_of_versions_is_dpkgs() -> None:
    for one in VERSIONS:
        for other in VERSIONS:
            word = {-1: "lt", 0: "eq", 1: "gt"}[dpkg(one, other)]
            assert (
                subprocess.run(
                    ["dpkg", "--compare-versions", one, word, other], check=False, capture_output=True
                ).returncode
                == 0
            ), (one, other)


@pytest.mark.skipif(not shutil.which("rpm"), reason="no rpm here")
def test_the_order_of_versions_is_rpms() -> None:
    parts = (
        "1",
        "1.0",
        "1.0~rc1",
        "1.0^git1",
        "1.0^",
        "1.0~",
        "1.0.1",
        "1.a",
        "a",
        "1.10",
        "1.9",
        "1_0",
        "01",
        "1.0a",
        "1.0a1",
        "1.0.a",
    )
    for one in parts:
        for other in parts:
            asked = f'%{{lua:print(rpm.vercmp("{one}", "{other}"))}}'
            said = subprocess.run(["rpm", "--eval", asked], check=True, capture_output=True, text=True).stdout
            assert rpm(f"{one}-1", f"{other}-1") == int(said), (one, other)


def test_a_virtual_environment(tmp_path: Path) -> None:
    """All that pip recorded is intact; a byte more, and it is not."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    tree = Tree(tmp_path)
    packages = read_packages(tree)
    assert "pip" in {one.name for one in packages.installed}
    states: dict[str, int] = {}
    for path in tree.files():
        data = tree.read(path, 1 << 30)
        if data is None or path.endswith((".pyc", "/RECORD")):
            continue
        found = judge(path, {"sha256": hashlib.sha256(data).hexdigest()}, packages, packages).state
        states[found] = states.get(found, 0) + 1
        assert found in ("intact", "unowned" if "site-packages" not in path else "intact"), path
        if found == "intact":
            other = {"sha256": hashlib.sha256(data + b"x").hexdigest()}
            assert judge(path, other, packages, packages).state == "altered"
    assert states["intact"] > 300
    assert not packages.problems
