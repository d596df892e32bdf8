"""Signing an image with irkit's own statement: what the engine holds, and where asked, what its registry calls it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from irkit.engine.interface import Engine
from irkit.errors import NotTrusted
from irkit.evidence.keys import Signer
from irkit.trust import local, resolve, statement
from irkit.trust.content import ImageContent
from irkit.trust.policy import Policy, RegistrySettings
from irkit.trust.reference import DIGEST, Reference, is_id, parse_plain, parse_reference
from irkit.trust.registry import Registry


def sign_image(
    engine: Engine, reference: str, signer: Signer, output: Path | None = None, *, annotations: Mapping[str, str] | None = None,
    at_registry: bool = False, policy: Policy | None = None,
) -> tuple[Path, ImageContent, tuple[str, ...]]:  # fmt: skip
    """Sign what ``reference`` contains now: where the signature is, the content, and the manifests' digests in it.

    The manifests are those that the engine knows of this repository; with ``at_registry`` the registry is asked, and must
    have the same image.  Raises ``UsageProblem`` for an id, ``NotTrusted`` when engine or registry contradict themselves.
    """
    image = engine.image(reference)
    content = local.read_through(engine, image)
    if is_id(reference):
        manifests: tuple[str, ...] = ()
    elif at_registry:
        manifests = _asked(engine, parse_reference(reference), content, policy)
    else:
        manifests = _known(image.repo_digests, parse_reference(reference))
    path = statement.sign(reference, content, manifests, annotations or {}, signer, output)
    return path, content, manifests


def _known(repo_digests: tuple[str, ...], reference: Reference) -> tuple[str, ...]:
    """The digests under which the engine pulled it from this repository (it may know other repositories, too)."""
    found = [
        one
        for one in repo_digests
        if DIGEST.fullmatch(one.partition("@")[2]) and parse_plain(one).name == reference.name
    ]
    return tuple(dict.fromkeys(one.partition("@")[2] for one in found))


def _asked(engine: Engine, reference: Reference, content: ImageContent, policy: Policy | None) -> tuple[str, ...]:
    settings = policy.registry(reference.registry) if policy else RegistrySettings(reference.registry)
    found = resolve.resolve(Registry(reference, settings), resolve.platform_of(engine.info()))
    if found.config.digest != content.config:
        raise NotTrusted(
            f"the registry's {reference} is another image ({found.config.digest}) than the engine's ({content.config})"
        )
    return tuple(dict.fromkeys((found.root.digest, found.manifest.digest)))
