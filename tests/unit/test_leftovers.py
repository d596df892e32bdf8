"""`irkit release --leftovers` says of what is gone that it was removed, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from irkit.cli import release
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import NetworkSpec
from irkit.errors import EngineError, ExitCode
from irkit.quarantine import firewall
from irkit.quarantine.seal import LABEL, QUARANTINE, ROLE
from tests.contract.stage import IMAGE


def test_what_could_not_be_removed_is_not_told_as_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeEngine(IMAGE)
    for case in ("case-a", "case-b"):
        fake.create_network(NetworkSpec(f"irkit-{case}", True, {}, {LABEL: case, ROLE: QUARANTINE}))
    fake.fail("remove_network", EngineError("it is busy"))
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path))
    monkeypatch.setattr(release, "open_engine", lambda _: fake)
    monkeypatch.setattr(firewall, "available", lambda: False)
    assert release._clear(None, False, False) == ExitCode.GAPS
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "could not remove all of what was left of case-a",
        "removed what was left of case-b",
    ]
    assert "it is busy" in told.err
    assert [one.labels[LABEL] for one in fake.networks(LABEL)] == ["case-a"]
