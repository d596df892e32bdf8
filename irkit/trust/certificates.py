"""X.509 chains for code signing, by the Notary Project's certificate requirements (signature-specification.md).

Stricter in one point: the signing certificate must have the extended key usage codeSigning (there it may be missing).
Nothing is asked of revocation lists or OCSP: a policy revokes keys by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from irkit.errors import KeyProblem, NotTrusted, UsageProblem
from irkit.text import printable

CHAIN_LIMIT = 8
STORE_LIMIT = 1024 * 1024
_WEAK = (hashes.MD5, hashes.SHA1)
_FORBIDDEN = (
    "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
)  # fmt: skip


def load_store(path: Path) -> tuple[x509.Certificate, ...]:
    """A trust store: one or more certificates in PEM.  Raises ``KeyProblem``."""
    try:
        with path.open("rb") as file:
            found = x509.load_pem_x509_certificates(file.read(STORE_LIMIT))
    except OSError as error:
        raise KeyProblem(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise KeyProblem(f"{path} holds no certificate in PEM form") from error
    if len(found) != 1:
        raise KeyProblem(f"{path} holds {len(found)} certificates: one a key", hint="one key for each authority")
    return tuple(found)


def key_id(certificate: x509.Certificate) -> str:
    """``sha256:`` of the DER SubjectPublicKeyInfo, as with other keys."""
    encoded = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(encoded).hexdigest()


def parse_identity(text: str) -> frozenset[tuple[str, str]]:
    """A subject as ``C=US,O=Example`` (RFC 4514).  Raises ``UsageProblem``."""
    try:
        name = x509.Name.from_rfc4514_string(text.replace(", ", ","))
    except ValueError as error:
        raise UsageProblem(f"not a subject: {printable(text, 200)}", hint="like C=US,O=Example,CN=release") from error
    return frozenset((one.oid.dotted_string, str(one.value)) for one in name)


def check_chain(
    chain: Sequence[x509.Certificate], store: Sequence[x509.Certificate], identities: Sequence[str]
) -> x509.Certificate:
    """The signing certificate of a chain (leaf first) that leads to a certificate of the store.  Raises ``NotTrusted``.

    Every certificate must be valid now: there is no trusted time of the signature.
    """
    if not chain or len(chain) > CHAIN_LIMIT:
        raise NotTrusted(f"its chain has {len(chain)} certificates: 1 to {CHAIN_LIMIT} are allowed")
    trusted = {one.public_bytes(serialization.Encoding.DER) for one in store}
    end = next((n for n, one in enumerate(chain) if one.public_bytes(serialization.Encoding.DER) in trusted), None)
    if end is None:
        raise NotTrusted("its chain does not lead to a certificate that is trusted here")
    try:
        _leaf(chain[0], alone=end == 0)
        for below, (one, issuer) in enumerate(pairwise(chain[: end + 1])):
            _authority(issuer, below)
            one.verify_directly_issued_by(issuer)
        for one in chain[: end + 1]:
            _valid_now(one)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise NotTrusted(f"its chain does not hold: {printable(str(error) or type(error).__name__, 200)}") from error
    if identities and not _is_one_of(chain[0], identities):
        raise NotTrusted(
            f"its certificate is of {printable(chain[0].subject.rfc4514_string(), 200)}, which the policy does not name"
        )
    return chain[0]


def _is_one_of(leaf: x509.Certificate, identities: Sequence[str]) -> bool:
    have = {(one.oid.dotted_string, str(one.value)) for one in leaf.subject}
    return any(parse_identity(one) <= have for one in identities)


def _valid_now(certificate: x509.Certificate) -> None:
    moment, name = datetime.now(UTC), printable(certificate.subject.rfc4514_string(), 100)
    if moment > certificate.not_valid_after_utc:
        raise NotTrusted(f"the certificate {name} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if moment < certificate.not_valid_before_utc:
        raise NotTrusted(f"the certificate {name} is not valid yet")
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, _WEAK):
        raise NotTrusted(f"the certificate {name} is signed with a weak digest, or without one")


def _leaf(leaf: x509.Certificate, *, alone: bool) -> None:
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.critical or not usage.value.digital_signature:
        raise NotTrusted("its certificate is not one for signatures (key usage)")
    if any(getattr(usage.value, name) for name in _FORBIDDEN):
        raise NotTrusted("its certificate may do more than sign (key usage)")
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    if extended is None or list(extended.value) != [ExtendedKeyUsageOID.CODE_SIGNING]:
        raise NotTrusted("its certificate is not one for code signing alone (extended key usage)")
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        raise NotTrusted("its certificate is an authority's")
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise NotTrusted(f"its RSA key has {key.key_size} bits: 2048 are needed")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 256:
        raise NotTrusted(f"its key has {key.key_size} bits: 256 are needed")
    if alone:  # a trusted certificate that signs itself
        leaf.verify_directly_issued_by(leaf)


def _authority(issuer: x509.Certificate, below: int) -> None:
    """``below``: how many authorities stand between it and the leaf."""
    name = printable(issuer.subject.rfc4514_string(), 100)
    basic, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    if basic is None or not basic.critical or not basic.value.ca:
        raise NotTrusted(f"{name} is no authority, but issued a certificate of its chain")
    if basic.value.path_length is not None and below > basic.value.path_length:
        raise NotTrusted(f"{name} may not have so many authorities below it")
    if usage is None or not usage.critical or not usage.value.key_cert_sign:
        raise NotTrusted(f"{name} may not issue certificates (key usage)")


def _extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]):  # type: ignore[no-untyped-def]
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
