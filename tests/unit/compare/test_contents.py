"""What is seen of a changed file's bytes, whose package it is, and what the verdicts make of both."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from irkit.compare import contents
from irkit.compare.content import EntryChange
from irkit.compare.contents import Content, Examiner, source_of
from irkit.compare.evidence import Evidence
from irkit.compare.ioc_formats import load_ioc
from irkit.compare.ownership import Ownership
from irkit.compare.packages import PackageChange
from irkit.compare.verdicts import Verdicts
from irkit.models import Change, Gap
from tests.unit.compare.sides import Made, facts, verdicts

ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(44)
"""An ELF header of 64-bit ARM."""
STATUS = b"Package: tool\nStatus: install ok installed\nVersion: %s\nArchitecture: amd64\n\n"
LIST = b"/.\n/usr\n/usr/bin\n/usr/bin/tool\n"
DPKG = "/var/lib/dpkg"


def examiner(made: Made, folder: Path, by: Verdicts | None = None, **more: Any) -> tuple[Examiner, list[Gap]]:
    gaps: list[Gap] = []
    return Examiner(made.at(folder / "b"), by or verdicts(), gaps, **more), gaps


def seen(data: bytes, folder: Path, path: str = "/x", **more: Any) -> Content:
    looks, _ = examiner(Made(**more), folder)
    return looks.look(Change(path, "added", None, facts(data)), io.BytesIO(data))


def test_kinds(tmp_path: Path) -> None:
    assert seen(b"#!/bin/sh\n", tmp_path / "1").values["interpreter"] == "sh"
    assert seen(b"", tmp_path / "2").values["type"] == "empty"
    found = seen(ELF, tmp_path / "3").values
    assert (found["type"], found["foreign"]) == ("elf", True)
    assert seen(ELF, tmp_path / "4", image={"Architecture": "arm64"}).values["foreign"] is False
    assert seen(ELF, tmp_path / "5", image={}).values["foreign"] is False
    assert seen(b"<?php 1;", tmp_path / "6", "/var/www/a.php").values["web_root"] is True


def test_texts_are_held_against_the_image_s(tmp_path: Path) -> None:
    made = Made().change("/etc/x", b"a\nb\n", b"a\nc\n")
    change = made.changes[0][0]
    looks, _ = examiner(made, tmp_path, verdicts("r change low {content: c}"), diffs=True)
    found = looks.look(change, io.BytesIO(b"a\nc\n"), ("md5",))
    assert (found.values["added_lines"], found.values["removed_lines"], found.values["content"]) == (
        ("c",),
        ("b",),
        "a\nc\n",
    )
    assert found.digests == {name: hashlib.new(name, b"a\nc\n").hexdigest() for name in ("md5", "sha256")}
    assert found.diff is not None and {"-b", "+c"} <= set(found.diff.lines)
    unread = looks.look(change, None)
    assert "added_lines" not in unread.values and not unread.digests and unread.diff is None


def test_a_text_whose_old_bytes_are_not_known_is_not_called_new(tmp_path: Path) -> None:
    looks, _ = examiner(Made(), tmp_path, diffs=True)
    found = looks.look(Change("/etc/passwd", "changed", facts(b"old"), facts(b"new\n")), io.BytesIO(b"new\n"))
    assert "added_lines" not in found.values and not found.entries and found.diff is None


def test_a_deleted_text(tmp_path: Path) -> None:
    made = Made().delete("/etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    looks, _ = examiner(made, tmp_path, diffs=True)
    found = looks.look(made.changes[0][0], None)
    assert [one.change for one in found.entries] == ["removed"] and found.diff is not None


def test_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is digested and searched; only the beginning is held."""
    monkeypatch.setattr(contents, "BLOCK", 8)
    monkeypatch.setattr(contents, "WHOLE", 24)
    monkeypatch.setattr(contents, "TEXT", 16)
    data = b"text " * 20
    found = seen(data, tmp_path)
    assert found.digests["sha256"] == hashlib.sha256(data).hexdigest() and "content" in found.values
    read = contents._read(io.BytesIO(data), (), lambda _: None)
    assert (read.data, read.size, read.long) == (data[:24], len(data), None)


def test_logs(tmp_path: Path) -> None:
    made = Made().change("/var/log/auth.log", b"one\ntwo\n", b"")
    looks, _ = examiner(made, tmp_path)
    found = looks.look(made.changes[0][0], io.BytesIO(b"")).values
    assert (found["log"], found["log_emptied"]) == ("text", True)


def test_indicators(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(f"{hashlib.md5(b'x', usedforsecurity=False).hexdigest()}\n10.9.8.7\n")
    made = Made().add("/srv/t", b"connect 10.9.8.7\n")
    by = verdicts(lists=load_ioc([path]))
    looks, _ = examiner(made, tmp_path, by)
    (shown,) = looks.look(made.changes[0][0], io.BytesIO(b"connect 10.9.8.7\n")).values["ioc"]  # type: ignore[misc]
    assert "10.9.8.7" in str(shown)
    found = looks.look(made.changes[0][0], io.BytesIO(b"x"), ("md5",)).values["ioc"]
    assert len(found) == 1  # type: ignore[arg-type]
    assert len(by.addresses("10.9.8.7", "", "10.9.8.8")) == 1 and verdicts().addresses("10.9.8.7") == ()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/l/__pycache__/x.cpython-311.pyc", "/l/x.py"), ("/l/__pycache__/x.cpython-311.opt-2.pyc", "/l/x.py"), ("/l/x.pyc", ""),
        ("/l/__pycache__/x.py", ""), ("/l/__pycache__/x.pyc", ""),
    ],
)  # fmt: skip
def test_source_of(path: str, source: str) -> None:
    assert source_of(path) == source


