"""Signed playbooks: ``NAME.yaml.KEYID.dsse.json`` beside the file, one for each key that vouches for it.

A DSSE envelope over an in-toto Statement v1 whose subject is the file's name with the sha256 of its bytes.  What is
checked is the digest of the very bytes that were parsed, so nothing can be put in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from irkit import resources
from irkit.clock import now
from irkit.config import Signatures
from irkit.errors import CheckFailed, NotTrusted
from irkit.home import write_file
from irkit.playbook.model import Playbook

PREDICATE_TYPE = "https://irkit.dev/playbook/v1"
USE = "playbook"


@dataclass(frozen=True, slots=True)
class Vouched:
    """A key that vouches for a file."""

    id: str
    name: str
    time: str


def sign(playbook: Playbook, path: Path, signer: object) -> Path:
    """Vouch for a file as it was parsed.  Raises ``StorageError``."""
    from irkit.evidence import dsse
    from irkit.evidence.keys import Signer

    assert isinstance(signer, Signer)  # noqa: S101 - for the type only: keys are slow to import
    subject = {path.name: playbook.file_digest.removeprefix("sha256:")}
    predicate = {"id": playbook.id, "name": playbook.name, "time": now()}
    envelope = dsse.sign(dsse.statement(subject, PREDICATE_TYPE, predicate), signer)
    beside = path.with_name(f"{path.name}.{signer.public.id.removeprefix('sha256:')[:16]}.dsse.json")
    write_file(beside, envelope, 0o644)
    return beside


def vouched(path: Path, digest: str) -> tuple[list[Vouched], list[str]]:
    """Who vouches for the bytes of a digest, and why other signatures beside the file do not count."""
    from irkit.evidence import dsse
    from irkit.evidence.keys import trusted_keys

    keys = list(trusted_keys(USE))
    good: dict[str, Vouched] = {}
    objections = []
    for beside in sorted(path.parent.glob(f"{path.name}.*.dsse.json")):
        try:
            key, payload = dsse.parse(beside.read_bytes()).open_with(keys)
            subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
        except (OSError, CheckFailed) as error:
            objections.append(f"{beside.name}: {getattr(error, 'message', error)}")
            continue
        objection = key.validity.objection_now()
        if subjects != {path.name: digest.removeprefix("sha256:")}:
            objections.append(f"{beside.name}: it is over another content or another file")
        elif objection:
            objections.append(f"{beside.name}: the key {key.name}: {objection}")
        else:
            good[key.id] = Vouched(key.id, key.name, str(predicate.get("time", "")))
    return list(good.values()), objections


def files(playbook: Playbook) -> Iterator[tuple[Path, str]]:
    """Every file of a playbook with its digest: its own, and those that it includes."""
    yield playbook.path, playbook.file_digest or playbook.digest
    yield from {(one.path, one.digest): None for one in playbook.bindings.values()}


def require(playbook: Playbook, policy: Signatures) -> dict[str, list[str]]:
    """Who vouches for each file, by name; empty when nobody need.  Raises ``NotTrusted``."""
    if not policy.required:
        return {}
    found = {}
    shipped = resources.shipped("playbooks").resolve()
    for path, digest in files(playbook):
        if policy.shipped == "trust" and path.resolve().parent == shipped:
            continue
        good, objections = vouched(path, digest)
        if len(good) < policy.minimum:
            why = "; ".join(objections) or "there is no signature beside it"
            raise NotTrusted(
                f"{path}: signed by {len(good)} of {policy.minimum} trusted keys: {why}",
                hint=f"`irkit playbook sign {path} --key NAME`, with a key that is trusted for playbooks",
            )
        found[path.name] = [one.name for one in good]
    return found
