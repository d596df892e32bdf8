"""irkit's own signatures: a detached in-toto statement over manifest, configuration and layers, bound to a repository.

They need no registry.  A signature lies in ``IRKIT_HOME/signatures/sha256-<config>.<key>.dsse.json``, or where the
user says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from irkit import __version__
from irkit.clock import now
from irkit.errors import NotTrusted, UsageProblem
from irkit.evidence import dsse
from irkit.evidence.keys import PublicKey, Signer
from irkit.home import home, private_folder, write_file
from irkit.trust import strict
from irkit.trust.content import ImageContent
from irkit.trust.model import Found, TrustKey
from irkit.trust.reference import is_id, parse_plain, parse_reference, same_repository
from irkit.trust.scene import TRIES, Scene, attempt

PREDICATE_TYPE = "https://irkit.dev/image-signature/v1"
SIGNATURE_LIMIT = 4 * 1024 * 1024


def sign(
    reference: str, content: ImageContent, manifests: tuple[str, ...], annotations: Mapping[str, str], signer: Signer,
    output: Path | None,
) -> Path:  # fmt: skip
    """Sign what an image contains.  ``manifests``: the digests that it has in its registry, where that is known.

    Raises ``UsageProblem`` for an id: a signature names a repository.
    """
    if is_id(reference):
        raise UsageProblem(
            "an image is signed by its name, so that the signature holds for that repository alone",
            hint="give REPOSITORY:TAG",
        )
    statement = dsse.statement(
        {parse_reference(reference).name: content.config.removeprefix("sha256:")},
        PREDICATE_TYPE,
        {
            "reference": reference, "config": content.config, "layers": list(content.layers), "platform": content.platform,
            "manifests": list(manifests), "annotations": dict(annotations),
            "signed": now(), "tool": f"irkit {__version__}", "key": signer.public.id,
        },
    )  # fmt: skip
    path = output or _default_path(content.config, signer.public)
    if output is None:
        private_folder(path.parent)
    write_file(path, dsse.sign(statement, signer))
    return path


def _default_path(config: str, key: PublicKey) -> Path:
    return home() / "signatures" / f"{config.replace(':', '-')}.{key.id[7:19]}.dsse.json"


class Statement:
    """Statements in ``IRKIT_HOME``, or the one file that the user names."""

    kind = "statement"

    def __init__(self, signature: Path | None = None) -> None:
        self._signature = signature

    def find(self, scene: Scene) -> Iterator[Found]:
        """Every statement over the configuration of the engine's copy."""
        if scene.content is None:
            return
        content, keys = scene.content, scene.keys_for(self.kind)
        folder = home() / "signatures"
        kept = sorted(folder.glob(f"{content.config.replace(':', '-')}.*.dsse.json")) if folder.is_dir() else []
        for path in [self._signature] if self._signature else kept[:TRIES]:
            yield attempt(self.kind, str(path), partial(_check, path, scene, content, keys))


def _check(path: Path, scene: Scene, content: ImageContent, keys: tuple[TrustKey, ...]) -> Found:
    try:
        with path.open("rb") as file:
            data = file.read(SIGNATURE_LIMIT + 1)
    except OSError as error:
        raise NotTrusted(f"can't be read: {error.strerror}") from error
    if len(data) > SIGNATURE_LIMIT:
        raise NotTrusted("too large to be a signature")
    publics = {one.public.id: one for one in keys if one.public is not None}
    signed_by, payload = dsse.parse(data).open_with([one.public for one in publics.values() if one.public is not None])
    subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
    if len(subjects) != 1:
        raise NotTrusted("it must be over exactly one image")
    ((repository, digest),) = subjects.items()
    if f"sha256:{digest}" != content.config or predicate.get("layers") != list(content.layers):
        raise NotTrusted("it is over another image")
    _check_manifests(predicate.get("manifests") or [], scene)
    return Found(
        "statement", str(path), content.config, publics[signed_by.id], _name(repository, predicate.get("reference")),
        strict.words(predicate.get("annotations")), time=str(predicate.get("signed", "")),
    )  # fmt: skip


def _name(repository: str, reference: object) -> str:
    """What it names: with the tag, where that was signed too and is of the same repository."""
    if isinstance(reference, str) and not is_id(reference):
        with contextlib.suppress(UsageProblem):
            if same_repository(repository, parse_plain(reference)):
                return reference
    return repository


def _check_manifests(signed: Any, scene: Scene) -> None:
    """Where a statement names manifests and the registry was asked, the two must agree."""
    if not isinstance(signed, list):
        raise NotTrusted("its list of manifests can't be read")
    if (
        signed
        and scene.resolved
        and not {scene.resolved.root.digest, scene.resolved.manifest.digest} & set(map(str, signed))
    ):
        raise NotTrusted("it is over another manifest than the registry's")