def packaged(made: Made, tool: bytes, version: bytes = b"1") -> Made:
    """With dpkg's database in the image."""
    sums = hashlib.md5(tool, usedforsecurity=False).hexdigest().encode() + b"  usr/bin/tool\n"
    made.originals = {
        **made.originals, f"{DPKG}/status": STATUS % version, f"{DPKG}/info/tool.list": LIST, f"{DPKG}/info/tool.md5sums": sums,
    }  # fmt: skip
    return made


def judged(side: Evidence, change: Change, data: bytes) -> tuple[Ownership, dict[str, Any]]:
    own = Ownership.of(side)
    digests = {name: hashlib.new(name, data).hexdigest() for name in (*own.algorithms(change), "sha256")}
    return own, dict(own.judge(change, Content(digests=digests)))


def test_whose_file_it_is(tmp_path: Path) -> None:
    made = packaged(
        Made().change("/usr/bin/tool", b"tool", b"evil").add("/opt/copy", b"tool").add("/opt/own", b"own"), b"tool"
    )
    side = made.at(tmp_path / "b")
    own, altered = judged(side, made.changes[0][0], b"evil")
    assert (altered["package"], altered["package_state"]) == ("tool", "altered") and own.changes() == []
    assert (
        judged(side, Change("/usr/bin/tool", "changed", facts(b"x"), facts(b"tool")), b"tool")[1]["package_state"]
        == "intact"
    )
    assert judged(side, made.changes[1][0], b"tool")[1]["copy_of"] == "/usr/bin/tool"
    assert judged(side, made.changes[2][0], b"own")[1] == {"package_state": "unowned", "package_claimed": False}
    assert own.algorithms(made.changes[0][0]) == {"md5"}
    assert list(own.gaps()) == []


def test_a_package_that_was_made_up_hides_no_copy(tmp_path: Path) -> None:
    """Who can write the database can give a program a package that the image does not have."""
    digest = hashlib.md5(b"tool").hexdigest()
    made = packaged(Made().add("/usr/bin/foo", b"tool"), b"tool")
    status = STATUS % b"1" + STATUS.replace(b"tool", b"foo") % b"1"
    made.change(f"{DPKG}/status", STATUS % b"1", status)
    made.add(f"{DPKG}/info/foo.list", b"/.\n/usr/bin/foo\n")
    made.add(f"{DPKG}/info/foo.md5sums", f"{digest}  usr/bin/foo\n".encode())
    values = judged(made.at(tmp_path / "b"), made.changes[0][0], b"tool")[1]
    assert (values["package_state"], values["package"], values["copy_of"]) == ("upgraded", "foo", "/usr/bin/tool")


def test_a_copy_in_tmpfs(tmp_path: Path) -> None:
    made = packaged(Made().add("/dev/shm/t", b"tool", origin="tmpfs"), b"tool")
    assert judged(made.at(tmp_path / "b"), made.changes[0][0], b"tool")[1] == {"copy_of": "/usr/bin/tool"}


def test_what_was_upgraded(tmp_path: Path) -> None:
    """The container's own database is read where it was changed, and only then."""
    made = (
        packaged(Made(), b"tool")
        .change("/usr/bin/tool", b"tool", b"tool 2")
        .change(f"{DPKG}/status", STATUS % b"1", STATUS % b"2")
    )
    sums = hashlib.md5(b"tool 2", usedforsecurity=False).hexdigest().encode() + b"  usr/bin/tool\n"
    made.change(f"{DPKG}/info/tool.md5sums", made.originals[f"{DPKG}/info/tool.md5sums"], sums)
    own, found = judged(made.at(tmp_path / "b"), made.changes[0][0], b"tool 2")
    assert found["package_state"] == "upgraded"
    assert [(one.name, one.change, one.before, one.version) for one in own.changes()] == [
        ("tool", "upgraded", "1", "2")
    ]


def test_without_packages_nothing_is_said(tmp_path: Path) -> None:
    made = Made().add("/opt/x", b"x")
    own, found = judged(made.at(tmp_path / "b"), made.changes[0][0], b"x")
    assert found == {} and own.algorithms(made.changes[0][0]) == frozenset()


def test_verdicts_of_entries_and_packages() -> None:
    by = verdicts(
        "e entry low {file: cron, path: /etc/crontab, subject: s}\np package low {name: tool, change: downgraded}"
    )
    entry = EntryChange("cron", "added", "s", {"file": "passwd", "path": "/forged"}, 3)
    assert [one.subject for one in by.entry("/etc/crontab", entry)] == ["s in /etc/crontab:3"]
    assert [one.subject for one in by.entry("/etc/crontab", EntryChange("cron", "added", "s", {}, 0))] == [
        "s in /etc/crontab"
    ]
    assert list(by.entry("/elsewhere", entry)) == []
    change = PackageChange("downgraded", "dpkg", "tool", "1", "2", "amd64", "")
    assert [one.subject for one in by.package(change)] == ["tool (dpkg)"]


def test_verdicts_load_says_what_it_can_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path))
    path = tmp_path / "list"
    path.write_text("not an indicator at all\n10.9.8.7\n")
    found = Verdicts.load([path], yara=False)
    assert found.yara is None and len(found.rules) > 50 and found.noise.groups
    assert [one.collector for one in found.gaps] == ["comparison"] and "not used" in found.gaps[0].why
