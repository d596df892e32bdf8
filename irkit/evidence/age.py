"""Encryption to recipients with age (age-encryption.org/v1): a sealed bundle around a sealed bundle, file by file.

An encrypted bundle is a bundle like any other: its payload ``data/plain/NAME.age`` is, for each file ``NAME`` of the plain
bundle (seal, custody and all), that file encrypted.  So the outer seal covers the stored bytes and anybody can verify it;
whoever has an identity gets the plain bundle back to the byte, and verifies that one too (docs/adr/0009).
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from irkit.errors import CheckFailed, IrkitError, KeyProblem, StorageError, UsageProblem, storage_error
from irkit.evidence import names
from irkit.evidence.keys import Signer
from irkit.evidence.seal import Sealed, seal_bundle
from irkit.evidence.store import Problem, Store
from irkit.evidence.verify import Verification
from irkit.evidence.writer import BundleWriter, Origin, sync_tree
from irkit.home import private_folder

PREFIX, SUFFIX = "data/plain/", ".age"
HEADER_LIMIT = 64 * 1024
CHUNK, TAG, NONCE = 64 * 1024, 16, 16
IN_MEMORY = 16 * 1024 * 1024
METHOD, MEDIA_TYPE = "age, to recipients", "application/vnd.age"
RECIPIENT_LINE = re.compile(r"(age1[0-9a-z]+|ssh-ed25519 \S+|ssh-rsa \S+)( .*)?")


def recipients_from(words: Sequence[str]) -> list[Any]:
    """Recipients given as ``age1…``, ``ssh-ed25519 …``, ``ssh-rsa …``, or files with one a line.

    Raises ``UsageProblem`` for what is neither.
    """
    found: list[Any] = []
    for word in words:
        lines = [word] if RECIPIENT_LINE.fullmatch(word) else _lines_of(word)
        found += [_recipient(line, word) for line in lines]
    return found


def _lines_of(word: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(word).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageProblem(
            f"neither a recipient nor a file of them: {word}",
            hint="age1…, an ssh public key, or a file with one a line",
        ) from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise UsageProblem(f"{word} holds no recipient")
    return lines


def _recipient(line: str, word: str) -> Any:
    import pyrage

    kind = pyrage.x25519 if line.startswith("age1") else pyrage.ssh
    try:
        return kind.Recipient.from_str(line)
    except pyrage.RecipientError as error:
        shown = line[:24] if line.startswith(("age1", "ssh-")) else "(a line that is none)"
        raise UsageProblem(f"not a recipient: {shown}… in {word[:80]}: {error}") from error


def identities_from(files: Sequence[Path]) -> list[Any]:
    """Identities: files of ``AGE-SECRET-KEY-1…`` lines, or OpenSSH private keys.  Raises ``KeyProblem``."""
    return [one for path in files for one in _identities_of(path)]


def _identities_of(path: Path) -> list[Any]:
    import pyrage

    try:
        data = path.read_bytes()
    except OSError as error:
        raise KeyProblem(f"can't read the identity {path}: {error.strerror}") from error
    try:
        if b"PRIVATE KEY-----" in data[:200]:
            return [pyrage.ssh.Identity.from_buffer(data)]
        lines = [line.strip() for line in data.decode("ascii").splitlines()]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (pyrage.IdentityError, ValueError) as error:
        raise KeyProblem(
            f"{path} is not an age identity",
            hint="a file with AGE-SECRET-KEY-1… lines, or an OpenSSH private key without a passphrase",
        ) from error
    if not found:
        raise KeyProblem(f"{path} holds no identity")
    return found


def make_identity(path: Path) -> str:
    """A new identity in a new file, as ``age-keygen`` writes it; its recipient.  Raises ``UsageProblem``, ``StorageError``."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"# public key: {recipient}\n{identity}\n")
    except FileExistsError:
        raise UsageProblem(f"{path} is there already") from None
    except OSError as error:
        raise storage_error(error, f"can't write {path}") from error
    return recipient


class Checked:
    """A stream for pyrage, which drops the errors of what it calls: the first one is kept, to be raised afterwards."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Pass bytes on.  Raises what ``write`` raises."""
        try:
            if self.error is None:
                self._write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing: what it writes to is flushed when it is closed."""


class _Source:
    """A file for pyrage to read, counted, its first error kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size)
        except BaseException as error:
            self.error = error
            raise
        self.size += len(data)
        return data


def _encrypt(source: BinaryIO, size: int, target: Any, recipients: Sequence[Any]) -> None:
    import pyrage

    reader, writer = _Source(source), Checked(target.write)
    try:
        pyrage.encrypt_io(reader, writer, recipients)
    except (pyrage.EncryptError, OSError) as error:
        raise (writer.error or reader.error or IrkitError(f"can't encrypt: {error}")) from error
    if failed := writer.error or reader.error:
        raise failed
    if reader.size != size:
        raise CheckFailed("it changed while it was read")


