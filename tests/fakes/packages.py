"""Package databases in memory, as the real managers write them, and the containers of rpm's headers."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import zstandard

from irkit.compare.files import MemoryFiles

DATA = Path(__file__).parent.parent / "data" / "packages"
INFO = "/var/lib/dpkg/info"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def dpkg(
    packages: Mapping[str, Mapping[str, bytes]],
    *,
    versions: Mapping[str, str] | None = None,
    conffiles: Mapping[str, Mapping[str, str]] | None = None,
    same: Sequence[str] = (),
    more: Mapping[str, bytes] | None = None,
) -> MemoryFiles:
    """``package → path → contents``; ``conffiles``: ``package → path → digest``; ``same``: Multi-Arch: same."""
    files: dict[str, bytes] = {}
    status: list[str] = []
    for name, contents in packages.items():
        config = (conffiles or {}).get(name, {})
        lines = [
            f"Package: {name}", "Status: install ok installed", "Priority: optional", "Architecture: amd64",
            f"Version: {(versions or {}).get(name, '1.0-1')}", "Description: a package", " with a long text",
        ]  # fmt: skip
        if name in same:
            lines.insert(4, "Multi-Arch: same")
        if config:
            lines += ["Conffiles:", *(f" {path} {digest}" for path, digest in config.items())]
        status.append("\n".join(lines))
        stem = f"{INFO}/{name}{':amd64' if name in same else ''}"
        listed = ["/.", *{folder: 0 for path in (*contents, *config) for folder in _above(path)}, *contents, *config]
        files[f"{stem}.list"] = "\n".join((*listed, "")).encode()
        files[f"{stem}.md5sums"] = "".join(f"{md5(data)}  {path[1:]}\n" for path, data in contents.items()).encode()
    return MemoryFiles({**files, "/var/lib/dpkg/status": ("\n\n".join(status) + "\n\n").encode(), **(more or {})})


def _above(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]


def rpm_database() -> bytes:
    """Made by rpm 4.18 of tests/data/packages/tiny.spec: ``rpmbuild -bb``, then ``rpm -i --justdb`` into an empty folder."""
    return zstandard.ZstdDecompressor().decompress((DATA / "rpmdb.sqlite.zst").read_bytes())


def ndb(headers: Sequence[bytes]) -> bytes:
    """rpm's lib/backend/ndb/rpmpkg.c."""
    slots, blobs, at = b"", b"", 4096
    for number, header in enumerate(headers, 1):
        blob = struct.pack("<4sIII", b"BlbS", number, 1, len(header)) + header
        blob += b"\0" * (-len(blob) % 16)
        slots += struct.pack("<4sIII", b"Slot", number, at // 16, len(blob) // 16)
        blobs += blob
        at += len(blob)
    page = struct.pack("<4sIII", b"RpmP", 0, 1, 1) + bytes(16) + slots
    free = (4096 - len(page)) // 16
    return page + b"".join(struct.pack("<4sIII", b"Slot", 0, 0, 0) for _ in range(free)) + blobs


def bdb(headers: Sequence[bytes], order: str = "<", size: int = 4096) -> bytes:
    """A Berkeley DB hash: a page of metadata, one of keys and values, and chained overflow pages."""
    pages: list[bytes] = []
    items: list[bytes] = []
    for number, header in enumerate(headers, 1):
        items += [
            b"\1" + struct.pack(f"{order}I", number),
            struct.pack(f"{order}B3xII", 3, 2 + len(pages), len(header)),
        ]
        room = size - 26
        parts = [header[start : start + room] for start in range(0, len(header), room)]
        for index, part in enumerate(parts):
            own = 2 + len(pages)
            following = own + 1 if index + 1 < len(parts) else 0
            head = bytes(8) + struct.pack(f"{order}IIIHHBB", own, 0, following, 1, len(part), 0, 7)
            pages.append((head + part).ljust(size, b"\0"))
    places, body = [], b""
    for item in items:
        body = item + body
        places.append(size - len(body))
    head = bytes(8) + struct.pack(f"{order}IIIHHBB", 1, 0, 0, len(places), size - len(body), 0, 13)
    keys = head + struct.pack(f"{order}{len(places)}H", *places)
    meta = bytes(8) + struct.pack(f"{order}IIIIBBBBII", 0, 0x061561, 9, size, 0, 8, 0, 0, 0, 1 + len(pages))
    return meta.ljust(size, b"\0") + keys.ljust(size - len(body), b"\0") + body + b"".join(pages)


def header(tags: Mapping[int, tuple[int, Sequence[bytes] | Sequence[int]]]) -> bytes:
    """A header of rpm: ``tag → (type, values)``; types 3, 4 (numbers), 6 and 8 (strings)."""
    index, data = b"", b""
    for tag, (kind, values) in tags.items():
        width = {3: "H", 4: "I"}.get(kind)
        data += b"\0" * (-len(data) % (struct.calcsize(width) if width else 1))
        index += struct.pack(">IIII", tag, kind, len(data), len(values))
        data += (
            struct.pack(f">{len(values)}{width}", *values) if width else b"".join(bytes(one) + b"\0" for one in values)
        )  # type: ignore[arg-type]
    return struct.pack(">II", len(tags), len(data)) + index + data


APK_INSTALLED = b"""C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:busybox
V:1.36.1-r5
A:x86_64
S:507831
I:962560
T:Size optimized toolbox of many common UNIX utilities
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
t:1700000000
c:1dbf7a793afae640ea643a055b6dd4f430ac116b
D:so:libc.musl-x86_64.so.1
p:cmd:busybox=1.36.1-r5
F:bin
R:busybox
a:0:0:755
Z:Q1LxBvJ/ofKKik4CrrENc7ePnJsko=
F:etc
R:securetty
Z:Q1cPVSqjXWRnFb3SERSDzhB2U+7fI=
F:tmp
M:0:0:1777

C:Q1hIS7HRAnxzMkvQlbNOqwnIPpRPs=
P:musl
V:1.2.4-r2
A:x86_64
T:the musl c library (libc) implementation
F:
R:rootfile
Z:Q2wbR0TOJw+C70cGGOyPB4GdNSUyoO2RkFUkdc5gU3JX4=
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1pnXmBGfnIwxlVu3MG+SMeJRp9aM=
R:libc.musl-x86_64.so.1
a:0:0:777
Z:Q17yJ3JFNypA4mxhJJr0ou6CzsJVI=

"""
"""In the form of Alpine 3.18's own (apk-tools 2.14, ``apk_db_write_fdb``)."""
