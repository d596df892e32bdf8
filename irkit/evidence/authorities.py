"""Timestamp authorities that are trusted here: a PEM file each in ``IRKIT_HOME/keys/tsa``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from irkit.errors import KeyProblem, UsageProblem
from irkit.evidence.keys import KEY_NAME, keys_folder
from irkit.evidence.timestamp import certificates_from
from irkit.home import private_folder, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import Certificate


def trust_authority(name: str, file: Path) -> list[Certificate]:
    """Trust the certificates in ``file`` (PEM) to say when something was signed.  Raises ``UsageProblem``, ``KeyProblem``."""
    found = certificates_from(file)
    if not KEY_NAME.fullmatch(name):
        raise UsageProblem(f"not a name: {name!r}", hint="lower-case letters, digits, dot, dash and underscore")
    folder = private_folder(keys_folder() / "tsa")
    if (folder / f"{name}.pem").exists():
        raise UsageProblem(f"there is an authority {name!r} already", hint="choose another --name")
    write_file(folder / f"{name}.pem", file.read_bytes(), mode=0o644)
    return found


def trusted_authorities() -> list[Certificate]:
    """All of them.  A file that can't be read is passed over: it can't vouch."""
    found: list[Certificate] = []
    folder = keys_folder() / "tsa"
    for path in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
        with contextlib.suppress(KeyProblem):
            found += certificates_from(path)
    return found
