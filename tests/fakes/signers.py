"""Signatures made by others' tools (cosign, skopeo, gpg, openssl), and notation's envelopes by their specification."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from irkit.evidence import dsse
from tests.fakes.registry import Registry

ROOT = Path(__file__).parents[2]
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
NOTATION = "application/vnd.cncf.notary.signature"


def tool(name: str) -> str:
    done = subprocess.run([ROOT / "scripts" / "get-tools", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Cosign:
    """cosign, with keys in a folder: ``NAME.key``, ``NAME.pub``, without passphrases."""

    program: str
    folder: Path
    opened: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict, compare=False)

    def run(self, *argv: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        full = os.environ | OFFLINE | {"HOME": str(self.folder), "COSIGN_PASSWORD": "", **(env or {})}
        return subprocess.run(
            [self.program, *map(str, argv)],
            cwd=self.folder,
            env=full,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def key(self, name: str) -> Path:
        if not (self.folder / f"{name}.pub").exists():
            done = self.run("generate-key-pair", "--output-key-prefix", name)
            assert done.returncode == 0, done.stderr
        return self.folder / f"{name}.pub"

    def private(self, name: str) -> ec.EllipticCurvePrivateKey:
        """The key itself, for payloads that cosign would not make."""
        from irkit.evidence import cosign_key

        self.key(name)
        if name not in self.opened:  # scrypt is slow by design, and one test signs sixty times
            found = serialization.load_der_private_key(
                cosign_key.decrypt((self.folder / f"{name}.key").read_bytes(), b""), None
            )
            assert isinstance(found, ec.EllipticCurvePrivateKey)
            self.opened[name] = found
        return self.opened[name]

    def sign(self, reference: str, key: str = "alice", *words: str, env: dict[str, str] | None = None) -> None:
        self.key(key)
        done = self.run(
            "sign",
            "--key",
            f"{key}.key",
            "--tlog-upload=false",
            "--allow-http-registry",
            "-y",
            *words,
            reference,
            env=env,
        )
        assert done.returncode == 0, done.stderr

    def sign_as_referrer(self, reference: str, key: str = "alice") -> None:
        self.sign(reference, key, "--registry-referrers-mode=oci-1-1", env={"COSIGN_EXPERIMENTAL": "1"})

    def attest(self, reference: str, key: str = "alice", kind: str = "https://sigstore.dev/cosign/sign/v1") -> None:
        """A sigstore bundle v0.3 by referrers: what cosign 3's ``sign`` makes, made by 2.5's ``attest``."""
        self.key(key)
        (self.folder / "predicate.json").write_text("{}")
        done = self.run(
            "attest", "--key", f"{key}.key", "--tlog-upload=false", "--allow-http-registry", "-y", "--new-bundle-format", "--type", kind,
            "--predicate", "predicate.json", reference,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def verifies(self, reference: str, key: str = "alice", *words: str) -> bool:
        done = self.run(
            "verify", "--key", f"{key}.pub", "--insecure-ignore-tlog=true", "--allow-http-registry", *words, reference
        )
        assert done.returncode == 0 or "Error" in done.stderr, done.stderr
        return done.returncode == 0


def raw_sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> str:
    return base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()


def simple(digest: str, reference: str, kind: str = "cosign container image signature") -> dict[str, Any]:
    """A simple signing payload."""
    return {
        "critical": {"identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest}, "type": kind},
        "optional": None,
    }  # fmt: skip


def put_signature(registry: Registry, repo: str, digest: str, signed: list[tuple[bytes, str]]) -> None:
    """Signatures by tag, in cosign's form: payload and base64 signature each."""
    layers = [
        {
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", **registry.blob(repo, payload),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        }
        for payload, signature in signed
    ]  # fmt: skip
    config = b'{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    document = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **registry.blob(repo, config)}, "layers": layers,
    }  # fmt: skip
    registry.manifest(repo, document, f"{digest.replace(':', '-')}.sig")


