"""A context that needs no engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_playbook import Stub


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    made = Stub(tmp_path)
    made.run_folder = tmp_path / "run"  # type: ignore[attr-defined]
    made.run_folder.mkdir()  # type: ignore[attr-defined]
    made.said = []  # type: ignore[attr-defined]
    made.note = made.warn = made.said.append  # type: ignore[attr-defined]
    made.target.id, made.target.to_json = "abc", lambda: {"name": "web-1", "image": "shop/web:1"}
    return made
