"""A signature that cosign verifies, put beside an image in its registry (cosign, specs/SIGNATURE_SPEC.md).

Signed is only what the engine holds and the registry has: the bytes of both are compared before.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urljoin

from irkit.engine.interface import Engine
from irkit.errors import NotTrusted, RegistryProblem, UsageProblem
from irkit.evidence.keys import Signer
from irkit.trust import resolve, sigstore
from irkit.trust.content import ImageContent
from irkit.trust.policy import Policy, RegistrySettings
from irkit.trust.reference import parse_reference
from irkit.trust.registry import OCI_MANIFEST, Registry, sha256

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


def push_signature(
    engine: Engine,
    reference: str,
    content: ImageContent,
    signer: Signer,
    annotations: Mapping[str, str],
    policy: Policy | None,
) -> str:
    """Sign the manifest of ``reference``, and add the signature to those that are there; the digest that was signed.

    Raises ``UsageProblem`` for an index, whose other platforms the engine does not hold, ``NotTrusted`` when the registry
    has another image than the engine.
    """
    wanted = parse_reference(reference)
    settings = policy.registry(wanted.registry) if policy else RegistrySettings(wanted.registry)
    registry = Registry(wanted, settings, scope="pull,push")
    found = resolve.resolve(registry, resolve.platform_of(engine.info()))
    if found.root.is_index:
        raise UsageProblem(
            f"{wanted} is an index: the engine holds one of its platforms, and could not vouch for the others",
            hint=f"name the platform's manifest, {wanted.name}@{found.manifest.digest}",
        )
    if found.config.digest != content.config:
        raise NotTrusted(
            f"the registry's {wanted} is another image ({found.config.digest}) than the engine's ({content.config})"
        )
    digest = found.root.digest
    payload = _payload(digest, wanted.name, annotations)
    layer = {
        "mediaType": sigstore.SIMPLE, "digest": sha256(payload), "size": len(payload),
        "annotations": {sigstore.SIGNATURE: base64.b64encode(signer.sign(payload)).decode()},
    }  # fmt: skip
    tag = f"{digest.replace(':', '-')}.sig"
    layers = [*_there(registry, tag), layer]
    config = _config(layers)
    for blob in (payload, config):
        _upload(registry, blob)
    document = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {"mediaType": CONFIG_TYPE, "digest": sha256(config), "size": len(config)},
        "layers": layers,
    }  # fmt: skip
    registry.put("PUT", f"{registry.base}/manifests/{tag}", json.dumps(document).encode(), OCI_MANIFEST)
    return digest


def _payload(digest: str, name: str, annotations: Mapping[str, str]) -> bytes:
    critical = {
        "identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest}, "type": sigstore.PAYLOAD_TYPE,
    }  # fmt: skip
    return json.dumps({"critical": critical, "optional": dict(annotations) or None}, separators=(",", ":")).encode()


def _there(registry: Registry, tag: str) -> list[dict[str, Any]]:
    """The signatures by others that are kept."""
    try:
        layers = registry.manifest(tag).document.get("layers")
    except RegistryProblem as error:
        if error.status != 404:
            raise
        return []
    return [one for one in layers if isinstance(one, dict)] if isinstance(layers, list) else []


def _config(layers: list[dict[str, Any]]) -> bytes:
    """An empty image's, so that registries that know images alone take it; what it says is not used."""
    about = {
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [one.get("digest") for one in layers]},
    }
    return json.dumps(about, separators=(",", ":")).encode()


def _upload(registry: Registry, blob: bytes) -> None:
    """Distribution spec, "Pushing a blob monolithically", by POST then PUT."""
    begun = registry.put("POST", f"{registry.base}/blobs/uploads/", b"", "application/octet-stream")
    where = urljoin(begun.url, begun.headers.get("location", ""))
    joint = "&" if "?" in where else "?"
    registry.put("PUT", f"{where}{joint}digest={quote(sha256(blob), safe='')}", blob, "application/octet-stream")
