"""What another side shows as well is left out; a second one of the same text is not."""

from __future__ import annotations

from irkit.compare.known import Known
from irkit.models import Finding


def finding(subject: str, rule: str = "executed-into") -> Finding:
    return Finding(rule, "low", "T", "R", (), subject, "N", "process")


def left(known: list[str], found: list[str]) -> list[str]:
    return [one.subject for one in Known(map(finding, known)).without(map(finding, found))]


def test_nothing_known_leaves_all() -> None:
    assert left([], ["pid 1: /a", "pid 2: /a"]) == ["pid 1: /a", "pid 2: /a"]


def test_a_process_that_was_started_anew_is_known() -> None:
    assert left(["pid 1: /a"], ["pid 9: /a"]) == []
    assert left(["pid 1: /a", "pid 2: /a"], ["pid 9: /a"]) == []


def test_a_second_process_of_the_same_text_is_shown() -> None:
    assert left(["pid 1: /a"], ["pid 1: /a", "pid 9: /a"]) == ["pid 9: /a"]
    assert left(["pid 1: /a"], ["pid 8: /a", "pid 9: /a"]) == ["pid 8: /a", "pid 9: /a"], "nobody can tell which"
    assert left(["pid 1: /a", "pid 2: /a"], ["pid 1: /a", "pid 8: /a", "pid 9: /a"]) == ["pid 8: /a", "pid 9: /a"]


def test_another_rule_or_text_is_shown() -> None:
    known = Known([finding("pid 1: /a")])
    assert [one.rule for one in known.without([finding("pid 1: /a", "deleted-executable")])] == ["deleted-executable"]
    assert left(["pid 1: /a"], ["pid 1: /b"]) == ["pid 1: /b"]
