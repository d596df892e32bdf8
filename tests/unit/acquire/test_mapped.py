"""The files that run, of real processes of this host: the inode that runs, whatever lies under its name by now."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from irkit.acquire import magic
from irkit.acquire.host import HostView
from irkit.acquire.mapped import acquire_mapped
from irkit.acquire.processes import FDINFO_LIMIT, acquire_processes, descriptors
from irkit.evidence.writer import BundleWriter

VICTIM = """
import mmap, os, sys, time
lib, held = sys.argv[1], sys.argv[2]
fd = os.open(lib, os.O_RDONLY)
code = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
os.close(fd)
os.unlink(lib)
hidden = os.memfd_create("payload")
os.write(hidden, b"echo from a memfd")
code2 = mmap.mmap(hidden, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
os.close(hidden)
log = open(held, "ab"); log.write(b"deleted but open"); log.flush(); os.unlink(held)
print("up", flush=True)
time.sleep(60)
"""


class _View(HostView):
    def pids(self) -> list[int]:
        return [self.pid]


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that is kept on a disk: the temporary folder may be memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def victim(on_disk: Path, tmp_path: Path) -> Iterator[int]:
    (on_disk / "lib.so").write_bytes(b"\x7fELF not really" * 1000)
    argv = [sys.executable, "-c", VICTIM, str(on_disk / "lib.so"), str(tmp_path / "held.log")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGSTOP)
    yield process.pid
    process.kill()
    process.communicate()


def mapped(pid: int, folder: Path, limit: int = 1 << 20) -> tuple[dict[str, dict[str, Any]], BundleWriter]:
    writer = BundleWriter(folder / "bundle")
    acquire_mapped(_View("x", pid), writer, limit)
    rows = json.loads((folder / "bundle/data/process/mapped.json").read_bytes())
    return {Path(row["path"]).name: row for row in rows}, writer


def test_what_no_disk_keeps_is_kept(victim: int, tmp_path: Path) -> None:
    rows, writer = mapped(victim, tmp_path)
    want = {
        "lib.so": b"\x7fELF not really" * 1000,
        "memfd:payload": b"echo from a memfd",
        "held.log": b"deleted but open",
    }
    for name, data in want.items():
        row = rows[name]
        assert (
            row["deleted"] and row["pids"] == [victim] and row["held"] == ("open" if name == "held.log" else "mapped")
        )
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        packed = (tmp_path / "bundle" / row["artifact"]).read_bytes()
        assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == data
    assert rows["memfd:payload"]["memory"] and not rows["lib.so"]["memory"]
    assert not writer.gaps
    program = next(row for row in rows.values() if row["path"] == os.path.realpath(sys.executable))
    assert (
        program["sha256"] == hashlib.sha256(Path(sys.executable).read_bytes()).hexdigest() and not program["artifact"]
    )


def test_over_the_limit_there_is_a_digest_and_a_gap(victim: int, on_disk: Path, tmp_path: Path) -> None:
    rows, writer = mapped(victim, tmp_path, limit=100)
    assert not rows["lib.so"]["artifact"] and len(rows["lib.so"]["sha256"]) == 64
    assert rows["memfd:payload"]["artifact"]
    assert [gap.what for gap in writer.gaps] == [str(on_disk / "lib.so")]


def test_a_program_on_a_tmpfs_that_was_exchanged(tmp_path: Path) -> None:
    program = tmp_path / "sleep"
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([str(program), "60"])
    time.sleep(0.1)
    program.unlink()
    program.write_text("something else lies under the name now")
    try:
        rows, _ = mapped(process.pid, tmp_path)
        assert rows["sleep"]["sha256"] == hashlib.sha256(Path("/bin/sleep").read_bytes()).hexdigest()
        assert rows["sleep"]["deleted"] and rows["sleep"]["artifact"]
    finally:
        process.kill()
        process.wait()


def test_descriptors_say_how_and_where(tmp_path: Path) -> None:
    with (tmp_path / "a").open("ab") as file:
        file.write(b"12345")
        file.flush()
        row = next(one for one in descriptors("/proc/self") if one["fd"] == file.fileno())
    assert row == {"fd": row["fd"], "target": str(tmp_path / "a"), "access": "wa", "position": 5}
    assert FDINFO_LIMIT > 1024


def test_the_process_list_has_mounts_and_maps(victim: int, tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    (row,) = acquire_processes(_View("x", victim), writer)
    mounts = json.loads((tmp_path / "bundle/data/process/mounts.json").read_bytes())
    assert "proc" in {one["fstype"] for one in mounts[row["namespaces"]["mnt"]]}
    (lib,) = [one for one in row["mapped"] if one["path"].endswith("/lib.so (deleted)")]
    assert lib["flags"] == "r-x" and lib["inode"] and ":" in lib["device"]


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and FUSE")
def test_a_file_system_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server took the mount and says nothing, as a frozen one would."""
    monkeypatch.setattr(magic, "PATIENCE", 0.2)
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=100644,user_id=0,group_id=0".encode()
    place = tmp_path / "served"
    place.touch()
    assert libc.mount(b"irkit-test", bytes(place), b"fuse.irkit", 0, options) == 0, os.strerror(ctypes.get_errno())
    try:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="did not answer"), magic.open_magic(str(place), hurried=True) as file:
            list(file.blocks())
        assert time.monotonic() - began < 2
    finally:
        libc.umount2(bytes(place), 2)
        os.close(server)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place = Path("/dev/null")
    with pytest.raises(OSError, match="not a regular file"), magic.open_magic(str(place), hurried=False):
        pass


def test_a_sparse_giant_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(1 << 42)
    with magic.open_magic(str(tmp_path / "giant"), hurried=False) as giant, pytest.raises(OSError, match="too many"):
        giant.sha256()
