"""Anything at all as a playbook, a test of one, a configuration or a condition: an error of irkit's, never anything else.

``make fuzz`` runs these with 20,000 examples each.
"""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irkit import documents
from irkit.actions.registry import ACTIONS
from irkit.config import read_config
from irkit.errors import IrkitError, PlaybookInvalid
from irkit.playbook.conditions import ConditionError, Unknown, parse
from irkit.playbook.lint import lint
from irkit.playbook.plan import dot, rows
from irkit.playbook.reader import read_playbook

WORDS = st.sampled_from(
    ["a", "b", "vars.x", "steps.a.outcome", "known(", "and", "or", "not", "in", "contains", "(", ")", "[", "]", ",", "==", "!=", "<", "1", "'t'", "true", "-", ".", "$", "\x00", "é"]
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "c", "A", "", "vars", "steps", "x" * 70, "run", "item"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NAMES
    | st.sampled_from(["${{ vars.x }}", "${{ a.b }}", "${{ item }}", "${{ x", "abort", "rollback", *sorted(ACTIONS)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8,
)  # fmt: skip
STEP_KEYS = [
    "id", "name", "uses", "with", "register", "on_failure", "when", "when_unknown", "needs", "timeout", "retry", "critical", "rollback",
    "approve", "refs", "foreach", "parallel", "include", "oops",
]  # fmt: skip
LIKELY: dict[str, Any] = {
    "id": NAMES, "uses": st.sampled_from(sorted(ACTIONS)), "when": st.lists(WORDS, max_size=8).map(" ".join), "needs": st.lists(NAMES, max_size=2),
    "timeout": st.integers(-1, 5), "foreach": st.lists(st.integers(), max_size=3), "include": st.sampled_from(["contain", "./x.yaml", "/etc/passwd", "../a"]),
    "with": st.dictionaries(st.sampled_from(["profile", "stage", "image", "argv", "message", "channel", "word"]), VALUES, max_size=3),
    "on_failure": st.sampled_from(["abort", "continue", "rollback", "goto"]) | st.builds(lambda to: {"goto": to}, NAMES),
}  # fmt: skip
STEPS = st.lists(st.sampled_from(STEP_KEYS), max_size=6, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries(
        {"id": NAMES, "uses": LIKELY["uses"], **{key: LIKELY.get(key, VALUES) | VALUES for key in keys}}
    )
)
BOOKS = st.fixed_dictionaries(
    {"apiVersion": st.just("irkit/v1"), "kind": st.just("Playbook"), "id": NAMES, "name": st.text(max_size=5), "steps": st.lists(STEPS, max_size=4) | VALUES},
    optional={
        "vars": st.dictionaries(NAMES, st.fixed_dictionaries({"type": st.sampled_from(["string", "list", "x"])}, optional={"default": VALUES, "choices": VALUES}), max_size=2),
        "preflight": VALUES, "finally": st.lists(STEPS, max_size=2), "on_exception": VALUES, "timeout": VALUES,
    },
)  # fmt: skip
slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@slow
@given(BOOKS)
def test_what_is_almost_a_playbook(book: Any) -> None:
    with contextlib.suppress(yaml.YAMLError):
        text = yaml.safe_dump(book, allow_unicode=True).encode("utf-8", "replace")
        with contextlib.suppress(PlaybookInvalid):
            playbook = read_playbook(documents.parse(text, "f.yaml"), "sha256:0", Path("f.yaml"))
            lint(playbook)
            bound = {var.name: var.default for var in playbook.vars.values()}
            assert len(rows(playbook, bound)) == len(playbook.every_step)
            assert dot(playbook, bound)


@slow
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(PlaybookInvalid):
        read_playbook(documents.parse(data, "f"), "", Path("f"))


@slow
@given(st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=200))
def test_any_condition(text: str) -> None:
    with contextlib.suppress(ConditionError):
        found = parse(text).decide({"vars": {"x": 1}, "a": {"b": "t"}, "steps": {"a": {"outcome": "failed"}}})
        assert isinstance(found, bool | Unknown)


@slow
@given(st.fixed_dictionaries({"apiVersion": st.just("irkit/v1"), "kind": st.just("Config")}, optional={
    "actions": VALUES, "notify": st.dictionaries(NAMES, st.fixed_dictionaries({"type": st.sampled_from(["webhook", "smtp", "syslog"])}, optional={"url": VALUES, "host": VALUES, "port": VALUES}), max_size=2),
    "playbooks": VALUES}))  # fmt: skip
def test_any_configuration(config: Any) -> None:
    with contextlib.suppress(yaml.YAMLError), contextlib.suppress(IrkitError):
        read_config(documents.parse(yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "replace"), "c"))


BILLION = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]" for n in range(20)
)


@pytest.mark.parametrize(
    "text",
    [
        BILLION,
        "[" * 100_000,
        "{a: " * 50_000,
        "a: " * 100_000,
        "? " * 100_000,
        "- " * 100_000,
        "a: !!python/object:os.system x",
        "x" * 600_000,
    ],
    ids=["billion laughs", "lists", "mappings", "keys", "questions", "items", "tag", "size"],
)
def test_bombs_are_refused_at_once_and_cost_little(text: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(PlaybookInvalid):
        read_playbook(documents.parse(text.encode(), "bomb"), "", Path("bomb"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 1024 * 1024 and time.monotonic() - begun < 10
