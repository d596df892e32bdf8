"""A small sealed bundle, and a bundle in memory, so that every byte of one can be altered in a test."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from irkit.errors import CheckFailed
from irkit.evidence.keys import Signer
from irkit.evidence.seal import seal_bundle
from irkit.evidence.store import Problem
from irkit.evidence.writer import BundleWriter, Origin

ORIGIN = Origin("t", "s", "m")
FACTS = {"case": "c", "run": "r", "target": {}}
FILES = (
    "bag-info.txt", "bagit.txt", "data/a/log.zst", "data/a/raw", "data/index.json", "data/list.json", "manifest-sha256.txt",
    "seal.dsse.json", "seal.sigstore.json", "tagmanifest-sha256.txt",
)  # fmt: skip


def make_bundle(folder: Path, signer: Signer) -> Path:
    """A sealed bundle with the files in ``FILES``."""
    writer = BundleWriter(folder)
    writer.add("a/log", (b"line\n" * 9,), ORIGIN)
    writer.add("a/raw", (b"\x00\xff\n",), ORIGIN, compress=False)
    writer.add_json("list.json", [1], ORIGIN)
    seal_bundle(writer, FACTS, "complete", signer)
    return folder


class MemoryStore:
    """As ``irkit.evidence.store.Store``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.path = Path("memory")
        self.files = dict(files)

    @classmethod
    def of(cls, folder: Path) -> MemoryStore:
        """A copy of a folder."""
        return cls({str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()})

    def entries(self) -> dict[str, int]:
        return {name: len(data) for name, data in self.files.items()}

    def folders(self) -> tuple[str, ...]:
        return ()

    def has(self, name: str) -> bool:
        return name in self.files

    def faults(self, _: str) -> tuple[Problem, ...]:
        return ()

    def open(self, name: str) -> BinaryIO:
        if name not in self.files:
            raise CheckFailed("can't be read: no such file")
        return io.BytesIO(self.files[name])

    def replace(self, files: Mapping[str, bytes]) -> None:
        self.files.update(files)
