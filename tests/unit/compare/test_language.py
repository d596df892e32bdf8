"""The language of rules: conditions, patterns, the index, and errors with their places."""

from __future__ import annotations

import fnmatch
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit import documents, resources, schemas
from irkit.compare import noise, rules_schema, vocabulary
from irkit.compare.patterns import BadPattern, Regex, any_of, fixed, glob
from irkit.compare.rules import FOLDER, TEST_SUFFIX, Facts, RuleSet, Timings, evaluate, load_rules, read_rules, rules_of
from irkit.compare.vocabulary import KINDS
from irkit.errors import PlaybookInvalid

HEAD = "apiVersion: irkit/v1\nkind: Rules\nrules:\n"


def rule(where: str, on: str = "change", number: int = 0, more: str = "") -> str:
    return f"  - id: r{number}\n    on: {on}\n    severity: high\n    title: T\n    reason: R\n    next: N\n    where: {where}\n{more}"


def fits(where: str, facts: dict[str, Any], on: str = "change") -> bool:
    rules = RuleSet(rules_of(documents.parse((HEAD + rule(where, on)).encode(), "r.yaml"), True))
    kind = vocabulary.ALIASES.get(on, (on, ""))[0]
    return bool(list(evaluate(rules, Facts(kind, "x", facts))))


@pytest.mark.parametrize(
    ("where", "facts", "yes"),
    [
        ("{setuid: true}", {"setuid": True}, True),
        ("{setuid: true}", {}, False),
        ("{setuid: false, kind: file}", {"kind": "file"}, True),
        ("{kind: [file, fifo]}", {"kind": "fifo"}, True),
        ("{kind: [file, fifo]}", {"kind": "char"}, False),
        ("{uid: 0}", {"uid": 0}, True),
        ("{uid: 0}", {}, False),
        ("{size: {min: 10, max: 20}}", {"size": 20}, True),
        ("{size: {min: 10, max: 20}}", {"size": 21}, False),
        ("{size: [1, 3]}", {"size": 3}, True),
        ('{path: ["/etc/cron*"]}', {"path": "/etc/cron.d/a/b"}, True),
        ('{path: "/etc/cron*"}', {"path": "/srv/etc/cron.d"}, False),
        ('{path: {regex: "^/etc/(a|b)$"}}', {"path": "/etc/b"}, True),
        ('{capabilities: "cap_sys_*"}', {"capabilities": ("cap_chown", "cap_sys_admin")}, True),
        ('{capabilities: "cap_sys_*"}', {"capabilities": ("cap_chown",)}, False),
        ('{capabilities: "*"}', {"capabilities": ()}, False),
        ("{only: owner}", {"only": ("owner",)}, True),
        ("{only: owner}", {"only": ("owner", "mode")}, False),
        ("{only: [mode, owner]}", {"only": ("owner", "mode")}, True),
        ('{added_lines: "^a.c$"}', {"added_lines": ("xyz", "abc")}, True),
        ('{added_lines: "^a.c$"}', {"added_lines": ("xabc",)}, False),
        ('{added_lines: "a[^q]*c"}', {"added_lines": ("a", "c")}, False),
        ('{content: "(?i)^hello"}', {"content": "x\nHELLO"}, True),
        ("{kind: file, not: {package_state: [intact, upgraded]}}", {"kind": "file"}, True),
        ("{kind: file, not: {package_state: [intact, upgraded]}}", {"kind": "file", "package_state": "intact"}, False),
        ("{kind: file, not: [{setuid: true}, {uid: 0}]}", {"kind": "file", "uid": 0}, False),
        ("{any: [{setuid: true}, {kind: fifo}]}", {"kind": "fifo"}, True),
        ("{any: [{setuid: true}, {kind: fifo}]}", {"kind": "file"}, False),
        ("{kind: file, any: [{uid: 0, not: {gid: 0}}, {gid: 5}]}", {"kind": "file", "uid": 0, "gid": 0}, False),
        ("{kind: file, any: [{uid: 0, not: {gid: 0}}, {gid: 5}]}", {"kind": "file", "gid": 5}, True),
    ],
)
def test_conditions(where: str, facts: dict[str, Any], yes: bool) -> None:
    assert fits(where, facts) is yes


def test_account_is_an_entry_of_passwd() -> None:
    assert fits("{uid0: true}", {"file": "passwd", "uid0": True}, "account")
    assert not fits("{uid0: true}", {"file": "group", "uid0": True}, "account")


