"""A fake engine, and a watch with rules in a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irkit.engine.fake.engine import FakeEngine
from irkit.home import home
from irkit.watch.children import Children
from irkit.watch.service import Watch
from tests.unit.watch.watching import HEAD, RULE, TOLD, NoChildren


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine("shop/web:1", "shop/db:1")


@pytest.fixture
def watch_of(engine: FakeEngine, irkit_home: Path) -> Callable[..., Watch]:
    """A watch with some rules; its decisions are in ``told``."""

    def make(rules: str = RULE, *, children: Children | None = None, dry_only: bool = False) -> Watch:
        home().mkdir(exist_ok=True)
        (home() / "watch.yaml").write_text(HEAD + rules)
        told: list[Any] = []
        made = Watch.open(
            home() / "watch.yaml", engine, children or NoChildren(), lambda text: None, told.append, dry_only=dry_only
        )
        TOLD[id(made)] = told
        return made

    return make
