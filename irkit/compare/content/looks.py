"""What a file's bytes are, by the numbers that formats begin with; its name is only asked where bytes can't tell.

Sources: file(1)'s magic database and the formats' own specifications.  Nothing is unpacked or run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from irkit.text import printable

HEAD = 64 * 1024
"""Bytes: as much of a file's head as :func:`look` ever needs.  Less will do: 512 tell most."""
_SHEBANG = 256
"""BINPRM_BUF_SIZE of Linux: the kernel reads no more of the first line."""

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x7fELF", "elf", "elf"),
    (0, b"\x1f\x8b", "archive", "gzip"), (0, b"BZh", "archive", "bzip2"), (0, b"\xfd7zXZ\0", "archive", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "archive", "zstd"), (0, b"\x04\x22\x4d\x18", "archive", "lz4"), (0, b"PK\x03\x04", "archive", "zip"),
    (0, b"PK\x05\x06", "archive", "zip"), (0, b"7z\xbc\xaf\x27\x1c", "archive", "7z"), (0, b"Rar!\x1a\x07", "archive", "rar"),
    (0, b"!<arch>\n", "archive", "ar"), (0, b"\xed\xab\xee\xdb", "archive", "rpm"), (0, b"070701", "archive", "cpio"),
    (0, b"070702", "archive", "cpio"), (0, b"\xc7\x71", "archive", "cpio"), (257, b"ustar", "archive", "tar"), (0, b"LZIP", "archive", "lzip"),
    (0, b"hsqs", "archive", "squashfs"), (0, b"\x1f\x9d", "archive", "compress"),
    (0, b"\x89PNG\r\n\x1a\n", "image", "png"), (0, b"\xff\xd8\xff", "image", "jpeg"), (0, b"GIF87a", "image", "gif"),
    (0, b"GIF89a", "image", "gif"), (8, b"WEBP", "image", "webp"), (0, b"\0\0\1\0", "image", "ico"), (0, b"II*\0", "image", "tiff"),
    (0, b"MM\0*", "image", "tiff"),
    (0, b"\0asm", "bytecode", "wasm"), (0, b"\x1bLua", "bytecode", "lua"), (0, b"dex\n", "bytecode", "dex"), (0, b"BC\xc0\xde", "bytecode", "llvm"),
    (0, b"%PDF-", "document", "pdf"), (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document", "ole"),
    (0, b"SQLite format 3\0", "database", "sqlite"), (0, b"\x13\x57\x9a\xce", "database", "gdbm"),
    (0, b"wOFF", "font", "woff"), (0, b"wOF2", "font", "woff2"), (0, b"\0\1\0\0\0", "font", "truetype"), (0, b"OTTO\0", "font", "opentype"),
    (4, b"ftyp", "media", "mp4"), (0, b"OggS", "media", "ogg"), (0, b"ID3", "media", "mp3"), (0, b"RIFF", "media", "riff"),
    (0, b"\xfe\xed\xfa\xce", "mach-o", "mach-o"), (0, b"\xfe\xed\xfa\xcf", "mach-o", "mach-o"), (0, b"\xce\xfa\xed\xfe", "mach-o", "mach-o"),
    (0, b"\xcf\xfa\xed\xfe", "mach-o", "mach-o"),
    (0, b"\xde\x12\x04\x95", "data", "gettext"), (0, b"SSH-CERT", "text", "ssh"), (0, b"TZif", "data", "tzif"),
    (0, b"\xd4\xc3\xb2\xa1", "data", "pcap"), (0, b"\x0a\x0d\x0d\x0a", "data", "pcapng"),
)  # fmt: skip
_EXTENSIONS = {
    "sh": "sh", "bash": "bash", "zsh": "zsh", "fish": "fish", "ksh": "ksh", "py": "python", "pyw": "python", "pl": "perl", "pm": "perl",
    "rb": "ruby", "php": "php", "php3": "php", "php4": "php", "php5": "php", "php7": "php", "phtml": "php", "phar": "php", "inc": "php?",
    "js": "node", "mjs": "node", "cjs": "node", "lua": "lua", "tcl": "tclsh", "awk": "awk", "ps1": "pwsh", "jsp": "jsp", "jspx": "jsp",
    "asp": "asp", "aspx": "asp", "ashx": "asp", "asmx": "asp", "cgi": "cgi", "vbs": "vbs", "bat": "cmd",
}  # fmt: skip
_QUIET_NAMES = (
    "png jpg jpeg gif webp ico bmp tif tiff svg pdf doc docx xls xlsx txt log md csv json html htm css woff woff2 ttf otf mp3 mp4 ogg wav"
    " gz xz bz2 zst zip tar 7z rar deb rpm"
)
_QUIET = frozenset(_QUIET_NAMES.split())
"""Extensions of what nobody expects to run."""
_RUNS = frozenset({"elf", "pe", "mach-o", "script", "bytecode"})


