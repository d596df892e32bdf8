"""Wiped logs, login records and histories; logs that only grew are none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.content import LogFacts, LogSide, is_log, log_wiped


def side(data: bytes) -> LogSide:
    return LogSide("file", len(data), data)


def held(path: str, before: bytes, after: bytes) -> LogFacts:
    return log_wiped(path, side(before), side(after))


def record(when: int, user: bytes = b"root", size: int = 384) -> bytes:
    """A utmp(5) record of a login."""
    row = bytearray(size)
    row[0] = 7
    row[44 : 44 + len(user)] = user
    struct.pack_into("<I" if size == 384 else "<q", row, 340 if size == 384 else 344, when)
    return bytes(row)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/var/log/auth.log", "text"), ("/var/log/nginx/access.log", "text"), ("/var/log/wtmp", "utmp"), ("/var/log/btmp.1", "utmp"), ("/run/utmp", "utmp"),
        ("/var/log/lastlog", "lastlog"), ("/root/.bash_history", "history"), ("/home/a/.zsh_history", "history"), ("/root/.python_history", "history"),
        ("/root/.ash_history", "history"), ("/app/server.log", "text"), ("/etc/passwd", ""), ("/usr/bin/login", ""),
    ],
)  # fmt: skip
def test_is_log(path: str, form: str) -> None:
    assert is_log(path) == form


def test_growth_is_no_wipe() -> None:
    for path in ("/var/log/a.log", "/root/.bash_history"):
        assert not held(path, b"a\nb\n", b"a\nb\nc\n").wiped
        assert not held(path, b"", b"x\n").wiped
    assert not held("/var/log/wtmp", record(1), record(1) + record(2)).wiped
    assert not log_wiped("/var/log/a.log", None, side(b"a\n")).wiped
    assert not log_wiped("/var/log/a.log", None, None).wiped


def test_emptied_removed_linked() -> None:
    assert held("/var/log/a.log", b"a\n", b"").emptied and held("/var/log/a.log", b"a\n", b"").shrank
    assert log_wiped("/var/log/a.log", side(b"a"), None).removed
    link = log_wiped("/root/.bash_history", side(b"a"), LogSide("symlink", target="/dev/null"))
    assert link.linked_away and link.replaced and link.wiped
    assert log_wiped("/root/.bash_history", None, LogSide("symlink", target="/dev/null")).linked_away
    assert not log_wiped("/var/log/a.log", LogSide("symlink", target="/dev/stdout"), LogSide("file")).wiped


def test_lines_cut_out() -> None:
    found = held("/var/log/auth.log", b"a\nevil\nb\n", b"a\nb\nc\nd\ne\nf\n")
    assert found.lines_missing == 1 and found.rewritten and not found.shrank
    assert held("/var/log/auth.log", b"a\nevil\nb\n", b"a\nb\n").shrank


def test_a_cut_is_no_rotation_and_no_trimming() -> None:
    path, old = "/var/log/auth.log", b"".join(b"%d\n" % one for one in range(10))
    assert held(path, old, b"0\n1\n7\n8\n9\n").lines_cut == 5
    assert held(path, old, b"0\n1\n").lines_cut == 8, "its end"
    assert held(path, old, old.replace(b"5", b"other") + b"10\n").lines_cut == 1, "altered"
    assert held(path, old, old + b"10\n").lines_cut == 0
    assert held(path, old, b"5\n6\n7\n8\n9\n10\n").lines_cut == 0, "a log that keeps its last lines"
    assert held(path, old, b"new\n").lines_cut == 0, "rotated"
    assert held("/root/.bash_history", old, b"0\n").lines_cut == 0, "a shell keeps its last commands as it likes"


def test_holes() -> None:
    assert held("/var/log/a.log", b"", bytes(4096) + b"new\n").holes == 1
    assert held("/var/log/a.log", b"", b"a" + bytes(100) + b"b" + bytes(100)).holes == 2
    assert held("/var/log/a.log", b"", b"a" + bytes(10)).holes == 0
    assert held("/var/log/a.log.1.gz", b"", b"\x1f\x8b" + bytes(100)).holes == 0


@pytest.mark.parametrize("size", [384, 400])
def test_login_records(size: int) -> None:
    good = [record(1_700_000_000 + 90_000 * index, b"u%d" % index, size) for index in range(4)]
    before = b"".join(good)
    wiped = held("/var/log/wtmp", before, b"".join((good[0], bytes(size), good[2], good[3])))
    assert wiped.zeroed == 1 and wiped.lines_missing == 1 and wiped.rewritten and wiped.backwards == 0
    assert held("/var/log/wtmp", before, before[size:]).lines_missing == 1
    assert held("/var/log/wtmp", b"", b"".join((good[3], good[0]))).backwards == 1


def test_lastlog() -> None:
    row = struct.pack("<I", 1_700_000_000) + b"pts/0".ljust(288, b"\0")
    assert held("/var/log/lastlog", row + bytes(292), bytes(584)).zeroed == 1
    assert not held("/var/log/lastlog", bytes(584), row + bytes(292)).wiped


def test_a_part_is_said() -> None:
    found = log_wiped("/var/log/a.log", LogSide("file", 10**9, b"a\n"), LogSide("file", 10**9 - 1, b"a\n"))
    assert found.incomplete and found.shrank and found.lines_missing == 0


@settings(deadline=None)
@given(
    st.sampled_from(["/var/log/a.log", "/var/log/wtmp", "/var/log/lastlog", "/root/.bash_history"]),
    st.binary(max_size=900),
    st.binary(max_size=900),
)
def test_never_raises(path: str, before: bytes, after: bytes) -> None:
    found = held(path, before, before + after)
    assert not (found.emptied or found.shrank or found.rewritten or found.lines_missing)
    held(path, before, after)
