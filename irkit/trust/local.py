"""The engine's part of the chain: its copy of a verified image, read through and hashed, and a container made from it."""

from __future__ import annotations

from irkit.engine.interface import Container, Engine, Image
from irkit.errors import NotFound, NotTrusted
from irkit.trust.content import ImageContent, read_content
from irkit.trust.reference import Reference
from irkit.trust.resolve import Resolved


def by_digest(engine: Engine, resolved: Resolved) -> Image:
    """The engine's copy, found by id alone: the configuration's digest, or with containerd's store the index's or
    manifest's.  Raises ``NotTrusted`` when it has none."""
    for digest in (resolved.config.digest, resolved.root.digest, resolved.manifest.digest):
        try:
            found = engine.image(digest)
        except NotFound:
            continue
        if found.id in resolved.digests[:3]:
            return found
        raise NotTrusted(f"the engine answers {digest} with the image {found.id}")
    raise NotTrusted("the engine does not have this image")


def read_through(engine: Engine, image: Image, config: str = "") -> ImageContent:
    """What the engine's copy holds, every byte of it hashed.  Raises ``NotTrusted`` when the engine's words and bytes disagree.

    ``config``: the configuration that was verified, with which the caller compares what is found.
    """
    content = read_content(engine.image_save(image.id), config)
    if image.layers and image.layers != content.layers:
        raise NotTrusted(f"the engine describes other layers of {image.id} than it gives out")
    if not config and image.id != content.config and not image.repo_digests:
        raise NotTrusted(f"the image has the id {image.id}, but its configuration is {content.config}")
    return content


def check_tag(engine: Engine, reference: Reference, image: Image) -> str:
    """That the engine's own tag, if it has one of that name, leads to the verified image.  What was found, in words.

    Raises ``NotTrusted``.
    """
    if not reference.tag:
        return "no tag was asked for"
    try:
        tagged = engine.image(f"{reference.name}:{reference.tag}")
    except NotFound:
        return f"the engine has no tag {reference.name}:{reference.tag}"
    if tagged.id != image.id:
        raise NotTrusted(
            f"the engine's own tag {reference.name}:{reference.tag} leads to another image, {tagged.id}",
            hint=f"it was moved on this engine, or is old: `docker pull {reference}` if you trust that the registry is right",
        )
    return f"the engine's tag {reference.name}:{reference.tag} leads to it"


def check_container(container: Container, image: Image, config: str) -> str:
    """That a container was made from the verified image.  Raises ``NotTrusted``."""
    if container.image_id not in (image.id, config):
        raise NotTrusted(f"the container {container.name} was made from another image, {container.image_id}")
    return f"{container.name} was made from it"