@dataclass(frozen=True, slots=True)
class Look:
    """What the bytes are.

    ``type``: elf, script, text, archive, image, bytecode, pe, mach-o, document, database, font, media, empty or data.
    ``format``: a finer word (``gzip``, ``png``, ``pyc``), "" where there is none.
    ``interpreter``: a script's, without its folder (``bash``, ``python3``; seen through ``env``), escaped; ``interpreter_path``
    as the first line names it, "" when only the name or the first bytes tell.
    ``disguised``: the name says picture, document, archive or text, and the bytes are something that runs; or a picture holds PHP.
    """

    type: str
    format: str = ""
    interpreter: str = ""
    interpreter_path: str = ""
    disguised: bool = False


def look(head: bytes, size: int, name: str) -> Look:
    """Tell from the first bytes (``head``, up to :data:`HEAD`), the whole size in bytes, and the name.  Never raises."""
    head = head[:HEAD]
    extension = name.rpartition("/")[2].lower().rpartition(".")[2] if "." in name.rpartition("/")[2] else ""
    if size == 0 or not head:
        return Look("empty") if size == 0 else Look("data")
    found = _by_magic(head, size) or _script(head, extension) or _plain(head, extension)
    quiet = extension in _QUIET
    hidden_php = found.type in ("image", "media", "document") and (
        b"<?php" in head or (b"<?=" in head and b"eval(" in head)
    )
    if (quiet and found.type in _RUNS) or hidden_php:
        return Look(found.type, found.format, found.interpreter, found.interpreter_path, True)
    return found


@cache
def _magics(first: int) -> tuple[tuple[int, bytes, str, str], ...]:
    """Those that a file with this first byte may have, in order."""
    return tuple(one for one in _MAGIC if one[0] or one[1][0] == first)


def _by_magic(head: bytes, size: int) -> Look | None:
    for offset, magic, kind, form in _magics(head[0]):
        if head.startswith(magic, offset):
            if form == "riff" and head[8:12] == b"WEBP":
                continue
            return Look(kind, form)
    if head[2:4] == b"\r\n" and size > 16 and head[1:2] in (b"\x0d", b"\x0c", b"\x0e", b"\xf3", b"\xf2"):
        return Look(
            "bytecode", "pyc"
        )  # the magic number is 16 bits and CR LF (CPython, Lib/importlib/_bootstrap_external.py)
    if head.startswith(b"MZ") and len(head) > 0x40:
        place = int.from_bytes(head[0x3C:0x40], "little")
        return Look("pe", "pe" if head[place : place + 4] == b"PE\0\0" else "dos")
    if head.startswith(b"\xca\xfe\xba\xbe"):
        # A Java class has its major version (45 or more) where a Mach-O universal file counts its architectures.
        return Look("bytecode", "class") if int.from_bytes(head[6:8], "big") >= 43 else Look("mach-o", "fat")
    return None


def _script(head: bytes, extension: str) -> Look | None:
    if head.startswith(b"#!"):
        return _shebang(head)
    start = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<?php", b"<?=")):
        return Look("script", "php", "php")
    if start.startswith((b"<%@ page", b"<%@page", b"<jsp:")):
        return Look("script", "jsp", "jsp")
    language = _EXTENSIONS.get(extension, "")
    if language and _is_text(head):
        if language == "php?":
            return Look("script", "php", "php") if b"<?php" in head else None
        return Look("script", language, language)
    return None


def _shebang(head: bytes) -> Look:
    """The interpreter as the kernel sees it (fs/binfmt_script.c): first word of the first 256 bytes; ``env`` is seen through."""
    line = head[2:_SHEBANG].split(b"\n", 1)[0].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    words = line.replace("\t", " ").split(" ")
    words = [word for word in words if word]
    path = words[0] if words else ""
    base = path.rpartition("/")[2]
    if base == "env":
        rest = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        base = rest[0].rpartition("/")[2] if rest else base
    return Look("script", "shebang", printable(base, 100), printable(path, 200))


def _plain(head: bytes, extension: str) -> Look:
    if not _is_text(head):
        return Look("data")
    start = head[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"-----BEGIN "):
        return Look("text", "pem")
    if extension == "svg" or start.startswith(b"<svg"):
        return Look("image", "svg")
    return Look("text", _word(start))


def _word(start: bytes) -> str:
    lowered = start.lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "html"
    if lowered.startswith(b"<?xml"):
        return "xml"
    return "json" if start[:1] in (b"{", b"[") and start[1:16].lstrip()[:1] in (b'"', b"{", b"[", b"}", b"]") else ""


_TEXT = bytes({7, 8, 9, 10, 12, 13, 27} | set(range(0x20, 0x7F)))
_HIGH = bytes(range(0x80, 0x100))


def _is_text(head: bytes) -> bool:
    """UTF-8, or bytes nearly all of which are printable; a NUL or many control bytes make it data.  UTF-16 with its mark is text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    if b"\0" in head:
        return False
    strange = head.translate(None, _TEXT)
    if not strange:
        return True
    control = len(strange.translate(None, _HIGH))
    if control * 20 > len(head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end inside a character.
        if error.start >= len(head) - 3 and error.end == len(head):
            return True
        return len(strange) * 10 < len(head) * 3
    return True
