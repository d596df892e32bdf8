"""Signatures as cosign and skopeo make them, with keys: no Fulcio, no Rekor, no network but the registry.

Simple signing payloads (containers/image, docs/containers-signature.5; cosign, specs/SIGNATURE_SPEC.md), found by the tag
``sha256-<hex>.sig`` and by referrers; sigstore bundles v0.3 (protobuf-specs) with a DSSE envelope, found by referrers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from functools import partial
from typing import Any

from irkit.errors import NotTrusted
from irkit.evidence import dsse
from irkit.text import printable
from irkit.trust import strict
from irkit.trust.model import Found, TrustKey
from irkit.trust.registry import SIGNATURE_LIMIT, Manifest, Registry
from irkit.trust.scene import TRIES, Scene, attempt

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
PAYLOAD_TYPE = "cosign container image signature"
BUNDLE = dsse.SIGSTORE_BUNDLE
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
KEYLESS = "it was made with a certificate (keyless): irkit checks keys only"


class Cosign:
    """Simple signing, by tag and by referrers."""

    kind = "cosign"

    def find(self, scene: Scene) -> Iterator[Found]:
        """Every layer of every manifest that holds signatures over a target."""
        registry = scene.registry
        if registry is None:
            return
        keys = scene.keys_for(self.kind)
        for target in scene.targets:
            tag = f"{target.replace(':', '-')}.sig"
            try:
                manifest = registry.manifest(tag)
            except NotTrusted as error:
                if getattr(error, "status", 0) != 404:
                    yield Found(self.kind, tag, problem=error.message)
            else:
                yield from _layers(registry, manifest, tag, target, keys)
            for where, attached in attached_to(registry, target, self.kind):
                if isinstance(attached, Found):
                    yield attached
                elif any(row.get("mediaType") == SIMPLE for row in _rows(attached, "layers")):
                    yield from _layers(registry, attached, where, target, keys)


class Bundle:
    """Sigstore bundles v0.3, by referrers."""

    kind = "bundle"

    def find(self, scene: Scene) -> Iterator[Found]:
        """Every bundle that refers to a target."""
        registry = scene.registry
        if registry is None:
            return
        keys = scene.keys_for(self.kind)
        for target in scene.targets:
            for where, attached in attached_to(registry, target, self.kind):
                if isinstance(attached, Found):
                    yield attached
                    continue
                for row in _rows(attached, "layers"):
                    if str(row.get("mediaType", "")).startswith(BUNDLE_PREFIX):
                        yield attempt(self.kind, where, partial(_bundle, registry, row, where, target, keys))


def attached_to(registry: Registry, target: str, kind: str) -> Iterator[tuple[str, Manifest | Found]]:
    """Manifests that refer to a digest: fetched by their own digest, and their ``subject`` compared.

    The lists of referrers, and what they say of types, are the registry's word.  What can't be had is a ``Found`` with a
    problem.
    """
    try:
        how, digests = registry.referrers(target)
    except NotTrusted as error:
        yield f"referrers of {target}", Found(kind, f"referrers of {target}", problem=error.message)
        return
    for number, digest in enumerate(digests):
        where = f"{how}: {digest}"
        if number >= TRIES:
            yield where, Found(kind, where, problem=f"more than {TRIES} manifests refer to it: the rest was not tried")
            return
        try:
            manifest = registry.manifest(digest)
            subject = strict.mapping(manifest.document, "subject", f"the manifest {digest}").get("digest")
            if subject != target:
                raise NotTrusted(f"it refers to {printable(str(subject), 100)}, not to {target}")
            yield where, manifest
        except NotTrusted as error:
            yield where, Found(kind, where, problem=error.message)


def _rows(manifest: Manifest, key: str) -> list[dict[str, Any]]:
    rows = manifest.document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _layers(
    registry: Registry, manifest: Manifest, where: str, target: str, keys: tuple[TrustKey, ...]
) -> Iterator[Found]:
    rows = _rows(manifest, "layers")
    if not rows:
        yield Found("cosign", where, problem="there are no signatures in it")
    for number, row in enumerate(rows):
        place = f"{where}, layer {number + 1}"
        if number >= TRIES:
            yield Found("cosign", place, problem=f"more than {TRIES} signatures: the rest was not tried")
            return
        yield attempt("cosign", place, partial(_simple, registry, row, place, target, keys))


def _simple(registry: Registry, row: dict[str, Any], where: str, target: str, keys: tuple[TrustKey, ...]) -> Found:
    if row.get("mediaType") != SIMPLE:
        raise NotTrusted(f"it is of the type {printable(str(row.get('mediaType')), 100)}, not {SIMPLE}")
    notes = strict.words(row.get("annotations"))
    signature = _base64(notes.get(SIGNATURE, ""))
    payload = registry.blob(strict.text(row, "digest", "the layer"), SIGNATURE_LIMIT)
    key = signer(payload, signature, keys)
    if key is None:
        raise NotTrusted(KEYLESS if CERTIFICATE in notes else f"none of the rule's keys made it ({len(keys)} tried)")
    return simple_payload(payload, PAYLOAD_TYPE, "cosign", where, target, key)


def signer(message: bytes, signature: bytes, keys: tuple[TrustKey, ...]) -> TrustKey | None:
    """Whose signature it is."""
    return next((one for one in keys if one.public is not None and one.public.verifies(signature, message)), None)


def simple_payload(payload: bytes, kind_of_payload: str, kind: str, where: str, target: str, key: TrustKey) -> Found:
    """Read a simple signing payload whose signature held.  Raises ``NotTrusted`` when it is about something else."""
    what = "the payload"
    document = strict.load_object(payload, what)
    strict.exactly(document, {"critical", "optional"} if "optional" in document else {"critical"}, what)
    critical = strict.mapping(document, "critical", what)
    strict.exactly(critical, {"identity", "image", "type"}, what)
    identity, image = strict.mapping(critical, "identity", what), strict.mapping(critical, "image", what)
    strict.exactly(identity, {"docker-reference"}, what)
    strict.exactly(image, {"docker-manifest-digest"}, what)
    if critical["type"] != kind_of_payload:
        raise NotTrusted(f"the payload is a {printable(str(critical['type']), 100)!r}, not a {kind_of_payload!r}")
    digest = strict.text(image, "docker-manifest-digest", what)
    if digest != target:
        raise NotTrusted(f"it is over {printable(digest, 100)}, not over {target}")
    names = strict.text(identity, "docker-reference", what)
    return Found(kind, where, target, key, names or "(none)", strict.words(document.get("optional")))


def _bundle(registry: Registry, row: dict[str, Any], where: str, target: str, keys: tuple[TrustKey, ...]) -> Found:
    if row.get("mediaType") != BUNDLE:
        raise NotTrusted(f"it is a bundle of another version: {printable(str(row.get('mediaType')), 100)}")
    body = registry.blob(strict.text(row, "digest", "the layer"), SIGNATURE_LIMIT)
    return read_bundle(body, where, target, keys)


def read_bundle(body: bytes, where: str, target: str, keys: tuple[TrustKey, ...]) -> Found:
    """Check a sigstore bundle v0.3 over a manifest's digest.  Raises ``NotTrusted``."""
    document = strict.load_object(body, "the bundle")
    if document.get("mediaType") != BUNDLE:
        raise NotTrusted(f"the bundle says that it is a {printable(str(document.get('mediaType')), 100)}")
    if "messageSignature" in document:
        raise NotTrusted("the bundle holds a bare signature, no statement")
    material = strict.mapping(document, "verificationMaterial", "the bundle")
    envelope = strict.mapping(document, "dsseEnvelope", "the bundle")
    if envelope.get("payloadType") != dsse.PAYLOAD_TYPE:
        raise NotTrusted(
            f"the envelope holds {printable(str(envelope.get('payloadType')), 100)}, not an in-toto statement"
        )
    rows = strict.items(envelope, "signatures", "the envelope", TRIES)
    payload = _base64(strict.text(envelope, "payload", "the envelope"))
    message = dsse.pae(dsse.PAYLOAD_TYPE, payload)
    signatures = [_base64(strict.text(one, "sig", "the envelope")) for one in rows]
    key = next((found for one in signatures if (found := signer(message, one, keys)) is not None), None)
    if key is None:
        keyless = "certificate" in material or "x509CertificateChain" in material
        raise NotTrusted(KEYLESS if keyless else f"none of the rule's keys made it ({len(keys)} tried)")
    return _statement(payload, where, target, key)


def _statement(payload: bytes, where: str, target: str, key: TrustKey) -> Found:
    what = "the statement"
    document = strict.load_object(payload, what)
    if document.get("_type") not in dsse.STATEMENT_TYPES:
        raise NotTrusted(f"the payload is no in-toto statement but {printable(str(document.get('_type')), 100)}")
    if document.get("predicateType") != PREDICATE:
        raise NotTrusted(f"it states {printable(str(document.get('predicateType')), 100)}, not {PREDICATE}")
    subjects = strict.items(document, "subject", what, TRIES)
    if len(subjects) != 1:
        raise NotTrusted(f"{what} has {len(subjects)} subjects: one is needed")
    digest = strict.mapping(subjects[0], "digest", what).get("sha256")
    if f"sha256:{digest}" != target:
        raise NotTrusted(f"it is over sha256:{printable(str(digest), 100)}, not over {target}")
    return Found("bundle", where, target, key, "", strict.words(subjects[0].get("annotations")))


def _base64(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotTrusted("its base64 can't be read") from error
    if not found:
        raise NotTrusted("there is no signature in it")
    return found
