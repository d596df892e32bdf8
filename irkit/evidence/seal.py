"""The seal: BagIt manifests, a DSSE envelope over them and over every payload, verified after writing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit import __version__
from irkit.clock import now
from irkit.errors import EvidenceAltered, StorageError
from irkit.evidence import dsse, names
from irkit.evidence.keys import Signer
from irkit.evidence.writer import BundleWriter, sync_tree
from irkit.home import json_rows

PREDICATE_TYPE = "https://irkit.dev/evidence-seal/v1"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed bundle.  ``digest``: sha256 of ``tagmanifest-sha256.txt``, which names the whole bundle."""

    path: Path
    digest: str
    status: str
    sealed: str
    key: str


def seal_bundle(writer: BundleWriter, facts: Mapping[str, Any], status: str, signer: Signer) -> Sealed:
    """Close a bundle: index, manifests, seal.  ``status`` is ``complete`` or ``partial``.

    Raises ``StorageError`` when the disk is full, ``EvidenceAltered`` when the seal does not verify after writing.
    """
    sealed = now()
    folder = writer.folder
    writer.sync()
    index = json_rows(writer.index({**facts, "status": status, "sealed": sealed}), sort_keys=False)
    payload = {one.path: one.stored_sha256 for one in writer.artifacts}
    payload[names.INDEX] = _digest(index)
    size = sum(one.stored_size for one in writer.artifacts) + len(index)
    tags = {
        names.BAGIT: names.BAGIT_TEXT.encode(),
        names.BAG_INFO: _bag_info(facts, status, sealed, size, len(payload)).encode(),
        names.MANIFEST: names.format_manifest(payload).encode(),
    }
    tag_manifest = names.format_manifest({name: _digest(data) for name, data in tags.items()}).encode()
    digest = _digest(tag_manifest)
    predicate = {
        **facts,
        "status": status,
        "sealed": sealed,
        "tool": f"irkit {__version__}",
        "key": signer.public.id,
    }
    statement = dsse.statement({**payload, names.TAG_MANIFEST: digest}, PREDICATE_TYPE, predicate)
    envelope = dsse.sign(statement, signer)
    second = dsse.sigstore_bundle(envelope, signer.public.id)
    last = {names.TAG_MANIFEST: tag_manifest, names.SIGSTORE_SEAL: second, names.SEAL: envelope}
    for name, data in {names.INDEX: index, **tags, **last}.items():
        _write(writer, name, data)
    if (outer := writer.around(digest)) is not None:
        from irkit.evidence.age import outer_facts

        return seal_bundle(outer, outer_facts(facts, f"sha256:{digest}"), status, signer)
    _reread(folder, signer)
    sync_tree(folder)
    return Sealed(folder, f"sha256:{digest}", status, sealed, signer.public.id)


def _write(writer: BundleWriter, name: str, data: bytes) -> None:
    """On a full disk once more, with the room that was kept in reserve."""
    try:
        writer.put(name, data)
    except StorageError:
        if not writer.on_full():
            raise
        writer.put(name, data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bag_info(facts: Mapping[str, Any], status: str, sealed: str, size: int, count: int) -> str:
    rows = {
        "Bag-Software-Agent": f"irkit {__version__}",
        "Bagging-Date": sealed[:10],
        "External-Identifier": f"{facts.get('case', '')}/{facts.get('run', '')}",
        "Irkit-Sealed": sealed,
        "Irkit-Status": status,
        "Payload-Oxum": f"{size}.{count}",
    }
    return "".join(f"{name}: {value}\n" for name, value in rows.items())


def _reread(folder: Path, signer: Signer) -> None:
    """ "Signed" means that the signature was verified after writing."""
    for envelope in (
        dsse.parse((folder / names.SEAL).read_bytes()),
        dsse.from_sigstore_bundle((folder / names.SIGSTORE_SEAL).read_bytes()),
    ):
        try:
            envelope.open_with([signer.public])
        except Exception as error:
            raise EvidenceAltered(f"the seal of {folder} does not verify after writing: {error}") from error
