"""Keys: ECDSA P-256 (the default: cosign, HSMs) and Ed25519, as PKCS#8 and SubjectPublicKeyInfo PEM files.

A key is trusted for a use: ``evidence`` (seals of bundles) or ``image`` (clean images), so that a key lying on a
responder's machine can't vouch for images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from irkit.clock import now
from irkit.errors import KeyProblem, UsageProblem
from irkit.evidence.validity import Validity
from irkit.home import home, private_folder, write_file, write_json

KEY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
USES = ("evidence", "image", "approval", "playbook")
DEFAULT_NAME = "default"

AnyPrivate = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
AnyPublic = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
Passphrase = Callable[[str], bytes | None]
"""Asked with the key's name; ``None`` when there is nobody to ask."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key with the name that it has here."""

    name: str
    key: AnyPublic
    uses: tuple[str, ...] = USES
    created: str = ""
    private: bool = False
    validity: Validity = field(default_factory=Validity)

    @property
    def kind(self) -> str:
        """``p256`` or ``ed25519``."""
        return "p256" if isinstance(self.key, ec.EllipticCurvePublicKey) else "ed25519"

    @property
    def id(self) -> str:
        """``sha256:`` of the DER SubjectPublicKeyInfo."""
        return "sha256:" + hashlib.sha256(self._encode(serialization.Encoding.DER)).hexdigest()

    @property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo PEM."""
        return self._encode(serialization.Encoding.PEM)

    def _encode(self, encoding: serialization.Encoding) -> bytes:
        return self.key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made ``signature`` over ``message``."""
        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                self.key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit key list --json``."""
        return {
            "name": self.name,
            "id": self.id,
            "type": self.kind,
            "uses": list(self.uses),
            "created": self.created,
            "private": self.private,
            **self.validity.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key."""

    public: PublicKey
    private: AnyPrivate

    def sign(self, message: bytes) -> bytes:
        """A signature: DER ECDSA with SHA-256, or Ed25519."""
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(message, ec.ECDSA(hashes.SHA256()))
        return self.private.sign(message)


def keys_folder() -> Path:
    """Where keys are kept."""
    return home() / "keys"


def generate(
    name: str, kind: str = "p256", uses: tuple[str, ...] = ("evidence",), passphrase: bytes | None = None
) -> Signer:
    """Make a key pair and trust it for ``uses``.  Raises ``UsageProblem`` when the name is taken or is no name."""
    _check_free(name)
    private: AnyPrivate = (
        ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else ed25519.Ed25519PrivateKey.generate()
    )
    return _keep(name, private, uses, passphrase)


def _keep(name: str, private: AnyPrivate, uses: tuple[str, ...], passphrase: bytes | None) -> Signer:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    public = PublicKey(name, private.public_key(), uses, now(), private=True)
    write_file(private_folder(keys_folder()) / f"{name}.key", pem)
    save_public(public)
    return Signer(public, private)