def bundle(key: ec.EllipticCurvePrivateKey, digest: str, *, kind: str = dsse.PAYLOAD_TYPE, predicate: str = "https://sigstore.dev/cosign/sign/v1", **over: Any) -> dict[str, Any]:  # fmt: skip
    """A bundle v0.3 as cosign 3's ``sign`` writes it: the subject has no name."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
        "subject": [{"digest": {"sha256": digest.removeprefix("sha256:")}, "annotations": {}}],
    }  # fmt: skip
    payload = json.dumps(statement).encode()
    envelope = {
        "payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": [{"sig": raw_sign(key, dsse.pae(kind, payload))}],
    }  # fmt: skip
    return {
        "mediaType": dsse.SIGSTORE_BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": {**envelope, **over},
    }  # fmt: skip


def put_bundle(registry: Registry, repo: str, digest: str, document: dict[str, Any]) -> str:
    blob = registry.blob(repo, json.dumps(document).encode())
    return registry.refer(repo, digest, [{"mediaType": dsse.SIGSTORE_BUNDLE, **blob}], dsse.SIGSTORE_BUNDLE)


# -- notation -------------------------------------------------------------------------------------------------------


def openssl(*argv: object) -> None:
    done = subprocess.run(["openssl", *map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Issued:
    """A signing certificate, its authority's, and its key."""

    leaf: Path
    ca: Path
    key: ec.EllipticCurvePrivateKey

    @property
    def chain(self) -> list[str]:
        found = [x509.load_pem_x509_certificate(one.read_bytes()) for one in (self.leaf, self.ca)]
        return [base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode() for one in found]


def issue(
    folder: Path, *, eku: str = "codeSigning", days: int = 30, subject: str = "/C=US/O=Example/CN=release"
) -> Issued:
    """An authority and a signing certificate, by openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "leaf.ext").write_text(
        "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n" + (f"extendedKeyUsage={eku}\n" if eku else "")
    )
    for name in ("ca", "leaf"):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / f"{name}.key")
    openssl(
        "req", "-x509", "-new", "-key", folder / "ca.key", "-subj", "/CN=Test CA", "-days", "3650", "-out", folder / "ca.pem",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    openssl("req", "-new", "-key", folder / "leaf.key", "-subj", subject, "-out", folder / "leaf.csr")
    openssl(
        "x509", "-req", "-in", folder / "leaf.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
        "-days", str(days), "-extfile", folder / "leaf.ext", "-out", folder / "leaf.pem",
    )  # fmt: skip
    key = serialization.load_pem_private_key((folder / "leaf.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Issued(folder / "leaf.pem", folder / "ca.pem", key)


def jws(issued: Issued, digest: str, *, headers: dict[str, Any] | None = None, drop: tuple[str, ...] = (), alter: bool = False) -> dict[str, Any]:  # fmt: skip
    """An envelope by signature-envelope-jws.md."""
    scheme = "io.cncf.notary.signingScheme"
    protected = {
        "alg": "ES256", "cty": "application/vnd.cncf.notary.payload.v1+json", "crit": [scheme], scheme: "notary.x509",
        "io.cncf.notary.signingTime": "2026-01-02T03:04:05Z", **(headers or {}),
    }  # fmt: skip
    protected = {key: value for key, value in protected.items() if key not in drop}
    target = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": 1,
        "annotations": {"env": "prod"},
    }
    payload = json.dumps({"targetArtifact": target}).encode()
    first, second = b64url(json.dumps(protected).encode()), b64url(payload)
    r, s = decode_dss_signature(issued.key.sign(f"{first}.{second}".encode(), ec.ECDSA(hashes.SHA256())))
    signature = b"" if protected.get("alg") == "none" else r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if alter:
        second = b64url(payload.replace(b"prod", b"test"))
    return {"payload": second, "protected": first, "header": {"x5c": issued.chain}, "signature": b64url(signature)}


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def put_notation(
    registry: Registry, repo: str, digest: str, envelope: dict[str, Any], kind: str = "application/jose+json"
) -> str:
    blob = registry.blob(repo, json.dumps(envelope).encode())
    return registry.refer(repo, digest, [{"mediaType": kind, **blob}], NOTATION)


# -- gpg ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpg:
    """gpg with a home of its own."""

    folder: Path

    def run(self, *argv: object, data: bytes = b"") -> bytes:
        done = subprocess.run(
            ["gpg", "--homedir", str(self.folder), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", *map(str, argv)],
            input=data, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, *when: str) -> str:
        """A key's fingerprint; ``when``: gpg options such as a faked time."""
        self.run(*when, "--quick-generate-key", f"{name}@example.test", "ed25519", "sign", "1d" if when else "never")
        rows = self.run("--with-colons", "--list-keys", f"{name}@example.test").decode().splitlines()
        fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr"))
        (self.folder / f"{name}.asc").write_bytes(self.run("--armor", "--export", fingerprint))
        return fingerprint

    def sign(self, fingerprint: str, payload: bytes, *when: str) -> bytes:
        return self.run(*when, "--local-user", fingerprint, "--sign", data=payload)


def place_lookaside(folder: Path, repo: str, digest: str, number: int, blob: bytes) -> None:
    where = folder / f"{repo}@{digest.replace(':', '=')}"
    where.mkdir(parents=True, exist_ok=True)
    (where / f"signature-{number}").write_bytes(blob)
