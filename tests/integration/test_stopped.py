"""A stopped container's changed files: where the engine names no folder, by what it mounts while it answers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irkit.acquire.layers import Layers, find_layers
from irkit.acquire.mounted import engine_mounts
from irkit.engine.docker import DockerEngine

from .conftest import Lab

SMALL = "irkit-test-small:1"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of one tiny file: its export is over before anybody reads it."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "only").write_text("one\n")
    tar = subprocess.run(["tar", "-c", "-C", str(folder), "."], capture_output=True, check=True).stdout
    subprocess.run(["docker", "import", "-c", 'CMD ["/only"]', "-", SMALL], input=tar, capture_output=True, check=True)
    yield SMALL
    subprocess.run(["docker", "rmi", SMALL], capture_output=True, check=False)


def found(engine: DockerEngine, name: str) -> Layers:
    layers = find_layers(engine.container(name), None, engine)
    assert isinstance(layers, Layers), layers
    return layers


def test_the_upper_directory_of_each_of_several_at_once(lab: Lab, engine: DockerEngine) -> None:
    names = [lab.run(f"many{number}", command=("sh", "-c", f"echo {number} >/mine")) for number in range(4)]
    for name in names:
        lab.docker("wait", name)
    with ThreadPoolExecutor(4) as pool:
        layers = list(pool.map(lambda name: found(engine, name), names * 3))
    assert [Path(one.upper, "mine").read_text() for one in layers] == [f"{number}\n" for number in range(4)] * 3
    assert all(one.lower for one in layers)


def test_one_that_never_ran_and_one_that_is_tiny(lab: Lab, engine: DockerEngine, small: str) -> None:
    for number in range(3):
        name = f"{lab.token}-tiny{number}"
        lab.docker("create", "--name", name, "--label", f"dev.irkit.test={lab.token}", small)
        layers = found(engine, name)
        assert Path(layers.lower[-1], "only").read_text() == "one\n"


def test_nothing_is_left_mounted(lab: Lab, engine: DockerEngine) -> None:
    name = lab.run("left", command=("true",))
    lab.docker("wait", name)
    found(engine, name)
    container = engine.container(name)
    end = time.monotonic() + 10
    while any(container.id in mount.point for mount in engine_mounts(frozenset(), container.id)):
        assert time.monotonic() < end, "still mounted"
        time.sleep(0.05)
    lab.docker("start", name)
    lab.docker("rm", "-f", name)


def test_a_stopped_container_is_compared_as_a_running_one(lab: Lab) -> None:
    script = "echo x >/new; rm /etc/profile; chmod 4755 /bin/ls; mkdir -p /deep/er; echo ready; sleep 1000"
    name = lab.run("stopped", command=("sh", "-c", script))
    lab.says(name, "ready")

    def rows() -> list[tuple[str, str]]:
        ran = lab.irkit("diff", name, "--json", code=None)
        assert not any("storage is not an overlay" in gap["why"] for gap in ran.json["gaps"])
        return [(row["path"], row["change"]) for row in ran.json["changes"] if row["origin"] == "layer"]

    running = rows()
    lab.docker("stop", "-t", "0", name)
    assert rows() == running and ("/etc/profile", "deleted") in running and ("/new", "added") in running
