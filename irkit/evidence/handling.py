"""What is done with a sealed bundle: packed as a tar, encrypted, timestamped.  Each verifies it first, and what was written after.

``irkit bundle`` and the playbooks' actions call the same functions.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irkit.errors import EvidenceAltered, UsageProblem
from irkit.evidence import dsse, names
from irkit.evidence.custody import locked
from irkit.evidence.keys import PublicKey, Signer
from irkit.evidence.store import open_store, read_small
from irkit.evidence.tar import write_tar
from irkit.evidence.verify import Verification, verify_bundle

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def verified(found: Verification, done: str) -> Verification:
    """``found``, when it holds; ``done`` says what was not done.  Raises ``EvidenceAltered``."""
    if found.ok:
        return found
    first = found.problems[0]
    raise EvidenceAltered(
        f"nothing was {done}, because the bundle does not verify: {first.file}: {first.problem}",
        hint="`irkit bundle verify` lists everything that does not hold",
    )


def as_written(found: Verification) -> Verification:
    """``found`` of a bundle that was just written, when it holds.  Raises ``EvidenceAltered``."""
    if found.ok:
        return found
    raise EvidenceAltered(
        f"{found.path} is not what was written: {found.problems[0].file}: {found.problems[0].problem}"
    )


def pack(bundle: Path, output: Path, keys: Iterable[PublicKey]) -> Verification:
    """A sealed bundle as the tar file ``output``, its seal as it is.  Raises ``EvidenceAltered``, ``StorageError``."""
    known = list(keys)
    found = verified(verify_bundle(bundle, known), "packed")
    write_tar(open_store(bundle), output, found.digest.removeprefix("sha256:"))
    return as_written(verify_bundle(output, known))


def encrypt(
    bundle: Path, output: Path, recipients: Sequence[Any], signer: Signer, keys: Iterable[PublicKey]
) -> tuple[str, Verification]:
    """A bundle encrypted into a new one, a folder or ``FILE.tar``, that ``signer`` seals: the plain one's digest, and it.

    Raises ``UsageProblem`` for one that is encrypted already, ``EvidenceAltered``, ``StorageError``.
    """
    from irkit.evidence import age

    store = open_store(bundle)
    found = verified(verify_bundle(bundle, [*keys, signer.public]), "encrypted")
    if age.is_encrypted(store):
        raise UsageProblem(f"{bundle} is encrypted already")
    if output.suffix == ".tar":
        folder = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
        try:
            sealed = age.encrypt_bundle(store, found, folder, recipients, signer)
            write_tar(open_store(folder), output, sealed.digest.removeprefix("sha256:"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        age.encrypt_bundle(store, found, output, recipients, signer)
    return found.digest, as_written(verify_bundle(output, [signer.public]))


def timestamp(
    bundle: Path, tsa: str, keys: Iterable[PublicKey], roots: Sequence[Certificate], *, replace: bool = False
) -> Verification:
    """Have the authority at the URL ``tsa`` state when a bundle was sealed at the latest (RFC 3161).

    ``roots``: the authorities' certificates that are trusted.  When it can't be reached the bundle stays as it was.
    Raises ``UsageProblem`` for one that has a timestamp, unless it shall be replaced, ``EvidenceAltered``,
    ``IrkitError``.
    """
    from irkit.evidence.timestamp import ask

    known = list(keys)
    with locked(bundle):
        found = verify_bundle(bundle, known, tsa=roots)
        made_anew = {names.TIMESTAMP, names.SIGSTORE_SEAL} if replace else set()
        bad = [one for one in found.problems if one.file not in made_anew]
        if bad:
            raise EvidenceAltered(
                f"nothing was stamped, because the bundle does not verify: {bad[0].file}: {bad[0].problem}",
                hint="`irkit bundle verify` lists everything that does not hold",
            )
        if found.stamp.state != "none" and not replace:
            raise UsageProblem(
                f"{bundle} has a timestamp already", hint="an earlier one proves more; --replace all the same"
            )
        store = open_store(bundle)
        seal = read_small(store, names.SEAL)
        token = ask(tsa, dsse.parse(seal).signatures[0], roots)
        store.replace({names.TIMESTAMP: token, names.SIGSTORE_SEAL: dsse.sigstore_bundle(seal, found.key, token)})
        written = verify_bundle(bundle, known, tsa=roots)
    if not written.ok:
        raise EvidenceAltered(f"{bundle} is not what was written: {written.problems[0].problem}")
    return written
