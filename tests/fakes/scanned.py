"""An image, and a database of vulnerabilities for Trivy, made here: so that real scanners run without a network."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

OPENSSL, ZLIB = "3.0.11-1~deb12u1", "1:1.2.13.dfsg-1"
STATUS = "".join(
    f"Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: libs\nInstalled-Size: 20\nMaintainer: A <a@example.org>\n"
    f"Architecture: amd64\nVersion: {version}\nDescription: made up\n\n"
    for name, version in (("openssl", OPENSSL), ("zlib1g", ZLIB))
)  # fmt: skip
DEBIAN = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian"\n', "etc/debian_version": "12.5\n", "var/lib/dpkg/status": STATUS,
}  # fmt: skip
PAGE = 4096
Tree = Mapping[str, Union[bytes, "Tree"]]


def _tar(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


def image(files: Mapping[str, str] = DEBIAN, labels: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """An archive as ``docker save`` writes it, with one layer, and the image's id."""
    layer = _tar({name: text.encode() for name, text in files.items()})
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Labels": dict(labels or {})},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "made up"}],
        }
    ).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": ["irkit-test/scanned:1"], "Layers": ["0/layer.tar"]}]
    parts = {f"{name}.json": config, "0/layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    return _tar(parts), f"sha256:{name}"


def trivy_database(folder: Path, advisories: Mapping[str, Mapping[str, tuple[str, str]]], built: str) -> None:
    """Trivy's cache with a database of schema 2 (trivy-db): package → id → (fixed version, severity), of Debian 12."""

    def data(value: Any) -> bytes:
        return json.dumps(value).encode()

    debian = {
        name: {key: data({"FixedVersion": fixed} if fixed else {}) for key, (fixed, _) in rows.items()}
        for name, rows in advisories.items()
    }
    about = {
        key: data({"Title": key, "Severity": severity})
        for rows in advisories.values()
        for key, (_, severity) in rows.items()
    }
    source = {"debian 12": data({"ID": "debian", "Name": "made up", "URL": "https://example.org"})}
    (folder / "db").mkdir(parents=True)
    (folder / "db" / "trivy.db").write_bytes(
        _bolt({"debian 12": debian, "data-source": source, "vulnerability": about})
    )
    times = dict.fromkeys(("UpdatedAt", "DownloadedAt"), built)
    (folder / "db" / "metadata.json").write_bytes(data({"Version": 2, "NextUpdate": "2100-01-01T00:00:00Z", **times}))


def _leaf(items: Tree, number: int = 0, overflow: int = 0) -> bytes:
    """A leaf page of bbolt's file format (go.etcd.io/bbolt, page.go, bucket.go), its buckets inline."""
    elements, data, rows = b"", b"", sorted(items.items())
    for index, (key, value) in enumerate(rows):
        name, bucket = key.encode(), not isinstance(value, bytes)
        stored = value if isinstance(value, bytes) else struct.pack("<QQ", 0, 0) + _leaf(value)
        elements += struct.pack("<IIII", int(bucket), 16 * (len(rows) - index) + len(data), len(name), len(stored))
        data += name + stored
    return struct.pack("<QHHI", number, 2, len(rows), overflow) + elements + data


def _bolt(items: Tree) -> bytes:
    """Two meta pages, an empty list of free pages, and the root."""
    more = (len(_leaf(items)) - 1) // PAGE
    root = _leaf(items, 3, more).ljust(PAGE * (more + 1), b"\0")
    pages = b""
    for number in (0, 1):
        meta = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, 3, 0, 2, 4 + more, number)
        pages += (struct.pack("<QHHI", number, 4, 0, 0) + meta + struct.pack("<Q", _fnv(meta))).ljust(PAGE, b"\0")
    return pages + struct.pack("<QHHI", 2, 0x10, 0, 0).ljust(PAGE, b"\0") + root


def _fnv(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & (2**64 - 1)
    return value