@pytest.mark.parametrize(
    ("where", "said", "hint"),
    [
        ("{pth: /x}", "3:12: unknown key 'pth'", "did you mean 'path'?"),
        ("{kind: files}", "'kind' is never 'files'", "did you mean 'file'?"),
        ("{size: {}}", "needs min, max or both", None),
        ("{size: big}", "'size' must be a whole number", None),
        ('{added_lines: "(?=x)"}', "is no pattern that can be used", "RE2"),
        ('{path: {regexp: "x"}}', "'regex' is missing", None),
        ("{any: []}", "'any' needs 1 to 200 sets", None),
        ("{path: []}", "'path' needs 1 to 200 values", None),
        ("{any: [{pth: x}]}", "unknown key 'pth'", None),
        ("{not: {}}", "needs a condition", None),
    ],
)
def test_errors_have_a_place(where: str, said: str, hint: str | None) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        fits(where, {})
    said = said.removeprefix("3:12: ")
    assert said in caught.value.message
    assert caught.value.message.startswith("r.yaml:")
    assert caught.value.message.split(":")[1].isdigit()
    if hint:
        assert hint in (caught.value.hint or "")


def test_an_id_twice_and_empty_words_are_refused() -> None:
    for text, said in [
        (rule("{uid: 0}") * 2, "twice"),
        (rule("{uid: 0}").replace("title: T", "title: ' '"), "is empty"),
    ]:
        with pytest.raises(PlaybookInvalid, match=said):
            list(rules_of(documents.parse((HEAD + text).encode(), "r.yaml"), True))


def test_older_technique_ids_become_current_ones(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(HEAD + rule("{uid: 0}", more="    attack: [T1562.001, T1685, T1053.003]\n"))
    (one,) = read_rules(path)
    assert one.attack == ("T1685", "T1053.003")
    assert one.older == ("T1562.001",)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab/*?[]!-."), max_size=12), st.text(st.sampled_from("ab/.-]["), max_size=10))
def test_globs_are_fnmatch_s(pattern: str, text: str) -> None:
    expected = fnmatch.fnmatchcase(text, pattern)
    assert (glob(pattern).fullmatch(text) is not None) is expected
    head, tail = fixed(pattern)
    assert not expected or (text.startswith(head) and text.endswith(tail))
    if pattern:
        quoted = pattern.replace("'", "''")
        assert fits(f"{{target: '{quoted}'}}", {"target": text}) is (expected and bool(text)) or not text


def test_no_pattern_blows_up() -> None:
    start = time.perf_counter()
    assert not Regex("(a+)+$").search("a" * 200_000 + "b")
    assert not Regex("(x+x+)+y").search("x" * 200_000)
    assert time.perf_counter() - start < 5
    for source in ("(a{1000}){1000}", "a" * 5000, "(", r"(a)\1", "a)(b"):
        with pytest.raises(BadPattern):
            Regex(source)


def test_bytes_and_half_surrogates_do_no_harm() -> None:
    assert Regex("a").search("\udcffa")
    assert Regex("a").search("\ud800a")
    assert Regex("é").search("café")


WORDS = st.sampled_from(
    ["/etc/cron.d/x", "/tmp/a.php", "/a/.ssh/authorized_keys", "x", "", "/tmp/\udcff", "xmrig-1", "...", "/usr/bin/id"]
)


def value(fact: vocabulary.Fact) -> st.SearchStrategy[Any]:
    text = st.sampled_from(fact.words) if fact.words else WORDS
    return {
        vocabulary.FLAG: st.booleans(),
        vocabulary.NUMBER: st.integers(-1, 5000),
        vocabulary.TEXTS: st.lists(text, max_size=3).map(tuple),
        vocabulary.EXACT: st.lists(text, max_size=2).map(tuple),
        vocabulary.REGEX: st.lists(WORDS, max_size=3).map(tuple),
    }.get(fact.type, text)


@st.composite
def things(draw: st.DrawFn) -> Facts:
    kind = draw(st.sampled_from(sorted(KINDS)))
    names = draw(st.lists(st.sampled_from(sorted(KINDS[kind])), max_size=12, unique=True))
    return Facts(kind, "x", {name: draw(value(KINDS[kind][name])) for name in names})


SHIPPED = load_rules()


@settings(max_examples=150, deadline=None)
@given(things())
def test_the_index_loses_nothing(facts: Facts) -> None:
    slow = [one.id for one in SHIPPED if one.on == facts.kind and one.where.test()(facts.values)]
    assert [one.id for one in SHIPPED.matching(facts)] == slow


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from(sorted({name for facts in KINDS.values() for name in facts})),
        st.one_of(
            st.text(max_size=20), st.integers(), st.booleans(), st.lists(st.text(max_size=5), max_size=3).map(tuple)
        ),
    ),
)
def test_facts_of_wrong_types_never_raise(kind: str, values: dict[str, Any]) -> None:
    list(evaluate(SHIPPED, Facts(kind, "x", values), Timings()))


@st.composite
def wheres(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in draw(
        st.lists(
            st.sampled_from(["path", "name", "kind", "setuid", "size", "only", "yara", "package_state"]),
            min_size=1,
            max_size=3,
        )
    ):
        fact = KINDS["change"][name]
        texts = (
            st.sampled_from(fact.words)
            if fact.words
            else st.sampled_from(["/etc/*", "*.php", "*/.ssh/authorized_keys", "x*", "xmrig*", "?", "/tmp/a.php"])
        )
        found[name] = draw(
            st.booleans()
            if fact.type == "flag"
            else st.integers(0, 9)
            if fact.type == "number"
            else st.lists(texts, min_size=1, max_size=3)
        )
    if depth and draw(st.booleans()):
        found["any"] = draw(st.lists(wheres(depth - 1), min_size=1, max_size=2))
    if depth and draw(st.booleans()):
        found["not"] = draw(wheres(depth - 1))
    return found


