"""References and patterns: the Docker CLI's rules, and no others."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from irkit.errors import UsageProblem
from irkit.trust.reference import Pattern, is_id, parse_pattern, parse_plain, parse_reference, same_repository

HEX = "0" * 64
component = st.sampled_from(["a", "b", "0", "ab", "web", "a.b", "a_b", "a__b", "a-b", "a---b", "0.0", "xn--a"])
registry = st.sampled_from(
    [
        "docker.io",
        "registry.example",
        "registry.example:5000",
        "localhost",
        "localhost:5000",
        "[fd00::1]:5000",
        "127.0.0.1:1",
    ]
)
name = st.builds(lambda first, rest: "/".join([first, *rest]), registry, st.lists(component, min_size=2, max_size=4))
piece = st.one_of(component, st.sampled_from(["*", "a*", "*b", "a*b", "*a*", "w*", "*e*b", "**b"[1:]]))
pattern = st.builds(
    lambda first, rest, end: "/".join([first, *rest, *end]), st.one_of(registry, st.sampled_from(["*", "*.example", "re*"])),
    st.lists(piece, min_size=2, max_size=3), st.sampled_from([[], ["**"]]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("web", "docker.io/library/web:latest"), ("web:1", "docker.io/library/web:1"), ("team/web", "docker.io/team/web:latest"),
        ("docker.io/web", "docker.io/library/web:latest"), ("index.docker.io/team/web:1", "docker.io/team/web:1"),
        ("registry.example/web", "registry.example/web:latest"), ("localhost/web", "localhost/web:latest"),
        ("registry.example:5000/a/b_c__d-e:T.1", "registry.example:5000/a/b_c__d-e:T.1"), ("[::1]:5000/web:1", "[::1]:5000/web:1"),
        (f"web@sha256:{HEX}", f"docker.io/library/web@sha256:{HEX}"), (f"web:1@sha256:{HEX}", f"docker.io/library/web:1@sha256:{HEX}"),
    ],
)  # fmt: skip
def test_normalised(text: str, normal: str) -> None:
    assert str(parse_reference(text)) == normal
    assert str(parse_reference(normal)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "", "/", ":1", "web:", "web@", "web@sha256:00", f"web@sha512:{HEX}{HEX}", f"web@SHA256:{HEX}", f"web@sha256:{HEX[:-1]}A",
        "Web", "team/Web", "Registry.example/web", "a//b", "a/../b", "registry.example/../web", "registry.example/./web", "a/b/", "-a/b",
        "a b", "web:1:2", "web:-1", "web\n", "web:1\n", "registry.example:99999/web", "registry.example:05000/web", "registry.example:/web",
        "http://registry.example/web", "user@registry.example/web", "web:" + "t" * 129, "a/" * 130 + "b", "registry_x.example/web", "wéb",
        "a.-b/web", "[fd00::1/web", "web@sha256:" + HEX + "@sha256:" + HEX,
    ],
)  # fmt: skip
def test_no_reference(text: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_reference(text)
    assert "\n" not in caught.value.message


@given(name, st.sampled_from(["", "1", "v1.2_x-y"]), st.booleans())
def test_parsing_its_own_words_changes_nothing(name: str, tag: str, digest: bool) -> None:
    text = name + (f":{tag}" if tag else "") + (f"@sha256:{HEX}" if digest else "")
    found = parse_plain(text)
    assert parse_plain(str(found)) == found and found.name == name
    assert found.registry.count("/") == 0 and ".." not in found.repository


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = parse_reference(text)
    except UsageProblem:
        return
    assert re.fullmatch(r"[a-z0-9._/:\[\]-]+", found.name) and parse_reference(str(found)) == found


@given(name, name)
def test_a_repository_is_itself_alone(one: str, other: str) -> None:
    wanted = parse_reference(f"{one}:1")
    assert same_repository(one, wanted) and same_repository(f"{one}:2", wanted)
    assert same_repository(other, wanted) == (one == other)
    for odd in (one.upper(), one + "/x", "x" + one, one + "/", one + "/..", " " + one, one + "\n", "http://" + one, ""):
        if odd == one:
            continue  # nothing in it has a case
        assert not same_repository(odd, wanted)


def test_ids() -> None:
    assert (
        is_id("sha256:" + HEX)
        and is_id("0123456789ab")
        and not is_id("web")
        and not is_id("web:1")
        and not is_id("sha256:" + "A" * 64)
    )


# -- patterns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("registry.example/team/web", ["registry.example/team/web"], ["registry.example/team/web2", "registry.example/team/web/x"]),
        ("registry.example/team/*", ["registry.example/team/web"], ["registry.example/team/a/b", "registry.example/team", "x/registry.example/team/web"]),
        ("registry.example/team/**", ["registry.example/team/web", "registry.example/team/a/b"], ["registry.example/team", "registry.example/teams/x"]),
        ("registry.example/*/web", ["registry.example/a/web"], ["registry.example/a/b/web", "registry.example/web"]),
        ("registry.example/web-*", ["registry.example/web-1", "registry.example/web-"], ["registry.example/web"]),
        ("*.example/web", ["a.example/web", "a.b.example/web"], ["example/web", "a.example.evil/web"]),
        ("**", ["a/b", "a/b/c"], []),
    ],
)  # fmt: skip
def test_matches(text: str, yes: list[str], no: list[str]) -> None:
    found = parse_pattern(text)
    assert [one for one in yes if not found.matches(one)] == [] and [one for one in no if found.matches(one)] == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("web", "docker.io/library/web"), ("team/web", "docker.io/team/web"), ("docker.io/web", "docker.io/library/web"),
        ("registry.example", "registry.example/**"), ("registry.example/../web", ""), ("registry.example/**/web", ""), ("registry.example/a**", ""),
        ("Registry.example/web", ""), ("registry.example/web:1", "registry.example/web"), (f"registry.example/web@sha256:{HEX}", ""), ("", ""),
        ("registry.example//web", ""), ("index.docker.io/team/web", "docker.io"), ("registry.example/we b", ""), ("*", "*/**"),
    ],
)  # fmt: skip
def test_no_pattern(text: str, hint: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_pattern(text)
    assert hint in (caught.value.hint or "")


@given(pattern, name)
def test_matching_is_globbing_part_by_part(text: str, name: str) -> None:
    try:
        found = parse_pattern(text)
    except UsageProblem:
        assume(False)
    want, have = text.split("/"), name.split("/")
    if want[-1] == "**":
        expected = len(have) >= len(want)
        want = want[:-1]
        have = have[: len(want)]
    else:
        expected = len(have) == len(want)
    parts = zip(have, want, strict=False)
    assert found.matches(name) == (expected and all(fnmatch.fnmatchcase(a, b.replace("[", "[[]")) for a, b in parts))


@given(name, st.data())
def test_a_name_s_own_patterns_match_it_and_are_ordered(name: str, data: st.DataObject) -> None:
    """Each generalisation matches what the special one matches, and comes after it."""
    parts = name.split("/")
    number = data.draw(st.integers(1, len(parts) - 1))
    ladder = [
        Pattern(name), Pattern("/".join([*parts[:number], parts[number][:1] + "*", *parts[number + 1 :]])),
        Pattern("/".join([*parts[:number], "*", *parts[number + 1 :]])), Pattern("/".join([*parts[:number], "**"])), Pattern("**"),
    ]  # fmt: skip
    assert all(one.matches(name) for one in ladder)
    assert sorted(ladder, key=lambda one: one.rank) == ladder
    assert all(one.overlaps(other) for one in ladder for other in ladder)


@given(pattern, pattern, name)
def test_overlap_is_seen(one: str, other: str, name: str) -> None:
    first, second = Pattern(one), Pattern(other)
    assert first.overlaps(second) == second.overlaps(first)
    if first.matches(name) and second.matches(name):
        assert first.overlaps(second)


def test_hostile_patterns_take_no_time() -> None:
    Pattern("r.example/" + "a*" * 60 + "b").matches("r.example/" + "a" * 240)
    assert not Pattern("r.example/" + "*a" * 60).overlaps(Pattern("r.example/" + "*b" * 60))
