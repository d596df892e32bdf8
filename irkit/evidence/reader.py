"""Reading what lies in a bundle, as a stream, checked against its digest as it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from irkit.errors import CheckFailed, EvidenceAltered, UsageProblem
from irkit.evidence import names
from irkit.evidence.store import open_store, read_small

BLOCK = 1024 * 1024


class BundleReader:
    """A bundle's index and artifacts, with ``identities`` those inside an encrypted one.

    Verify the bundle first; this only checks what it reads.
    """

    def __init__(self, path: Path, identities: Sequence[Any] = ()) -> None:
        self.path = path
        self.store = open_store(path, identities)
        if names.INDEX not in self.store.entries() and not self.store.faults(""):
            raise UsageProblem(f"{path} holds no bundle")
        try:
            self.index: dict[str, Any] = json.loads(read_small(self.store, names.INDEX))
            self._by_path = {str(row["path"]): row for row in self.index["artifacts"]}
        except (CheckFailed, ValueError, KeyError, TypeError, RecursionError) as error:
            raise EvidenceAltered(f"the index of {path} can't be read: {error}") from error

    def find(self, name: str) -> dict[str, Any] | None:
        """The index entry of ``data/NAME`` or ``data/NAME.zst``."""
        return self._by_path.get(f"data/{name}") or self._by_path.get(f"data/{name}.zst")

    def stream(self, name: str) -> Iterator[bytes]:
        """The raw bytes of an artifact.  Raises ``EvidenceAltered`` at the end when they are not the recorded ones."""
        entry = self.find(name)
        if entry is None:
            raise UsageProblem(
                f"the bundle holds no {name}", hint="`irkit report BUNDLE` lists what it holds, and its gaps"
            )
        path = str(entry["path"])
        if not names.is_payload(path):
            raise EvidenceAltered(f"the index names a file that irkit would never write: {path!r}")
        digest = hashlib.sha256()
        try:
            with self.store.open(path) as file:
                for block in _decoded(file, str(entry["encoding"])):
                    digest.update(block)
                    yield block
        except (OSError, CheckFailed) as error:
            if isinstance(error, EvidenceAltered):
                raise
            raise EvidenceAltered(f"{path} can't be read: {error}") from error
        if digest.hexdigest() != entry["raw"]["sha256"]:
            raise EvidenceAltered(f"{path} is not what was recorded: its sha256 differs")

    def json(self, name: str) -> Any:
        """A JSON artifact."""
        try:
            return json.loads(b"".join(self.stream(name)))
        except (ValueError, RecursionError) as error:
            raise EvidenceAltered(f"{name} is not JSON: {error}") from error

    def lines(self, name: str) -> Iterator[Any]:
        """The objects of a JSON Lines artifact, one by one."""
        rest = b""
        for block in self.stream(name):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield _json_line(line, name)
        if rest:
            yield _json_line(rest, name)


def _json_line(line: bytes, name: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EvidenceAltered(f"{name} holds a line that is not JSON: {error}") from error


def _decoded(file: Any, encoding: str) -> Iterator[bytes]:
    if encoding == "zstd":
        import zstandard

        try:
            yield from zstandard.ZstdDecompressor().read_to_iter(file, read_size=BLOCK, write_size=BLOCK)
        except zstandard.ZstdError as error:
            raise EvidenceAltered(f"a stored stream can't be decompressed: {error}") from error
        return
    while block := file.read(BLOCK):
        yield block
