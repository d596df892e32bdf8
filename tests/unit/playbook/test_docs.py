"""The documentation's playbook is one."""

from __future__ import annotations

import re
from pathlib import Path

from irkit import documents
from irkit.playbook.lint import lint
from irkit.playbook.reader import read_playbook
from tests.fits import fits

PAGE = Path(__file__).parents[3] / "docs/playbooks.md"


def test_the_example_is_a_playbook_without_remarks() -> None:
    text, *_ = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    playbook = read_playbook(documents.parse(text.encode(), "docs"), "sha256:0", Path("docs"))
    assert [one.to_json() for one in lint(playbook)] == []
    fits(documents.parse(text.encode(), "docs").plain(), "playbook")
