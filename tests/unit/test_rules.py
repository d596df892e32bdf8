"""Rules: the shipped ones match what they should, and bad ones are refused with their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irkit.compare.describe import About, Moment, change_values
from irkit.compare.rules import Facts, evaluate, load_rules, read_rules
from irkit.errors import PlaybookInvalid
from irkit.home import home
from irkit.models import SEVERITIES, Change, FileFacts

PLAIN = FileFacts("file", 0o644, 0, 0, 5, sha256="a" * 64)
SETUID = replace(PLAIN, mode=0o4755)


def hits(kind: str, facts: dict[str, Any]) -> set[str]:
    return {finding.rule for finding in evaluate(load_rules(), Facts(kind, "x", facts))}


def change_hits(path: str, before: FileFacts | None, after: FileFacts | None, origin: str = "layer") -> set[str]:
    word = "added" if before is None else "deleted" if after is None else "changed"
    return hits(
        "change", change_values(Change(path, word, before, after, origin), Moment(), About(), None, frozenset())
    )


def test_shipped() -> None:
    rules = load_rules()
    assert len({rule.id for rule in rules}) == len(rules) >= 10
    assert all(rule.severity in SEVERITIES and rule.reason and rule.next and rule.title for rule in rules)


@pytest.mark.parametrize(
    ("path", "before", "after", "origin", "rule"),
    [
        ("/usr/bin/x", None, SETUID, "layer", "setuid-file"),
        ("/usr/bin/x", None, replace(PLAIN, mode=0o2755), "layer", "setuid-file"),
        ("/usr/bin/x", PLAIN, SETUID, "layer", "setuid-file"),
        ("/usr/bin/su", SETUID, replace(SETUID, sha256="b" * 64), "layer", "setuid-file"),
        ("/etc/cron.d/x", None, PLAIN, "layer", "cron-entry"),
        ("/etc/crontab", PLAIN, PLAIN, "layer", "cron-entry"),
        ("/var/spool/cron/crontabs/root", None, PLAIN, "layer", "cron-entry"),
        ("/etc/ld.so.preload", None, PLAIN, "layer", "preload"),
        ("/root/.ssh/authorized_keys", None, PLAIN, "layer", "authorized-keys"),
        ("/tmp/x", None, replace(PLAIN, mode=0o755), "layer", "dropped-executable"),
        ("/tmp/a\nb", None, replace(PLAIN, mode=0o755), "layer", "dropped-executable"),
        ("/tmp/\udcff", None, replace(PLAIN, mode=0o100), "layer", "dropped-executable"),
        ("/dev/shm/x", None, PLAIN, "tmpfs", "tmpfs-payload"),
    ],
)
def test_changes_that_match(path: str, before: FileFacts | None, after: FileFacts, origin: str, rule: str) -> None:
    assert rule in change_hits(path, before, after, origin)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/usr/bin/x", None, PLAIN),
        ("/usr/bin/su", SETUID, replace(SETUID, mtime_ns=1)),
        ("/usr/bin/su", SETUID, None),
        ("/srv", None, FileFacts("directory", 0o2755, 0, 0, 0)),
        ("/tmp/x", None, PLAIN),
        ("/srv/etc/cron.d/x", None, PLAIN),
        ("/etc/ld.so.preload", PLAIN, None),
        ("/etc/ld.so.preload.bak", None, PLAIN),
        ("/x", None, FileFacts("symlink", 0o777, 0, 0, 5, target="/bin/su")),
    ],
)
def test_changes_that_do_not_match(path: str, before: FileFacts | None, after: FileFacts | None) -> None:
    assert change_hits(path, before, after) == set()


def test_processes_sockets_accounts() -> None:
    assert hits("process", {"deleted": True, "memory": False, "path": "/x"}) == {"deleted-executable"}
    assert hits("process", {"deleted": False, "memory": True, "path": "/x"}) == {"memory-executable"}
    assert hits("process", {"deleted": False, "memory": False, "path": "/x"}) == set()
    assert hits("socket", {"listening": True, "exposed": False, "protocol": "tcp"}) == {"unannounced-listener"}
    assert hits("socket", {"listening": True, "exposed": True, "protocol": "tcp"}) == set()
    assert hits("entry", {"file": "passwd", "uid0": True, "change": "added"}) == {"uid0-account"}
    assert hits("entry", {"file": "passwd", "uid0": False, "change": "added"}) == set()


GOOD = "apiVersion: irkit/v1\nkind: Rules\nrules:\n  - id: own\n    on: change\n    severity: high\n    title: T\n    reason: R\n    next: N\n    where: {path: /x}\n"


def test_own_rules_are_read(tmp_path: Path) -> None:
    folder = home() / "forensics/rules"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(GOOD)
    assert load_rules()[0].id == "own"
    assert change_hits("/x", None, PLAIN) == {"own"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("on: change", "on: chnge", "'on' must be one of"),
        ("severity: high", "severity: extreme", "'severity' must be one of"),
        ("where: {path: /x}", "where: {}", "needs a condition"),
        ("where: {path: /x}", "where: {paths: /x, path: /x}", "unknown key 'paths'"),
        ("where: {path: /x}", "where: {path: /x, deleted: true}", "unknown key 'deleted'"),
        ("where: {path: /x}", "where: {path: [1]}", "list of texts"),
        ("where: {path: /x}", "where: {setuid: yes}", "'setuid' must be true or false"),
        ("title: T", "titel: T", "'title' is missing"),
        ("title: T", "title: T\n    attack: [T1]", "not an ATT&CK technique id"),
        ("kind: Rules", "kind: Rule", "'kind' must be one of"),
        ("rules:", "extra: 1\nrules:", "unknown key 'extra'"),
    ],
)
def test_bad_rules_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(PlaybookInvalid) as caught:
        list(read_rules(path))
    assert said in caught.value.message
    assert caught.value.message.startswith(f"{path}:")


def test_rules_are_read_once_and_anew_when_there_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path))
    shipped = load_rules()
    assert load_rules() is shipped
    folder = tmp_path / "forensics" / "rules"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(
        "apiVersion: irkit/v1\nkind: Rules\nrules:\n  - id: own-rule\n    on: change\n    severity: low\n    title: t\n"
        "    reason: r\n    attack: [T1036]\n    next: n\n    where: {path: /own}\n"
    )
    assert len(load_rules()) == len(shipped) + 1
