"""A plan says what would run, as rows and as a graph that Graphviz could read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from irkit import documents, resources
from irkit.cli.main import cli
from irkit.playbook.plan import NOT_YET, dot, rows
from irkit.playbook.reader import read_playbook
from tests.unit.test_playbook import HEAD

TEXT = HEAD + (
    "vars: {m: {type: string, default: a}}\nsteps:\n"
    "  - {id: x, uses: container.freeze, when: vars.m == 'a', on_failure: {goto: z}}\n"
    "  - {id: y, uses: acquire.logs, when: vars.m == 'b'}\n"
    "  - {id: z, name: say 'hi', uses: acquire.logs, when: steps.x.outcome == 'failed', needs: x}\n"
    "finally:\n  - {id: s, uses: evidence.seal}\n"
)


def test_rows_and_graph() -> None:
    playbook = read_playbook(documents.parse(TEXT.encode(), "p"), "sha256:0", Path("p"))
    found = rows(playbook, {"m": "a"})
    assert [row["runs"] for row in found] == ["yes", "no", NOT_YET, "yes"]
    assert [row["part"] for row in found] == ["steps", "steps", "steps", "finally"] and found[0]["on_failure"] == "z"
    graph = dot(playbook, {"m": "a"})
    assert '"x" -> "z" [style=dashed, label="on failure"];' in graph and '"x" -> "z" [style=dotted' in graph
    assert graph.count("{") == graph.count("}")


def test_what_runs_at_the_same_time_is_drawn_so() -> None:
    text = HEAD + (
        "steps:\n  - {id: a, uses: wait_for}\n  - {id: p, parallel: [{id: x, uses: wait_for}, {id: y, uses: acquire.logs}]}\n  - {id: b, uses: evidence.seal}\n"
        "on_exception: [{id: e, uses: wait_for}]\nfinally: [{id: f, uses: wait_for}, {id: g, uses: wait_for}]\n"
    )
    playbook = read_playbook(documents.parse(text.encode(), "p"), "sha256:0", Path("p"))
    edges = {
        tuple(line.strip(" ;").split(" [")[0].replace('"', "").split(" -> "))
        for line in dot(playbook, {}).splitlines()
        if " -> " in line
    }
    assert edges == {("a", "x"), ("a", "y"), ("x", "b"), ("y", "b"), ("b", "e"), ("b", "f"), ("f", "g")}


@pytest.mark.parametrize("path", sorted(resources.shipped("playbooks").glob("*.yaml")), ids=lambda path: path.stem)
def test_of_every_shipped_one(path: Path) -> None:
    more = ["--var", "image=x"] if path.stem.startswith(("rebuild", "failover", "update-service")) else []
    more += ["--var", "source=x"] if path.stem == "restore" else []
    for option in ([], ["--json"], ["--dot"]):
        done = CliRunner().invoke(cli, ["playbook", "plan", path.stem, *more, *option], standalone_mode=False)
        assert done.exception is None and done.output, done.exception
