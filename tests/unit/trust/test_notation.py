"""Chains for code signing, and JWS envelopes by the Notary Project's specification: what each rule is there for."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from irkit.errors import NotTrusted, UsageProblem
from irkit.trust.certificates import check_chain, parse_identity
from irkit.trust.model import TrustKey
from irkit.trust.notation import read_envelope
from tests.fakes.signers import b64url

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
DIGEST = "sha256:" + "1" * 64
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Made:
    """A certificate with its key, issued by another or by itself."""

    def __init__(
        self, name: str, issuer: Made | None = None, *, key: Private | None = None, ca: bool | None = False, length: int | None = None,
        sign: bool = True, issue: bool | None = None, extended: tuple[Any, ...] | None = (Usage.CODE_SIGNING,), start: datetime = NOW - DAY,
        end: datetime = NOW + DAY, digest: hashes.HashAlgorithm | None = None, critical: bool = True, encipher: bool = False, critical_ca: bool = True,
        signer: Made | None = None,
    ) -> None:  # fmt: skip
        self.key: Private = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        over = signer or issuer or self
        builder = (
            x509.CertificateBuilder().subject_name(self.subject).issuer_name((issuer or self).subject).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
        )  # fmt: skip
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, length if ca else None), critical_ca)
        certify = bool(ca) if issue is None else issue
        builder = builder.add_extension(
            x509.KeyUsage(sign, False, encipher, False, False, certify, certify, False, False), critical
        )
        if extended is not None and not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(extended)), False)
        self.certificate = builder.sign(over.key, digest or hashes.SHA256())


ROOT = Made("root", ca=True)


def chain(*made: Made) -> list[x509.Certificate]:
    return [one.certificate for one in made]


@pytest.mark.parametrize("link", [[], ["a"], ["a", "b"]])
def test_honest_chains(link: list[str]) -> None:
    made = [ROOT]
    for name in link:
        made.append(Made(name, made[-1], ca=True))
    leaf = Made("leaf", made[-1])
    assert check_chain(chain(leaf, *reversed(made)), chain(ROOT), ()) is leaf.certificate
    assert check_chain(chain(leaf, *reversed(made)), chain(ROOT), ["O=Example", "CN=other"]) is leaf.certificate
    alone = Made("alone")
    check_chain(chain(alone), chain(alone), ())


MIDDLE = Made("middle", ROOT, ca=True)
BAD = {
    "none": ([], "has 0 certificates"),
    "too many": ([Made("leaf", ROOT)] + [ROOT] * 8, "has 9 certificates"),
    "another root": ([Made("leaf", other := Made("root", ca=True)), other], "does not lead to"),
    "a gap": ([Made("leaf", MIDDLE), ROOT], "does not hold"),
    "wrong order": ([MIDDLE, Made("leaf", MIDDLE), ROOT], ""),
    "an issuer that did not sign": ([Made("leaf", ROOT, signer=Made("evil")), ROOT], "does not hold"),
    "an issuer that is none": ([Made("leaf", middle := Made("middle", ROOT)), middle, ROOT], "is no authority"),
    "an authority by a mark that is not critical": ([Made("leaf", middle := Made("m", ROOT, ca=True, critical_ca=False)), middle, ROOT], "is no authority"),
    "an authority that may not issue": ([Made("leaf", middle := Made("m", ROOT, ca=True, issue=False)), middle, ROOT], "may not issue"),
    "too deep": ([Made("leaf", low := Made("low", high := Made("high", top := Made("top", ROOT, ca=True, length=0), ca=True), ca=True)), low, high, top, ROOT], "so many authorities"),
    "expired": ([Made("leaf", ROOT, start=NOW - 3 * DAY, end=NOW - DAY), ROOT], "has expired"),
    "not yet": ([Made("leaf", ROOT, start=NOW + DAY, end=NOW + 2 * DAY), ROOT], "not valid yet"),
    "an expired authority": ([Made("leaf", middle := Made("m", ROOT, ca=True, start=NOW - 3 * DAY, end=NOW - DAY)), middle, ROOT], "has expired"),
    "no extended usage": ([Made("leaf", ROOT, extended=None), ROOT], "code signing alone"),
    "for servers": ([Made("leaf", ROOT, extended=(Usage.SERVER_AUTH,)), ROOT], "code signing alone"),
    "for servers too": ([Made("leaf", ROOT, extended=(Usage.CODE_SIGNING, Usage.SERVER_AUTH)), ROOT], "code signing alone"),
    "for anything": ([Made("leaf", ROOT, extended=(Usage.ANY_EXTENDED_KEY_USAGE,)), ROOT], "code signing alone"),
    "no signatures": ([Made("leaf", ROOT, sign=False, encipher=True), ROOT], "not one for signatures"),
    "usage that is not critical": ([Made("leaf", ROOT, critical=False), ROOT], "not one for signatures"),
    "more than signing": ([Made("leaf", ROOT, encipher=True), ROOT], "may do more than sign"),
    "an authority as the signer": ([Made("leaf", ROOT, ca=True), ROOT], ""),
    "a leaf that may issue": ([Made("leaf", ROOT, issue=True), ROOT], "may do more than sign"),
    "a short RSA key": ([Made("leaf", ROOT, key=rsa.generate_private_key(65537, 1024)), ROOT], "1024 bits"),
    "a short curve": ([Made("leaf", ROOT, key=ec.generate_private_key(ec.SECP224R1())), ROOT], "224 bits"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_bad_chains(name: str) -> None:
    made, reason = BAD[name]
    with pytest.raises(NotTrusted, match=reason or None):
        check_chain(chain(*made), chain(ROOT), ())


def test_a_trusted_certificate_that_did_not_sign_itself() -> None:
    leaf = Made("leaf", signer=Made("evil"))
    with pytest.raises(NotTrusted, match="does not hold"):
        check_chain(chain(leaf), chain(leaf), ())


def test_an_authority_alone_signs_nothing() -> None:
    with pytest.raises(NotTrusted):
        check_chain(chain(ROOT), chain(ROOT), ())


def test_identities() -> None:
    leaf = Made("release", ROOT)
    for good in ("O=Example", "CN=release,O=Example", "O=Example, CN=release"):
        check_chain(chain(leaf, ROOT), chain(ROOT), [good])
    for bad in ("CN=releas", "CN=release,O=Exampl", "CN=release,C=US", "O=release"):
        with pytest.raises(NotTrusted, match="which the policy does not name"):
            check_chain(chain(leaf, ROOT), chain(ROOT), [bad])
    with pytest.raises(UsageProblem):
        parse_identity("release")


# -- envelopes ------------------------------------------------------------------------------------------------------

HEADERS = {
    "alg": "ES256", "cty": "application/vnd.cncf.notary.payload.v1+json", "crit": ["io.cncf.notary.signingScheme"],
    "io.cncf.notary.signingScheme": "notary.x509", "io.cncf.notary.signingTime": "2026-01-02T03:04:05Z",
}  # fmt: skip
PAYLOAD: dict[str, Any] = {"targetArtifact": {"mediaType": "m", "digest": DIGEST, "size": 1}}
KEY = TrustKey("corp", "sha256:x", certificates=(ROOT.certificate,))
LEAF = Made("leaf", ROOT)


def envelope(leaf: Made = LEAF, headers: dict[str, Any] | None = None, payload: Any = None, **over: Any) -> bytes:
    protected = b64url(json.dumps({k: v for k, v in {**HEADERS, **(headers or {})}.items() if v is not None}).encode())
    body = b64url(json.dumps(PAYLOAD if payload is None else payload).encode())
    message = f"{protected}.{body}".encode()
    if isinstance(leaf.key, rsa.RSAPrivateKey):
        digest = {2048: hashes.SHA256(), 3072: hashes.SHA384(), 4096: hashes.SHA512()}.get(
            leaf.key.key_size, hashes.SHA256()
        )
        signature = leaf.key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    else:
        size = (leaf.key.curve.key_size + 7) // 8
        kind = {32: hashes.SHA256(), 48: hashes.SHA384(), 66: hashes.SHA512()}[size]
        r, s = decode_dss_signature(leaf.key.sign(message, ec.ECDSA(kind)))
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    x5c = [base64.b64encode(one.certificate.public_bytes(serialization.Encoding.DER)).decode() for one in (leaf, ROOT)]
    return json.dumps(
        {"payload": body, "protected": protected, "header": {"x5c": x5c}, "signature": b64url(signature), **over}
    ).encode()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("key", "alg"),
    [(ec.SECP256R1(), "ES256"), (ec.SECP384R1(), "ES384"), (ec.SECP521R1(), "ES512"), (2048, "PS256"), (3072, "PS384")],
)  # fmt: skip
def test_algorithms(key: Any, alg: str) -> None:
    private = rsa.generate_private_key(65537, key) if isinstance(key, int) else ec.generate_private_key(key)
    leaf = Made("leaf", ROOT, key=private)
    found = read_envelope(envelope(leaf, {"alg": alg}), "x", DIGEST, (KEY,))
    assert found.key == KEY and found.over == DIGEST and found.names == ""
    for other in ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "HS256", "none", "", None, 1):
        if other != alg:
            with pytest.raises(NotTrusted, match="it says that its algorithm"):
                read_envelope(envelope(leaf, {"alg": other}), "x", DIGEST, (KEY,))


@pytest.mark.parametrize(
    "headers",
    [
        {"cty": "application/json"}, {"cty": None}, {"io.cncf.notary.signingScheme": "notary.x509.signingAuthority"}, {"io.cncf.notary.signingScheme": None},
        {"crit": None}, {"crit": []}, {"crit": "io.cncf.notary.signingScheme"}, {"crit": [1]}, {"crit": ["io.cncf.notary.signingScheme"] * 2},
        {"crit": ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"]}, {"io.cncf.notary.expiry": "2099-01-01T00:00:00Z"},
        {"crit": ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"], "io.cncf.notary.expiry": "2020-01-01T00:00:00Z"},
        {"crit": ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"], "io.cncf.notary.expiry": "soon"},
        {"io.cncf.notary.authenticSigningTime": "2026-01-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_headers(headers: dict[str, Any]) -> None:
    with pytest.raises(NotTrusted):
        read_envelope(envelope(headers=headers), "x", DIGEST, (KEY,))


@pytest.mark.parametrize(
    "over",
    [
        {"signature": ""}, {"signature": "AAAA"}, {"signature": "a=="}, {"payload": b64url(b"{}")}, {"protected": b64url(b"{}")}, {"payload": "é"},
        {"header": {}}, {"header": {"x5c": []}}, {"header": {"x5c": ["!"]}}, {"header": {"x5c": [1]}}, {"header": {"x5c": ["AAAA"]}}, {"extra": 1}, {"payload": 1},
    ],
)  # fmt: skip
def test_envelopes(over: dict[str, Any]) -> None:
    with pytest.raises(NotTrusted):
        read_envelope(envelope(**over), "x", DIGEST, (KEY,))


@pytest.mark.parametrize(
    "payload",
    [{}, [], {"targetArtifact": []}, {"targetArtifact": {}}, {"targetArtifact": {"digest": "sha256:" + "2" * 64}}],
)
def test_payloads(payload: Any) -> None:
    with pytest.raises(NotTrusted):
        read_envelope(envelope(payload=payload), "x", DIGEST, (KEY,))


def test_no_trust_store() -> None:
    with pytest.raises(NotTrusted, match="no trust store"):
        read_envelope(envelope(), "x", DIGEST, ())
