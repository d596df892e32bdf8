"""Names inside a bundle: chosen by irkit, never taken from a container.

Plain names only: ``%``-encoded ones (RFC 8493, 2.1.3) break both ``sha256sum -c`` and the bagit validator.
"""

from __future__ import annotations

import re

PAYLOAD = re.compile(r"data/[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")
MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")

BAGIT = "bagit.txt"
BAG_INFO = "bag-info.txt"
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
SEAL = "seal.dsse.json"
SIGSTORE_SEAL = "seal.sigstore.json"
TIMESTAMP = "seal.tsr"
CUSTODY = "custody.intoto.jsonl"
CUSTODY_LIMIT = 16 * 1024 * 1024
INDEX = "data/index.json"
TAGGED = (BAGIT, BAG_INFO, MANIFEST)
TOP_LEVEL = frozenset({*TAGGED, TAG_MANIFEST, SEAL, SIGSTORE_SEAL, TIMESTAMP, CUSTODY})

BAGIT_TEXT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def is_payload(name: str) -> bool:
    """Whether ``name`` is one that irkit could have given to an artifact."""
    return len(name) <= 200 and PAYLOAD.fullmatch(name) is not None


def parse_manifest(text: str) -> dict[str, str]:
    """``name → sha256`` of a BagIt manifest.  Raises ``ValueError`` for a line that is not one, or a name twice."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = MANIFEST_LINE.fullmatch(line)
        if match is None or match.group(2) in found:
            raise ValueError(f"line {number} is not a manifest line, or names a file twice")
        found[match.group(2)] = match.group(1)
    return found


def format_manifest(digests: dict[str, str]) -> str:
    """A BagIt manifest, sorted by name, as ``sha256sum -c`` reads it."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
