"""Versions in order (semver.org 2.0, §11, with any number of numbers)."""

from __future__ import annotations

import re
from typing import Any

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,7})(?:-([0-9A-Za-z.-]{1,100}))?(?:\+[0-9A-Za-z.-]{1,100})?")


def sort_key(text: str) -> tuple[Any, ...] | None:
    """Something to compare versions by; ``None`` for what is no version.  ``1.2`` equals ``1.2.0``; a pre-release comes
    before its release."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = [int(one) for one in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    pre = found[2]
    parts = tuple((0, int(one), "") if one.isdecimal() else (1, 0, one) for one in pre.split(".")) if pre else ()
    return tuple(numbers), not pre, parts
