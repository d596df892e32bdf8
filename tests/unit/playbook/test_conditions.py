"""Conditions: the grammar, three-valued logic, and whatever else somebody may write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.playbook.conditions import LENGTH_LIMIT, UNKNOWN, ConditionError, Unknown, parse

SCOPE: dict[str, Any] = {
    "vars": {"image": "shop/web:1", "count": 3, "dry": False, "ports": [80, 443], "nothing": None},
    "steps": {"seal-off": {"outcome": "succeeded"}},
    "proof": {"state": "proven", "reached": 0},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("vars.image == 'shop/web:1'", True), ('vars.image != "shop/web:1"', False), ("vars.count >= 3 and vars.count < 4", True),
        ("vars.count == 3.0", True), ("not vars.dry", True), ("not not vars.dry", False), ("vars.dry or proof.reached > 0", False),
        ("80 in vars.ports", True), ("vars.ports contains 22", False), ("'web' in vars.image", True),
        ("vars.image startswith 'shop/'", True), ("vars.image endswith ':2'", False),
        ("steps.seal-off.outcome in ['succeeded', 'degraded']", True), ("(true or false) and not (false)", True),
        ("vars.missing == 1", UNKNOWN), ("vars.nothing == 1", UNKNOWN), ("vars.count == '3'", UNKNOWN), ("vars.image < 3", UNKNOWN),
        ("vars.count", UNKNOWN), ("vars.dry == 0", UNKNOWN), ("not vars.missing", UNKNOWN),
        ("vars.missing and false", False), ("false and vars.missing", False), ("vars.missing or true", True), ("vars.missing or false", UNKNOWN),
        ("known(vars.image)", True), ("known(vars.missing)", False), ("known(vars.nothing)", False), ("not known(proof.x.y.z)", True),
        ("proof.state.deeper == 1", UNKNOWN), ("[] == []", True), ("1 in []", False), ("true in [1]", False),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert parse(text).decide(SCOPE) is value


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 0), ("vars.a ==", 9), ("vars.a = 1", 7), ("vars.a == 1 1", 12), ("(true", 5), ("true)", 4), ("known(1)", 7), ("known vars.a", 6),
        ("'open", 0), ("vars.a == \x00", 10), ("and true", 0), ("[1, vars.a]", 4), ("__import__('os')", 10), ("a;b", 1), ("1.2.3", 0),
    ],
)  # fmt: skip
def test_refused_with_its_place(text: str, column: int) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert caught.value.column == column, str(caught.value)


def test_limits() -> None:
    with pytest.raises(ConditionError, match="at most"):
        parse("true" + " " * LENGTH_LIMIT)
    with pytest.raises(ConditionError, match="deep"):
        parse("(" * 30 + "true" + ")" * 30)
    assert parse("not " * 200 + "true").decide({}) is True


WORDS = st.sampled_from(
    ["and", "or", "not", "in", "(", ")", "[", "]", ",", "==", "<", "known", "true", "false", "vars.count", "vars.x", "'a'", "1", "contains"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=40).map(" ".join)))
def test_anything_is_a_condition_or_an_error(text: str) -> None:
    try:
        condition = parse(text)
    except ConditionError as error:
        assert 0 <= error.column <= max(len(text), LENGTH_LIMIT)
        return
    assert condition.decide(SCOPE) in (True, False, UNKNOWN)
    list(condition.names())


TRUTHS = {"true": True, "false": False, "vars.missing": UNKNOWN}


def kleene(operator: str, left: object, right: object) -> object:
    """As in the textbook: unknown is a half, and is the least, or the greatest."""
    worth = {False: 0.0, True: 1.0}
    values = [0.5 if isinstance(one, Unknown) else worth[one] for one in (left, right)]  # type: ignore[index]
    found = min(values) if operator == "and" else max(values)
    return {0.0: False, 0.5: UNKNOWN, 1.0: True}[found]


@given(st.sampled_from(sorted(TRUTHS)), st.sampled_from(["and", "or"]), st.sampled_from(sorted(TRUTHS)))
def test_three_values(left: str, operator: str, right: str) -> None:
    assert parse(f"{left} {operator} {right}").decide(SCOPE) is kleene(operator, TRUTHS[left], TRUTHS[right])
