"""What goes for every unit test."""

from __future__ import annotations

import pytest

from irkit.quarantine import firewall


@pytest.fixture(autouse=True)
def no_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own firewall is none of a unit test's business, whoever runs it: nothing is ever loaded there."""

    def refuse(*_: object) -> str:
        raise AssertionError("a unit test would have changed the machine's firewall")

    monkeypatch.setattr(firewall, "available", lambda: False)
    monkeypatch.setattr(firewall, "_nft", refuse)
