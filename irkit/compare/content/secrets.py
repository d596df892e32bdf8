"""Secrets that are compared and never shown: password hashes (crypt(5)), as their algorithm only."""

from __future__ import annotations

import re

_ID = r"\$(?:y|gy|7|6|5|2[abxy]?|1|apr1|md5|sha1|3|argon2\w{1,2})\$"
_HASH = rf"({_ID})[./A-Za-z0-9$=,+-]{{16,200}}"
_TEXT = re.compile(_HASH)
_BYTES = re.compile(_HASH.encode() + rb"|(?<=:)[./A-Za-z0-9]{13}(?=:)|(?<=:)_[./A-Za-z0-9]{19}(?=:)")


def without_hashes(text: str) -> str:
    """Each hash that says its algorithm, cut after that."""
    return _TEXT.sub(r"\1...", text) if "$" in text else text


def line_without_hashes(line: bytes) -> bytes:
    """As :func:`without_hashes`; the old forms that say none (DES, BSDI) too, where they are a field between colons."""
    return _BYTES.sub(lambda found: (found[1] or b"") + b"...", line)
