"""Text that an attacker may have written: shown escaped, stored without loss.

Paths are kept as ``str`` in Python's ``surrogateescape`` form (``os.fsdecode``).  In JSON a path that is not
valid UTF-8 is two fields: ``path``, readable, each bad byte as ``\\xNN``; and ``path_b64``, the exact bytes.
"""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Mapping

_KEEP = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(value: str | bytes, limit: int | None = None) -> str:
    """``value`` with every control, format (bidi), surrogate and unassigned character escaped; cut at ``limit``."""
    text = os.fsdecode(value) if isinstance(value, bytes) else value
    if text.isascii() and text.isprintable() and "\\" not in text:
        shown = text
    else:
        shown = "".join(_escape(char) for char in text)
    if limit is not None and len(shown) > limit:
        return shown[: limit - 1] + "…"
    return shown


def _escape(char: str) -> str:
    code = ord(char)
    if char == "\\":
        return "\\\\"
    if unicodedata.category(char) not in _KEEP:
        return char
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def is_utf8(value: str) -> bool:
    """Whether a ``surrogateescape`` string came from valid UTF-8."""
    return value.isascii() or not any(0xD800 <= ord(char) <= 0xDFFF for char in value)


def text_fields(name: str, value: str) -> dict[str, str]:
    """``{name: value}``, with ``name_b64`` beside it when the bytes are not UTF-8."""
    if is_utf8(value):
        return {name: value}
    raw = value.encode("utf-8", "surrogateescape")
    return {
        name: raw.decode("utf-8", "backslashreplace"),
        f"{name}_b64": base64.b64encode(raw).decode("ascii"),
    }


def text_from(fields: Mapping[str, object], name: str) -> str:
    """The reverse of :func:`text_fields`.  Raises ``ValueError`` for bad base64, ``KeyError`` when absent."""
    exact = fields.get(f"{name}_b64")
    if isinstance(exact, str):
        return os.fsdecode(base64.b64decode(exact, validate=True))
    return str(fields[name])


def human_size(size: int) -> str:
    """Bytes for a person: ``5.2 MiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{size} B"
