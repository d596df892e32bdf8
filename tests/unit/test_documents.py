"""The YAML reader: places in errors, limits, and nothing but ``PlaybookInvalid`` for whatever is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit import documents
from irkit.documents import DEPTH_LIMIT, SIZE_LIMIT, Doc, parse
from irkit.errors import PlaybookInvalid
from irkit.playbook.reader import read_playbook

YAMLISH = st.text(alphabet="ab: -\n\t[]{}?,&*!|>'\"#%~01.\\\u2028\ufeff\x00", max_size=60)


def refused(text: str) -> PlaybookInvalid:
    with pytest.raises(PlaybookInvalid) as caught:
        parse(text.encode(), "p.yaml")
    return caught.value


def test_unknown_key_is_refused_with_place_and_suggestion() -> None:
    doc = parse(b"name: x\n  \nonfailure: abort\n", "p.yaml")
    doc.text("name")
    doc.choice("on_failure", ("abort",), "abort")
    with pytest.raises(PlaybookInvalid) as caught:
        doc.done()
    assert caught.value.message.startswith("p.yaml:3:")
    assert "unknown key 'onfailure'" in caught.value.message
    assert caught.value.hint == "did you mean 'on_failure'?"


def test_place_of_an_unknown_key_has_its_column() -> None:
    doc = parse(b"top:\n    zzz: 1\n", "p.yaml").mapping("top")
    doc.allow("name")
    with pytest.raises(PlaybookInvalid) as caught:
        doc.done()
    assert caught.value.message.startswith("p.yaml:2:5:") or caught.value.message.startswith("p.yaml:2:10:")
    assert caught.value.hint == "known: name"


def test_duplicate_key() -> None:
    error = refused("a: 1\nb: 2\na: 3\n")
    assert error.message == "p.yaml:3:1: the key 'a' stands here twice"


@pytest.mark.parametrize("key", ["'a'", '"a"', '"\\x61"'])
def test_duplicate_key_in_other_quotes(key: str) -> None:
    assert "twice" in refused(f"a: 1\n{key}: 2\n").message


@pytest.mark.parametrize(
    "text",
    ["a: &x 1\n", "a: &x [1]\n", "a: &x {b: c}\n", "a: &x 1\nb: *x\n", "a: !!str 1\n", "a: !!python/name:os.system x\n",
     "a: !own {b: c}\n", "a: !!set {b}\n", "a: ! 1\n", "&k a: 1\n", "!!map {a: 1}\n"],
)  # fmt: skip
def test_anchors_aliases_tags(text: str) -> None:
    assert "anchors, aliases and tags are not allowed" in refused(text).message


def test_alias_bomb_is_refused_at_the_first_anchor() -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    assert refused(bomb).message.startswith("p.yaml:1:4:")


def test_depth_limit() -> None:
    def deep(levels: int) -> bytes:
        return b"a: " + b"[" * levels + b"]" * levels

    parse(deep(DEPTH_LIMIT - 1), "p.yaml")
    assert "deep" in refused(deep(DEPTH_LIMIT).decode()).message
    assert "deep" in refused("a: " + "[" * 100_000).message
    assert "deep" in refused("{a: " * 100_000).message


def test_size_limit() -> None:
    line = b"a: x\n"
    parse(line + b"#" * (SIZE_LIMIT - len(line)), "p.yaml")
    with pytest.raises(PlaybookInvalid, match="larger than"):
        parse(line + b"#" * (SIZE_LIMIT - len(line) + 1), "p.yaml")


@pytest.mark.parametrize(
    "word",
    ["no", "yes", "on", "off", "No", "NO", "y", "n", "True", "2026-01-01", "0x10", "010", "1_000", "1e3", ".inf"],
)
def test_words_stay_words(word: str) -> None:
    assert parse(f"a: {word}\n".encode(), "p").text("a") == word


def test_scalars() -> None:
    doc = parse(b"t: true\nf: false\nn: null\ne:\ni: -7\nx: 1.5\nq: '1'\nb: \"true\"\n", "p")
    assert doc.plain() == {"t": True, "f": False, "n": None, "e": None, "i": -7, "x": 1.5, "q": "1", "b": "true"}


def test_wrong_types_name_the_place() -> None:
    doc = parse(b"a: true\nb: [1]\n", "p.yaml")
    with pytest.raises(PlaybookInvalid, match=r"p\.yaml:1:\d+: 'a' must be a whole number"):
        doc.integer("a")
    with pytest.raises(PlaybookInvalid, match=r"p\.yaml:2:\d+: 'b' must be a list of texts"):
        doc.texts("b")
    with pytest.raises(PlaybookInvalid, match="'c' is missing"):
        doc.text("c")


def test_choice_suggests() -> None:
    doc = parse(b"a: abrot\n", "p.yaml")
    with pytest.raises(PlaybookInvalid) as caught:
        doc.choice("a", ("abort", "continue"))
    assert caught.value.hint == "did you mean 'abort'?"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        "[a]\n",
        "--- {a: b}\n--- {c: d}\n",
        "? [a]\n: b\n",
        "? {a: b}\n: c\n",
        "a: [\n",
        "a: b: c\n",
        "\x00",
        "a: '\n",
    ],
)
def test_not_one_mapping(text: str) -> None:
    refused(text)


def test_not_utf8() -> None:
    with pytest.raises(PlaybookInvalid, match="not UTF-8"):
        parse(b"a: \xff\n", "p")


def test_load_gives_the_digest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_bytes(b"a: b\n")
    doc, digest = documents.load(path)
    assert doc.text("a") == "b"
    assert digest == "sha256:" + hashlib.sha256(b"a: b\n").hexdigest()
    with pytest.raises(PlaybookInvalid, match="can't read"):
        documents.load(tmp_path / "none.yaml")


def reads_or_refuses(data: bytes) -> None:
    try:
        doc = parse(data, "fuzz.yaml")
        assert isinstance(doc, Doc)
        read_playbook(doc, "sha256:0", Path("fuzz.yaml"))
    except PlaybookInvalid as error:
        assert error.message


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    reads_or_refuses(data)


@given(st.one_of(st.text(max_size=100), YAMLISH))
def test_arbitrary_text(text: str) -> None:
    reads_or_refuses(text.encode("utf-8", "surrogatepass"))


@given(
    st.dictionaries(
        st.sampled_from(["apiVersion", "kind", "id", "name", "vars", "steps", "description"]),
        st.sampled_from(["irkit/v1", "Playbook", "x", "1", "", "{}", "[]", "[{}]", "[{id: a, uses: acquire.logs}]", "[1]", "{a: {type: string}}", "{a: 1}"]),
    )
)  # fmt: skip
def test_playbook_shapes(rows: dict[str, str]) -> None:
    reads_or_refuses("".join(f"{key}: {value}\n" for key, value in rows.items()).encode())
