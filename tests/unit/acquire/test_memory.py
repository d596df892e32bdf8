"""Memory as core files, of a real process of this host: what was in it is in the file, at its address."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from irkit.acquire import elfcore
from irkit.acquire.elfcore import PAGE
from irkit.acquire.host import HostView
from irkit.acquire.maps import parse_maps
from irkit.acquire.memory import Wanted, acquire_memory
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter

SECRET = b"irkit-" + b"secret-in-memory"
VICTIM = """
import ctypes, mmap, os, sys, threading, time
secret = b"irkit-" + b"secret-in-memory"
code = mmap.mmap(-1, 64 * 4096, prot=7)
code[5 * 4096:5 * 4096 + len(secret)] = secret
big = mmap.mmap(-1, 1 << 34)
big[(1 << 33) + 7:(1 << 33) + 7 + len(secret)] = secret
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
at = lambda one: ctypes.addressof(ctypes.c_char.from_buffer(one))
print(at(code), at(big), flush=True)
time.sleep(60)
"""


class _View(HostView):
    def pids(self) -> list[int]:
        return [self.pid]

    def frozen(self) -> bool | None:
        return True


@pytest.fixture
def victim() -> Iterator[tuple[int, int, int]]:
    process = subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    code, big = map(int, process.stdout.readline().split())
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGSTOP)
    yield process.pid, code, big
    process.kill()
    process.communicate()


def loads(core: bytes) -> list[tuple[int, int, int, int, int]]:
    """``(flags, offset, address, stored, size)`` of each PT_LOAD."""
    header = elfcore.EHDR.unpack_from(core)
    assert header[0][:4] == b"\x7fELF" and header[1] == elfcore.ET_CORE
    rows = [elfcore.PHDR.unpack_from(core, header[5] + n * elfcore.PHDR.size) for n in range(header[10])]
    return [(row[1], row[2], row[3], row[5], row[6]) for row in rows if row[0] == elfcore.PT_LOAD]


def at(core: bytes, address: int, size: int) -> bytes:
    for _, offset, start, stored, _ in loads(core):
        if start <= address < start + stored:
            return core[offset + address - start :][:size]
    return b""


def notes(core: bytes) -> list[tuple[int, bytes]]:
    header = elfcore.EHDR.unpack_from(core)
    row = elfcore.PHDR.unpack_from(core, header[5])
    data, found = core[row[2] : row[2] + row[5]], []
    while data:
        name, size, kind = struct.unpack_from("<III", data)
        assert name == 5 and data[12:17] == b"CORE\0"
        found.append((kind, data[20 : 20 + size]))
        data = data[20 + -(-size // 4) * 4 :]
    return found


def take(tmp_path: Path, pid: int, which: str, limit: int = 1 << 30) -> tuple[bytes, dict[str, object], BundleWriter]:
    writer = BundleWriter(tmp_path / which)
    (row,) = acquire_memory(_View("x", pid), writer, Wanted(which, limit))
    (writer.folder / "data/index.json").write_text(json.dumps(writer.index({})))
    core = b"".join(BundleReader(writer.folder).stream(f"memory/pid-{pid}.core")) if row["artifact"] else b""
    return core, row, writer


@pytest.mark.thorough
def test_all_of_it(victim: tuple[int, int, int], tmp_path: Path) -> None:
    pid, code, big = victim
    core, row, writer = take(tmp_path, pid, "all")
    assert at(core, code + 5 * 4096, len(SECRET)) == SECRET
    assert at(core, big + (1 << 33) + 7, len(SECRET)) == SECRET
    assert len(core) < 200 << 20, "16 GiB of untouched pages are not stored"
    assert row["stored"] == sum(stored for *_, stored, _ in loads(core)) and not writer.gaps
    assert any(size == 1 << 34 or size >= 1 << 33 for *_, size in loads(core))


@pytest.mark.thorough
def test_every_thread_and_the_process_have_their_notes(victim: tuple[int, int, int], tmp_path: Path) -> None:
    pid, _, _ = victim
    core, _, _ = take(tmp_path, pid, "all")
    found = notes(core)
    threads = [body for kind, body in found if kind == elfcore.NT_PRSTATUS]
    assert [struct.unpack_from("<i", body, 32)[0] for body in threads] == sorted(
        map(int, os.listdir(f"/proc/{pid}/task"))
    )
    (info,) = [body for kind, body in found if kind == elfcore.NT_PRPSINFO]
    assert len(info) == 136 and b"python" in info[40:56]
    (files,) = [body for kind, body in found if kind == elfcore.NT_FILE]
    assert b"libc" in files and struct.unpack_from("<Q", files)[0] > 3
    assert next(len(body) for kind, body in found if kind == elfcore.NT_AUXV) % 16 == 0


def test_only_code_that_no_file_holds(victim: tuple[int, int, int], tmp_path: Path) -> None:
    pid, code, big = victim
    core, row, _ = take(tmp_path, pid, "executable")
    assert at(core, code + 5 * 4096, len(SECRET)) == SECRET and not at(core, big + (1 << 33), 1)
    assert len(core) < 2 << 20 and row["which"] == "executable"


def test_over_the_limit_the_telling_part_is_taken_and_the_rest_is_a_gap(
    victim: tuple[int, int, int], tmp_path: Path
) -> None:
    pid, code, _ = victim
    core, row, writer = take(tmp_path, pid, "all", 1 << 20)
    assert at(core, code + 5 * 4096, len(SECRET)) == SECRET and row["which"] == "executable"
    assert "over this profile's limit: executable memory only" in writer.gaps[0].why


def test_nothing_within_the_limit(victim: tuple[int, int, int], tmp_path: Path) -> None:
    core, row, writer = take(tmp_path, victim[0], "all", 0)
    assert not core and not row["artifact"] and "not taken" in writer.gaps[-1].why


def test_a_process_that_is_gone_is_a_gap(tmp_path: Path) -> None:
    core, _, writer = take(tmp_path, 2**22 - 1, "all")
    assert not core and "can't be read" in writer.gaps[0].why


@given(st.binary(max_size=300))
def test_maps_of_any_form(text: bytes) -> None:
    parse_maps(text)


def test_odd_names_in_maps() -> None:
    line = b"7f00-8f00 rwxp 00001000 00:05 12 /memfd:a b\\012\xff (deleted)\n00-10 r-xp 00000000 00:00 0 \nx\n"
    first, second = parse_maps(line)
    assert first.path == b"/memfd:a b\\012\xff (deleted)" and first.suspect and first.offset == 4096
    assert second.suspect and second.path == b""


@pytest.mark.thorough
def test_gdb_opens_it(victim: tuple[int, int, int], tmp_path: Path) -> None:
    pid, code, _ = victim
    writer = BundleWriter(tmp_path / "b")
    acquire_memory(_View("x", pid), writer, Wanted("all", 1 << 30))
    core = tmp_path / "core"
    core.write_bytes(b"".join(_unpacked(tmp_path / f"b/data/memory/pid-{pid}.core.zst")))
    asked = ["info threads", f"x/s {code + 5 * PAGE:#x}", "info proc mappings", "bt 1"]
    argv = ["gdb", "-nx", "-batch", "-iex", "set auto-load off", *(part for ask in asked for part in ("-ex", ask))]
    done = subprocess.run(
        [*argv, os.path.realpath(sys.executable), str(core)], capture_output=True, text=True, check=False
    )
    assert SECRET.decode() in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("LWP") >= 2 and os.path.realpath(sys.executable) in done.stdout
    assert "not a core dump" not in done.stderr


def _unpacked(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from zstandard.ZstdDecompressor().read_to_iter(file)


def test_a_process_that_ends_while_it_is_read(tmp_path: Path) -> None:
    """What was read until then is kept, and said to be incomplete; nothing hangs over what is gone."""
    code = "import time; x = bytearray(b'irkit' * (8 << 20)); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    seen = 0

    def kill() -> None:
        nonlocal seen
        seen += 1
        if seen == 20:
            process.kill()
            process.wait()

    writer = BundleWriter(tmp_path / "b", checkpoint=kill)
    began = time.monotonic()
    acquire_memory(_View("x", process.pid), writer, Wanted("all", 1 << 32))
    process.communicate()
    assert time.monotonic() - began < 5
    core = next(one for one in writer.artifacts if one.path.endswith(".core.zst"))
    assert not core.complete and core.raw_size > 1 << 20
    (gap,) = writer.gaps
    assert gap.what == core.path and gap.why.endswith("the process ended while it was read")
    (row,) = json.loads((tmp_path / "b/data/memory/index.json").read_bytes())
    assert row["artifact"] == core.path and row["stored"] == 0
