"""What the engine mounts for a moment: seen while it is there, never waited for without an end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irkit.acquire import mounted
from irkit.acquire.mounted import HELD, fleeting
from irkit.engine.interface import Container
from irkit.errors import Conflict

ID = "c" * 64
LINE = "40 1 0:50 / /data/rootfs/overlayfs/{} rw - overlay overlay rw,lowerdir=/l2:/l1,upperdir=/u,workdir=/w\n"


class Table:
    """One mount table, and an engine that mounts while it answers."""

    local = True

    def __init__(self, folder: Path, size: int, mounts: bool = True) -> None:
        self._file = folder / "7" / "mountinfo"
        self._file.parent.mkdir()
        self._file.write_text(LINE.format("d" * 64))
        self.size, self.mounts, self.open, self.calls = size, mounts, 0, 0

    def export(self, container: str, idle: float) -> Iterator[bytes]:
        self.calls += 1
        return self._stream()

    def _stream(self) -> Iterator[bytes]:
        self.open += 1
        self._mount()
        try:
            for _ in range(self.size):
                yield bytes(1024 * 1024)
            self._unmount()
        finally:
            self._unmount()
            self.open -= 1

    def changes(self, container: str) -> tuple[()]:
        self.calls += 1
        self._mount()
        time.sleep(0.001)
        self._unmount()
        return ()

    def _mount(self) -> None:
        if self.mounts:
            self._file.write_text(LINE.format("d" * 64) + LINE.format(ID))

    def _unmount(self) -> None:
        self._file.write_text(LINE.format("d" * 64))


@pytest.fixture
def engine_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Table]:
    monkeypatch.setattr(mounted, "PROC", str(tmp_path))
    monkeypatch.setattr(mounted, "namespaces", lambda but: iter([7]))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return lambda size, mounts=True: Table(tmp_path, size, mounts)


def container(driver: str = "overlayfs") -> Container:
    return Container({"Id": ID, "Driver": driver})


def test_it_is_seen_while_an_export_waits_for_its_reader(engine_of: Callable[..., Table]) -> None:
    engine = engine_of(100)
    found = fleeting(engine, container())  # type: ignore[arg-type]
    assert found is not None and found.options["upperdir"] == "/u" and found.options["lowerdir"] == "/l2:/l1"
    assert (engine.calls, engine.open) == (1, 0)


def test_it_is_seen_though_the_export_is_over_at_once(engine_of: Callable[..., Table]) -> None:
    engine = engine_of(0)
    assert fleeting(engine, container()) is not None  # type: ignore[arg-type]
    assert engine.open == 0


def test_a_mount_that_is_elsewhere_is_not_waited_for(engine_of: Callable[..., Table]) -> None:
    """A long export that shows nothing shows nothing the next time either."""
    engine = engine_of(1000, mounts=False)
    assert fleeting(engine, container()) is None  # type: ignore[arg-type]
    assert (engine.calls, engine.open) == (1, 0)
    assert HELD < 1000 * 1024 * 1024


def test_all_tries_end(engine_of: Callable[..., Table], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(0, mounts=False)
    monkeypatch.setattr(mounted, "LINGER", 0.001)
    before = threading.active_count()
    assert fleeting(engine, container()) is None  # type: ignore[arg-type]
    assert engine.calls == mounted.EXPORTS + mounted.COMPARISONS
    assert threading.active_count() == before
    monkeypatch.setattr(mounted, "PATIENCE", 0.0)
    engine.calls = 0
    assert fleeting(engine, container()) is None and engine.calls == 1  # type: ignore[arg-type]


def test_a_refusal_is_no_error(engine_of: Callable[..., Table], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(0)

    def refuse(*_: object) -> Iterator[bytes]:
        raise Conflict("no")

    monkeypatch.setattr(engine, "export", refuse)
    assert fleeting(engine, container()) is None  # type: ignore[arg-type]


def test_it_is_not_asked_in_vain(engine_of: Callable[..., Table], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(0)
    assert fleeting(engine, container("vfs")) is None  # type: ignore[arg-type]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert fleeting(engine, container()) is None and engine.calls == 0  # type: ignore[arg-type]
