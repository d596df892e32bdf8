"""A whole Debian image: every file's owner as `dpkg -S` names it, every file's state as `dpkg -V` and md5sums say."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest

from irkit.compare.packages import find_copy, judge, read_packages
from tests.fakes.tree import Tree

IMAGE = "irkit-dev/debian:1"
pytestmark = pytest.mark.xdist_group("packages")  # the image is unpacked once, for one worker


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("image")
    name = subprocess.run(
        ["docker", "create", IMAGE, "/bin/true"], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["docker", "export", "-o", str(folder / "image.tar"), name], check=True)
    finally:
        subprocess.run(["docker", "rm", name], check=True, capture_output=True)
    root = folder / "root"
    with tarfile.open(folder / "image.tar") as tar:  # our own image
        tar.extraction_filter = getattr(tarfile, "tar_filter", None)  # Debian 12's Python has none
        tar.extractall(root, members=(one for one in tar if not one.isdev()))
    return Tree(root)


def other_name(path: str) -> str:
    return path[4:] if path.startswith(("/usr/bin/", "/usr/sbin/", "/usr/lib")) else path


def said_by_dpkg(tree: Tree, paths: list[str]) -> dict[str, set[str]]:
    """``path → packages``; diversions apart, `dpkg -S` knows nothing of a merged /usr."""
    found: dict[str, set[str]] = {}
    for start in range(0, len(paths), 500):
        argv = ["dpkg-query", f"--admindir={tree.root}/var/lib/dpkg", "-S", *paths[start : start + 500]]
        for line in subprocess.run(argv, check=False, capture_output=True, text=True).stdout.splitlines():
            if not line.startswith("diversion by "):
                packages, _, path = line.partition(": ")
                found.setdefault(path, set()).update(one.partition(":")[0] for one in packages.split(", "))
    return found


def test_owners(tree: Tree) -> None:
    packages = read_packages(tree)
    paths = sorted(tree.files())
    said = said_by_dpkg(tree, sorted({*paths, *map(other_name, paths)}))
    assert len(paths) > 5000
    for path in paths:
        names = {one.package for one in packages.owners(path) if one.manager == "dpkg"}
        assert names == (said.get(path) or said.get(other_name(path)) or set()), path
    assert not packages.problems


def test_states(tree: Tree) -> None:
    """As `dpkg -V` says it: nothing altered; then three files are, and only those."""
    packages = read_packages(tree)
    states: dict[str, list[str]] = {}
    for path in tree.files():
        if (data := tree.read(path, 1 << 30)) is not None:
            digests = {"md5": hashlib.md5(data).hexdigest()}
            states.setdefault(judge(path, digests, packages, packages).state, []).append(path)
    assert len(states["intact"]) > 4000
    assert {"altered", "unknown"}.isdisjoint(states), states
    victims = ["/usr/bin/bash", "/etc/debian_version", "/usr/sbin/ldconfig"]
    for path in victims:
        with Path(f"{tree.root}{path}").open("ab") as file:
            file.write(b"x")
    told = subprocess.run(["dpkg", f"--root={tree.root}", "-V"], check=False, capture_output=True, text=True).stdout
    told_paths = {line.split()[-1] for line in told.splitlines() if not line.startswith("missing")}
    assert told_paths == {"/bin/bash", "/etc/debian_version", "/sbin/ldconfig"}
    for path in victims:
        data = tree.read(path, 1 << 30) or b""
        assert judge(path, {"md5": hashlib.md5(data).hexdigest()}, packages, packages).state == "altered"


def test_a_copy_of_a_program(tree: Tree) -> None:
    data = tree.read("/usr/bin/cat", 1 << 30) or b""
    assert find_copy({"md5": hashlib.md5(data).hexdigest()}, read_packages(tree)) in ("/bin/cat", "/usr/bin/cat")
