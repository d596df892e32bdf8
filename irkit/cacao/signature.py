"""CACAO's own signatures: CACAO v2.0, 10.15 and appendix A; the scheme is JSS (ITU-T X.590, sections 6 to 8).

What is signed: the playbook with this one signature in it, without its ``value`` (and without what countersigns it), in
JCS form (RFC 8785); of that the hash as lower-case hex digits; and of those 64 or more characters the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from irkit.cacao.export import SPACE
from irkit.clock import now
from irkit.errors import CheckFailed, IrkitError, KeyProblem, UsageProblem
from irkit.evidence.keys import PublicKey, Signer, load_public_pem
from irkit.evidence.validity import parse_time
from irkit.text import printable

Json = dict[str, Any]
HASHES = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
"""IANA's names, as ``hash_algorithm`` has them, and Python's."""
ALGORITHMS = {"p256": "ES256", "ed25519": "Ed25519"}
"""By the kind of a key: RFC 7518, 3.4 (r and s, 32 bytes each) and RFC 8032; X.590 wants ``Ed25519``, not ``EdDSA``."""
NAMED = ("public_key", "public_cert_chain", "cert_url", "thumbprint")
"""How a signature may name its key; one of them must."""
LIMIT, DEPTH = 20, 8
"""How many signatures are looked at in all, and how deep one countersigns another: each takes a canonical form of it all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A signature of a document.  ``key``: the name of the trusted key that made it; ``why``: why it does not count."""

    id: str
    signee: str
    key: str = ""
    why: str = ""
    altered: bool = False
    """A key that is trusted here is named, and its signature is over something else."""

    @property
    def good(self) -> bool:
        """Whether it counts."""
        return bool(self.key) and not self.why

    def to_json(self) -> Json:
        """A row of ``irkit playbook import --json``."""
        return {"id": self.id, "signee": self.signee, "key": self.key, "good": self.good, "why": self.why}


def message(document: Mapping[str, Any], chain: Sequence[Mapping[str, Any]], hash_algorithm: str) -> bytes:
    """What a signature is over.  ``chain``: the one in ``signatures``, then each that countersigns it, down to the one meant.

    Raises ``CheckFailed`` for what JCS can't say (RFC 7493: numbers beyond a double, lone surrogates).
    """
    inner: Json = {}
    for position, one in enumerate(reversed(chain)):
        left_out = ("value", "signature") if position == 0 else ("signature",)
        inner = {name: value for name, value in one.items() if name not in left_out} | (
            {"signature": inner} if position else {}
        )
    try:
        canonical = rfc8785.dumps({**document, "signatures": [inner]})
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise CheckFailed(f"it has no canonical form (RFC 8785): {printable(str(error), 200)}") from error
    return hashlib.new(HASHES[hash_algorithm], canonical).hexdigest().encode("ascii")


def sign(document: Mapping[str, Any], signer: Signer, signee: str, until: str = "", *, revoke: bool = False) -> Json:
    """The document with one more signature, after those that are there.

    ``until``: when it shall no longer be valid (a date or a time), or never.  ``revoke``: instead of adding one, those
    that this key has made are made anew, as revoked.  Raises ``UsageProblem``, ``CheckFailed``.
    """
    old = _signatures(document)
    if revoke:
        mine = [one for one in old if isinstance(one, Mapping) and _names(one, signer.public)]
        if not mine:
            raise UsageProblem(f"the key {signer.public.name} has made no signature of it")
        return {
            **document,
            "signatures": [
                _made(document, {**one, "modified": _time(), "revoked": True}, signer) if one in mine else one
                for one in old
            ],
        }
    time = _time()
    limit = {"valid_until": parse_time(until)[:23] + "Z"} if until else {}
    if limit and limit["valid_until"] <= time:
        raise UsageProblem(f"{until} is past")
    fresh = {
        "type": "jss", "id": f"jss--{uuid.uuid4()}", "created_by": f"identity--{uuid.uuid5(SPACE, signee)}", "created": time,
        "modified": time, "signee": signee, "valid_from": time, **limit, "related_to": document.get("id"),
        "related_version": document.get("modified"), "hash_algorithm": "sha-256", "algorithm": ALGORITHMS[signer.public.kind],
        "public_key": _plain(signer.public),
    }  # fmt: skip
    return {**document, "signatures": [*old, _made(document, fresh, signer)]}


def _made(document: Mapping[str, Any], signature: Mapping[str, Any], signer: Signer) -> Json:
    bare = {name: value for name, value in signature.items() if name not in ("value", "signature")}
    raw = signer.sign(message(document, [bare], str(bare["hash_algorithm"])))
    if signer.public.kind == "p256":
        raw = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(raw))
    return {**bare, "value": base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")}


def _time() -> str:
    return now()[:23] + "Z"


def _plain(key: PublicKey) -> str:
    """A PEM's inside, without padding: so X.590's own examples have it, and its reference implementation reads no other."""
    der = key.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).rstrip(b"=").decode("ascii")


def verify(document: Mapping[str, Any], keys: Sequence[PublicKey]) -> list[Verdict]:
    """Every signature of a document, those that countersign others too, each after the one that it countersigns.

    ``keys``: the trusted ones.  A signature counts only if one of them made it over exactly this document, it is neither
    revoked nor out of its time, and no later version of it (the same ``id`` by the same key) has taken its place.
    """
    found: list[tuple[Verdict, Mapping[str, Any]]] = []
    for top in _signatures(document):
        chain: list[Mapping[str, Any]] = []
        one: Any = top
        while isinstance(one, Mapping) and len(chain) < DEPTH and len(found) < LIMIT:
            chain.append(one)
            found.append((_judge(document, chain, keys), one))
            one = one.get("signature")
        if len(found) >= LIMIT:
            found.append((Verdict("", "", why=f"no more than {LIMIT} signatures are looked at"), {}))
            break
        if one is not None:
            found.append((Verdict("", "", why="it is no signature object, or one too deep"), {}))
    return list(_last_versions(found))


def _signatures(document: Mapping[str, Any]) -> list[Any]:
    there = document.get("signatures", [])
    if not isinstance(there, list):
        raise CheckFailed("signatures is no list")
    return there


def _last_versions(found: Sequence[tuple[Verdict, Mapping[str, Any]]]) -> Iterator[Verdict]:
    """Of several versions of a signature by the same key the last one is meant: a revocation takes the place of the rest."""
    latest: dict[tuple[str, str], str] = {}
    for verdict, one in found:
        if verdict.key and not verdict.altered:
            place = verdict.id, verdict.key
            latest[place] = max(latest.get(place, ""), str(one.get("modified", "")))
    for verdict, one in found:
        newer = latest.get((verdict.id, verdict.key), "") > str(one.get("modified", ""))
        yield Verdict(verdict.id, verdict.signee, verdict.key, "a later version takes its place") if newer else verdict


def _judge(document: Mapping[str, Any], chain: Sequence[Mapping[str, Any]], keys: Sequence[PublicKey]) -> Verdict:
    one = chain[-1]
    identity, signee = str(one.get("id", "")), str(one.get("signee", ""))
    try:
        key = _maker(document, chain, keys)
    except _Altered as error:
        return Verdict(identity, signee, error.key, error.message, altered=True)
    except IrkitError as error:
        return Verdict(identity, signee, why=error.message)
    return Verdict(identity, signee, key.name, _objection(document, one) or key.validity.objection_now())


class _Altered(CheckFailed):
    """A trusted key is named, and it did not sign this."""

    def __init__(self, key: str) -> None:
        super().__init__(f"it is not what the key {key} has signed: the playbook or its signature was altered")
        self.key = key


def _maker(document: Mapping[str, Any], chain: Sequence[Mapping[str, Any]], keys: Sequence[PublicKey]) -> PublicKey:
    """The key that made a signature.  Raises ``CheckFailed`` with the reason."""
    one = chain[-1]
    algorithm, hashing = str(one.get("algorithm")), str(one.get("hash_algorithm"))
    if one.get("type") != "jss":
        raise CheckFailed(f"its type is {printable(str(one.get('type')), 40)!r}, not 'jss'")
    if algorithm not in ALGORITHMS.values():
        raise CheckFailed(
            f"its algorithm is {printable(algorithm, 40)}; irkit verifies {', '.join(ALGORITHMS.values())}"
        )
    if hashing not in HASHES:
        raise CheckFailed(f"its hash algorithm is {printable(hashing, 40)}; irkit knows {', '.join(HASHES)}")
    named = [name for name in NAMED if name in one]
    if len(named) != 1:
        raise CheckFailed(f"it must name its key by one of {', '.join(NAMED)}")
    meant = [key for key in keys if ALGORITHMS[key.kind] == algorithm and _names(one, key)]
    if not meant:
        raise CheckFailed("no key that is trusted for playbooks made it")
    over, value = message(document, chain, hashing), _value(one, algorithm)
    for key in meant:
        if key.verifies(value, over):
            return key
    if named == ["cert_url"]:
        raise CheckFailed(
            "its certificate is named by an address, which irkit does not fetch, and no trusted key made it"
        )
    raise _Altered(meant[0].name)


def _names(one: Mapping[str, Any], key: PublicKey) -> bool:
    """Whether a signature says that this key made it; of an address any may be meant.  Raises ``CheckFailed``."""
    if "cert_url" in one:
        return True
    if "thumbprint" in one:
        printed = base64.urlsafe_b64encode(bytes.fromhex(key.id.removeprefix("sha256:"))).rstrip(b"=").decode("ascii")
        return str(one["thumbprint"]).rstrip("=") == printed
    der = _decoded(one["public_key"]) if "public_key" in one else _certified(one.get("public_cert_chain"))
    pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"
    try:
        return PublicKey("", load_public_pem(pem, "")).id == key.id
    except KeyProblem:
        return False


def _certified(chain: Any) -> bytes:
    """The key of the first certificate, in DER.  Who issued it is not asked: keys are trusted here, not authorities."""
    if not isinstance(chain, list) or not chain:
        raise CheckFailed("public_cert_chain holds no certificate")
    try:
        certificate = x509.load_der_x509_certificate(_decoded(chain[0]))
        key = certificate.public_key()
        since, until = certificate.not_valid_before_utc.isoformat(), certificate.not_valid_after_utc.isoformat()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CheckFailed("its certificate can't be read") from error
    if not since[:19] <= now()[:19] <= until[:19]:
        raise CheckFailed(f"its certificate is good from {since} until {until}")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _decoded(text: Any) -> bytes:
    """Base64, with or without padding.  Raises ``CheckFailed``."""
    try:
        plain = "".join(str(text).split()).rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckFailed("its key is no base64") from error


def _value(one: Mapping[str, Any], algorithm: str) -> bytes:
    """The signature's bytes, as :meth:`irkit.evidence.keys.PublicKey.verifies` wants them.  Raises ``CheckFailed``."""
    text = str(one.get("value", "")).rstrip("=")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckFailed("its value is no base64url") from error
    if len(raw) != 64:
        raise CheckFailed(f"its value has {len(raw)} bytes, not the 64 of {algorithm}")
    if algorithm == "Ed25519":
        return raw
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def _objection(document: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Why a signature that holds does not count."""
    if one.get("revoked", False) is not False:
        return "its signer has revoked it"
    for name, meant in (("related_to", "id"), ("related_version", "modified")):
        if one.get(name) != document.get(meant):
            return f"its {name} is not this playbook's {meant}"
    for name, past in (("valid_from", False), ("valid_until", True)):
        if name in one:
            try:
                limit = parse_time(str(one[name]))
            except UsageProblem:
                return f"its {name} is no time"
            if (now() > limit) if past else (now() < limit):
                return f"it is good {'until' if past else 'from'} {limit}"
    return ""
