"""Small bundles to compare: files of the image and of the container, by path."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irkit.compare.evidence import Evidence
from irkit.evidence import names
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter, Origin
from irkit.models import Change, FileFacts

ORIGIN = Origin("filesystem", "a test", "made")


def facts(data: bytes, **more: Any) -> FileFacts:
    return FileFacts("file", 0o644, 0, 0, len(data), sha256=hashlib.sha256(data).hexdigest(), **more)


def tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def side(
    folder: Path, before: Mapping[str, bytes], after: Mapping[str, bytes | None], *, originals: Mapping[str, bytes] | None = None,
    more: Mapping[str, object] | None = None,
) -> Evidence:  # fmt: skip
    """A side: ``after`` names what differs from the image (``None``: deleted); ``originals``: what is kept of the image, without it ``before``."""
    writer = BundleWriter(folder)
    lines = b""
    for path, now in after.items():
        was = before.get(path)
        word = "deleted" if now is None else "added" if was is None else "changed"
        change = Change(
            path, word, facts(was) if was is not None else None, facts(now) if now is not None else None
        )  # fmt: skip
        lines += json.dumps(change.to_json()).encode() + b"\n"
    kept = {path: data for path, data in before.items() if path in after} if originals is None else originals
    there = {path: data for path, data in after.items() if data is not None}
    for name, data in (("changes.jsonl", lines), ("originals.tar", tar(kept)), ("layer.tar", tar(there))):
        with writer.sink(f"filesystem/{name}", ORIGIN) as sink:
            sink.write(data)
    for name, document in (more or {}).items():
        if name.endswith(".jsonl"):
            with writer.sink(name, ORIGIN) as sink:
                sink.write(json.dumps(document).encode() + b"\n")
        else:
            writer.add_json(name, document, ORIGIN)
    writer.put("bagit.txt", b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    writer.put(names.INDEX, json.dumps(writer.index({"target": {}})).encode())
    return Evidence(BundleReader(writer.folder))
