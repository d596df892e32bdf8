"""What is asked first to be quick says the same as asking everything."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from irkit.compare.content import catalog, changed_lines, diff, looks, signs

CODE = [
    "eval(", "base64_decode(", "gzinflate (", "$_GET", "['a'](", "`", "system(", "include", " ", "\n", "request.getParameter", "Request[", "php://input",
    "@ini_set", "error_reporting(0", "wso 2", "C99Shell", "getRuntime().exec", "( request", "ProcessBuilder(", "os.popen", "${$x(", "SaveAs(",
    "preg_replace('/x/e'", "defineClass(", "Base64.getDecoder", "subprocess.", "WScript.Shell", "move_uploaded_file(",
]  # fmt: skip


@given(st.lists(st.sampled_from(CODE), max_size=8).map("".join))
def test_words_of_web_signs_are_in_all_that_fits(text: str) -> None:
    for name in signs._WEB_WORDS:
        for shown in (text, text.upper()):
            count = signs._count(signs._web()[name], shown, 1000)
            assert signs.web_counts(shown).get(name, 0) == count, name


def test_a_pattern_s_number_is_its_group_s() -> None:
    patterns = [pattern for pattern, _, _ in (*catalog._READERS, *catalog._WHOLE)]
    assert all(re.compile(pattern).groups == 0 for pattern in patterns)
    assert catalog._any().groups == len(patterns)


def test_no_magic_is_left_out() -> None:
    for offset, magic, kind, form in looks._MAGIC:
        first = magic[0] if not offset else 0
        assert (offset, magic, kind, form) in looks._magics(first)


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\xc3", b"\xa9", b"\xf0\x9f", b"\r", b"\xff"]), max_size=12).map(b"".join)
)
def test_lines_of_a_new_text(data: bytes) -> None:
    hunks = diff.compare_lines(b"", data)
    lines = tuple(diff._text(line) for one in hunks.changes() for line in hunks.after[one[2] : one[3]])
    assert changed_lines(b"", data) == (lines, (), False)
