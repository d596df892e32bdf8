"""ELF facts: against files made by hand, against readelf(1) on this machine's programs, and on broken files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from elves import Elf, R, W, X, note
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.content import ElfFacts, elf_facts

NOISE = os.urandom(64 * 1024)
GO = ("docker", "dockerd", "containerd", "runc", "ctr", "podman")


def facts(elf: Elf) -> ElfFacts:
    found = elf_facts(elf.build())
    assert found is not None
    return found


def test_static() -> None:
    found = facts(Elf(sections=((".text", 1), (".symtab", 2))))
    assert (found.bits, found.endian, found.machine, found.type, found.static) == (
        64,
        "little",
        "x86_64",
        "executable",
        True,
    )
    assert (found.stripped, found.sections, found.overlay, found.packed, found.signs, found.problems) == (
        False,
        4,
        0,
        False,
        (),
        (),
    )
    assert facts(Elf(sections=((".text", 1),))).stripped


@pytest.mark.parametrize("order", ["<", ">"])
def test_dynamic(order: str) -> None:
    found = facts(
        Elf(kind=3, order=order, machine=183, interpreter="/lib/ld.so", needed=("libc.so.6", "libevil.so"), strings={15: "/tmp/lib", 29: "$ORIGIN", 14: "lib\x1bx.so"},
            notes=note(b"GNU\0", 3, b"\xab\xcd", order), sections=((".text", 1),), flags_1=0x08000000)
    )  # fmt: skip
    assert (found.machine, found.type, found.static, found.interpreter) == ("aarch64", "pie", False, "/lib/ld.so")
    assert (found.needed, found.rpath, found.runpath, found.soname) == (
        ("libc.so.6", "libevil.so"),
        "/tmp/lib",
        "$ORIGIN",
        "lib\\x1bx.so",
    )
    assert found.build_id == "abcd" and not found.go and found.endian == ("little" if order == "<" else "big")


def test_types() -> None:
    assert facts(Elf(kind=3, strings={14: "libx.so"})).type == "shared"
    assert facts(Elf(kind=1)).type == "relocatable"
    assert facts(Elf(kind=3, flags_1=0x08000000)).static is True  # static-pie
    assert facts(Elf(kind=77, machine=999)).type == "77"


def test_go() -> None:
    assert facts(Elf(notes=note(b"Go\0\0", 4, b"id"))).go


@pytest.mark.parametrize(
    ("elf", "signs", "packed"),
    [
        (Elf(behind_headers=b"\0\0\0\0UPX!" + bytes(20)), {"upx-magic", "no-sections"}, True),
        (Elf(code=b"UPX!" * 200 + b"\x90" * 2000, sections=((".text", 1),), behind_headers=bytes(300)), set(), False),
        (Elf(sections=(("UPX1", 1),)), {"packer-section"}, True),
        (Elf(code=NOISE), {"dense-code", "dense-file", "no-sections"}, True),
        (Elf(code=NOISE, code_flags=R, sections=((".rodata", 1),)), set(), False),
        (Elf(code=NOISE[:2000]), {"no-sections"}, False),
        (Elf(code_flags=R | W | X, sections=((".text", 1),)), {"writable-code", "writable-entry"}, False),
        (
            Elf(code_flags=R | W | X, memory=1_000_000, sections=((".text", 1),)),
            {"writable-code", "writable-entry", "unpacks-in-memory"},
            False,
        ),
        (Elf(overlay=b"payload", sections=((".text", 1),)), {"overlay"}, False),
    ],
)
def test_packer_signs(elf: Elf, signs: set[str], packed: bool) -> None:
    found = facts(elf)
    assert set(found.signs) == signs and found.packed is packed
    assert found.overlay == len(elf.overlay)


def test_a_part_of_a_file() -> None:
    data = Elf(code=NOISE, sections=((".text", 1),)).build()
    found = elf_facts(data[:4096], size=len(data))
    assert found is not None and found.overlay == -1 and "section headers that can't be read" in found.problems


def test_no_elf() -> None:
    for data in (b"", b"\x7fELF", b"\x7fELF" + bytes(200), b"MZ" * 100, Elf().build()[:63]):
        assert elf_facts(data) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=9)), max_size=8), st.integers(64, 900))
def test_broken_files_never_raise(patches: list[tuple[int, bytes]], end: int) -> None:
    data = bytearray(
        Elf(
            kind=3,
            interpreter="/lib/ld",
            needed=("a", "b"),
            notes=note(b"GNU\0", 3, b"x" * 20),
            sections=((".text", 1), (".symtab", 2)),
        ).build()
    )
    for place, piece in patches:
        data[max(4, place) : max(4, place) + len(piece)] = piece
    data[4:6] = bytes((data[4] % 2 + 1, data[5] % 2 + 1))
    found = elf_facts(bytes(data[:end]))
    assert found is None or all(
        text.isprintable() for text in (*found.needed, found.rpath, found.interpreter, found.soname)
    )


def test_huge_counts_cost_little() -> None:
    data = bytearray(Elf(sections=((".text", 1),)).build())
    data[56:58] = data[60:62] = b"\xff\xff"
    started = time.process_time()
    found = elf_facts(bytes(data) + bytes(8_000_000))
    assert found is not None and found.problems and time.process_time() - started < 1


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf(1)")
@pytest.mark.parametrize("program", [sys.executable, "/bin/sh", "/bin/ls", *(shutil.which(name) for name in GO)])
def test_as_readelf(program: str | None) -> None:
    if program is None or not Path(program).is_file():
        pytest.skip("not here")
    data = Path(program).read_bytes()
    found = elf_facts(data)
    assert found is not None and not found.problems
    said = subprocess.run(
        ["readelf", "-W", "-h", "-l", "-d", "-n", "-S", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    assert found.needed == tuple(re.findall(r"\(NEEDED\).*\[(.*)\]", said))
    assert [found.interpreter] == (re.findall(r"Requesting program interpreter: (.*)\]", said) or [""])
    assert [found.build_id] == (re.findall(r"Build ID: (\w+)", said)[:1] or [""])
    assert [str(found.sections)] == re.findall(r"Number of section headers:\s+(\d+)", said)
    assert found.stripped is not (" SYMTAB " in said) and found.go is ("Go\x20" in said and ".note.go.buildid" in said)
    assert len(found.segments) == len(re.findall(r"^\s+LOAD ", said, re.MULTILINE))


@pytest.mark.thorough
def test_no_program_of_this_machine_is_packed() -> None:
    """Compilers of all kinds made them: C, C++, Go, Rust."""
    for folder in ("/usr/bin", "/usr/sbin", "/usr/local/bin"):
        for path in sorted(Path(folder).iterdir())[:60]:
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 20_000_000:
                found = elf_facts(path.read_bytes())
                assert found is None or not found.packed, path


@pytest.mark.parametrize("name", GO)
def test_go_binaries_are_not_packed(name: str) -> None:
    path = shutil.which(name)
    if path is None:
        pytest.skip("not here")
    found = elf_facts(Path(path).read_bytes())
    if found is None:
        pytest.skip("no ELF file")
    assert found.go and not found.packed and not set(found.signs) - {"overlay"}
