"""What an image really contains: every byte that the engine would give out, hashed.

An engine's ``Id`` is only what it says; here its ``docker save`` stream is read and each digest made anew.
Both layouts of that tar are read: the old one (``<id>/layer.tar``) and OCI's (``blobs/sha256/…``).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import zstandard

from irkit.errors import NotTrusted
from irkit.streams import StreamReader
from irkit.text import printable
from irkit.trust.strict import words

JSON_LIMIT = 8 * 1024 * 1024
BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageContent:
    """``config`` and ``layers`` (uncompressed, lowest first) as ``sha256:…``; ``platform`` as ``linux/amd64``."""

    config: str
    layers: tuple[str, ...]
    platform: str
    labels: Mapping[str, str] = field(default_factory=dict)


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


def read_content(chunks: Iterator[bytes], config: str = "") -> ImageContent:
    """Hash a ``docker save`` stream.  Raises ``NotTrusted`` when it contradicts itself.

    ``config``: the digest of the configuration that is looked for, where the stream holds images of several platforms.
    """
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
    return _check(members, config)


def _hash(member: tarfile.TarInfo, file: IO[bytes], members: _Members) -> None:
    digest, kept = hashlib.sha256(), bytearray()
    source = _unpacked(file)
    keep = member.size <= JSON_LIMIT
    try:
        while block := source.read(BLOCK):
            digest.update(block)
            if keep:
                kept += block
                keep = bytes(kept[:1]) in (b"{", b"[") and len(kept) <= JSON_LIMIT
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise NotTrusted(f"the engine's copy of the image can't be unpacked: {printable(str(error), 100)}") from error
    if member.name in members.digests:
        raise NotTrusted("the engine's copy of the image holds one name twice")
    members.digests[member.name] = digest.hexdigest()
    if keep:
        members.small[member.name] = bytes(kept)


def _unpacked(file: IO[bytes]) -> Any:
    """A layer may be compressed, as containerd's store gives it out: the digests that count are of the unpacked one."""
    head = file.peek(4)[:4] if isinstance(file, io.BufferedReader) else b""
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if head == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def _entry(members: _Members, config: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = json.loads(members.small["manifest.json"])
    wanted = config.removeprefix("sha256:")
    return next((one for one in entries if config and members.digest(str(one["Config"])) == wanted), entries[0])


def _check(members: _Members, wanted: str) -> ImageContent:
    try:
        manifest = _entry(members, wanted)
        raw = members.small[str(manifest["Config"])]
        config: dict[str, Any] = json.loads(raw)
        announced = [str(one) for one in config["rootfs"]["diff_ids"]]
        found = [f"sha256:{members.digest(str(name))}" for name in manifest["Layers"]]
        platform = f"{config.get('os', '')}/{config.get('architecture', '')}"
        labels = words((config.get("config") or {}).get("Labels"))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise NotTrusted(f"the engine's copy of the image is not of a known form: {error}") from error
    if announced != found:
        raise NotTrusted(
            "the image's layers are not the ones that its configuration names: it was altered on this engine"
        )
    return ImageContent(f"sha256:{hashlib.sha256(raw).hexdigest()}", tuple(found), platform, labels)
