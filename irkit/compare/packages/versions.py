"""Which of two versions is newer, by each manager's own rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import zip_longest

PART = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
LIMIT = 256


def order(manager: str, one: str, other: str) -> int | None:
    """-1, 0 or 1; ``None`` where the manager's order is not known for these two."""
    return COMPARE[manager](one[:LIMIT], other[:LIMIT]) if manager in COMPARE else None


def _sign(one: object, other: object) -> int:
    return 0 if one == other else 1 if one > other else -1  # type: ignore[operator]


def dpkg(one: str, other: str) -> int:
    """deb-version(7): epoch, upstream version, revision; each part by :func:`_dpkg_part`."""
    for mine, its in zip(_dpkg_parts(one), _dpkg_parts(other), strict=True):
        if found := _dpkg_part(mine, its):
            return found
    return 0


def _dpkg_parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    upstream, dash, revision = (rest if colon else version).rpartition("-")
    return (epoch if colon else "0", upstream if dash else revision, revision if dash else "0")


def _dpkg_part(one: str, other: str) -> int:
    """Runs of other characters and of digits take turns (dpkg's lib/dpkg/version.c: ``verrevcmp``)."""
    for (text, number), (its_text, its_number) in zip_longest(_runs(one), _runs(other), fillvalue=("", "")):
        mine, its = ([*map(_rank, part), 0] for part in (text, its_text))
        found = _sign(mine, its) or _sign(int(number or "0"), int(its_number or "0"))
        if found:
            return found
    return 0


def _runs(part: str) -> list[tuple[str, str]]:
    return re.findall(r"([^0-9]*)([0-9]*)", part)


def _rank(char: str) -> int:
    """``~`` comes before the end, letters before everything else."""
    return -1 if char == "~" else ord(char) if char.isascii() and char.isalpha() else ord(char) + 0x110000


def rpm(one: str, other: str) -> int:
    """Epoch, version, release; each by rpm's rpmio/rpmvercmp.c."""
    for mine, its in zip(_rpm_parts(one), _rpm_parts(other), strict=True):
        if found := _rpm_part(mine, its):
            return found
    return 0


def _rpm_parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    upstream, _, release = (rest if colon else version).partition("-")
    return (epoch if colon else "0", upstream, release)


def _rpm_part(one: str, other: str) -> int:
    for mine, its in zip_longest(PART.findall(one), PART.findall(other)):
        if mine == its:
            continue
        for mark, smaller in (("~", -1), ("^", 1)):  # ~ comes before the end, ^ after it, but before any other part
            if mark in (mine, its):
                against = its if mine == mark else mine
                found = smaller if mark == "~" or against is None else -1
                return found if mine == mark else -found
        if mine is None or its is None:
            return -1 if mine is None else 1
        if mine[0].isdigit() != its[0].isdigit():
            return 1 if mine[0].isdigit() else -1
        found = _sign(int(mine), int(its)) if mine[0].isdigit() else _sign(mine, its)
        if found:
            return found
    return 0


APK = re.compile(r"([0-9]+(?:\.[0-9]+)*)([a-z]?)((?:_[a-z]+[0-9]*)*)(?:~[0-9a-f]+)?(?:-r([0-9]+))?")
APK_WORDS = {"alpha": -4, "beta": -3, "pre": -2, "rc": -1, "cvs": 1, "svn": 2, "git": 3, "hg": 4, "p": 5}


def apk(one: str, other: str) -> int | None:
    """apk-tools' doc/apk-package.5: numbers, a letter, suffixes, ``-r`` and the build's number."""
    mine, its = _apk_key(one), _apk_key(other)
    return _sign(mine, its) if mine is not None and its is not None else None


def _apk_key(version: str) -> tuple[object, ...] | None:
    match = APK.fullmatch(version)
    if match is None:
        return None
    words = re.findall(r"_([a-z]+)([0-9]*)", match[3])
    if any(word not in APK_WORDS for word, _ in words):
        return None
    numbers = tuple(int(number) for number in match[1].split("."))
    suffixes = (*((APK_WORDS[word], int(number or 0)) for word, number in words), (0, 0))
    return numbers, match[2], suffixes, int(match[4] or 0)


PYTHON = re.compile(
    r"v?(?:([0-9]+)!)?([0-9]+(?:\.[0-9]+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?([0-9]*))?"
    r"(?:[-_.]?(?:post|rev|r)[-_.]?([0-9]*)|-([0-9]+))?(?:[-_.]?(dev)[-_.]?([0-9]*))?(?:\+([a-z0-9.]+))?"
)


def pip(one: str, other: str) -> int | None:
    """PyPA's "Version specifiers", without the order of local versions."""
    mine, its = _python_key(one), _python_key(other)
    return _sign(mine, its) if mine is not None and its is not None else None


def _python_key(version: str) -> tuple[object, ...] | None:
    match = PYTHON.fullmatch(version.lower())
    if match is None or match[9]:
        return None
    numbers = [int(number) for number in match[2].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    stage = {None: 3, "a": 0, "alpha": 0, "b": 1, "beta": 1}.get(match[3], 2)
    post = -1 if match[5] is None and match[6] is None else int(match[5] or match[6] or 0)
    if match[3] is None and post < 0 and match[7]:
        stage = -1
    development = int(match[8] or 0) if match[7] else 1 << 62
    return int(match[1] or 0), tuple(numbers), stage, int(match[4] or 0), post, development


def npm(one: str, other: str) -> int | None:
    """Semantic Versioning 2.0.0, section 11."""
    mine, its = _semantic_key(one), _semantic_key(other)
    return _sign(mine, its) if mine is not None and its is not None else None


def _semantic_key(version: str) -> tuple[object, ...] | None:
    match = re.fullmatch(r"v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?", version)
    if match is None:
        return None
    words = (match[4] or "").split(".") if match[4] else []
    stage = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in words)
    return (*(int(number) for number in match.groups()[:3]), not stage, stage)


COMPARE: Mapping[str, Callable[[str, str], int | None]] = {
    "dpkg": dpkg, "rpm": rpm, "apk": apk, "pip": pip, "npm": npm,
}  # fmt: skip
