"""From a reference to the configuration that would run: index → the platform's manifest → configuration, each by digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from irkit.engine.interface import EngineInfo
from irkit.errors import NotTrusted
from irkit.text import printable
from irkit.trust import strict
from irkit.trust.reference import DIGEST
from irkit.trust.registry import CONFIG_LIMIT, Manifest, Registry

CHILDREN, LAYERS = 1000, 1000
ATTESTATION = "vnd.docker.reference.type"
CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i386": "386", "i686": "386",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """An image's configuration.  ``layers``: ``diff_ids``, lowest first."""

    digest: str
    platform: str
    layers: tuple[str, ...]
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference means at its registry now.  ``root`` is ``manifest`` where there is no index."""

    root: Manifest
    manifest: Manifest
    config: Config
    blobs: tuple[str, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """All digests that a deny-list may name: index, manifest, configuration, layers packed and unpacked."""
        return (self.root.digest, self.manifest.digest, self.config.digest, *self.blobs, *self.config.layers)


def engine_platform(os_type: str, architecture: str) -> str:
    """``linux/amd64`` from what an engine or a machine says of itself, in Go's names or uname's."""
    return f"{os_type or 'linux'}/{_ARCHITECTURES.get(architecture, architecture)}"


def platform_of(info: EngineInfo) -> str:
    """An engine's own platform."""
    system = str(info.raw.get("OSType") or info.version_raw.get("Os") or "")
    return engine_platform(system, str(info.version_raw.get("Arch") or info.raw.get("Architecture") or ""))


def child(index: Manifest, platform: str) -> tuple[str, int]:
    """Digest and size of the platform's manifest in an index.  Raises ``NotTrusted`` for none, or for more than one."""
    what = f"the index {index.digest}"
    wanted_os, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    fits = []
    for row in strict.items(index.document, "manifests", what, CHILDREN):
        found = row.get("platform")
        if ATTESTATION in strict.words(row.get("annotations")) or not isinstance(found, dict):
            continue
        if (found.get("os"), found.get("architecture")) == (wanted_os, architecture):
            fits.append((str(found.get("variant") or ""), row))
    # Of several the engine would choose for itself; only an arm's variant leaves no choice.
    exact = [one for one in fits if one[0] == variant and variant] if len(fits) > 1 else fits
    if len(exact) != 1:
        raise NotTrusted(
            f"{what} has {len(exact) or len(fits) or 'no'} manifests for {printable(platform, 60)}: one is needed"
        )
    row = exact[0][1]
    return _digest(row, what), _size(row, what)


def resolve(registry: Registry, platform: str) -> Resolved:
    """Ask the registry.  Raises ``NotTrusted`` (``RegistryProblem``) for every contradiction."""
    root = registry.manifest(registry.reference.wanted)
    manifest = root
    if root.is_index:
        digest, size = child(root, platform)
        manifest = registry.manifest(digest)
        if manifest.is_index or manifest.size != size:
            raise NotTrusted(f"the manifest {digest} is not what its index says: an index, or of another size")
    what = f"the manifest {manifest.digest}"
    entry = strict.mapping(manifest.document, "config", what)
    if entry.get("mediaType") not in CONFIGS:
        raise NotTrusted(f"{what} is no image's: its configuration is {printable(str(entry.get('mediaType')), 100)}")
    digest, size = _digest(entry, what), _size(entry, what)
    body = registry.blob(digest, CONFIG_LIMIT)
    if len(body) != size:
        raise NotTrusted(f"{what}: its configuration has another size than it says")
    config = read_config(body, digest)
    blobs = tuple(_digest(one, what) for one in strict.items(manifest.document, "layers", what, LAYERS))
    if len(blobs) != len(config.layers):
        raise NotTrusted(f"{what} has {len(blobs)} layers, its configuration {len(config.layers)}")
    if root.is_index and config.platform.split("/")[:2] != platform.split("/")[:2]:
        raise NotTrusted(
            f"{what} stands in its index for {printable(platform, 60)}, but is of {printable(config.platform, 60)}"
        )
    return Resolved(root, manifest, config, blobs)


def read_config(body: bytes, digest: str) -> Config:
    """A configuration from bytes whose digest is known."""
    what = f"the configuration {digest}"
    document = strict.load_object(body, what)
    diff_ids = strict.mapping(document, "rootfs", what).get("diff_ids")
    if not isinstance(diff_ids, list) or not all(isinstance(one, str) and DIGEST.fullmatch(one) for one in diff_ids):
        raise NotTrusted(f"{what} names no layers")
    platform = f"{document.get('os', '')}/{document.get('architecture', '')}"
    inner: Any = document.get("config")
    labels = strict.words(inner.get("Labels")) if isinstance(inner, dict) else {}
    return Config(digest, platform, tuple(diff_ids), labels)


def _digest(row: dict[str, Any], what: str) -> str:
    value = row.get("digest")
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise NotTrusted(f"{what} names a digest that is none")
    return value


def _size(row: dict[str, Any], what: str) -> int:
    value = row.get("size")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise NotTrusted(f"{what} names no size")
    return value
