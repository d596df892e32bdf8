"""Verifying a bundle: the seal first, then every byte it speaks of, then that there is nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from irkit.errors import CheckFailed, UsageProblem
from irkit.evidence import dsse, names
from irkit.evidence.authorities import trusted_authorities
from irkit.evidence.custody import Chain, load, read_chain
from irkit.evidence.keys import PublicKey
from irkit.evidence.seal import PREDICATE_TYPE
from irkit.evidence.store import Problem, Store, digest_of, is_bundle, open_store, read_small
from irkit.evidence.timestamp import TOKEN_LIMIT, Stamp, check

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


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
    stamp: Stamp = field(default_factory=Stamp)

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    @property
    def signed(self) -> str:
        """When the seal was made, at the latest: by a valid timestamp, or else by the responder's own clock."""
        return self.stamp.time if self.stamp.state == "valid" else self.sealed

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit bundle verify --json``."""
        return {
            "schema": "irkit.verify/v1", "ok": self.ok, "path": str(self.path), "digest": self.digest, "status": self.status,
            "sealed": self.sealed, "key": {"id": self.key, "name": self.key_name}, "files": self.files, "size": self.size,
            "custody": {"entries": self.hand_overs, "head": self.custody_head}, "timestamp": self.stamp.to_json(),
            "signed": {"time": self.signed, "by": "timestamp" if self.stamp.state == "valid" else "claim"},
            "problems": [one.to_json() for one in self.problems],
        }  # fmt: skip


def verify_bundle(
    path: Path,
    keys: Iterable[PublicKey],
    expect_head: str = "",
    identities: Sequence[Any] = (),
    tsa: Sequence[Certificate] | None = None,
) -> Verification:
    """Check a bundle, a folder or a tar, against its seal, and its chain of custody, whose head may be expected.

    A timestamp is held against the authorities in ``tsa``, by default those trusted here; without any it is told, but
    proves nothing.
    With ``identities`` the plain bundle inside an encrypted one is verified as well; its problems name ``plain/FILE``.
    Raises ``UsageProblem`` when ``path`` is no bundle at all.
    """
    store = open_store(path)
    if not is_bundle(store) and not store.faults(""):
        raise UsageProblem(
            f"{path} holds no bundle",
            hint="an unsealed one has no seal.dsse.json; `irkit case show CASE` lists a case's bundles",
        )
    known = list(keys)
    found = verify_store(store, known, expect_head, tsa)
    return _with_plain(found, open_store(path, identities), known, tsa) if found.ok and identities else found


def _with_plain(
    found: Verification, plain: Store, keys: list[PublicKey], tsa: Sequence[Certificate] | None
) -> Verification:
    """``found`` of an encrypted bundle, and what does not hold inside."""
    inner = verify_store(plain, keys, tsa=tsa)
    problems = [Problem(f"plain/{one.file}", one.problem) for one in inner.problems]
    if inner.ok and found.predicate.get("encrypted_from", inner.digest) != inner.digest:
        problems.append(Problem("plain", "is another bundle than the one that the seal speaks of"))
    return replace(found, problems=tuple(problems))


def verify_store(
    store: Store, keys: list[PublicKey], expect_head: str = "", tsa: Sequence[Certificate] | None = None
) -> Verification:
    """:func:`verify_bundle` of an opened bundle."""
    try:
        seal = read_small(store, names.SEAL)
        envelope = dsse.parse(seal)
        key, payload = envelope.open_with(keys)
        subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
    except CheckFailed as error:
        faults = (*store.faults(""), Problem(names.SEAL, error.message))
        return Verification(store.path, (*faults, *_unsigned_check(store)))
    files = store.entries()
    digest = subjects.get(names.TAG_MANIFEST, "")
    stamp, token, unstamped = _check_timestamp(store, envelope, tsa)
    chain, broken = _check_custody(store, seal, keys, expect_head)
    proven = stamp.time if stamp.state == "valid" else ""
    objection = key.validity.objection(str(predicate.get("sealed", "")), proven)
    problems = [
        *([Problem(names.SEAL, objection)] if objection else []),
        *store.faults(digest),
        *_check_files(store, files, subjects),
        *_check_manifests(store, subjects),
        *_check_second_seal(store, seal, envelope, key, token),
        *unstamped,
        *_check_folders(store, subjects),
        *broken,
    ]
    return Verification(
        store.path, tuple(problems), f"sha256:{digest}", str(predicate.get("status", "")),
        str(predicate.get("sealed", "")), key.id, key.name, len(subjects) - 1, sum(files.values()), predicate, len(chain.entries), chain.head, stamp,
    )  # fmt: skip


def _check_files(store: Store, files: dict[str, int], subjects: dict[str, str]) -> Iterator[Problem]:
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
        elif files[name] >= 0:
            yield from _check_digest(store, name, expected)


def _check_digest(store: Store, name: str, expected: str) -> Iterator[Problem]:
    try:
        if digest_of(store, name) != expected:
            yield Problem(name, "altered: its sha256 is not the sealed one")
    except CheckFailed as error:
        yield Problem(name, error.message)


def _check_manifests(store: Store, subjects: dict[str, str]) -> Iterator[Problem]:
    """The tag files: the seal vouches for the tag manifest, and that one for the others."""
    payload = {name: digest for name, digest in subjects.items() if name != names.TAG_MANIFEST}
    tags: dict[str, str] = {}
    try:
        data = read_small(store, names.TAG_MANIFEST)
        tags = names.parse_manifest(data.decode("ascii"))
        if hashlib.sha256(data).hexdigest() != subjects.get(names.TAG_MANIFEST) or set(tags) != set(names.TAGGED):
            tags = {}
            yield Problem(names.TAG_MANIFEST, "altered: it is not the sealed list of the three tag files")
    except (CheckFailed, ValueError) as error:
        yield Problem(names.TAG_MANIFEST, str(error))
    for name in names.TAGGED:
        yield from _check_tag_file(store, name, tags.get(name), payload)


def _check_tag_file(store: Store, name: str, expected: str | None, payload: dict[str, str]) -> Iterator[Problem]:
    try:
        data = read_small(store, name)
        if expected is None:
            yield Problem(name, "nothing vouches for it: the tag manifest is not the sealed one")
        elif hashlib.sha256(data).hexdigest() != expected:
            yield Problem(name, "altered: its sha256 is not the one in the tag manifest")
        elif name == names.MANIFEST and names.parse_manifest(data.decode("ascii")) != payload:
            yield Problem(name, "lists other payload files or digests than the seal")
    except (CheckFailed, ValueError) as error:
        yield Problem(name, str(error))


def _check_second_seal(
    store: Store, seal: bytes, envelope: dsse.Envelope, key: PublicKey, token: bytes
) -> Iterator[Problem]:
    """The signature does not cover media type, key names and blanks: these are as irkit wrote them, to the byte.

    The sigstore form is made out of the envelope and the timestamp, so it is compared, not believed.
    """
    whole = dsse.render(envelope)
    if seal != whole:
        yield Problem(names.SEAL, "altered: the signature holds, but the text around it is not what irkit writes")
    try:
        second = read_small(store, names.SIGSTORE_SEAL)
        if second == dsse.sigstore_bundle(whole, key.id, token):
            return
        yield Problem(names.SIGSTORE_SEAL, "altered, or of another seal: it is not what irkit writes for this one")
        if second == dsse.sigstore_bundle(whole, key.id, dsse.token_of(second)):
            yield Problem(
                names.TIMESTAMP, f"altered, dropped or added: {names.SIGSTORE_SEAL} holds another timestamp, or none"
            )
    except CheckFailed as error:
        yield Problem(names.SIGSTORE_SEAL, error.message)


def _check_timestamp(
    store: Store, envelope: dsse.Envelope, tsa: Sequence[Certificate] | None
) -> tuple[Stamp, bytes, list[Problem]]:
    """What the timestamp is worth, its bytes, and what does not hold.  It is of the seal's first, and only, signature."""
    if not store.has(names.TIMESTAMP):
        return Stamp(), b"", []
    try:
        token = read_small(store, names.TIMESTAMP, TOKEN_LIMIT)
    except CheckFailed as error:
        return Stamp("unreadable", why=error.message), b"", [Problem(names.TIMESTAMP, error.message)]
    stamp = check(token, envelope.signatures[0], trusted_authorities() if tsa is None else tsa)
    bad = stamp.state in ("invalid", "unreadable")
    return stamp, token, [Problem(names.TIMESTAMP, f"{stamp.state}: {stamp.why}")] if bad else []


