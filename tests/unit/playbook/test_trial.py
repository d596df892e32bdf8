"""Tests of playbooks: those that are here pass, and one that should not, does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from irkit.cli.main import cli
from irkit.errors import PlaybookInvalid, UsageProblem
from irkit.playbook.trial import load_trials, play

FILES = sorted((Path(__file__).parents[2] / "playbooks").glob("*.test.yaml"))
HEAD = "apiVersion: irkit/v1\nkind: PlaybookTest\nplaybook: contain\ntests:\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_pass(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path))
    playbook, trials = load_trials(path)
    for trial in trials:
        assert play(playbook, trial).problems == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("status: failed", "it succeeded, not failed"),
        ("exit_code: 3", "exit code 0, not 3"),
        ("steps: {freeze: failed}", "step freeze: succeeded, not failed"),
        ("order: [seal-off, freeze]", "the order was freeze"),
        ("calls: [remove]", "changing calls were pause"),
        ("no_calls: [pause]", "was asked to pause"),
        ("target: gone", "the target is frozen, not gone"),
    ],
)
def test_an_expectation_that_does_not_hold(tmp_path: Path, expect: str, problem: str) -> None:
    path = tmp_path / "x.test.yaml"
    path.write_text(HEAD + f"  - {{name: x, vars: {{profile: quick}}, expect: {{{expect}}}}}\n")
    playbook, (trial,) = load_trials(path)
    (found,) = play(playbook, trial).problems
    assert problem in found
    done = CliRunner().invoke(cli, ["playbook", "test", str(path)], standalone_mode=False)
    assert done.return_value == 3 and problem in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  - {name: x, expect: {state: x}}", r":5:\d+: unknown key 'state'"),
        ("  - {name: x, expect: {}, engine: [{fails: pauze}]}", "no call 'pauze'"),
        ("  - {name: x, expect: {}, approvals: {a: maybe}}", "must be one of approve, deny"),
        ("  []", "at least one test"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.test.yaml"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(PlaybookInvalid, match=message):
        load_trials(path)


def test_a_step_that_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.test.yaml"
    path.write_text(HEAD + "  - {name: x, expect: {steps: {freze: failed}}}\n")
    playbook, (trial,) = load_trials(path)
    with pytest.raises(UsageProblem, match="no step or action 'freze'"):
        play(playbook, trial)
