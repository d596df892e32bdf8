"""The shipped rules: tested by data, free of remarks, with current techniques; `irkit rules` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from irkit import documents, resources, schemas
from irkit.cli.rules import command
from irkit.compare.attack import TACTICS, load_techniques
from irkit.compare.rules import FOLDER, TEST_SUFFIX, Facts, evaluate, load_rules, rule_files
from irkit.compare.rules_lint import lint_files
from irkit.compare.rules_trial import read_trials, untested, verdicts
from irkit.compare.vocabulary import KINDS, markdown

RULES = load_rules()
TRIALS = [
    one for path in resources.every(FOLDER) if path.name.endswith(TEST_SUFFIX) for one in read_trials(path, RULES)
]
HEAD = "apiVersion: irkit/v1\nkind: Rules\nrules:\n"
OWN = (
    HEAD
    + "  - id: own\n    on: change\n    severity: high\n    title: T\n    attack: [T1562.001]\n    reason: R r r\n    next: N n n\n    where: {path: /x}\n"
)


def test_every_shipped_rule_has_a_match_and_a_near_miss() -> None:
    assert untested(RULES, TRIALS) == []


def test_all_tests_of_rules_hold() -> None:
    assert [row for row in verdicts(RULES, TRIALS) if not row["passed"]] == []


def test_a_rule_without_a_test_would_be_found() -> None:
    assert untested(RULES, [one for one in TRIALS if "preload" not in one.expect]) == ["preload"]
    broken = TRIALS[0].__class__(TRIALS[0].place, TRIALS[0].facts, (), TRIALS[0].expect)
    assert broken.problems(RULES) == [f"{TRIALS[0].expect[0]} fits and should not"]


def test_no_remarks_on_shipped_rules() -> None:
    rules, remarks = lint_files(list(rule_files()))
    assert remarks == []
    assert len(rules) > 100
    table = load_techniques()
    assert {name for one in rules for name in one.attack} <= set(table.techniques)


@pytest.mark.parametrize("path", list(rule_files()), ids=lambda path: path.stem)
def test_shipped_rules_fit_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(schemas.load("rules")).validate(documents.load(path)[0].plain())


def test_upgraded_packages_caches_and_bytecode_give_no_finding() -> None:
    for path, more in [
        ("/usr/bin/sudo", {"type": "elf", "executable": True, "setuid": True, "mode": 0o4755}),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", {"type": "elf", "older_than_image": True, "backdated": True}),
        ("/etc/init.d/cron", {"type": "script", "executable": True}),
        ("/etc/profile.d/x.sh", {"type": "text"}),
        ("/usr/lib/python3/dist-packages/x.pth", {"type": "text"}),
        ("/lib/x86_64-linux-gnu/security/pam_unix.so", {"type": "elf"}),
    ]:
        values = {
            "path": path, "name": path.rpartition("/")[2], "kind": "file", "content_changed": True, "package_state": "upgraded",
            "package_claimed": False, "times_changed": True, **more,
        }  # fmt: skip
        for change in ("added", "changed"):
            assert [one.rule for one in evaluate(RULES, Facts("change", path, {**values, "change": change}))] == []
    for path, kind in [
        ("/usr/lib/python3.11/__pycache__/a.pyc", "bytecode"),
        ("/var/cache/apt/pkgcache.bin", "data"),
        ("/var/log/app.log", "text"),
    ]:
        values = {
            "path": path,
            "name": path.rpartition("/")[2],
            "kind": "file",
            "change": "added",
            "type": kind,
            "log": "text",
            "package_state": "unowned",
        }
        assert list(evaluate(RULES, Facts("change", path, values))) == []


def test_the_table_of_techniques() -> None:
    table = load_techniques()
    assert table.version == "19.1"
    assert len(table.techniques) > 650
    assert table.current("T1562.001") == "T1685"
    assert table.current("T1070.002") == "T1685.006"
    assert table.current("T1547.006") == "T1547.006"
    assert table.current("T1086") == "T1059.001"
    assert table.current("T9999") == "T9999"
    assert not set(table.aliases) & set(table.techniques)
    assert {name for one in table.techniques.values() for name in one.tactics} <= set(TACTICS)


def test_the_page_has_the_vocabulary() -> None:
    page = (Path(__file__).parents[3] / "docs/rules.md").read_text()
    assert markdown().strip() in page, "docs/rules.md: put in what irkit.compare.vocabulary.markdown() gives"


def run(*argv: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, argv, standalone_mode=False)
    if done.exception:
        raise done.exception
    return int(done.return_value or 0), done.stdout


def test_list() -> None:
    code, text = run("list", "--json", "--attack", "T1562")
    document = json.loads(text)
    assert code == 0
    assert document["schema"] == "irkit.rules/v1"
    assert {"security-tool-removed", "log-wiped"} <= {one["id"] for one in document["rules"]}
    code, text = run("list", "--facts", "--on", "account", "--json")
    assert {row["on"] for row in json.loads(text)["facts"]} == {"entry"}
    code, text = run("list", "--on", "process")
    assert "deleted-executable" in text
    assert "setuid-file" not in text
    assert len(json.loads(run("list", "--facts", "--json")[1])["facts"]) == sum(map(len, KINDS.values()))


@pytest.mark.parametrize(
    ("old", "new", "check", "code"),
    [
        ("path: /x", "path: /x", "older-technique", 0),
        ("T1562.001", "T9999", "unknown-technique", 0),
        ("T1562.001", "T1064", "retired-technique", 0),
        ("reason: R r r", "reason: R", "short-reason", 0),
        ("{path: /x}", "{setuid: true, kind: symlink}", "never-fits", 3),
        ("{path: /x}", "{kind: file, any: [{kind: fifo}, {kind: char}]}", "never-fits", 3),
        ("{path: /x}", "{kind: file, not: {kind: [file, fifo]}}", "never-fits", 3),
        ("{path: /x}", "{path: /x/y, not: {path: '/x/*'}}", "never-fits", 3),
        ("{path: /x}", "{size: {min: 9, max: 3}}", "never-fits", 3),
        ("{path: /x}", "{path: tmp/x}", "relative-path", 0),
        ("{path: /x}", "{content: 'a*'}", "empty-pattern", 0),
        ("{path: /x}", "{pth: /x}", "unreadable", 3),
    ],
)
def test_lint(tmp_path: Path, old: str, new: str, check: str, code: int) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(old, new))
    found, text = run("lint", str(path), "--json")
    remarks = json.loads(text)["remarks"]
    assert check in [one["check"] for one in remarks]
    assert all(one["file"] == str(path) and one["line"] >= 4 for one in remarks)
    assert found == code


def test_lint_of_two_files_with_one_id(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(OWN)
    code, text = run("lint", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert code == 3
    assert "duplicate-id" in text


def test_lint_of_all_that_is_shipped() -> None:
    code, text = run("lint", "--strict", "--json")
    assert (code, json.loads(text)["remarks"]) == (0, [])


def test_test(tmp_path: Path) -> None:
    assert run("test", "--json")[0] == 0
    rules, tests = tmp_path / "own.yaml", tmp_path / "own.test.yaml"
    rules.write_text(OWN)
    body = "apiVersion: irkit/v1\nkind: RuleTests\ntests:\n  - {on: change, facts: {path: /x}, expect: [own]}\n"
    tests.write_text(body)
    assert run("test", str(tests), "--rules", str(rules))[0] == 0
    tests.write_text(body.replace("facts: {path: /x}", "facts: {path: /y}"))
    code, text = run("test", str(tests), "--rules", str(rules))
    assert code == 3
    assert "own should fit and does not" in text


def test_no_rule_asks_for_a_fact_outside_of_the_table() -> None:
    for kind in KINDS:
        assert RULES.asked(kind) <= set(KINDS[kind])
