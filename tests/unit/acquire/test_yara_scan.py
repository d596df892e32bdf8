"""YARA over the memory of a real process: who is hit is taken whole, the others are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irkit import resources
from irkit.acquire import yara_scan
from irkit.acquire.host import HostView
from irkit.acquire.memory import Wanted, acquire_memory
from irkit.acquire.yara_scan import Rules, windows
from irkit.errors import UsageProblem
from irkit.evidence.writer import BundleWriter

MINER = 'import time; x = b"".join((b"strat", b"um+tcp://", b"pool.invalid:3333")); print(flush=True); time.sleep(60)'
HONEST = "import time; print(flush=True); time.sleep(60)"


class _View(HostView):
    def __init__(self, pids: list[int]) -> None:
        super().__init__("x", pids[0])
        self._pids = pids

    def pids(self) -> list[int]:
        return self._pids

    def frozen(self) -> bool | None:
        return True


@pytest.fixture
def two() -> Iterator[tuple[int, int]]:
    started = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE) for code in (MINER, HONEST)
    ]
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == b"\n"
        os.kill(one.pid, signal.SIGSTOP)
    yield started[0].pid, started[1].pid
    for one in started:
        one.kill()
        one.communicate()


def rows(pids: tuple[int, int], folder: Path, wanted: Wanted) -> tuple[list[dict[str, Any]], BundleWriter]:
    writer = BundleWriter(folder / "bundle")
    acquire_memory(_View(list(pids)), writer, wanted)
    return json.loads((folder / "bundle/data/memory/index.json").read_bytes()), writer


def test_by_yara_hit(two: tuple[int, int], tmp_path: Path) -> None:
    (miner, honest), writer = rows(two, tmp_path, Wanted("yara", 1 << 30, rules="memory"))
    assert {hit["rule"] for hit in miner["matches"]} == {"miner_protocol"} and miner["artifact"] and miner["stored"]
    assert not honest["matches"] and not honest["artifact"] and honest["left_out"] == "no rule hit"
    assert not writer.gaps


def test_by_process(two: tuple[int, int], tmp_path: Path) -> None:
    program = os.path.realpath(sys.executable)
    found, _ = rows(two, tmp_path, Wanted("executable", 1 << 30, processes=(program[:-3] + "*",)))
    assert all(row["artifact"] for row in found)
    found, _ = rows(two, tmp_path / "none", Wanted("executable", 1 << 30, processes=("xmrig*",)))
    assert {row["left_out"] for row in found} == {"the profile does not name it"}


def test_without_yara_the_suspect_part_of_everybody(
    two: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yara_x", None)
    found, writer = rows(two, tmp_path, Wanted("yara", 1 << 30, rules="memory"))
    assert {row["which"] for row in found} == {"executable"} and "not installed" in writer.gaps[0].why


def test_rules_that_are_none(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yar"
    bad.write_text("rule x { condition: nonsense }")
    with pytest.raises(UsageProblem, match="unknown identifier"):
        Rules(str(bad))
    with pytest.raises(UsageProblem, match="no yara 'nothing'"):
        Rules("nothing")


def test_shipped_rules_compile() -> None:
    for path in resources.every("forensics/yara"):
        Rules(path.stem)


@dataclass(frozen=True)
class Range:
    start: int
    end: int


def test_windows_overlap_over_what_lies_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yara_scan, "WINDOW", 16384)
    monkeypatch.setattr(yara_scan, "OVERLAP", 4096)
    (tmp_path / "m").write_bytes(bytes(200_000))
    unread: list[tuple[int, str]] = []
    with (tmp_path / "m").open("rb") as file:
        pieces = [Range(4096, 20480), Range(20480, 36864), Range(40960, 45056)]
        found = [(at, at + len(data)) for at, data in windows(file.fileno(), pieces, unread)]
    assert found == [(4096, 20480), (16384, 32768), (28672, 36864), (40960, 45056)] and not unread
