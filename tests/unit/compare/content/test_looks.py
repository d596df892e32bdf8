"""What bytes are: real formats as their own writers make them, disguises, and costs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import os
import py_compile
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.content import entropy, look, sampled


def made(name: str, folder: Path) -> bytes:
    """Bytes of a format, by the library that writes it."""
    buffer = io.BytesIO()
    if name == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("x"))
    elif name == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a", "b")
    elif name == "pyc":
        (folder / "a.py").write_text("x = 1\n")
        return Path(py_compile.compile(str(folder / "a.py"), cfile=str(folder / "a.pyc")) or "").read_bytes()
    else:
        return {"gzip": gzip, "bzip2": bz2, "xz": lzma}[name].compress(b"x" * 100)  # type: ignore[attr-defined,no-any-return]
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["tar", "zip", "gzip", "bzip2", "xz"])
def test_archives(name: str, tmp_path: Path) -> None:
    data = made(name, tmp_path)
    assert (look(data, len(data), "a").type, look(data, len(data), "a").format) == ("archive", name)


def test_bytecode(tmp_path: Path) -> None:
    data = made("pyc", tmp_path)
    assert look(data, len(data), "a").format == "pyc"
    assert look(b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(20), 28, "A.class").format == "class"
    assert look(b"\xca\xfe\xba\xbe\0\0\0\x02" + bytes(20), 28, "fat").type == "mach-o"


@pytest.mark.parametrize(
    ("head", "interpreter", "path"),
    [
        (b"#!/bin/sh\nx", "sh", "/bin/sh"),
        (b"#! /usr/bin/env python3\n", "python3", "/usr/bin/env"),
        (b"#!/usr/bin/env -S LC_ALL=C perl -w\n", "perl", "/usr/bin/env"),
        (b"#!/tmp/.x/ba\x1b[31msh\n", "ba\\x1b[31msh", "/tmp/.x/ba\\x1b[31msh"),
        (b"#!", "", ""),
        (b"#!/bin/" + b"a" * 400, "a" * 99 + "…", "/bin/" + "a" * 194 + "…"),
        (b"\n<?php echo 1;", "php", ""),
    ],
)
def test_scripts(head: bytes, interpreter: str, path: str) -> None:
    shown = look(head, len(head), "x")
    assert (shown.type, shown.interpreter, shown.interpreter_path) == ("script", interpreter, path)


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"", "x", "empty"),
        (b"hello\n", "x", "text"),
        ("grün 漢字\n".encode(), "x", "text"),
        ("é".encode()[:1].join([b"a" * 64 * 1024, b""])[-64 * 1024 :], "x", "text"),
        (b"caf\xe9 latin\n" * 10, "x", "text"),
        (b"a\0b", "x", "data"),
        (os.urandom(4096) + b"\0", "x", "data"),
        (b"print(1)\n", "/a/b.py", "script"),
        (b"\0\0\0", "/a/b.py", "data"),
        (b"\x89PNG\r\n\x1a\n\0", "x.png", "image"),
        (b"-----BEGIN CERTIFICATE-----\n", "x", "text"),
        (b"SQLite format 3\0", "x", "database"),
        (b"MZ" + bytes(100), "x", "pe"),
    ],
)
def test_kinds(head: bytes, name: str, kind: str) -> None:
    assert look(head, len(head), name).type == kind


@pytest.mark.parametrize(
    ("head", "name", "disguised"),
    [
        (b"\x7fELF" + bytes(60), "logo.png", True),
        (b"\x7fELF" + bytes(60), "/usr/bin/ls", False),
        (b"#!/bin/sh\n", "notes.txt", True),
        (b"GIF89a<?php eval($_POST[1]);", "avatar.gif", True),
        (b"\x89PNG\r\n\x1a\n", "logo.png", False),
        (b"text", "notes.txt", False),
    ],
)
def test_disguise(head: bytes, name: str, disguised: bool) -> None:
    assert look(head, len(head), name).disguised is disguised


def test_entropy() -> None:
    assert entropy(b"") == entropy(b"aaaa") == 0.0
    assert entropy(b"ab" * 100) == pytest.approx(1.0)
    assert entropy(bytes(range(256)) * 4) == pytest.approx(8.0)
    noise = os.urandom(1_000_000)
    assert sampled(noise, 0, len(noise)) > 7.98
    assert sampled(b"ab" * 500_000, 0, 1_000_000) == pytest.approx(1.0)
    assert sampled(noise, 10, 10) == 0.0


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_entropy_bounds(data: bytes) -> None:
    assert 0.0 <= entropy(data) <= min(8.0, math.log2(len(data) or 1)) + 1e-9


@settings(deadline=None)
@given(st.binary(max_size=2000), st.text(max_size=40))
def test_look_never_raises(data: bytes, name: str) -> None:
    shown = look(data, len(data), name)
    assert shown.type and shown.interpreter.isprintable() and shown.interpreter_path.isprintable()


def test_cost() -> None:
    """A head of 64 KiB: well under a millisecond to look at, and to sample."""
    data = os.urandom(64 * 1024)
    started = time.process_time()
    for _ in range(20):
        look(data, len(data), "x")
        sampled(data, 0, len(data))
    assert (time.process_time() - started) / 20 < 0.02