def encrypt_bundle(
    store: Store, found: Verification, target: Path, recipients: Sequence[Any], signer: Signer
) -> Sealed:
    """Encrypt a bundle, **verified before**, into the new bundle folder ``target``; ``signer`` seals it.

    In plain it says the case, the run, the status, the plain bundle's digest, and its files' names and sizes; neither the
    target nor anything that came out of it.  The plain bundle stays where it is.  Raises ``StorageError``, ``CheckFailed``.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        writer = BundleWriter(temporary)
        for name, size in sorted(store.entries().items()):
            origin = Origin("encrypt", name, METHOD, MEDIA_TYPE)
            with store.open(name) as file, writer.sink(f"plain/{name}{SUFFIX}", origin, compress=False) as sink:
                _encrypt(file, size, sink, recipients)
        writer.about = about(len(recipients), found.digest)
        facts = outer_facts(found.predicate, found.digest)
        sealed = seal_bundle(writer, facts, found.status, signer)
        temporary.rename(target)
    except OSError as error:
        raise storage_error(error, f"can't write {target}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Sealed(target, sealed.digest, sealed.status, sealed.sealed, sealed.key)


def about(recipients: int, digest: str) -> dict[str, Any]:
    """What an encrypted bundle's index says of the plain one: its digest, and how many can read it."""
    return {"encrypted": {"format": "age-encryption.org/v1", "recipients": recipients, "digest": digest}}


def outer_facts(facts: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """What an encrypted bundle's seal says in plain: not the target, nothing that came out of it."""
    return {
        "case": str(facts.get("case", "")), "run": str(facts.get("run", "")), "target": {}, "encrypted_from": digest,
    }  # fmt: skip


def is_encrypted(store: Store) -> bool:
    """Whether a bundle holds an encrypted one."""
    return PREFIX + names.SEAL + SUFFIX in store.entries()


class PlainStore:
    """The plain bundle inside an encrypted one, **verified before**; decrypted as it is read, larger files by way of an
    unnamed file in ``TMPDIR``: age gives out bytes before it has checked the end."""

    def __init__(self, outer: Store, identities: Sequence[Any]) -> None:
        self.path = outer.path
        self._outer = outer
        self._identities = identities

    def entries(self) -> dict[str, int]:
        """As :class:`irkit.evidence.store.Store`."""
        return {
            name.removeprefix(PREFIX).removesuffix(SUFFIX): self._plain_size(name, size)
            for name, size in self._outer.entries().items()
            if name.startswith(PREFIX) and name.endswith(SUFFIX)
        }

    def _plain_size(self, name: str, size: int) -> int:
        """The size that age's format gives: header, nonce, chunks of 64 KiB with a tag each; -1 for what is none."""
        with self._outer.open(name) as file:
            head = file.read(HEADER_LIMIT)
        end = head.find(b"\n", head.find(b"\n--- ") + 1) + 1
        body = size - end - NONCE
        return (
            body - TAG * math.ceil(body / (CHUNK + TAG))
            if head.startswith(b"age-encryption.org/v1\n") and end > 1
            else -1
        )

    def folders(self) -> tuple[str, ...]:
        """As :class:`irkit.evidence.store.Store`."""
        return ()

    def has(self, name: str) -> bool:
        """As :class:`irkit.evidence.store.Store`."""
        return self._outer.has(PREFIX + name + SUFFIX)

    def faults(self, _: str) -> tuple[Problem, ...]:
        """As :class:`irkit.evidence.store.Store`."""
        return ()

    def open(self, name: str) -> BinaryIO:
        """As :class:`irkit.evidence.store.Store`.  Raises ``KeyProblem`` when no identity is the right one."""
        import pyrage

        plain = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the caller closes it
        target = Checked(plain.write)
        try:
            with self._outer.open(PREFIX + name + SUFFIX) as file:
                pyrage.decrypt_io(file, target, self._identities)
        except pyrage.DecryptError as error:
            plain.close()
            if "No matching keys" in str(error):
                raise KeyProblem(
                    "none of the identities given can open this bundle",
                    hint="--identity names the file of one of its recipients",
                ) from error
            raise CheckFailed(f"can't be decrypted: {error}") from error
        except OSError as error:
            plain.close()
            if target.error is not None:
                raise storage_error(error, "can't write to the folder for temporary files") from error
            raise CheckFailed("can't be decrypted: altered or cut off") from error
        if target.error is not None:
            raise StorageError("can't write to the folder for temporary files", hint="TMPDIR names another one")
        plain.seek(0)
        return plain  # type: ignore[return-value]

    def replace(self, _: Mapping[str, bytes]) -> None:
        """Never: a hand-over or a timestamp is of the encrypted bundle."""
        raise UsageProblem("an encrypted bundle can't be changed from inside")


def copy_out(store: Store, target: Path) -> None:
    """Write every file of a bundle to a new folder, on the disk before this returns; all or nothing.

    Raises ``CheckFailed``, ``KeyProblem``, ``StorageError``.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        for name in sorted(store.entries()):
            if not names.is_payload(name) and name not in names.TOP_LEVEL:
                raise CheckFailed(f"{name} is a name that irkit would never write")
            private_folder((temporary / name).parent)
            descriptor = os.open(temporary / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as out, store.open(name) as file:
                shutil.copyfileobj(file, out, 1024 * 1024)
                out.flush()
                os.fsync(out.fileno())
        sync_tree(temporary)
        temporary.rename(target)
    except OSError as error:
        raise storage_error(error, f"can't write {target}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
