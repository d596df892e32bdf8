"""Bytecode is folded only where it names the size and time of a source that the image has, and that is as it was."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from irkit.acquire.attributes import Marks
from irkit.acquire.lower import Lower
from irkit.acquire.package_files import Sources
from irkit.compare.comparison import Comparison
from irkit.compare.contents import named_source
from irkit.compare.ioc import IocLists
from irkit.compare.noise import load_noise
from irkit.compare.rules import load_rules
from irkit.compare.verdicts import Verdicts
from tests.unit.compare.sides import side

VERDICTS = Verdicts(load_rules(), load_noise(), None, IocLists(()))
SIZE, TIME = 300, 1_700_000_000
PYC = "/app/__pycache__/main.cpython-311.pyc"
MAGIC = b"\xa7\x0d\x0d\x0a"


def bytecode(size: int = SIZE, time: int = TIME, flags: int = 0) -> bytes:
    return MAGIC + struct.pack("<III", flags, time, size) + b"\xe3" + bytes(60)


def noise(
    folder: Path, after: dict[str, bytes | None], before: dict[str, bytes] | None = None, path: str = "/app/main.py"
) -> str:
    source = {"path": path, "size": SIZE, "mtime_ns": TIME * 10**9 + 5}
    one = side(folder, before or {}, after, more={"filesystem/sources.jsonl": source})
    found = Comparison(VERDICTS)
    return next(row.noise for row in found.of_evidence(one) if row.change.path == PYC)


def test_new_bytecode_of_the_image_s_source(tmp_path: Path) -> None:
    assert noise(tmp_path / "b", {PYC: bytecode()}) == "bytecode"


@pytest.mark.parametrize(
    ("data", "more"),
    [
        (bytecode(size=SIZE + 1), {}),
        (bytecode(time=TIME + 1), {}),
        (bytecode(flags=1), {}),
        (bytecode(), {"/app/main.py": b"other"}),
        (bytecode(), {"/app/main.py": None}),
        (bytecode(), {"/app": None}),
    ],
    ids=["size", "time", "by hash", "changed", "deleted", "folder deleted"],
)
def test_what_does_not_fit_is_shown(tmp_path: Path, data: bytes, more: dict[str, bytes | None]) -> None:
    before = dict.fromkeys(more, b"source")
    assert noise(tmp_path / "b", {**more, PYC: data}, before) == ""


def test_without_a_source_or_in_the_place_of_the_image_s_own_it_is_shown(tmp_path: Path) -> None:
    assert noise(tmp_path / "a", {PYC: bytecode()}, path="/app/other.py") == ""
    assert noise(tmp_path / "b", {PYC: bytecode()}, {PYC: bytecode() + b"x"}) == ""


def test_the_head_of_bytecode() -> None:
    assert named_source(bytecode()) == (SIZE, TIME)
    assert named_source(bytecode()[:15]) is None and named_source(bytecode(flags=3)) is None


def test_the_image_s_sources_are_found_in_its_layers(tmp_path: Path) -> None:
    for name in ("top/app", "low/app", "low/app/pkg"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("low/app/main.py", "low/app/pkg/a.py", "top/app/other.py"):
        (tmp_path / name).write_text("x")
    (tmp_path / "low/app/link.py").symlink_to("main.py")
    sources = Sources()
    for path in (
        PYC,
        "/app/__pycache__/link.cpython-311.pyc",
        "/app/pkg/__pycache__/a.cpython-311.opt-1.pyc",
        "/app/pkg/__pycache__/gone.cpython-311.pyc",
        "/x/a.pyc",
    ):
        sources.see(path)
    folders = [os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("top", "low")]
    lower = Lower(folders, Marks())
    try:
        assert [entry.path for entry in sources.files(lower)] == ["/app/main.py", "/app/pkg/a.py"]
    finally:
        lower.close()
        for one in folders:
            os.close(one)
