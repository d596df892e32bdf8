"""The engine goes away for good, or for a moment, while evidence is taken: what was taken is sealed, the rest is named."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Lab

TALK = ("sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exec sleep 600")


class Restart:
    """Between irkit and the engine.  It breaks off in the middle of the logs, and for ``away`` seconds nobody answers."""

    def __init__(self, path: Path, engine: str, away: float) -> None:
        self.path, self.engine, self.away = path, engine, away
        self.back = 0.0
        self.broken = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            if time.monotonic() < self.back:
                link.close()
            else:
                threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link: socket.socket) -> None:
        with link, socket.socket(socket.AF_UNIX) as far:
            far.connect(self.engine)
            asked = link.recv(65536)
            breaks = b"/logs?" in asked and not self.broken
            threading.Thread(target=self.answers, args=(far, link, 100_000 if breaks else None), daemon=True).start()
            while asked:
                far.sendall(asked)
                try:
                    asked = link.recv(65536)
                except OSError:
                    return

    def answers(self, far: socket.socket, link: socket.socket, left: int | None) -> None:
        try:
            while data := far.recv(4096):
                link.sendall(data)
                left = None if left is None else left - len(data)
                if left is not None and left < 0:
                    self.broken, self.back = True, time.monotonic() + self.away
                    break
            link.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


@pytest.fixture
def restart(tmp_path: Path) -> Iterator[Callable[[float], Restart]]:
    made: list[Restart] = []

    def make(away: float) -> Restart:
        engine = os.environ["DOCKER_HOST"].removeprefix("unix://")
        made.append(Restart(tmp_path / "proxy.sock", engine, away))
        return made[-1]

    yield make
    for one in made:
        one.listener.shutdown(socket.SHUT_RDWR)
        one.listener.close()


@pytest.mark.parametrize("away", [0.3, 3600.0], ids=["restarts", "is gone"])
def test_the_engine_goes_away_while_logs_are_read(lab: Lab, restart: Callable[[float], Restart], away: float) -> None:
    name = lab.run("talk", image="irkit-dev/busybox:1", command=TALK)
    while "line 19999" not in lab.docker("logs", "--tail", "1", name):
        time.sleep(0.1)
    proxy = restart(away)
    began = time.monotonic()
    done = lab.irkit("contain", name, "--json", code=4, env={"DOCKER_HOST": f"unix://{proxy.path}"})
    assert time.monotonic() - began < 60 and proxy.broken
    run = done.json
    assert run["quarantine"]["state"] == "proven"
    assert any(gap["collector"] == "logs" and "incomplete" in gap["why"] for gap in run["gaps"]), run["gaps"]
    assert run["bundle"]["status"] == "partial", run["bundle"]
    bundle = Path(run["bundle"]["path"])
    assert lab.irkit("bundle", "verify", str(bundle)).code == 0
    index = json.loads((bundle / "data/index.json").read_bytes())
    taken = {row["path"] for row in index["artifacts"]}
    assert {"data/process/processes.json", "data/filesystem/layer.tar.zst", "data/engine/events.jsonl"} <= taken
    partial = [row["path"] for row in index["artifacts"] if not row["complete"]]
    assert partial and all(path.startswith("data/logs/") for path in partial)
