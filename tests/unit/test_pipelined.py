"""The sink with threads writes what the plain one writes, and says the same when the disk is full."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import zstandard

from irkit.errors import Interrupted, StorageError
from irkit.evidence.pipelined import PipelinedSink
from irkit.evidence.writer import BundleWriter, Origin

ORIGIN = Origin("test", "nowhere", "made up")
BLOCKS = [b"a", b"bc" * 10, b"d" * 700_000, b"", b"e" * 400_000, b"f" * 400_000, b"g" * 3_000_000, b"h"]


def test_the_same_bytes_and_digests(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path)
    for name, threads in (("plain", False), ("threads", True)):
        with writer.sink(name, ORIGIN, threads=threads) as sink:
            for block in BLOCKS:
                sink.write(block)
    plain, threaded = writer.artifacts
    assert (plain.raw_sha256, plain.raw_size) == (threaded.raw_sha256, threaded.raw_size)
    for one in writer.artifacts:
        stored = (tmp_path / one.path).read_bytes()
        assert len(stored) == one.stored_size
        assert zstandard.ZstdDecompressor().decompressobj().decompress(stored) == b"".join(BLOCKS)


def test_a_full_disk_is_told_and_no_thread_stays(tmp_path: Path) -> None:
    before = threading.active_count()
    writer = BundleWriter(tmp_path)

    def fill() -> None:
        with writer.sink("x", ORIGIN, compress=False, threads=True) as sink:
            sink._file.close()
            sink._file = open("/dev/full", "wb", buffering=0)  # type: ignore[assignment]  # noqa: SIM115
            for _ in range(50):
                sink.write(b"x" * 1_000_000)

    with pytest.raises(StorageError):
        fill()
    assert (writer.lost, writer.artifacts) == (["data/x"], []) and threading.active_count() == before


def test_the_last_block_counts_too(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path)

    def fill() -> None:
        with writer.sink("x", ORIGIN, compress=False, threads=True) as sink:
            sink._file.close()
            sink._file = open("/dev/full", "wb", buffering=0)  # type: ignore[assignment]  # noqa: SIM115
            sink.write(b"small")

    with pytest.raises(StorageError):
        fill()
    assert writer.lost == ["data/x"]


def test_an_interruption_keeps_what_was_read(tmp_path: Path) -> None:
    before = threading.active_count()

    def fill() -> None:
        with writer.sink("x", ORIGIN, threads=True) as sink:
            assert isinstance(sink, PipelinedSink)
            sink.write(b"first")
            raise Interrupted("stop")

    writer = BundleWriter(tmp_path)
    with pytest.raises(Interrupted):
        fill()
    assert [(one.raw_size, one.complete) for one in writer.artifacts] == [(5, False)]
    assert threading.active_count() == before


def test_a_fault_in_a_thread_is_raised_and_nothing_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: PipelinedSink, _: bytes) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(PipelinedSink, "_store", broken)
    writer = BundleWriter(tmp_path / "b")
    with pytest.raises(ValueError, match="a fault"), writer.sink("x", ORIGIN, threads=True) as sink:
        for _ in range(50):
            sink.write(bytes(1 << 20))
