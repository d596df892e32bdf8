"""Notary Project (notation) signatures: JWS envelopes (signature-envelope-jws.md) found by referrers.

Not supported, and reported as such: COSE envelopes, verification plugins, timestamps, revocation checks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from irkit.clock import now
from irkit.errors import NotTrusted, UsageProblem
from irkit.evidence.validity import parse_time
from irkit.text import printable
from irkit.trust import strict
from irkit.trust.certificates import CHAIN_LIMIT, check_chain
from irkit.trust.model import Found, TrustKey
from irkit.trust.registry import SIGNATURE_LIMIT, Manifest, Registry
from irkit.trust.scene import Scene, attempt
from irkit.trust.sigstore import attached_to

ARTIFACT = "application/vnd.cncf.notary.signature"
JWS, COSE = "application/jose+json", "application/cose"
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
SCHEME, EXPIRY, TIME, AUTHENTIC = (
    f"io.cncf.notary.{name}" for name in ("signingScheme", "expiry", "signingTime", "authenticSigningTime")
)
_CURVES = {256: ("ES256", hashes.SHA256()), 384: ("ES384", hashes.SHA384()), 521: ("ES512", hashes.SHA512())}
_SIZES = {2048: ("PS256", hashes.SHA256()), 3072: ("PS384", hashes.SHA384()), 4096: ("PS512", hashes.SHA512())}


class Notation:
    """JWS envelopes whose certificates lead to the rule's trust stores."""

    kind = "notation"

    def find(self, scene: Scene) -> Iterator[Found]:
        """Every signature manifest that refers to a target."""
        registry = scene.registry
        if registry is None:
            return
        keys = scene.keys_for(self.kind)
        for target in scene.targets:
            for where, attached in attached_to(registry, target, self.kind):
                if isinstance(attached, Found):
                    yield attached
                elif _is_signature(attached):
                    yield attempt(self.kind, where, partial(_fetch, registry, attached, where, target, keys))


def _is_signature(manifest: Manifest) -> bool:
    config = manifest.document.get("config")
    kinds = (manifest.document.get("artifactType"), config.get("mediaType") if isinstance(config, dict) else None)
    return ARTIFACT in kinds


def _fetch(registry: Registry, manifest: Manifest, where: str, target: str, keys: tuple[TrustKey, ...]) -> Found:
    rows = strict.items(manifest.document, "layers", "its manifest", 1)
    if not rows:
        raise NotTrusted("there is no signature in it")
    kind = rows[0].get("mediaType")
    if kind == COSE:
        raise NotTrusted("it is a COSE envelope, which irkit can't read")
    if kind != JWS:
        raise NotTrusted(f"its envelope is of the type {printable(str(kind), 100)}")
    body = registry.blob(strict.text(rows[0], "digest", "the layer"), SIGNATURE_LIMIT)
    return read_envelope(body, where, target, keys)


def read_envelope(body: bytes, where: str, target: str, keys: tuple[TrustKey, ...]) -> Found:
    """Check a JWS envelope over a manifest's digest.  Raises ``NotTrusted``."""
    envelope = strict.load_object(body, "the envelope")
    strict.exactly(envelope, {"payload", "protected", "header", "signature"}, "the envelope")
    protected, payload = (strict.text(envelope, name, "the envelope") for name in ("protected", "payload"))
    chain = _chain(strict.mapping(envelope, "header", "the envelope"))
    headers = strict.load_object(_base64url(protected), "the protected header")
    if not protected.isascii() or not payload.isascii():
        raise NotTrusted("the envelope is no ASCII text")
    _verify(
        chain[0],
        headers.get("alg"),
        f"{protected}.{payload}".encode(),
        _base64url(strict.text(envelope, "signature", "the envelope")),
    )
    _check_headers(headers)
    key = _trusted(chain, keys)
    target_artifact = strict.mapping(
        strict.load_object(_base64url(payload), "the payload"), "targetArtifact", "the payload"
    )
    digest = strict.text(target_artifact, "digest", "the payload")
    if digest != target:
        raise NotTrusted(f"it is over {printable(digest, 100)}, not over {target}")
    return Found(
        "notation",
        where,
        target,
        key,
        "",
        strict.words(target_artifact.get("annotations")),
        time=str(headers.get(TIME, "")),
    )


