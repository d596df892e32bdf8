"""Logs of a real engine, by driver: whether what was taken is what the container wrote, and what is said when it is not."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from irkit.acquire.engine_state import acquire_calls, acquire_engine_state
from irkit.acquire.events import acquire_events
from irkit.acquire.logs import acquire_logs
from irkit.engine.docker import DockerEngine
from irkit.evidence.writer import BundleWriter

from .conftest import Lab

BUSYBOX = "irkit-dev/busybox:1"
COUNT = 2000
WRITE = f"i=0; while [ $i -lt {COUNT} ]; do echo out$i; echo err$i >&2; i=$((i+1)); done"
pytestmark = pytest.mark.skipif(
    os.environ.get("IRKIT_ENGINE", "").startswith("podman"), reason="Podman's drivers and files are others"
)


@pytest.fixture
def writer(tmp_path: Path) -> BundleWriter:
    return BundleWriter(tmp_path / "b")


@pytest.fixture
def ended(lab: Lab) -> Callable[..., str]:
    """Makes a container that has written, and ended."""

    def make(name: str, script: str, *argv: str) -> str:
        full = lab.run(name, *argv, image=BUSYBOX, command=("sh", "-c", script))
        lab.docker("wait", full)
        return full

    return make


def taken(writer: BundleWriter, stream: str) -> bytes:
    data = (writer.folder / "data/logs" / f"{stream}.log.zst").read_bytes()
    return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))


def texts(writer: BundleWriter, stream: str) -> list[bytes]:
    """The lines without their times."""
    return [line.partition(b" ")[2] for line in taken(writer, stream).splitlines()]


def index(writer: BundleWriter) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((writer.folder / "data/logs/index.json").read_bytes())
    return found


def whys(writer: BundleWriter) -> str:
    return " ".join(f"{one.what}: {one.why}" for one in writer.gaps)


@pytest.mark.parametrize(
    "options",
    [
        ("--log-driver", "json-file"),
        ("--log-driver", "local"),
        ("--log-driver", "json-file", "--log-opt", "max-size=64k", "--log-opt", "max-file=9", "--log-opt", "compress=true"),
        ("--log-driver", "local", "--log-opt", "max-size=64k", "--log-opt", "max-file=9"),
    ],
    ids=["json-file", "local", "json-file-rotated", "local-rotated"],
)  # fmt: skip
def test_every_line_is_there(
    engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter, options: tuple[str, ...]
) -> None:
    one = engine.container(ended("w", WRITE, *options))
    acquire_logs(engine, one, writer)
    assert texts(writer, "stdout") == [b"out%d" % number for number in range(COUNT)]
    assert texts(writer, "stderr") == [b"err%d" % number for number in range(COUNT)]
    found = index(writer)
    assert found["complete"] and not writer.gaps and all(row["same"] for row in found["compared"].values())
    assert sum(row["entries"] for row in found["files"]) == 2 * COUNT
    rotated = any(row["artifact"].endswith(".gz") for row in found["files"])
    assert rotated == (len(options) > 2) and [row["rotation"] for row in found["files"]][-1] == 0


def test_rotation_that_deleted_lines_is_told(
    engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter
) -> None:
    one = engine.container(ended("w", WRITE, "--log-opt", "max-size=64k", "--log-opt", "max-file=2"))
    acquire_logs(engine, one, writer)
    assert len(texts(writer, "stdout")) < COUNT and "older lines may have been deleted" in whys(writer)


def test_nobody_kept_them(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    acquire_logs(engine, engine.container(ended("w", "echo x", "--log-driver", "none")), writer)
    assert "does not support reading" in whys(writer) and "nothing was kept" in whys(writer)
    assert not index(writer)["complete"]


def test_a_driver_that_sends_elsewhere(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        address = f"syslog-address=udp://127.0.0.1:{sink.getsockname()[1]}"
        one = engine.container(ended("w", "echo x", "--log-driver", "syslog", "--log-opt", address))
    acquire_logs(engine, one, writer)
    assert texts(writer, "stdout") == [b"x"] and "drops lines" in whys(writer)
    assert index(writer)["files"][0]["artifact"].endswith(".local.zst")


def test_long_lines_and_no_end(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    one = engine.container(ended("w", "head -c 50000 /dev/zero | tr '\\0' x; echo; printf end"))
    acquire_logs(engine, one, writer)
    assert texts(writer, "stdout") == [b"x" * 50000, b"end"]
    found = index(writer)["streams"]["stdout"]
    assert (found["chunks_joined"], found["without_newline"], found["lines"]) == (3, 1, 2) and not writer.gaps


def test_a_tty(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    acquire_logs(engine, engine.container(ended("w", "echo out; echo err >&2", "-t")), writer)
    assert texts(writer, "stdout") == [b"out", b"err"] and index(writer)["compared"]["stdout"]["same"]


def test_raw_bytes_by_the_local_driver(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    acquire_logs(engine, engine.container(ended("w", "printf 'a\\377\\033[2J\\n'", "--log-driver", "local")), writer)
    assert texts(writer, "stdout") == [b"a\xff\x1b[2J"] and not writer.gaps


def test_bytes_that_json_file_replaces(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    acquire_logs(engine, engine.container(ended("w", "printf 'a\\377\\n'")), writer)
    assert "U+FFFD" in " ".join(index(writer)["notes"]) and index(writer)["files"][0]["replaced_bytes_in"] == 1


def test_a_doctored_file(engine: DockerEngine, ended: Callable[..., str], writer: BundleWriter) -> None:
    one = engine.container(ended("w", WRITE))
    path = Path(one.log_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[100] = lines[100][:10] + b"\n"
    path.write_bytes(b"".join(lines))
    acquire_logs(engine, one, writer)
    (file,) = index(writer)["files"]
    assert file["corrupt_first"] == ["line 101 is not one of the driver's"] and file["entries"] == 2 * COUNT - 1
    assert "raw/000: 1 entries are truncated or corrupt" in whys(writer)
    # 26.1 says so in the stream and ends it; 20.10 says nothing, and leaves out good lines too: only the files show it.
    said = "Error grabbing logs" in whys(writer)
    assert said != index(writer)["complete"] and (said or "the engine and its files differ" in whys(writer))


def test_a_wiped_file(engine: DockerEngine, lab: Lab, writer: BundleWriter) -> None:
    name = lab.run("w", image=BUSYBOX, command=("sh", "-c", "echo secret; exec sleep 600"))
    one = engine.container(name)
    path = Path(one.log_path)
    path.write_bytes(b"")
    later = int(path.stat().st_mtime) + 3600
    os.utime(path, (later, later))
    acquire_logs(engine, one, writer)
    assert "wiped" in " ".join(index(writer)["notes"]) and index(writer)["files"][0]["facts"]["size"] == 0


def test_while_it_goes_on_writing(engine: DockerEngine, lab: Lab, writer: BundleWriter) -> None:
    name = lab.run("w", image=BUSYBOX, command=("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); done"))
    acquire_logs(engine, engine.container(name), writer)
    lab.docker("kill", name)
    got = texts(writer, "stdout")
    assert got == [b"%d" % number for number in range(len(got))]
    assert index(writer)["complete"] and index(writer)["compared"]["stdout"]["same"]


class Proxy:
    """Between irkit and the engine: of the log stream it lets ``size`` bytes pass, then holds the line or cuts it."""

    def __init__(self, path: Path, engine: str, size: int, hold: bool) -> None:
        self.engine, self.size, self.hold = engine, size, hold
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.held: list[socket.socket] = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            asked, left = link.recv(65536), 1 << 40
            if b"/logs?" in asked:
                left = self.size
            with socket.socket(socket.AF_UNIX) as far:
                far.connect(self.engine)
                far.sendall(asked.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n", 1))
                while left and (data := far.recv(min(left, 65536))):
                    link.sendall(data)
                    left -= len(data)
            if not left and self.hold:
                self.held.append(link)
            else:
                link.close()


@pytest.fixture
def proxied(engine: DockerEngine, tmp_path: Path) -> Iterator[Callable[..., DockerEngine]]:
    made: list[Proxy] = []

    def make(size: int, hold: bool) -> DockerEngine:
        path = tmp_path / f"proxy{len(made)}"
        made.append(Proxy(path, engine.endpoint.removeprefix("unix://"), size, hold))
        return DockerEngine(f"unix://{path}")

    yield make
    for one in made:
        one.listener.shutdown(socket.SHUT_RDWR)
        one.listener.close()


@pytest.mark.parametrize("hold", [False, True], ids=["cut", "hung"])
def test_the_engine_goes_away_in_the_middle(
    proxied: Callable[..., DockerEngine], ended: Callable[..., str], writer: BundleWriter, hold: bool
) -> None:
    far = proxied(50_000, hold)
    acquire_logs(far, far.container(ended("w", WRITE)), writer, idle=2 if hold else 60)
    got = texts(writer, "stdout")
    assert 100 < len(got) < COUNT and got[:-1] == [b"out%d" % number for number in range(len(got) - 1)]
    assert not index(writer)["complete"] and "incomplete" in whys(writer)
    assert index(writer)["files"][0]["entries"] == 2 * COUNT


def test_events_state_and_calls(engine: DockerEngine, lab: Lab, writer: BundleWriter) -> None:
    name = lab.run("w", "-e", "TOKEN=secret", image=BUSYBOX, command=("sleep", "600"))
    lab.docker("exec", name, "true")
    lab.docker("pause", name)
    one = engine.container(name)
    acquire_engine_state(engine, one, writer)
    found = acquire_events(engine, one, writer)
    actions = [event.action for event in found if event.relation == "target" and event.type == "container"]
    assert {"create", "start", "exec_create", "pause"} <= set(actions)
    assert any(event.type == "network" and event.relation == "target" for event in found)
    assert next(event for event in found if event.action == "exec_create" and event.actor == one.id).detail == "true"
    assert json.loads((writer.folder / "data/engine/events-window.json").read_bytes())["covers_from_creation"]
    assert json.loads((writer.folder / "data/engine/settings.json").read_bytes())["reported"]
    assert not writer.gaps
    acquire_calls(engine, writer)
    rows = [json.loads(row) for row in (writer.folder / "data/custody/calls.jsonl").read_bytes().splitlines()]
    assert any("/events?since=" in row["path"] and row["status"] == 200 for row in rows)
