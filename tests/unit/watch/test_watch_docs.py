"""The shipped rules and those of the documentation are good; the page names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from irkit import documents, schemas
from irkit.cli.watch import command
from irkit.watch.metrics import COUNTERS, GAUGES, HISTOGRAM
from irkit.watch.rules import read_rules
from tests.fits import fits

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/watch.md").read_text()


def test_the_shipped_rules_are_good(tmp_path: Path) -> None:
    printed = CliRunner().invoke(command, ["--example"]).output
    assert printed == (ROOT / "irkit/watch/example.yaml").read_text()
    (tmp_path / "watch.yaml").write_text(printed)
    rules = read_rules(documents.parse(printed.encode(), "example"), "", tmp_path / "watch.yaml")
    assert [rule.asks for rule in rules.rules] == [True, False, False, True] and not rules.remarks[1:]
    fits(documents.parse(printed.encode(), "x").plain(), "watch")
    checked = CliRunner().invoke(command, ["--check", "--rules", str(tmp_path / "watch.yaml")], standalone_mode=False)
    assert checked.return_value == 0 and "UNASKED" in checked.output


def test_the_page_s_rules_are_good() -> None:
    text, *_ = re.findall(r"```yaml\n(apiVersion.*?)```", PAGE, re.DOTALL)
    read_rules(documents.parse(text.encode(), "docs"), "", Path("docs"))
    fits(documents.parse(text.encode(), "docs").plain(), "watch")


def test_the_page_names_every_decision_and_metric() -> None:
    for word in schemas.load("decision")["properties"]["decision"]["enum"]:
        if word not in (
            "watch-started",
            "watch-stopped",
            "reloaded",
            "reload-refused",
            "taken-up",
            "source-error",
            "planned",
        ):
            assert f"`{word}`" in PAGE, word
    for name in (*COUNTERS, *GAUGES, HISTOGRAM):
        if name != "irkit_watch_start_timestamp_seconds":
            assert name.removeprefix("irkit_watch") in PAGE, name
