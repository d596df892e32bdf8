"""Fixtures for all tests."""

from __future__ import annotations

import gc
import itertools
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


_COUNT = itertools.count()


gc.disable()  # until all is collected, which makes a million objects that stay


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay until the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def irkit_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A home of the test's own: no test touches the user's cases and keys.

    It is in the test's folder where the test asks for one. Thousands don't, and folders of theirs take seconds to make and to remove.
    """
    if "tmp_path" in request.fixturenames:
        parent: Path = request.getfixturevalue("tmp_path")
        folder = parent / "irkit-home"
    else:
        folder = tmp_path_factory.getbasetemp() / f"irkit-home-{next(_COUNT)}"
    monkeypatch.setenv("IRKIT_HOME", str(folder))
    return folder
