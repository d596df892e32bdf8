"""cosign's private key files: PEM of base64(JSON): scrypt, then nacl/secretbox over PKCS#8 DER (sigstore/cosign, pkg/cosign/keys.go).

Needs PyNaCl (``pip install irkit[cosign]``).
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from irkit.errors import KeyProblem

PEM = re.compile(
    rb"-----BEGIN ENCRYPTED (COSIGN|SIGSTORE) PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END ENCRYPTED \1 PRIVATE KEY-----"
)
COST_LIMIT = 1 << 20


def is_cosign(data: bytes) -> bool:
    """Whether ``data`` is one of cosign's key files."""
    return PEM.search(data) is not None


def decrypt(data: bytes, passphrase: bytes) -> bytes:
    """The key as PKCS#8 DER.  Raises ``KeyProblem``."""
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError as error:
        raise KeyProblem("cosign's key files need PyNaCl", hint="pip install 'irkit[cosign]'") from error
    match = PEM.search(data)
    try:
        raw = json.loads(base64.b64decode(match.group(2) if match else b""))
        if (raw["kdf"]["name"], raw["cipher"]["name"]) != ("scrypt", "nacl/secretbox"):
            raise ValueError("another way of encryption")
        key = _scrypt(passphrase, base64.b64decode(raw["kdf"]["salt"]), raw["kdf"]["params"])
        return SecretBox(key).decrypt(base64.b64decode(raw["ciphertext"]), base64.b64decode(raw["cipher"]["nonce"]))
    except CryptoError as error:
        raise KeyProblem("the cosign key can't be opened: wrong passphrase") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KeyProblem(f"the cosign key can't be read: {error}") from error


def _scrypt(passphrase: bytes, salt: bytes, cost: dict[str, Any]) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    n, r, p = (int(cost[name]) for name in ("N", "r", "p"))
    if not (1 < n <= COST_LIMIT and 0 < r <= 32 and 0 < p <= 16):
        raise ValueError("its cost is beyond reason")
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase)
