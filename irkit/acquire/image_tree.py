"""An image's whole file tree, from the archive that an engine saves: Docker's format and the OCI layout with manifest.json.

Layers are applied as the OCI image-spec, layer.md, says.  The archive is spooled, never unpacked.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from irkit.acquire.tarscan import Found, TarScan
from irkit.errors import EvidenceAltered
from irkit.models import FileFacts
from irkit.streams import StreamReader

BLOCK = 1024 * 1024
PIECE = 128
"""Bytes of zstd that are given at once: four bytes can stand for 128 KiB, so these become 4 MiB at most."""
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
FILES_LIMIT = 5_000_000
MANIFEST_LIMIT = 16 * 1024 * 1024
LAYERS_LIMIT = 1024


def read_tree(archive: BinaryIO, name: str) -> dict[str, FileFacts]:
    """``path → facts`` of the first image in a seekable archive.  Raises ``EvidenceAltered`` when it is none."""
    try:
        with tarfile.open(fileobj=archive, mode="r:", errors="surrogateescape") as tar:
            tree: dict[str, FileFacts] = {}
            for layer in _layers(tar, name):
                _apply(tree, _scanned(_decoded(_blocks(layer)), name), name)
            return tree
    except (
        tarfile.TarError,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ) as error:
        raise EvidenceAltered(f"the saved image {name} can't be read: {error}") from error


def _layers(tar: tarfile.TarFile, name: str) -> Iterator[BinaryIO]:
    members = {member.name: member for member in tar}
    manifest = members.get("manifest.json")
    if manifest is None or manifest.size > MANIFEST_LIMIT:
        raise EvidenceAltered(f"the saved image {name} has no manifest.json")
    rows: Any = json.loads(_file(tar, manifest).read())
    names = [str(one) for one in rows[0]["Layers"]]
    if len(names) > LAYERS_LIMIT:
        raise EvidenceAltered(f"the saved image {name} names {len(names)} layers")
    for one in names:
        yield _file(tar, _resolved(members, one))


def _resolved(members: dict[str, tarfile.TarInfo], name: str) -> tarfile.TarInfo:
    """Docker 20.10 writes a layer that several images share once, and links to it from the others."""
    for _ in range(8):
        found = members[name]
        if not found.issym():
            return found
        name = os.path.normpath(os.path.join(os.path.dirname(name), found.linkname))  # noqa: PTH118, PTH120 - names, not places
    raise KeyError(name)


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    found = tar.extractfile(member)
    if found is None:
        raise KeyError(member.name)
    return found  # type: ignore[return-value]  # an ExFileObject: a BufferedReader


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _decoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """A layer's tar, whichever way it is compressed (gzip, zstd, not at all)."""
    first = next(blocks, b"")
    rest = _chained(first, blocks)
    if first[:2] == b"\x1f\x8b":
        yield from _inflated(rest)
    elif first[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        try:
            yield from _frames(rest, zstandard.ZstdDecompressor(max_window_size=1 << 27))
        except zstandard.ZstdError as error:
            raise ValueError(error) from error
    else:
        yield from rest


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Every member of a gzip file (RFC 1952, 2.2; eStargz has one a file), ``BLOCK`` bytes at a time however well it is packed."""
    inflater = zlib.decompressobj(wbits=31)
    for data in blocks:
        block = data
        while block:
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=31)
            made = inflater.decompress(block, BLOCK)
            yield made
            while not inflater.eof and (inflater.unconsumed_tail or len(made) == BLOCK):
                made = inflater.decompress(inflater.unconsumed_tail, BLOCK)
                yield made
            block = inflater.unused_data if inflater.eof else b""
    if not inflater.eof:
        raise EOFError("its gzip stream is cut")


def _frames(blocks: Iterator[bytes], opener: Any) -> Iterator[bytes]:
    """Every frame of a zstd file (RFC 8878, 3.1; zstd:chunked has many, skippable ones too), cut ones refused."""
    inflater = opener.decompressobj()
    for data in blocks:
        for at in range(0, len(data), PIECE):
            block = data[at : at + PIECE]
            while block:
                if inflater.eof:
                    inflater = opener.decompressobj()
                yield inflater.decompress(block)
                block = inflater.unused_data if inflater.eof else b""
    if not inflater.eof:
        raise EOFError("its zstd stream is cut")


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _scanned(blocks: Iterable[bytes], name: str) -> Iterator[Found]:
    found: list[Found] = []
    scan = TarScan(found.append)
    for block in blocks:
        scan.feed(block)
        yield from found
        found.clear()
    scan.close()
    yield from found
    if scan.problem:
        raise EvidenceAltered(f"a layer of the saved image {name} can't be read: {scan.problem}")


def _apply(tree: dict[str, FileFacts], members: Iterator[Found], name: str) -> None:
    """One layer over those below it."""
    new: set[str] = set()
    gone: list[str] = []
    for found in members:
        folder, _, last = found.path.rpartition("/")
        if last == OPAQUE:
            gone.append(folder + "/")
        elif last.startswith(WHITEOUT):
            hidden = f"{folder}/{last[len(WHITEOUT) :]}"
            if hidden not in new:
                tree.pop(hidden, None)
            gone.append(hidden + "/")
        else:
            facts = found.facts
            if found.link and (target := tree.get(found.link)) is not None:
                facts = replace(target, nlink=2)
            if facts.kind != "directory" and found.path in tree and tree[found.path].kind == "directory":
                gone.append(found.path + "/")
            tree[found.path] = facts
            new.add(found.path)
            if len(tree) > FILES_LIMIT:
                raise EvidenceAltered(f"the saved image {name} holds more than {FILES_LIMIT} files")
    if gone:
        beneath = tuple(gone)
        for path in [path for path in tree if path.startswith(beneath) and path not in new]:
            del tree[path]


def read_files(archive: BinaryIO, name: str, sizes: Container[int]) -> Iterator[BinaryIO]:
    """The regular files of these sizes in any layer, as streams: each can be read until the next one is asked for.

    Whoever wants a file knows it by its digest.  Raises ``EvidenceAltered``.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r:", errors="surrogateescape") as tar:
            for layer in _layers(tar, name):
                stream = io.BufferedReader(StreamReader(_decoded(_blocks(layer))), BLOCK)
                with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as inner:
                    for member in inner:
                        if member.isreg() and member.size in sizes:
                            yield _file(inner, member)
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceAltered(f"the saved image {name} can't be read: {error}") from error
