"""Text that an attacker wrote: shown harmlessly, stored without loss."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.text import human_size, is_utf8, printable, text_fields, text_from


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain /etc/passwd", "plain /etc/passwd"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x1b[31mred\x07\x00\x7f", "\\x1b[31mred\\x07\\x00\\x7f"),
        ("\x9b2J", "\\x9b2J"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("\u2066\u2069\u200b\u200f", "\\u2066\\u2069\\u200b\\u200f"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("back\\slash", "back\\\\slash"),
        ("grün 漢字", "grün 漢字"),
        (b"\xff\n", "\\xff\\n"),
    ],
)
def test_printable(value: str | bytes, shown: str) -> None:
    assert printable(value) == shown


def test_printable_cuts() -> None:
    assert printable("abcdef", 4) == "abc…"
    assert printable("abcd", 4) == "abcd"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_printable_never_shows_what_moves_a_terminal(value: str) -> None:
    shown = printable(value)
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown)
    assert "\n" not in shown
    shown.encode("utf-8")


@given(st.binary(), st.binary())
def test_printable_is_unambiguous(one: bytes, other: bytes) -> None:
    assert (printable(one) == printable(other)) == (one == other)


@given(st.binary())
def test_fields_round_trip(raw: bytes) -> None:
    value = os.fsdecode(raw)
    fields = json.loads(json.dumps(text_fields("path", value)).encode())
    assert os.fsencode(text_from(fields, "path")) == raw
    fields["path"].encode("utf-8")


@given(st.text())
def test_valid_text_is_one_plain_field(value: str) -> None:
    assert is_utf8(value)
    assert text_fields("path", value) == {"path": value}


def test_bad_fields() -> None:
    with pytest.raises(ValueError, match=r"base64|Base64|padding|alphabet"):
        text_from({"path": "x", "path_b64": "!!"}, "path")
    with pytest.raises(KeyError):
        text_from({}, "path")


def test_human_size() -> None:
    assert [human_size(size) for size in (0, 1023, 1024, 5 * 1024**2, 3 * 1024**5)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3072.0 TiB",
    ]
