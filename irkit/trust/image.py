"""Detached image signatures: an in-toto statement over config and layer digests, bound to a repository.

They need no registry.  A signature lies in ``IRKIT_HOME/signatures/sha256-<config>.<key>.dsse.json``, or where the
user says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit import __version__
from irkit.clock import now
from irkit.engine.interface import Engine
from irkit.errors import CheckFailed, NotTrusted, UsageProblem
from irkit.evidence import dsse
from irkit.evidence.keys import PublicKey, Signer
from irkit.home import home, private_folder, write_file
from irkit.trust.content import ImageContent, read_content

PREDICATE_TYPE = "https://irkit.dev/image-signature/v1"
SIGNATURE_LIMIT = 4 * 1024 * 1024
_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Verified:
    """An image that may be run: start it by ``image_id``, never by its tag, which can move."""

    reference: str
    image_id: str
    content: ImageContent
    key: str
    key_name: str
    signed: str
    signature: str

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit image verify --json``."""
        return {
            "schema": "irkit.image/v1", "ok": True, "reference": self.reference, "image_id": self.image_id, "config": self.content.config,
            "layers": list(self.content.layers), "platform": self.content.platform, "key": {"id": self.key, "name": self.key_name},
            "signed": self.signed, "signature": self.signature,
        }  # fmt: skip


def repository_of(reference: str) -> str:
    """``registry:5000/team/web:1`` → ``registry:5000/team/web``; a digest or tag is taken off."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"


def is_id(reference: str) -> bool:
    """Whether a reference is an image's id, which belongs to no repository."""
    return _ID.fullmatch(reference) is not None


def inspect_content(engine: Engine, reference: str) -> tuple[str, ImageContent]:
    """The image's id on this engine and its content, read through.  Raises ``NotTrusted`` when they disagree."""
    image = engine.image(reference)
    content = read_content(engine.image_save(image.id))
    if image.layers and image.layers != content.layers:
        raise NotTrusted(f"the engine describes other layers of {reference} than it gives out")
    if image.id != content.config and not image.repo_digests:
        raise NotTrusted(f"the image {reference} has the id {image.id}, but its configuration is {content.config}")
    return image.id, content


def sign_image(engine: Engine, reference: str, signer: Signer, output: Path | None) -> tuple[Path, ImageContent]:
    """Sign what ``reference`` contains now.  Raises ``UsageProblem`` for an id: a signature names a repository."""
    if is_id(reference):
        raise UsageProblem(
            "an image is signed by its name, so that the signature holds for that repository alone",
            hint="give REPOSITORY:TAG",
        )
    _, content = inspect_content(engine, reference)
    statement = dsse.statement(
        {repository_of(reference): content.config.removeprefix("sha256:")},
        PREDICATE_TYPE,
        {
            "reference": reference, "config": content.config, "layers": list(content.layers), "platform": content.platform,
            "signed": now(), "tool": f"irkit {__version__}", "key": signer.public.id,
        },
    )  # fmt: skip
    path = output or _default_path(content.config, signer.public)
    if output is None:
        private_folder(path.parent)
    write_file(path, dsse.sign(statement, signer))
    return path, content


def _default_path(config: str, key: PublicKey) -> Path:
    return home() / "signatures" / f"{config.replace(':', '-')}.{key.id[7:19]}.dsse.json"


def verify_image(engine: Engine, reference: str, keys: Iterable[PublicKey], signature: Path | None = None) -> Verified:
    """Check that a trusted key signed exactly this content for this repository.  Raises ``NotTrusted``."""
    trusted = list(keys)
    image_id, content = inspect_content(engine, reference)
    reasons = []
    for path in [signature] if signature else _candidates(content.config):
        try:
            return _check(reference, image_id, content, path, trusted)
        except CheckFailed as error:
            reasons.append(f"{path.name}: {error.message}")
    hint = "`irkit image sign IMAGE --key NAME` signs, `irkit key trust` trusts a key for images"
    if not reasons:
        raise NotTrusted(f"{reference} has no signature here (config {content.config})", hint=hint)
    raise NotTrusted(f"{reference} is not trusted: {'; '.join(reasons)}", hint=hint)


def _candidates(config: str) -> Iterator[Path]:
    folder = home() / "signatures"
    yield from sorted(folder.glob(f"{config.replace(':', '-')}.*.dsse.json")) if folder.is_dir() else ()


def _check(reference: str, image_id: str, content: ImageContent, path: Path, trusted: list[PublicKey]) -> Verified:
    try:
        with path.open("rb") as file:
            data = file.read(SIGNATURE_LIMIT + 1)
    except OSError as error:
        raise NotTrusted(f"can't be read: {error.strerror}") from error
    if len(data) > SIGNATURE_LIMIT:
        raise NotTrusted("too large to be a signature")
    key, payload = dsse.parse(data).open_with(trusted)
    subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
    if len(subjects) != 1:
        raise NotTrusted("it must be over exactly one image")
    ((repository, digest),) = subjects.items()
    if f"sha256:{digest}" != content.config or predicate.get("layers") != list(content.layers):
        raise NotTrusted("it is over another image")
    if not is_id(reference) and repository != repository_of(reference):
        raise NotTrusted(f"it is for {repository}, not for {repository_of(reference)}")
    return Verified(reference, image_id, content, key.id, key.name, str(predicate.get("signed", "")), str(path))
