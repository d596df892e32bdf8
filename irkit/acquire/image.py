"""The container's image: what it is, so that a tree can be rebuilt from it, and the image itself where a profile asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from irkit.acquire.filesystem import LINES_TYPE
from irkit.acquire.tarscan import Found, TarScan
from irkit.engine.interface import Container, Engine, Image
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter, Origin

COLLECTOR, SAVE = "image", "image-save"
PREPARING = 900.0
"""Seconds that an engine may take before the first byte: Docker 20.10 writes every layer to its disk first."""
ARCHIVE_TYPE = "application/x-tar+zstd"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The identity of each layer on those below it (OCI image-spec, config.md, "Layer ChainID")."""
    found: list[str] = []
    for one in diff_ids:
        text = f"{found[-1]} {one}" if found else ""
        found.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if found else one)
    return found


def acquire_image_identity(engine: Engine, before: Container, writer: BundleWriter) -> dict[str, Any] | None:
    """Write ``image/identity.json``; ``None``, and a gap, when the engine does not know the image any more."""
    try:
        image = engine.image(before.image_id)
    except EngineError as error:
        writer.gap(COLLECTOR, "the image's identity", error.message)
        return None
    found = identity(before, image)
    writer.add_json("image/identity.json", found, Origin(COLLECTOR, f"image {image.id}", "engine API: inspect"))
    return found


def identity(before: Container, image: Image) -> dict[str, Any]:
    """``irkit.image-identity/v1``.  ``id``: the configuration's digest, or the manifest's with the containerd image store.

    ``manifests``: digests by which registries know it.  ``layers``: lowest first, ``diff_id`` of the uncompressed tar.
    """
    return {
        "schema": "irkit.image-identity/v1",
        "reference": before.image_ref,
        "id": image.id,
        "id_of_container": before.image_id,
        "tags": list(image.tags),
        "manifests": [one.rpartition("@")[2] for one in image.repo_digests],
        "repo_digests": list(image.repo_digests),
        "descriptor": image.raw.get("Descriptor"),
        "platform": image.platform,
        "created": image.created,
        "size": int(image.raw.get("Size") or 0),
        "config": dict(image.config),
        "layers": [
            {"diff_id": diff_id, "chain_id": chain_id}
            for diff_id, chain_id in zip(image.layers, chain_ids(image.layers), strict=True)
        ],
        "folders": dict((image.raw.get("GraphDriver") or {}).get("Data") or {}),
    }


def acquire_image(engine: Engine, before: Container, writer: BundleWriter, limit: int) -> int:
    """Write ``image/image.tar`` as ``docker save`` gives it, and ``image/files.jsonl``: its members and their digests.

    The bytes written, without the archive's own compression by us: its layers may be compressed already.  Of its
    layers and configuration ``image/content.json`` says whether they are those of ``image/identity.json``.
    """
    try:
        image = engine.image(before.image_id)
        size = int(image.raw.get("Size") or 0)
        if size > limit:
            writer.gap(SAVE, "the image itself", f"{size} bytes are over the limit of this profile")
            return 0
        return _save(engine, image, before, writer)
    except EngineError as error:
        writer.gap(SAVE, "the image itself", error.message)
        return 0


def _save(engine: Engine, image: Image, before: Container, writer: BundleWriter) -> int:
    source = f"image {image.id} ({before.image_ref})"
    digests: dict[str, str] = {}
    stream = engine.image_archive(image.id, PREPARING)
    with (
        writer.sink("image/files.jsonl", Origin(SAVE, source, "digests of its members, in the same pass", LINES_TYPE)) as lines,
        writer.sink("image/image.tar", Origin(SAVE, source, "engine API: save", ARCHIVE_TYPE), threads=True) as sink,
    ):  # fmt: skip

        def seen(found: Found) -> None:
            lines.write(json.dumps(found.to_json(), separators=(",", ":")).encode() + b"\n")
            if found.facts.sha256 and len(digests) < 4096:
                digests[found.path.lstrip("/")] = found.facts.sha256

        scan = TarScan(seen)
        for chunk in stream:
            sink.write(chunk)
            scan.feed(chunk)
        scan.close()
        size = sink.raw_size
    if scan.problem:
        writer.gap(SAVE, "image/image.tar", f"{scan.problem}: its list of members ends there")
    _compare(image, digests, writer, source)
    return size


def _compare(image: Image, digests: Mapping[str, str], writer: BundleWriter, source: str) -> None:
    """Which of the image's layers are in the archive as they are; compressed ones carry other digests."""
    present = set(digests.values())
    layers = {one: one.removeprefix("sha256:") in present for one in image.layers}
    rows = {
        "schema": "irkit.image-content/v1",
        "id_in_archive": image.id.removeprefix("sha256:") in present,
        "layers_in_archive": layers,
    }
    writer.add_json("image/content.json", rows, Origin(SAVE, source, "digests of the saved archive"))
