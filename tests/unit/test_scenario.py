"""Scenario files: the shipped one, and what is refused."""

from __future__ import annotations

import pytest

from irkit import documents, resources
from irkit.compare.rules import read_rules, rule_files
from irkit.drill.scenario import CHECKS, KIND, Scenario, from_doc, load_scenario, score
from irkit.errors import PlaybookInvalid

SHIPPED = resources.shipped(KIND) / "first-light.yaml"


def changed(old: str, new: str) -> Scenario:
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    return from_doc(documents.parse(text.replace(old, new, 1).encode(), "s.yaml"))


def test_the_shipped_scenario_has_seven_facts_and_all_checks() -> None:
    scenario = load_scenario(SHIPPED)
    assert scenario.id == SHIPPED.stem
    assert len(scenario.simulations) == 7
    assert scenario.checks == CHECKS
    assert [one.id for one in scenario.simulations if one.detach] == ["listener"]


def test_every_truth_names_a_shipped_rule_of_its_technique() -> None:
    rules = {rule.id: rule for path in rule_files() for rule in read_rules(path)}
    for one in load_scenario(SHIPPED).simulations:
        assert one.technique in rules[one.truth.rule].attack, one.id


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: Scenario", "kind: Rules", "'kind' must be one of"),
        ("checks: [", "cheks: []\nchecks: [", "unknown key 'cheks'"),
        ("  port: 8080", "  port: 8080\n  ports: 1", "unknown key 'ports'"),
        ("    detach: true", "    detatch: true", "unknown key 'detatch'"),
        ("subject_contains: backup2", "subject_contain: backup2", "'subject_contains' is missing"),
        ("subject_contains: backup2", 'subject_contains: ""', "'subject_contains' is empty"),
        ("technique: T1105", "technique: T11", "not an ATT&CK technique id"),
        ("id: setuid-shell", "id: dropped-binary", "stands here twice"),
        ("id: setuid-shell", "id: ../x", "'id' must be"),
        ("run: [/bin/busybox, nc, -l, -p, \"4444\"]", "run: busybox nc", "'run' must be a list"),
        ("run: [/bin/busybox, nc, -l, -p, \"4444\"]", "run: []", "'run' is empty"),
        ("run: [/bin/busybox, nc, -l, -p, \"4444\"]", "run: [nc, 4444]", "'run' must be a list of texts"),
        ("container: irkit-drill-web", "container: web", "must begin with irkit-drill-"),
        ("port: 8080", "port: 0", "'port' must be from 1"),
        ("path: /\n", "path: index.html\n", "'path' must begin with /"),
        ("quarantine-proven, ", "quarantine-prooven, ", "unknown check 'quarantine-prooven'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(old: str, new: str, said: str) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        changed(old, new)
    assert said in caught.value.message
    assert caught.value.message.startswith("s.yaml:")


def test_score_wants_the_rule_and_the_subject() -> None:
    scenario = load_scenario(SHIPPED)
    findings = [
        {"rule": "setuid-file", "severity": "critical", "subject": "/usr/local/bin/.helper"},
        {"rule": "cron-entry", "severity": "high", "subject": "/etc/cron.d/other"},
        {"rule": "preload", "severity": "critical", "subject": "/dev/shm/.cache"},
    ]
    rows = score(scenario, findings)
    assert [row["id"] for row in rows if row["found"]] == ["setuid-shell"]
    assert len(rows) == 7
