"""RFC 3161 timestamps of a seal's signature: ``seal.tsr``, the authority's whole answer as it came (DER).

The signature's bytes are stamped, so the same token fits the sigstore bundle, and ``openssl ts -verify -data SIGNATURE``
reads it.  What a token proves: the signature existed at its time, if its authority is to be believed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from irkit.clock import rfc3339
from irkit.errors import CheckFailed, IrkitError, KeyProblem, ServerUnreachable, UsageProblem

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

TOKEN_LIMIT = 1024 * 1024
TIMEOUT = 30.0
HASHES = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
GRANTED = (0, 1)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a token is worth.  ``state``: ``none``, ``valid``, ``unchecked`` (no authority's certificate to hold it
    against), ``invalid`` (it does not hold), ``unreadable`` (it can't be parsed, so neither is known).
    ``time``: RFC 3339; proven only when ``valid``."""

    state: str = "none"
    time: str = ""
    why: str = ""

    def to_json(self) -> dict[str, str]:
        """As in ``irkit bundle verify --json``."""
        return {"state": self.state, "time": self.time, "why": self.why}


def check(token: bytes, signature: bytes, roots: Sequence[Certificate]) -> Stamp:
    """Hold a token against the signature that it is said to stamp, and against the authorities' certificates."""
    try:
        answer = _parse(token)
        facts = answer.tst_info
        time = rfc3339(facts.gen_time.timestamp())
        algorithm = HASHES.get(facts.message_imprint.hash_algorithm.dotted_string, "")
        imprint = facts.message_imprint.message
    except CheckFailed as error:
        return Stamp("unreadable", why=error.message)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        return Stamp("unreadable", why=f"the timestamp can't be parsed: {error}")
    if answer.status not in GRANTED:
        return Stamp("invalid", why="the authority did not grant it")
    if not algorithm or hashlib.new(algorithm, signature).digest() != imprint:
        return Stamp("invalid", why="it is of something else than this seal's signature")
    if not roots:
        return Stamp("unchecked", time, "no certificate of a timestamp authority is trusted here")
    return _held_against(answer, imprint, roots, time)


def _parse(token: bytes) -> Any:
    from rfc3161_client import decode_timestamp_response

    try:
        return decode_timestamp_response(token)
    except Exception as error:
        raise CheckFailed(f"the timestamp can't be parsed: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what Rust code raises when it gives up
            raise
        raise CheckFailed("the timestamp can't be parsed") from error


def _held_against(answer: Any, imprint: bytes, roots: Sequence[Certificate], time: str) -> Stamp:
    from rfc3161_client import VerificationError, VerifierBuilder

    reasons: list[str] = []
    for root in roots:
        try:
            VerifierBuilder(roots=[root]).build().verify(answer, imprint)
        except (VerificationError, ValueError) as error:
            reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
        else:
            return Stamp("valid", time)
    return Stamp("invalid", why=f"no trusted authority made it: {reasons[0]}")


def certificates_from(path: Path) -> list[Certificate]:
    """The certificates in a PEM file.  Raises ``KeyProblem``."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise KeyProblem(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise KeyProblem(
            f"{path} holds no certificate in PEM form", hint="the root certificate of the authority"
        ) from error
    return list(found)


def ask(url: str, signature: bytes, roots: Sequence[Certificate]) -> bytes:
    """A timestamp of ``signature`` from the authority at ``url`` (RFC 3161, 3.4: over HTTP), checked.

    Raises ``UsageProblem`` for what is no URL, ``IrkitError`` when the authority can't be reached or refuses,
    ``CheckFailed`` when its answer does not hold.
    """
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageProblem(f"not an authority's URL: {url}", hint="https://HOST/PATH")
    request = TimestampRequestBuilder().data(signature).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = _post(url, request.as_bytes())
    status = _status(answer)
    if status is not None and status not in GRANTED:
        raise IrkitError(f"the timestamp authority at {_shown(url)} refused (status {status})")
    stamp = check(answer, signature, roots)
    if stamp.state == "unreadable":
        raise IrkitError(
            f"the answer of {_shown(url)} can't be read: {stamp.why}", hint="is this the URL of a timestamp authority?"
        )
    if stamp.state == "invalid":
        raise CheckFailed(f"the answer of {_shown(url)} does not hold: {stamp.why}")
    if _parse(answer).tst_info.nonce != request.nonce:
        raise CheckFailed(f"the answer of {_shown(url)} is to another question: its nonce differs")
    return answer


def _status(answer: bytes) -> int | None:
    try:
        return int(_parse(answer).status)
    except CheckFailed:
        return None


def _post(url: str, body: bytes) -> bytes:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, body, {"Content-Type": "application/timestamp-query"})  # noqa: S310 - checked
    try:
        with _opener().open(request, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(TOKEN_LIMIT + 1)
    except urllib.error.HTTPError as error:
        raise IrkitError(f"the timestamp authority at {_shown(url)} answered {error.code}") from error
    except (OSError, ValueError) as error:
        raise ServerUnreachable(
            f"no timestamp: {_shown(url)} can't be reached: {getattr(error, 'reason', error)}",
            hint="the bundle is as it was, and valid; ask again later",
        ) from error
    if len(data) > TOKEN_LIMIT:
        raise IrkitError(f"the answer of {_shown(url)} is too large to be a timestamp")
    return data


def _opener() -> Any:
    """Follows no redirect: an operator allows an address, not where it leads."""
    import urllib.request

    class Here(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(Here())


def _shown(url: str) -> str:
    """Without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", url)
