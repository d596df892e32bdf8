"""The actions' declarations: whole, and the page that is made of them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from irkit.actions.registry import ACTIONS
from irkit.playbook import manual

PAGE = Path(__file__).parents[3] / "docs/actions.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text("utf-8") == manual.markdown(), "irkit playbook actions --markdown > docs/actions.md"


def test_declarations_are_whole() -> None:
    for action in ACTIONS.values():
        assert action.effect in ("read", "change", "destroy")
        assert not action.undo or action.undo in ACTIONS
        assert all(one.description for one in action.params), action.name
        assert len({one.name for one in action.params}) == len(action.params)


def test_every_action_leads_somewhere() -> None:
    for action in ACTIONS.values():
        cells = [cell.cell_contents for cell in action.run.__closure__ or ()]  # type: ignore[attr-defined]
        function, module = sorted(cells, key=lambda name: hasattr(import_module("irkit.actions"), name))
        found = [
            one for one in ((function, module), (module, function))
            if _has(one[0], one[1])
        ]  # fmt: skip
        assert found, action.name


def _has(module: str, function: str) -> bool:
    try:
        return callable(getattr(import_module(f"irkit.actions.{module}"), function))
    except (ImportError, AttributeError):
        return False
