"""Verifying a bundle: the seal first, then every byte it speaks of, then that there is nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from irkit.errors import CheckFailed, UsageProblem
from irkit.evidence import dsse, names
from irkit.evidence.custody import Chain, load, read_chain
from irkit.evidence.keys import PublicKey
from irkit.evidence.seal import PREDICATE_TYPE

SMALL = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not hold, and of which file."""

    file: str
    problem: str

    def to_json(self) -> dict[str, str]:
        """As in ``irkit bundle verify --json``."""
        return {"file": self.file, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome.  ``status`` and what follows it are empty unless the seal's signature held."""

    path: Path
    problems: tuple[Problem, ...]
    digest: str = ""
    status: str = ""
    sealed: str = ""
    key: str = ""
    key_name: str = ""
    files: int = 0
    size: int = 0
    predicate: dict[str, Any] = field(default_factory=dict)
    hand_overs: int = 0
    custody_head: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit bundle verify --json``."""
        return {
            "schema": "irkit.verify/v1", "ok": self.ok, "path": str(self.path), "digest": self.digest, "status": self.status,
            "sealed": self.sealed, "key": {"id": self.key, "name": self.key_name}, "files": self.files, "size": self.size,
            "custody": {"entries": self.hand_overs, "head": self.custody_head},
            "problems": [one.to_json() for one in self.problems],
        }  # fmt: skip


def verify_bundle(path: Path, keys: Iterable[PublicKey], expect_head: str = "") -> Verification:
    """Check a bundle folder against its seal, and its chain of custody, whose head may be expected.  Raises ``UsageProblem`` when ``path`` is no bundle at all."""
    if not path.is_dir():
        raise UsageProblem(f"{path} is not a bundle's folder")
    if not (path / names.SEAL).exists() and not (path / names.BAGIT).exists():
        raise UsageProblem(
            f"{path} holds no bundle",
            hint="an unsealed one has no seal.dsse.json; `irkit case show CASE` lists a case's bundles",
        )
    keys = list(keys)
    try:
        seal = _read(path / names.SEAL)
        envelope = dsse.parse(seal)
        key, payload = envelope.open_with(keys)
        subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
    except CheckFailed as error:
        return Verification(path, (Problem(names.SEAL, error.message), *_unsigned_check(path)))
    files = dict(_files(path))
    chain, faults = _check_custody(path, seal, keys, expect_head)
    problems = [
        *_check_files(path, files, subjects),
        *_check_manifests(path, subjects),
        *_check_second_seal(path, payload, key),
        *_check_form(path, seal, envelope, key),
        *_check_folders(path, subjects),
        *faults,
    ]
    return Verification(
        path, tuple(problems), f"sha256:{subjects.get(names.TAG_MANIFEST, '')}", str(predicate.get("status", "")),
        str(predicate.get("sealed", "")), key.id, key.name, len(subjects) - 1, sum(files.values()), predicate, len(chain.entries), chain.head,
    )  # fmt: skip


def _read(path: Path) -> bytes:
    """A small file of the bundle, never through a link.  Raises ``CheckFailed``."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CheckFailed("not a regular file")
            data = file.read(SMALL + 1)
    except OSError as error:
        raise CheckFailed(f"can't be read: {error.strerror}") from error
    if len(data) > SMALL:
        raise CheckFailed("too large to be what it claims to be")
    return data


def _files(root: Path) -> Iterator[tuple[str, int]]:
    """Every entry that is not a folder: its name in the bundle and its size, -1 when it is no regular file."""
    for parent, folders, files in os.walk(root):
        for name in files + [folder for folder in folders if (Path(parent) / folder).is_symlink()]:
            entry = Path(parent) / name
            facts = entry.lstat()
            yield str(entry.relative_to(root)), facts.st_size if stat.S_ISREG(facts.st_mode) else -1


def _digest(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(root: Path, files: dict[str, int], subjects: dict[str, str]) -> Iterator[Problem]:
    for name, size in sorted(files.items()):
        if size < 0:
            yield Problem(name, "not a regular file")
        elif name not in subjects and name not in names.TOP_LEVEL:
            yield Problem(name, "added: the seal does not know it")
    for name, expected in sorted(subjects.items()):
        if not names.is_payload(name) and name != names.TAG_MANIFEST:
            yield Problem(name, "the seal names a file that irkit would never write")
        elif name not in files:
            yield Problem(name, "missing")
        elif files[name] >= 0 and _digest(root / name) != expected:
            yield Problem(name, "altered: its sha256 is not the sealed one")


def _check_manifests(root: Path, subjects: dict[str, str]) -> Iterator[Problem]:
    """The tag files: the seal vouches for the tag manifest, and that one for the others."""
    payload = {name: digest for name, digest in subjects.items() if name != names.TAG_MANIFEST}
    tags: dict[str, str] = {}
    try:
        data = _read(root / names.TAG_MANIFEST)
        tags = names.parse_manifest(data.decode("ascii"))
        if hashlib.sha256(data).hexdigest() != subjects.get(names.TAG_MANIFEST) or set(tags) != set(names.TAGGED):
            tags = {}
            yield Problem(names.TAG_MANIFEST, "altered: it is not the sealed list of the three tag files")
    except (CheckFailed, ValueError) as error:
        yield Problem(names.TAG_MANIFEST, str(error))
    for name in names.TAGGED:
        yield from _check_tag_file(root, name, tags.get(name), payload)


def _check_tag_file(root: Path, name: str, expected: str | None, payload: dict[str, str]) -> Iterator[Problem]:
    try:
        data = _read(root / name)
        if expected is None:
            yield Problem(name, "nothing vouches for it: the tag manifest is not the sealed one")
        elif hashlib.sha256(data).hexdigest() != expected:
            yield Problem(name, "altered: its sha256 is not the one in the tag manifest")
        elif name == names.MANIFEST and names.parse_manifest(data.decode("ascii")) != payload:
            yield Problem(name, "lists other payload files or digests than the seal")
    except (CheckFailed, ValueError) as error:
        yield Problem(name, str(error))


def _check_second_seal(root: Path, payload: bytes, key: PublicKey) -> Iterator[Problem]:
    try:
        _, second = dsse.from_sigstore_bundle(_read(root / names.SIGSTORE_SEAL)).open_with([key])
        if second != payload:
            yield Problem(names.SIGSTORE_SEAL, "is a seal over something else")
    except CheckFailed as error:
        yield Problem(names.SIGSTORE_SEAL, error.message)


def _check_form(root: Path, seal: bytes, envelope: dsse.Envelope, key: PublicKey) -> Iterator[Problem]:
    """What the signature does not cover (media type, key names, blanks) is as irkit wrote it, to the byte."""
    if seal != dsse.render(envelope):
        yield Problem(names.SEAL, "altered: the signature holds, but the text around it is not what irkit writes")
    try:
        second = _read(root / names.SIGSTORE_SEAL)
        if second != dsse.sigstore_bundle(dsse.render(dsse.from_sigstore_bundle(second)), key.id):
            yield Problem(names.SIGSTORE_SEAL, "altered: the text around the signature is not what irkit writes")
    except CheckFailed:
        return  # said already, by the check of its signature


def _check_folders(root: Path, subjects: dict[str, str]) -> Iterator[Problem]:
    """A folder that holds nothing sealed was added: by now every file in it has been named, an empty one has not."""
    known = {str(parent) for name in subjects for parent in PurePosixPath(name).parents}
    for parent, folders, _ in os.walk(root):
        for name in sorted(folders):
            entry = Path(parent) / name
            if not entry.is_symlink() and str(entry.relative_to(root)) not in known:
                yield Problem(str(entry.relative_to(root)), "added: the seal knows no such folder")


def _check_custody(root: Path, seal: bytes, keys: list[PublicKey], head: str) -> tuple[Chain, list[Problem]]:
    try:
        chain = read_chain(load(root), seal, keys, head)
    except CheckFailed as error:
        chain = Chain(problems=(error.message,))
    return chain, [Problem(names.CUSTODY, problem) for problem in chain.problems]


def _unsigned_check(root: Path) -> Iterator[Problem]:
    """Without a good seal the manifests prove nothing, but they can still tell what was altered by accident."""
    try:
        listed = names.parse_manifest(_read(root / names.MANIFEST).decode("ascii"))
    except (CheckFailed, ValueError) as error:
        yield Problem(names.MANIFEST, str(error))
        return
    files = dict(_files(root))
    yield from _check_files(root, files, {name: digest for name, digest in listed.items() if names.is_payload(name)})


def claimed_key(path: Path) -> str:
    """The key id that an unverified seal claims, for a hint only."""
    try:
        predicate = json.loads(dsse.parse(_read(path / names.SEAL)).payload)["predicate"]
        return str(predicate["key"])[:80]
    except (CheckFailed, ValueError, KeyError, TypeError, RecursionError):
        return ""
