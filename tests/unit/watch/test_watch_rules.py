"""Rules: what fits, and what is refused, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irkit import documents
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import Container
from irkit.errors import PlaybookInvalid
from irkit.home import home
from irkit.watch.alert import Alert
from irkit.watch.model import Match, Rules
from irkit.watch.rules import load_rules, read_rules
from tests.fits import fits
from tests.unit.watch.watching import HEAD, container

ALERT = Alert(
    "falco", "Terminal shell in container", "warning", 1.0, 1.0, "a" * 12, "sha256:0", tags=("shell", "T1059")
)


def read(text: str) -> Rules:
    return read_rules(documents.parse((HEAD + text).encode(), "w.yaml"), "sha256:0", Path("w.yaml"))


def one(text: str) -> Any:
    return read("rules:\n  - {id: a, match: {rule: '*'}, playbook: contain, " + text + "}\n").rules[0]


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(), True),
        (Match(rules=("Terminal*", "x")), True),
        (Match(rules=("terminal*",)), False),
        (Match(priority="warning"), True),
        (Match(priority="notice"), True),
        (Match(priority="error"), False),
        (Match(tags=("shell",)), True),
        (Match(tags=("shell", "other")), False),
        (Match(sources=("events",)), False),
    ],
)
def test_what_an_alert_must_be_like(match: Match, fits: bool) -> None:
    assert match.alert(ALERT) is fits


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(containers=("web-*",)), True),
        (Match(containers=("db-*",)), False),
        (Match(images=("shop/*",)), True),
        (Match(images=("*:2",)), False),
        (Match(labels={"tier": "f*"}), True),
        (Match(labels={"tier": "back"}), False),
        (Match(labels={"none": "*"}), False),
    ],
)
def test_what_a_container_must_be_like(engine: FakeEngine, match: Match, fits: bool) -> None:
    found: Container = engine.container(container(engine, "web-1", tier="front"))
    assert match.container(found) is fits


def test_defaults_are_careful() -> None:
    rule = one("description: x")
    assert (
        rule.asks and rule.changes and rule.dry_run_first and rule.by == ("rule", "container") and rule.window == 3600
    )
    assert not one("approval: none").asks
    assert not read("rules: [{id: a, match: {rule: '*'}, playbook: evidence-only}]").rules[0].asks
    assert read("rules: [{id: a, match: {rule: '*'}, playbook: evidence-only}]").rate.runs == 20


def test_all_of_it_is_read_and_fits_the_schema() -> None:
    text = """
json: {container: a.b, rule: name, priority: level, time: t, message: m, tags: tags, priorities: {high: critical}, default_priority: notice}
rate: {runs: 5, per: 10m}
limits: {queue: 10, running: 1, max_age: 5m}
rules:
  - id: all
    description: everything
    match: {source: [falco, json], rule: ['a*', b], priority: error, tags: [x], container: 'web-*', image: ['shop/*'], labels: {tier: front}}
    when: fields.proc.name == 'sh' and container.labels.com.example.tier == 'x' and known(alert.tags)
    playbook: rebuild
    vars: {image: "${{ container.image }}"}
    dedup: {window: 2h, by: [alert, service]}
    rate: {runs: 1, per: 1d}
    min_healthy: {count: 2, by: 'label:tier', otherwise: refuse}
    dry_run_first: false
    approval: {by: [ann, bob], min: 2, timeout: 30m}
  - {id: two, match: {priority: error}, playbook: contain, min_healthy: 1, approval: none}
"""
    rules = read(text)
    rule = rules.rules[0]
    assert rule.approval.minimum == 2 and rule.approval.timeout == 1800 and rule.window == 7200
    assert rule.healthy is not None and rule.healthy.otherwise == "refuse" and rules.max_age == 300
    assert rules.rules[1].healthy is not None and rules.rules[1].healthy.by == "service"
    assert any("nobody is asked" in one for one in rules.remarks)
    fits(documents.parse((HEAD + text).encode(), "x").plain(), "watch")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("rules: []", "1 to 200", None),
        ("rulez: []", "unknown key 'rulez'", "'rules'"),
        ("rules: [{id: A, match: {rule: x}, playbook: contain}]", "'id' must be", None),
        ("rules: [{id: a, match: {rule: x}, playbok: contain}]", "unknown key 'playbok'", "'playbook'"),
        ("rules: [{id: a, match: {rule: x}, playbook: contian}]", "no playbook 'contian'", "contain"),
        ("rules: [{id: a, match: {}, playbook: contain}]", "at least one", None),
        ("rules: [{id: a, match: {rule: x, source: falcon}, playbook: contain}]", "'falcon' must be one of", "'falco'"),
        ("rules: [{id: a, match: {priority: high}, playbook: contain}]", "must be one of emergency", None),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain, vars: {profil: x}}]",
            "no variable 'profil'",
            "'profile'",
        ),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, vars: {profile: [a]}}]", "must be of type", None),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain, vars: {profile: 'x${{ alert.rule }}'}}]",
            "a whole value",
            None,
        ),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain, vars: {profile: '${{ alert.nam }}'}}]",
            "not known",
            None,
        ),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain, vars: {profile: '${{ vars.x }}'}}]",
            "a whole value",
            None,
        ),
        ("rules: [{id: a, match: {rule: x}, playbook: rebuild}]", "needs a value for 'image'", None),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain, when: 'field.x == 1'}]",
            "'field' is not known",
            "fields",
        ),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, when: 'alert.x =='}]", "no condition", None),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, dedup: {by: [pod]}}]", "'pod' must be one of", None),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, dedup: {window: 0s}}]", "length of time", None),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, dedup: {window: 31d}}]", "length of time", None),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, rate: {runs: 0}}]", "1 to", None),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain, min_healthy: {count: 1, by: pod}}]",
            "'by' must be",
            None,
        ),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, approval: maybe}]", "must be one of", None),
        ("rules: [{id: a, match: {rule: x}, playbook: contain, approval: {by: [ann], min: 2}}]", "only 1 may", None),
        (
            "rules: [{id: a, match: {rule: x}, playbook: contain}, {id: a, match: {rule: x}, playbook: contain}]",
            "two rules",
            None,
        ),
        ("rules: [{id: a, match: {rule: x, source: json}, playbook: contain}]", "how to read it", None),
        ("json: {container: x}\nrules: [{id: a, match: {rule: x}, playbook: contain}]", "'rule' is missing", None),
        ("rules: [{id: a, match: {rule: x}, playbook: ../no/such/file}]", "no such file", None),
    ],
)
def test_what_is_refused_and_where(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(PlaybookInvalid, match=rf"w\.yaml:\d+:\d+: .*{message}") as caught:
        read(text)
    assert hint is None or hint in str(caught.value.hint)


def test_a_playbook_beside_the_rules(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: x\nsteps: [{id: a, uses: container.freeze}]\n"
    )
    (tmp_path / "watch.yaml").write_text(HEAD + "rules: [{id: a, match: {rule: x}, playbook: ./own.yaml}]\n")
    assert load_rules(tmp_path / "watch.yaml").rules[0].playbook == tmp_path / "own.yaml"


def test_a_signature_is_required_where_the_operator_says_so(tmp_path: Path) -> None:
    home().mkdir()
    (home() / "config.yaml").write_text(
        "apiVersion: irkit/v1\nkind: Config\nplaybooks: {require_signature: true, shipped: require}\n"
    )
    with pytest.raises(PlaybookInvalid, match="signed by 0 of 1"):
        one("description: x")
