"""DSSE envelopes (secure-systems-lab/dsse v1) over in-toto Statements v1, and the sigstore bundle v0.3 around them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irkit.errors import CheckFailed

if TYPE_CHECKING:
    from irkit.evidence.keys import PublicKey, Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPES = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ENVELOPE_LIMIT = 256 * 1024 * 1024


def pae(payload_type: str, body: bytes) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope: nothing in it is to be believed before :meth:`open_with` has returned."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    def open_with(self, keys: Iterable[PublicKey]) -> tuple[PublicKey, bytes]:
        """The key that signed, and the payload.  Raises ``CheckFailed`` when none of the keys did."""
        if self.payload_type != PAYLOAD_TYPE:
            raise CheckFailed(f"the envelope holds {self.payload_type!r}, not an in-toto statement")
        message = pae(self.payload_type, self.payload)
        tried = 0
        for key in keys:
            tried += 1
            if any(key.verifies(signature, message) for signature in self.signatures):
                return key, self.payload
        raise CheckFailed(f"no signature by a trusted key ({tried} tried)")


def sign(statement: Mapping[str, Any], signer: Signer) -> bytes:
    """An envelope as JSON bytes.  ``keyid`` is present and empty: cosign refuses another, securesystemslib wants one."""
    body = json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()
    return render(Envelope(PAYLOAD_TYPE, body, (signer.sign(pae(PAYLOAD_TYPE, body)),)))


def render(envelope: Envelope) -> bytes:
    """An envelope as irkit writes it, to the byte: what a signature does not cover has one form only."""
    raw = {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": [{"keyid": "", "sig": base64.b64encode(one).decode()} for one in envelope.signatures],
    }
    return json.dumps(raw, indent=1).encode() + b"\n"


def parse(data: bytes) -> Envelope:
    """Parse an envelope strictly enough to be safe, in either base64 alphabet.  Raises ``CheckFailed``."""
    if len(data) > ENVELOPE_LIMIT:
        raise CheckFailed("the envelope is too large to be one of irkit's")
    try:
        raw = json.loads(data)
        signatures = tuple(_decode(item["sig"]) for item in raw["signatures"])
        return Envelope(str(raw["payloadType"]), _decode(raw["payload"]), signatures)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise CheckFailed(f"not a DSSE envelope: {error}") from error


def _decode(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("a signature or payload must be a text")
    return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)


def statement(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1 over ``name → sha256``."""
    return {
        "_type": STATEMENT_TYPES[0],
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def parse_statement(payload: bytes, predicate_type: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Subjects (``name → sha256``) and predicate of a payload whose signature held.  Raises ``CheckFailed``."""
    try:
        raw = json.loads(payload)
        subjects = {str(item["name"]): str(item["digest"]["sha256"]) for item in raw["subject"]}
        if raw["_type"] not in STATEMENT_TYPES or len(subjects) != len(raw["subject"]):
            raise ValueError("not an in-toto statement, or a subject twice")
        found, predicate = raw["predicateType"], dict(raw["predicate"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckFailed(f"the signed payload can't be read: {error}") from error
    if found != predicate_type:
        raise CheckFailed(f"the signature is over {found!r}, not {predicate_type!r}")
    return subjects, predicate


def sigstore_bundle(envelope: bytes, key_hint: str, token: bytes = b"") -> bytes:
    """The same envelope as a sigstore bundle v0.3: no transparency log, key by hint, with the RFC 3161 answer ``token``."""
    raw = json.loads(envelope)
    stamps = {"rfc3161Timestamps": [{"signedTimestamp": base64.b64encode(token).decode()}]}
    bundle = {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": key_hint},
            "tlogEntries": [],
            **({"timestampVerificationData": stamps} if token else {}),
        },
        "dsseEnvelope": {
            "payload": raw["payload"],
            "payloadType": raw["payloadType"],
            "signatures": [{"sig": item["sig"], "keyid": ""} for item in raw["signatures"]],
        },
    }
    return json.dumps(bundle, indent=1).encode() + b"\n"


def token_of(bundle: bytes) -> bytes:
    """The RFC 3161 answer inside a sigstore bundle, empty when there is none.  Raises ``CheckFailed``."""
    try:
        data = json.loads(bundle)["verificationMaterial"].get("timestampVerificationData")
        return _decode(data["rfc3161Timestamps"][0]["signedTimestamp"]) if data else b""
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CheckFailed(f"not a sigstore bundle: {error}") from error


def from_sigstore_bundle(data: bytes) -> Envelope:
    """The envelope inside a sigstore bundle.  Raises ``CheckFailed``."""
    try:
        return parse(json.dumps(json.loads(data)["dsseEnvelope"]).encode())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckFailed(f"not a sigstore bundle: {error}") from error