def import_key(name: str, path: Path, uses: tuple[str, ...], passphrase: Passphrase) -> Signer:
    """Take a private key made elsewhere (PKCS#8, or cosign's), kept under the same passphrase.  Raises ``KeyProblem``."""
    from irkit.evidence import cosign_key

    _check_free(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KeyProblem(f"can't read the key {path}: {error.strerror}") from error
    foreign = cosign_key.is_cosign(data)
    secret = passphrase(path.name) if foreign or needs_passphrase(path) else None
    if foreign and secret is None:
        raise KeyProblem(f"the key {path} needs a passphrase", hint="--passphrase-file FILE, or use a terminal")
    try:
        if foreign:
            private = serialization.load_der_private_key(cosign_key.decrypt(data, secret or b""), None)
        else:
            private = serialization.load_pem_private_key(data, secret)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyProblem(f"the key {path} can't be opened: wrong passphrase, or not a private key") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise KeyProblem(f"the key {path} is neither a P-256 nor an Ed25519 key")
    load_public_pem(_public_pem(private), path.name)
    return _keep(name, private, uses, secret or None)


def trust(name: str, pem: bytes, uses: tuple[str, ...]) -> PublicKey:
    """Trust somebody else's public key for ``uses``."""
    _check_free(name)
    public = PublicKey(name, load_public_pem(pem, name), uses, now())
    private_folder(keys_folder())
    save_public(public)
    return public


def _check_free(name: str) -> None:
    if not KEY_NAME.fullmatch(name):
        raise UsageProblem(f"not a key's name: {name!r}", hint="lower-case letters, digits, dot, dash and underscore")
    if (keys_folder() / f"{name}.pub").exists():
        raise UsageProblem(f"there is a key {name!r} already", hint="choose another --name; `irkit key list` shows all")


def save_public(public: PublicKey) -> None:
    """Write a key's public part and what it is trusted for.  Raises ``StorageError``."""
    write_file(keys_folder() / f"{public.name}.pub", public.pem, mode=0o644)
    facts = {"uses": list(public.uses), "created": public.created, **public.validity.to_json()}
    write_json(keys_folder() / f"{public.name}.json", facts)


def load_public_pem(pem: bytes, name: str) -> AnyPublic:
    """A P-256 or Ed25519 public key.  Raises ``KeyProblem`` for anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyProblem(
            f"{name} is not a public key in PEM form", hint="`irkit key list --pem NAME` prints one"
        ) from error
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise KeyProblem(f"{name} is neither a P-256 nor an Ed25519 key")


def public_from_file(path: Path, use: str | None = None) -> PublicKey:
    """A public key file given by the user: trusted for everything, because the user named it, but not beyond the limits
    that are known of the same key here.  Raises ``KeyProblem``, also for an ``image`` when it may not vouch now.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise KeyProblem(f"can't read the key {path}: {error.strerror}") from error
    key = PublicKey(path.name, load_public_pem(pem, path.name))
    key = replace(key, validity=_known_limits(key))
    if use == "image" and (objection := key.validity.objection_now()):
        raise KeyProblem(f"the key {path} may not vouch for an image: {objection}")
    return key


def _known_limits(key: PublicKey) -> Validity:
    """The limits of the same key under any name here; of a key that is known twice the revocation counts."""
    same = [one.validity for one in _stored() if one.id == key.id and one.validity.limited]
    return min(same, key=lambda one: one.revoked or "~", default=key.validity)


def trusted_keys(use: str | None = None) -> Iterator[PublicKey]:
    """The keys trusted here, for one use or all.  A file that can't be read is passed over: it can't vouch.

    A signature of an image has no time: a key that is revoked or has run out is not among those for ``image``.  With
    evidence it is for :func:`irkit.evidence.verify.verify_store` to judge, by the time of the seal.
    """
    stored = list(_stored())
    revoked = {one.id: one.validity for one in stored if one.validity.revoked}
    for key in stored:
        judged = replace(key, validity=revoked.get(key.id, key.validity))
        if (use is None or use in key.uses) and not (use == "image" and judged.validity.objection_now()):
            yield judged


def _stored() -> Iterator[PublicKey]:
    folder = keys_folder()
    for path in sorted(folder.glob("*.pub")) if folder.is_dir() else ():
        with contextlib.suppress(KeyProblem, OSError, ValueError, KeyError, TypeError):
            facts = json.loads(path.with_suffix(".json").read_bytes())
            key = PublicKey(
                path.stem, load_public_pem(path.read_bytes(), path.name), tuple(facts["uses"]), str(facts["created"]),
                path.with_suffix(".key").exists(), Validity.from_json(facts),
            )  # fmt: skip
            yield key


def private_path(name_or_path: str) -> Path:
    """The file of a private key given as a name, a path or a ``file:`` URI."""
    plain = name_or_path.removeprefix("file:")
    return keys_folder() / f"{plain}.key" if KEY_NAME.fullmatch(plain) and "/" not in plain else Path(plain)


def needs_passphrase(path: Path) -> bool:
    """Whether a private key file is encrypted.  Cheap: nothing is parsed."""
    try:
        return b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()[:200]
    except OSError:
        return False


def load_signer(name_or_path: str, use: str, passphrase: Passphrase) -> Signer:
    """A private key, to be used for ``use``.  Raises ``KeyProblem``."""
    path = private_path(name_or_path)
    try:
        pem = path.read_bytes()
    except OSError as error:
        hint = "`irkit key list` shows the keys; `irkit key generate` makes one"
        raise KeyProblem(f"no private key {name_or_path!r}: {error.strerror}", hint=hint) from error
    secret = passphrase(path.stem) if needs_passphrase(path) else None
    try:
        private = serialization.load_pem_private_key(pem, secret)
    except TypeError as error:
        raise KeyProblem(
            f"the key {path.stem!r} needs a passphrase", hint="--passphrase-file FILE, or use a terminal"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyProblem(f"the key {path.stem!r} can't be opened: wrong passphrase, or not a PKCS#8 key") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise KeyProblem(f"the key {path.stem!r} is neither a P-256 nor an Ed25519 key")
    public = PublicKey(path.stem, load_public_pem(_public_pem(private), path.stem), _uses_of(path), private=True)
    if objection := _known_limits(public).objection_now():
        raise KeyProblem(f"the key {path.stem!r} may not sign: {objection}", hint="`irkit key rotate` makes a new one")
    if use not in public.uses:
        raise KeyProblem(
            f"the key {path.stem!r} is not for {use}", hint=f"`irkit key generate --name NAME --use {use}`"
        )
    return Signer(public, private)


def _public_pem(private: AnyPrivate) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _uses_of(path: Path) -> tuple[str, ...]:
    """A key kept here has its uses written beside it; one given by path is good for what it is given for."""
    if path.parent != keys_folder():
        return USES
    try:
        return tuple(json.loads(path.with_suffix(".json").read_bytes())["uses"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyProblem(f"what the key {path.stem!r} is for can't be read: {error}") from error