def _check_folders(store: Store, subjects: dict[str, str]) -> Iterator[Problem]:
    """A folder that holds nothing sealed was added: by now every file in it has been named, an empty one has not."""
    parents = {name.rpartition("/")[0] for name in subjects}
    known = {str(folder) for parent in parents for folder in (PurePosixPath(parent), *PurePosixPath(parent).parents)}
    for name in store.folders():
        if name not in known:
            yield Problem(name, "added: the seal knows no such folder")


def _check_custody(store: Store, seal: bytes, keys: list[PublicKey], head: str) -> tuple[Chain, list[Problem]]:
    try:
        chain = read_chain(load(store), seal, keys, head)
    except CheckFailed as error:
        chain = Chain(problems=(error.message,))
    return chain, [Problem(names.CUSTODY, problem) for problem in chain.problems]


def _unsigned_check(store: Store) -> Iterator[Problem]:
    """Without a good seal the manifests prove nothing, but they can still tell what was altered by accident."""
    try:
        listed = names.parse_manifest(read_small(store, names.MANIFEST).decode("ascii"))
    except (CheckFailed, ValueError) as error:
        yield Problem(names.MANIFEST, str(error))
        return
    yield from _check_files(
        store, store.entries(), {name: digest for name, digest in listed.items() if names.is_payload(name)}
    )


def claimed_key(path: Path) -> str:
    """The key id that an unverified seal claims, for a hint only."""
    try:
        predicate = json.loads(dsse.parse(read_small(open_store(path), names.SEAL)).payload)["predicate"]
        return str(predicate["key"])[:80]
    except (CheckFailed, ValueError, KeyError, TypeError, RecursionError):
        return ""
