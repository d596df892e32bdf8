"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline an example measures how busy the machine is: what must be fast has a test that says so.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
if "IRKIT_EXAMPLES" in os.environ:  # make fuzz
    settings.register_profile("many", max_examples=int(os.environ["IRKIT_EXAMPLES"]), deadline=None)
    settings.load_profile("many")


@pytest.fixture(autouse=True)
def irkit_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own: no test touches the user's cases and keys."""
    folder = tmp_path / "irkit-home"
    monkeypatch.setenv("IRKIT_HOME", str(folder))
    return folder
