"""rpm's database: a real one made by rpm 4.18, the same header in the two other containers, and forged ones."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import time
from contextlib import closing

import pytest

from irkit.compare.files import MemoryFiles
from irkit.compare.packages import Packages, read_packages
from irkit.compare.packages.rpm_store import headers
from tests.fakes.packages import bdb, header, ndb, rpm_database

SQLITE = "/var/lib/rpm/rpmdb.sqlite"
PROGRAM = hashlib.sha256(b"#!/bin/sh\necho tiny\n").hexdigest()


def real_header() -> bytes:
    (found,) = headers(rpm_database())
    return found


CONTAINERS = {
    "sqlite": (SQLITE, rpm_database()),
    "ndb": ("/usr/lib/sysimage/rpm/Packages.db", ndb([real_header()])),
    "bdb": ("/var/lib/rpm/Packages", bdb([real_header()])),
    "bdb of a big-endian machine": ("/var/lib/rpm/Packages", bdb([real_header()], ">", 512)),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(kind: str) -> None:
    """As `rpm -ql --dump tiny` says it."""
    packages = read_packages(MemoryFiles(dict([CONTAINERS[kind]])))
    assert [(one.name, one.version, one.architecture) for one in packages.installed] == [("tiny", "1:2.0-3", "noarch")]
    program = packages.owner("/usr/bin/tiny")
    assert program is not None
    assert (program.algorithm, program.digest, program.mode, program.conffile) == ("sha256", PROGRAM, 0o4755, False)
    config = packages.owner("/etc/tiny/tiny.conf")
    assert config is not None
    assert (config.conffile, config.digest) == (True, hashlib.sha256(b"colour = blue\n").hexdigest())
    for path in ("/etc/tiny", "/usr/lib/tiny", "/usr/lib/tiny/link", "/var/log/tiny.log"):
        found = packages.owner(path)
        assert found is not None and found.digest == "", path
    assert packages.owner("/usr/bin/other") is None
    assert packages.algorithms("/usr/bin/tiny") == packages.copy_algorithms == {"sha256"}
    assert not packages.problems


def test_an_empty_log_is_none() -> None:
    """rpm leaves an empty one behind; one with contents is said, because it is not read."""
    empty = read_packages(MemoryFiles({SQLITE: rpm_database(), f"{SQLITE}-wal": b""}))
    full = read_packages(MemoryFiles({SQLITE: rpm_database(), f"{SQLITE}-wal": b"frames"}))
    assert empty.installed == full.installed
    assert not empty.problems
    assert [gap.what for gap in full.problems] == [f"rpm: {SQLITE}-wal"]


def one(tags: dict[int, tuple[int, list[bytes] | list[int]]]) -> Packages:
    base = {1000: (6, [b"p"]), 1001: (6, [b"1"]), 1002: (6, [b"2"])}
    return read_packages(MemoryFiles({"/var/lib/rpm/Packages.db": ndb([header({**base, **tags})])}))


def files_of(states: list[int] | None = None) -> dict[int, tuple[int, list[bytes] | list[int]]]:
    tags: dict[int, tuple[int, list[bytes] | list[int]]] = {
        1116: (4, [0, 0]), 1117: (8, [b"a", b"b"]), 1118: (8, [b"/usr/"]), 1035: (8, [b"a" * 32, b"B" * 32]), 1030: (3, [0o100644, 0o100755]),
    }  # fmt: skip
    return tags if states is None else {**tags, 1029: (3, list(states))}


def test_md5_where_no_algorithm_is_named() -> None:
    found = one(files_of()).owner("/usr/b")
    assert found is not None
    assert (found.algorithm, found.digest, found.version) == ("md5", "b" * 32, "1-2")


def test_files_that_another_package_replaced() -> None:
    packages = one(files_of([0, 1]))
    assert packages.owner("/usr/a") is not None
    assert packages.owner("/usr/b") is None


@pytest.mark.parametrize(
    "tags",
    [
        {**files_of(), 1116: (4, [0])},
        {**files_of(), 1116: (4, [0, 7])},
        {**files_of(), 1118: (8, [b"/usr/../"])},
        {**files_of(), 1118: (8, [b"usr/"])},
        {**files_of(), 5011: (4, [77])},
    ],
)
def test_headers_that_do_not_fit_themselves(tags: dict[int, tuple[int, list[bytes] | list[int]]]) -> None:
    packages = one(tags)
    assert [package.name for package in packages.installed] == ["p"]
    assert packages.problems
    found = packages.owner("/usr/b")
    assert found is None or found.digest == ""


def database(*statements: str) -> bytes:
    with closing(sqlite3.connect(":memory:")) as base:
        for statement in statements:
            base.execute(statement)
        base.commit()
        return base.serialize()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE VIEW Packages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS blob FROM n",),
        ("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob AS (zeroblob(900000000)))", "INSERT INTO Packages (hnum) VALUES (1)"),
        ("CREATE TABLE Other (x)",),
        ("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, other BLOB)", "INSERT INTO Packages VALUES (1, x'00')"),
        ("CREATE VIRTUAL TABLE Packages USING fts4(blob)",),
    ],
)  # fmt: skip
def test_a_hostile_schema(statements: tuple[str, ...]) -> None:
    start = time.monotonic()
    packages = read_packages(MemoryFiles({SQLITE: database(*statements)}))
    assert packages.installed == ()
    assert packages.problems
    assert time.monotonic() - start < 2


def test_chains_that_never_end() -> None:
    """An overflow page that is its own successor, and values that share one chain."""
    data = bytearray(bdb([real_header()]))
    struct.pack_into("<I", data, 2 * 4096 + 16, 2)
    packages = read_packages(MemoryFiles({"/var/lib/rpm/Packages": bytes(data)}))
    packages.installed  # noqa: B018 - it comes back
    blob = ndb([real_header()])
    same = blob[:32] + blob[32:48] * 254 + blob[4096:]
    forged = read_packages(MemoryFiles({"/var/lib/rpm/Packages.db": same}))
    assert len(forged.installed) < 200


def test_unknown_and_broken() -> None:
    for data in (b"what", rpm_database()[:5000], ndb([real_header()])[:5000], bdb([real_header()])[:9000]):
        packages = read_packages(MemoryFiles({"/var/lib/rpm/Packages": data}))
        assert packages.installed == ()
        assert packages.problems, data[:20]
