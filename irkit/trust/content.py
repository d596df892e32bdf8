"""What an image really contains: every byte that the engine would give out, hashed.

An engine's ``Id`` is only what it says; here its ``docker save`` stream is read and each digest made anew.
Both layouts of that tar are read: the old one (``<id>/layer.tar``) and OCI's (``blobs/sha256/…``).
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from irkit.errors import NotTrusted
from irkit.streams import StreamReader

JSON_LIMIT = 8 * 1024 * 1024
BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageContent:
    """``config`` and ``layers`` (uncompressed, lowest first) as ``sha256:…``; ``platform`` as ``linux/amd64``."""

    config: str
    layers: tuple[str, ...]
    platform: str


@dataclass(slots=True)
class _Members:
    digests: dict[str, str]
    links: dict[str, str]
    small: dict[str, bytes]

    def digest(self, name: str) -> str | None:
        """A member's digest, by way of the links that ``docker save`` writes for a layer that occurs twice."""
        for _ in range(8):
            if name in self.digests:
                return self.digests[name]
            if name not in self.links:
                return None
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), self.links[name]))
        return None


def read_content(chunks: Iterator[bytes]) -> ImageContent:
    """Hash a ``docker save`` stream.  Raises ``NotTrusted`` when it contradicts itself."""
    members = _Members({}, {}, {})
    try:
        with tarfile.open(fileobj=io.BufferedReader(StreamReader(chunks), BLOCK), mode="r|") as tar:
            for member in tar:
                if member.issym() or member.islnk():
                    members.links[member.name] = member.linkname
                elif member.isreg() and (file := tar.extractfile(member)) is not None:
                    _hash(member, file, members)
    except tarfile.TarError as error:
        raise NotTrusted(f"the engine's copy of the image can't be read: {error}") from error
    return _check(members)


def _hash(member: tarfile.TarInfo, file: IO[bytes], members: _Members) -> None:
    digest, kept = hashlib.sha256(), bytearray()
    head = file.read(BLOCK)
    unzip = zlib.decompressobj(31) if head[:2] == b"\x1f\x8b" else None
    keep = member.size <= JSON_LIMIT and head[:1] in (b"{", b"[")
    while head:
        digest.update(unzip.decompress(head) if unzip else head)
        if keep:
            kept += head
        head = file.read(BLOCK)
    if unzip:
        digest.update(unzip.flush())
    members.digests[member.name] = digest.hexdigest()
    if keep:
        members.small[member.name] = bytes(kept)


def _check(members: _Members) -> ImageContent:
    try:
        manifest: dict[str, Any] = json.loads(members.small["manifest.json"])[0]
        raw = members.small[str(manifest["Config"])]
        config: dict[str, Any] = json.loads(raw)
        announced = [str(one) for one in config["rootfs"]["diff_ids"]]
        found = [f"sha256:{members.digest(str(name))}" for name in manifest["Layers"]]
        platform = f"{config.get('os', '')}/{config.get('architecture', '')}"
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise NotTrusted(f"the engine's copy of the image is not of a known form: {error}") from error
    if announced != found:
        raise NotTrusted(
            "the image's layers are not the ones that its configuration names: it was altered on this engine"
        )
    return ImageContent(f"sha256:{hashlib.sha256(raw).hexdigest()}", tuple(found), platform)
