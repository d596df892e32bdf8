"""The Update Framework's metadata as Notary v1 writes it (theupdateframework/notary, tuf/data): signatures, roles, expiry.

Signed is the canonical JSON of ``signed`` (sorted keys, no spaces), made anew from what was parsed, so what is read is
what was signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from irkit.clock import now
from irkit.errors import NotTrusted, UsageProblem
from irkit.evidence.validity import parse_time
from irkit.text import printable
from irkit.trust import strict

KEYS = 100
_FRACTION = re.compile(r"\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a role.  ``id`` is computed from its content; ``canonical``: of the bare key inside a certificate."""

    id: str
    canonical: str
    public: Any
    name: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """Who may sign a kind of metadata, and how many of them must."""

    keys: tuple[Key, ...]
    threshold: int


def canonical(value: Any) -> bytes:
    """OLPC canonical JSON of what TUF uses.  Raises ``NotTrusted`` for numbers and texts that have more than one form."""
    _plain(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(value: Any) -> None:
    if isinstance(value, float):
        raise NotTrusted("the trust data hold a number that is no whole one")
    if isinstance(value, str) and any(ord(char) < 0x20 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise NotTrusted("the trust data hold a text with control characters")
    for one in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        _plain(one)


def open_signed(body: bytes, kind: str, role: Role | None) -> dict[str, Any]:
    """The ``signed`` part of metadata of a kind (``Root``, ``Targets`` …), signed by its role and not expired.

    ``None`` for the role: the caller checks signatures (:func:`signers`).  Raises ``NotTrusted``.
    """
    document = strict.load_object(body, f"{kind} of the trust data")
    signed = strict.mapping(document, "signed", kind)
    if signed.get("_type") != kind:
        raise NotTrusted(
            f"the trust data hold a {printable(str(signed.get('_type')), 40)!r} where a {kind!r} is wanted"
        )
    if role is not None and len(signers(document, kind, role)) < role.threshold:
        raise NotTrusted(f"the {kind} of the trust data is not signed by its role")
    try:
        until = parse_time(_FRACTION.sub("", strict.text(signed, "expires", kind)))
    except UsageProblem as error:
        raise NotTrusted(f"the {kind} of the trust data has no expiry that can be read") from error
    if now() >= until:
        raise NotTrusted(f"the {kind} of the trust data expired at {until}")
    return signed


def signers(document: Mapping[str, Any], kind: str, role: Role) -> set[str]:
    """The ids of the role's keys that signed a whole metadata document."""
    message = canonical(document["signed"])
    found = set()
    for row in strict.items(document, "signatures", kind, KEYS):
        signature = _base64(row.get("sig"))
        for key in role.keys:
            if row.get("keyid") == key.id and _verifies(key.public, str(row.get("method")), signature, message):
                found.add(key.canonical)
    return found


def read_keys(rows: Mapping[str, Any]) -> dict[str, Key]:
    """Keys by the ids that their metadata give them, which must be theirs.  Kinds that irkit does not know are left out."""
    if len(rows) > KEYS:
        raise NotTrusted(f"the trust data have more than {KEYS} keys")
    found = {}
    for name, row in rows.items():
        key = _key(row) if isinstance(row, dict) else None
        if key is not None:
            if key.id != name:
                raise NotTrusted(f"the trust data give the key {key.id} another name")
            found[name] = key
    return found


def role_of(keys: Mapping[str, Key], row: Mapping[str, Any], what: str) -> Role:
    """A role from ``keyids`` and ``threshold``."""
    ids, threshold = row.get("keyids"), row.get("threshold")
    if not isinstance(ids, list) or not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 1:
        raise NotTrusted(f"the trust data's role {printable(what, 60)} can't be read")
    return Role(tuple(keys[one] for one in dict.fromkeys(map(str, ids)) if one in keys), threshold)


def matches(body: bytes, meta: Mapping[str, Any], name: str) -> bool:
    """Whether metadata are those that a snapshot or timestamp names: by length and sha256."""
    row = strict.mapping(meta, name, "the trust data's list")
    digest = strict.text(strict.mapping(row, "hashes", name), "sha256", name)
    return row.get("length") == len(body) and _base64(digest) == hashlib.sha256(body).digest()


def target_digest(row: Any) -> tuple[str, int]:
    """Manifest digest and size of a target."""
    if not isinstance(row, dict) or not isinstance(row.get("length"), int):
        raise NotTrusted("a target of the trust data can't be read")
    digest = _base64(strict.text(strict.mapping(row, "hashes", "a target"), "sha256", "a target"))
    return f"sha256:{digest.hex()}", int(row["length"])


def _key(row: Mapping[str, Any]) -> Key | None:
    kind = row.get("keytype")
    encoded = strict.text(strict.mapping(row, "keyval", "a key"), "public", "a key")
    data, name = _base64(encoded), ""
    try:
        if kind in ("ecdsa-x509", "rsa-x509"):
            certificate = x509.load_pem_x509_certificate(data)
            if certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ") <= now():
                return None
            names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            public: Any = certificate.public_key()
            name = str(names[0].value) if len(names) == 1 else ""
        elif kind in ("ecdsa", "rsa"):
            public = serialization.load_der_public_key(data)
        elif kind == "ed25519":
            public = ed25519.Ed25519PublicKey.from_public_bytes(data)
        else:
            return None
    except ValueError as error:
        raise NotTrusted("a key of the trust data can't be read") from error
    own = _id(str(kind), encoded)
    bare = own
    if name or str(kind).endswith("-x509"):
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        bare = _id(str(kind).removesuffix("-x509"), base64.b64encode(der).decode())
    return Key(own, bare, public, name)


def _id(kind: str, encoded: str) -> str:
    return hashlib.sha256(canonical({"keytype": kind, "keyval": {"private": None, "public": encoded}})).hexdigest()


def _verifies(key: Any, method: str, signature: bytes, message: bytes) -> bool:
    """The algorithm is the key's; the method must agree."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and method == "ecdsa":
            size = (key.key_size + 7) // 8
            if len(signature) != 2 * size:
                return False
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey) and method == "eddsa":
            key.verify(signature, message)
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048 and method == "rsapss":
            key.verify(signature, message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise NotTrusted("the trust data hold base64 that is no text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotTrusted("the trust data hold base64 that can't be read") from error
