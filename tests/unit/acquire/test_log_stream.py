"""Logs by the engine: frames, joined lines, and an engine that hangs, breaks off or lies."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.acquire.frames import PIECE, split_frames
from irkit.acquire.logs import CHUNK, acquire_logs
from irkit.acquire.watchdog import guarded
from irkit.engine.docker import DockerEngine
from irkit.engine.interface import Container
from irkit.errors import EngineError, EngineUnreachable, NotFound
from irkit.evidence.writer import BundleWriter
from tests.contract.stage import SAY, Stage, fake_engine

STAMP = b"2026-11-24T07:43:09.811452770Z "
ID = "ab" * 32


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300)), max_size=20),
    st.lists(st.integers(0, 40), max_size=30),
)
def test_frames_are_the_same_however_they_come(frames: list[tuple[int, bytes]], sizes: list[int]) -> None:
    data = b"".join(frame(*one) for one in frames)
    pieces = [one for some in split_frames(cut(data, sizes)) for one in some]
    assert [(one.stream, one.data) for one in pieces] == [one for one in frames if one[1]]
    assert all(one.first and one.last for one in pieces)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=100))
def test_any_bytes_are_frames_or_an_engine_error(data: bytes) -> None:
    try:
        found = b"".join(one.data for some in split_frames(iter([data])) for one in some)
    except EngineError:
        return
    assert len(found) <= len(data) - 8 or not found


@pytest.mark.parametrize("header", [b"\x04\0\0\0", b"\x01\0\0\x01", b"2026"])
def test_what_is_no_header(header: bytes) -> None:
    with pytest.raises(EngineError, match="header is wrong"):
        list(split_frames(iter([header + b"\0\0\0\x01x"])))


def test_a_frame_of_4_gib_comes_in_pieces() -> None:
    header = struct.pack(">BxxxL", 1, 2**32 - 1)
    pieces = []
    with pytest.raises(EngineError, match="middle of a frame"):
        for some in split_frames(iter([header, *[b"x" * PIECE] * 5, b"tail"])):
            pieces += some
    assert [len(one.data) for one in pieces] == [PIECE] * 5 + [4]
    assert [one.first for one in pieces] == [True] + [False] * 5 and not any(one.last for one in pieces)


def test_the_watchdog_bites_and_gives_out_what_came() -> None:
    free = threading.Event()

    def hung() -> Iterator[bytes]:
        yield b"first"
        free.wait(20)

    got, started = [], time.monotonic()
    with pytest.raises(EngineError, match="hung"):
        for chunk in guarded(hung(), -0.8, "it"):
            got.append(chunk)
    free.set()
    assert got == [b"first"] and time.monotonic() - started < 5


def test_the_watchdog_hands_errors_on_and_lets_go() -> None:
    closed = threading.Event()

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise EngineError("broke off")

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    with pytest.raises(EngineError, match="broke off"):
        list(guarded(broken(), 5, "it"))
    stream = guarded(endless(), 5, "it")
    assert next(stream)
    stream.close()
    assert closed.wait(5)


# -- a server that misbehaves --------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*parts: bytes, end: bool = True) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in parts) + (b"0\r\n\r\n" if end else b"")


class Server:
    """Answers every request with the same bytes, then closes, or holds the line."""

    def __init__(self, path: Path, logs: bytes, hold: bool, head: bytes = HEAD) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.logs, self.hold, self.head, self.done = logs, hold, head, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        held = []
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            asked = link.recv(65536)
            if b"/logs" in asked or b"/events" in asked:
                link.sendall(self.head + self.logs)
                if self.hold:
                    held.append(link)
                    continue
            else:
                link.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{"DockerRootDir": "/none"}')
            link.close()

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., DockerEngine]]:
    servers: list[Server] = []

    def start(logs: bytes, hold: bool = False, head: bytes = HEAD) -> DockerEngine:
        path = tmp_path / f"s{len(servers)}"
        servers.append(Server(path, logs, hold, head))
        return DockerEngine(f"unix://{path}")

    yield start
    for one in servers:
        one.stop()


def container(tty: bool = False, driver: str = "json-file") -> Container:
    return Container(
        {
            "Id": ID, "Name": "/x", "Config": {"Tty": tty}, "State": {"Running": True, "Paused": True}, "LogPath": "",
            "HostConfig": {"LogConfig": {"Type": driver, "Config": {}}},
        }
    )  # fmt: skip


def taken(writer: BundleWriter, name: str) -> bytes:
    data = (writer.folder / "data/logs" / f"{name}.log.zst").read_bytes()
    return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))


def index(writer: BundleWriter) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((writer.folder / "data/logs/index.json").read_bytes())
    return found


def whys(writer: BundleWriter, what: str) -> str:
    return " ".join(one.why for one in writer.gaps if what in one.what)


def incomplete(writer: BundleWriter) -> set[str]:
    return {one.path for one in writer.artifacts if not one.complete}


BOTH = {"data/logs/stdout.log.zst", "data/logs/stderr.log.zst"}


def test_two_streams_in_one_pass(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    out, err = STAMP + b"out\n", STAMP + b"\x1b[2Jerr\n"
    total = acquire_logs(serve(chunked(frame(1, out), frame(2, err), frame(1, out))), container(), writer)
    assert taken(writer, "stdout") == out + out and taken(writer, "stderr") == err and total == 2 * len(out) + len(err)
    assert index(writer)["streams"]["stdout"]["lines"] == 2 and index(writer)["complete"] and not incomplete(writer)


def test_long_lines_are_joined_and_short_ones_ended(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    whole = frame(1, STAMP + b"x" * CHUNK)
    rest = frame(1, STAMP + b"y\n") + frame(1, STAMP + b"no end") + frame(1, STAMP + b"after the restart\n")
    acquire_logs(serve(chunked(whole, whole + rest)), container(), writer)
    assert (
        taken(writer, "stdout")
        == STAMP + b"x" * 2 * CHUNK + b"y\n" + STAMP + b"no end\n" + STAMP + b"after the restart\n"
    )
    found = index(writer)["streams"]["stdout"]
    assert (found["messages"], found["lines"], found["chunks_joined"], found["without_newline"]) == (5, 3, 2, 1)


def test_a_tty_is_one_stream(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    acquire_logs(serve(chunked(STAMP + b"\x01\0\0\0 both\r\n")), container(tty=True), writer)
    assert taken(writer, "stdout") == STAMP + b"\x01\0\0\0 both\r\n"
    assert index(writer)["tty"] and set(index(writer)["streams"]) == {"stdout"}
    assert "as one" in next(one.origin.source for one in writer.artifacts if "stdout" in one.path)


def test_a_hung_stream_is_let_go(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer, started = BundleWriter(tmp_path / "b"), time.monotonic()
    engine = serve(chunked(frame(1, STAMP + b"kept\n"), end=False), hold=True)
    acquire_logs(engine, container(), writer, idle=0.3)
    assert time.monotonic() - started < 3
    assert taken(writer, "stdout") == STAMP + b"kept\n" and incomplete(writer) == BOTH
    assert "nothing came for 0.3 s" in whys(writer, "stdout") and not index(writer)["complete"]


def test_an_engine_that_never_answers(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer, started = BundleWriter(tmp_path / "b"), time.monotonic()
    acquire_logs(serve(b"", hold=True, head=b""), container(), writer, idle=0.3)
    assert time.monotonic() - started < 3 and "nothing came" in whys(writer, "stdout")


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (chunked(frame(1, STAMP + b"kept\n"), frame(1, STAMP + b"half")[:20]), "middle of a frame"),
        (chunked(frame(1, STAMP + b"kept\n"), end=False), "ended before the answer did"),
        (
            chunked(frame(1, STAMP + b"kept\n"), struct.pack(">BxxxL", 1, 2**32 - 1), b"x" * 200_000),
            "middle of a frame",
        ),
        (chunked(frame(1, STAMP + b"kept\n"), b"\x09\0\0\0\0\0\0\x01x"), "header is wrong"),
        (chunked(frame(1, STAMP + b"kept\n"), end=False) + b"zz\r\n", "broke off"),
    ],
    ids=["mid-frame", "between-frames", "4-gib", "no-frame", "no-chunk"],
)
def test_what_came_before_the_break_is_kept(
    serve: Callable[..., DockerEngine], tmp_path: Path, sent: bytes, why: str
) -> None:
    writer = BundleWriter(tmp_path / "b")
    acquire_logs(serve(sent), container(), writer, idle=5)
    assert taken(writer, "stdout").startswith(STAMP + b"kept\n") and incomplete(writer) == BOTH
    assert why in whys(writer, "stdout") and not index(writer)["complete"]


def test_the_engines_own_error_in_the_stream(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    acquire_logs(
        serve(chunked(frame(1, STAMP + b"a\n"), frame(3, b"Error grabbing logs: \x1bx\n"))), container(), writer
    )
    assert "Error grabbing logs: \\x1bx" in whys(writer, "stdout") and not index(writer)["complete"]


@pytest.mark.parametrize(
    ("driver", "hint"), [("none", "nothing was kept"), ("journald", "journalctl"), ("syslog", "sends to")]
)
def test_a_driver_that_can_not_be_read(
    serve: Callable[..., DockerEngine], tmp_path: Path, driver: str, hint: str
) -> None:
    writer = BundleWriter(tmp_path / "b")
    body = b'{"message":"configured logging driver does not support reading"}'
    engine = serve(body, head=b"HTTP/1.1 501 No\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert acquire_logs(engine, container(driver=driver), writer) == 0
    assert "does not support reading" in whys(writer, "stdout") and hint in whys(writer, "stdout")
    assert [one.path for one in writer.artifacts] == ["data/logs/index.json"]


def test_a_cache_is_no_whole(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    acquire_logs(serve(chunked(frame(1, STAMP + b"a\n"))), container(driver="syslog"), writer)
    assert "drops lines" in whys(writer, "stdout")


def test_errors_are_of_the_tree(serve: Callable[..., DockerEngine], tmp_path: Path) -> None:
    engine = serve(b'{"message":"No such container: x"}', head=b"HTTP/1.1 404 No\r\nContent-Length: 34\r\n\r\n")
    with pytest.raises(NotFound, match="No such container"):
        engine.raw_logs("x")
    assert engine.calls[-1].status == 404 and "/containers/x/logs" in engine.calls[-1].path
    with pytest.raises(EngineUnreachable):
        DockerEngine(f"unix://{tmp_path}/nobody").raw_logs("x")
    with pytest.raises(EngineUnreachable):
        serve(b"garbage\r\n\r\n", head=b"").raw_logs("x")


def test_with_the_fake_engine(tmp_path: Path) -> None:
    fake, writer = fake_engine(), BundleWriter(tmp_path / "b")
    one = fake.container(Stage(fake).run("a", *SAY))
    acquire_logs(fake, one, writer)
    assert taken(writer, "stdout").endswith(b"Z out\n") and taken(writer, "stderr").endswith(b"Z err\n")
    fake.die()
    writer = BundleWriter(tmp_path / "c")
    assert acquire_logs(fake, one, writer) == 0 and "nobody listens" in whys(writer, "stdout")


@pytest.mark.parametrize(
    ("kept", "frozen", "differ"),
    [(b"ab", True, False), (b"abc", True, True), (b"abc", False, False), (b"a", True, True), (b"xb", False, True)],
)
def test_held_against_the_files(
    serve: Callable[..., DockerEngine], tmp_path: Path, kept: bytes, frozen: bool, differ: bool
) -> None:
    """The engine gives two lines.  What a running container writes afterwards is no difference; all else is."""
    folder = tmp_path / ID
    folder.mkdir()
    rows = [{"log": f"{chr(one)}\n", "stream": "stdout", "time": STAMP.decode().strip()} for one in kept]
    (folder / "x.log").write_text("".join(json.dumps(one) + "\n" for one in rows))
    raw = {**container().raw, "LogPath": str(folder / "x.log"), "State": {"Running": True, "Paused": frozen}}
    writer = BundleWriter(tmp_path / "b")
    acquire_logs(serve(chunked(frame(1, STAMP + b"a\n"), frame(1, STAMP + b"b\n"))), Container(raw), writer)
    assert ("differ" in whys(writer, "stdout")) == differ
    assert index(writer)["compared"]["stdout"]["same"] is not differ and index(writer)["compared"]["stderr"]["same"]
