"""What ``irkit contain`` may import before the target is frozen: until then the attacker acts (docs/adr/0002).

A real command in a process of its own, against a socket that answers as an engine does; it ends where it would pause.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ID = "5" * 64
INSPECT = {
    "Id": ID, "Name": "/web-1", "Image": "sha256:" + "a" * 64, "Config": {"Image": "web:1"},
    "State": {"Running": True, "Paused": False, "Pid": 0}, "HostConfig": {"NetworkMode": "front"},
    "NetworkSettings": {"Networks": {"front": {"NetworkID": "1" * 64, "EndpointID": "2" * 64, "IPAddress": "10.9.1.2"}}},
}  # fmt: skip
CHILD = """
import json, os, sys
from irkit.actions import containment
from irkit.engine import docker

def pause(self, container):
    types = {
        f"{name}.{one.__name__}"
        for name, module in list(sys.modules.items()) if name.startswith("irkit.")
        for one in vars(module).values() if isinstance(one, type) and one.__module__ == name and "__dataclass_fields__" in vars(one)
    }
    print(json.dumps({"modules": sorted(sys.modules), "dataclasses": sorted(types)}), flush=True)
    os._exit(0)

docker.DockerEngine.pause = pause
containment._load_soon = lambda planned: None  # begins beside the pause, not before it
from irkit.cli.main import main
main(["contain", "web-1", "--json"])
"""
FORBIDDEN = (
    "asyncio", "bz2", "concurrent", "cryptography", "ctypes", "difflib", "docker", "hmac", "http", "importlib.metadata", "importlib.resources",
    "jinja2", "lzma", "pyrage", "random", "re2", "requests", "secrets", "shutil", "ssl", "subprocess", "tempfile", "urllib3",
    "zipfile", "zstandard",
    "irkit.compare", "irkit.config", "irkit.evidence.keys", "irkit.evidence.seal", "irkit.models", "irkit.netns", "irkit.observe",
    "irkit.playbook.approval", "irkit.playbook.conditions", "irkit.playbook.resume", "irkit.playbook.signed", "irkit.quarantine.firewall",
    "irkit.quarantine.prove", "irkit.quarantine.roads", "irkit.recover", "irkit.review", "irkit.trust",
)  # fmt: skip
"""And all within them."""
MOST_OF_IRKIT, MOST_DATACLASSES = 55, 10
"""A dataclass takes half a millisecond to make, a named tuple a fifth of that."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """A unix socket that answers everything with one container."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.recv(65536)
                    link.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(INSPECT).encode())

        threading.Thread(target=serve, daemon=True).start()
        yield path
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def seen(engine: Path, tmp_path: Path) -> dict[str, Any]:
    env = {**os.environ, "IRKIT_HOME": str(tmp_path / "home"), "DOCKER_HOST": f"unix://{engine}"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_slow_is_imported_before_the_target_is_frozen(seen: dict[str, Any]) -> None:
    modules = seen["modules"]
    assert "irkit.playbook.performer" in modules, "it came to the freeze"
    slow = [one for one in modules if any(one == name or one.startswith(f"{name}.") for name in FORBIDDEN)]
    assert slow == []
    own = [one for one in modules if one.split(".")[0] == "irkit"]
    assert len(own) <= MOST_OF_IRKIT, own


def test_few_dataclasses_are_made_before_the_target_is_frozen(seen: dict[str, Any]) -> None:
    assert 0 < len(seen["dataclasses"]) <= MOST_DATACLASSES, seen["dataclasses"]