def _trusted(chain: list[x509.Certificate], keys: tuple[TrustKey, ...]) -> TrustKey:
    reasons = []
    for key in keys:
        try:
            check_chain(chain, key.certificates, key.identities)
        except NotTrusted as error:
            reasons.append(f"{key.name}: {error.message}")
        else:
            return key
    raise NotTrusted("; ".join(reasons) or "the rule has no trust store")


def _check_headers(headers: dict[str, Any]) -> None:
    """Only headers that are known, in the way that the specification wants them."""
    if headers.get("cty") != PAYLOAD:
        raise NotTrusted(f"it is over a {printable(str(headers.get('cty')), 100)}")
    if headers.get(SCHEME) == "notary.x509.signingAuthority":
        raise NotTrusted("it is by a signing authority, whose stores irkit does not know")
    if headers.get(SCHEME) != "notary.x509":
        raise NotTrusted(f"its signing scheme is {printable(str(headers.get(SCHEME)), 100)}")
    critical = headers.get("crit")
    wanted = {SCHEME, *({EXPIRY} if EXPIRY in headers else ())}
    if (
        not isinstance(critical, list)
        or not all(isinstance(one, str) for one in critical)
        or len(set(critical)) != len(critical)
    ):
        raise NotTrusted("it does not say which of its headers are critical")
    if set(critical) != wanted:
        odd = ", ".join(sorted(set(critical) ^ wanted))
        raise NotTrusted(f"its critical headers are not those that irkit knows: {printable(odd, 200)}")
    if AUTHENTIC in headers:
        raise NotTrusted("it claims an authentic time under a scheme that has none")
    if EXPIRY in headers:
        try:
            until = parse_time(str(headers[EXPIRY]))
        except UsageProblem as error:
            raise NotTrusted("its expiry can't be read") from error
        if now() >= until:
            raise NotTrusted(f"it expired at {until}")


def _verify(certificate: x509.Certificate, alg: object, message: bytes, signature: bytes) -> None:
    """The algorithm is the key's, never the header's; the header must only agree."""
    key = certificate.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
            key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
        ):
            name, digest = _CURVES[key.key_size]
            _agree(alg, name)
            size = (key.key_size + 7) // 8
            if len(signature) != 2 * size:
                raise NotTrusted("its signature has the wrong length")
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size in _SIZES:
            name, digest = _SIZES[key.key_size]
            _agree(alg, name)
            scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            key.verify(signature, message, scheme, digest)
        else:
            raise NotTrusted("its key is none that the specification allows")
    except InvalidSignature as error:
        raise NotTrusted("its signature is not over these bytes") from error


def _agree(alg: object, name: str) -> None:
    if alg != name:
        raise NotTrusted(f"it says that its algorithm is {printable(str(alg), 40)}; its key's is {name}")


def _chain(header: dict[str, Any]) -> list[x509.Certificate]:
    rows = header.get("x5c")
    if not isinstance(rows, list) or not 0 < len(rows) <= CHAIN_LIMIT or not all(isinstance(one, str) for one in rows):
        raise NotTrusted("it brings no certificates, or too many")
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(one, validate=True)) for one in rows]
    except (ValueError, binascii.Error) as error:
        raise NotTrusted("its certificates can't be read") from error


def _base64url(text: str) -> bytes:
    if "=" in text or "+" in text or "/" in text:
        raise NotTrusted("its base64url can't be read")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error) as error:
        raise NotTrusted("its base64url can't be read") from error
