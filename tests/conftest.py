"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def irkit_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own: no test touches the user's cases and keys."""
    folder = tmp_path / "irkit-home"
    monkeypatch.setenv("IRKIT_HOME", str(folder))
    return folder