@settings(max_examples=50, deadline=None)
@given(wheres(), st.lists(things(), max_size=4))
def test_random_rules_fit_with_and_without_an_index(where: dict[str, Any], facts: list[Facts]) -> None:
    import json

    text = HEAD + rule(json.dumps(where))
    jsonschema.Draft202012Validator(SCHEMA).validate(documents.parse(text.encode(), "r").plain())
    rules = RuleSet(rules_of(documents.parse(text.encode(), "r"), True))
    for one in facts:
        if one.kind == "change":
            assert bool(list(rules.matching(one))) is rules[0].where.test()(one.values)


SCHEMA = schemas.load("rules")


@pytest.mark.thorough
def test_the_schemas_are_the_vocabulary_s() -> None:
    for name, text in rules_schema.texts().items():
        jsonschema.Draft202012Validator.check_schema(schemas.load(name))
        assert (Path(schemas.__file__).parent / f"{name}.schema.json").read_text() == text, (
            "run: python -m irkit.compare.rules_schema"
        )


def test_the_first_of_two_ids_counts_and_times_are_told() -> None:
    text = HEAD + rule("{uid: 0}") + rule("{gid: 7}", number=1)
    rules = list(rules_of(documents.parse(text.encode(), "r"), True))
    both = RuleSet([rules[0], *rules])
    assert [one.id for one in both] == ["r0", "r1"]
    timings = Timings()
    assert [one.rule for one in evaluate(both, Facts("change", "x", {"uid": 0}), timings)] == ["r0"]
    rows = {row["rule"]: row for row in timings.rows()}
    assert rows["r0"]["findings"] == 1
    assert rows["r1"]["tried"] == 1
    assert both.asked("change") == {"uid", "gid"}


def test_a_lazy_mapping_is_asked_for_little() -> None:
    asked: list[str] = []

    class Lazy(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.append(name)
            return super().get(name, default)

    list(
        evaluate(
            SHIPPED, Facts("change", "x", Lazy(path="/var/lib/x", name="x", kind="file", change="added", type="data"))
        )
    )
    assert not {"added_lines", "content"} & set(asked)


@pytest.mark.thorough
def test_100_000_changes_are_cheap() -> None:
    """Not asserted tightly, because machines may be busy: it was 10 to 20 µs a change."""
    values = {
        "change": "changed",
        "kind": "file",
        "path": "/usr/lib/x/y.py",
        "name": "y.py",
        "type": "text",
        "package_state": "upgraded",
        "added_lines": ("a",),
    }
    facts = [
        Facts("change", "x", {**values, "path": f"/usr/lib/x/{number}.py", "name": f"{number}.py"})
        for number in range(20_000)
    ]
    start = time.process_time()
    assert not [one for each in facts for one in evaluate(SHIPPED, each)]
    assert (time.process_time() - start) / len(facts) < 100e-6


def test_every_shipped_pattern_compiles() -> None:
    """The shipped rules and noise are loaded without compiling their patterns: here each is."""
    for folder, read in ((FOLDER, rules_of), (noise.FOLDER, noise.noise_of)):
        for path in resources.shipped(folder).glob("*.yaml"):
            if not path.name.endswith(TEST_SUFFIX):
                assert list(read(documents.load(path)[0]))


def test_a_pattern_that_is_compiled_later_holds_the_same() -> None:
    """And what can't be compiled says so at last when it is used."""
    for text in ("ab\ncd", "", "\udcff"):
        assert Regex("^c", later=True).search(text) is Regex("^c").search(text)
    with pytest.raises(BadPattern):
        Regex("(", later=True).search("")


def test_several_patterns_are_one() -> None:
    """And each by itself where one would be too large."""
    (one,) = any_of([Regex("^a$"), Regex("b|c")])
    assert [one.search(text) for text in ("a", "xc", "ax")] == [True, True, False]
    large = [Regex(f"{letter}" * 2500) for letter in "ab"]
    assert any_of(large) == tuple(large)
