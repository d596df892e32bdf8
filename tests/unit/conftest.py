"""What goes for every unit test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import is_hypothesis_test

from irkit.quarantine import firewall


@pytest.fixture(autouse=True, scope="session")
def no_walls() -> Iterator[None]:
    """The machine's own firewall is none of a unit test's business, whoever runs it: nothing is ever loaded there."""

    def refuse(*_: object) -> str:
        raise AssertionError("a unit test would have changed the machine's firewall")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(firewall, "available", lambda: False)
        monkeypatch.setattr(firewall, "nft", refuse)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A quick test does not wait until the disk has its files: that it is asked for, of an open file, is what is left.

    The thorough tests, and those of the commands with a real engine, wait as a user does.
    """
    if item.get_closest_marker("thorough") is not None:
        return (yield)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", _asked)
        monkeypatch.setattr(os, "fdatasync", _asked)
        return (yield)


def _asked(file: int) -> None:
    os.fstat(file if isinstance(file, int) else file.fileno())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A property test is a thorough one: it is hundreds of tests."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("thorough")
