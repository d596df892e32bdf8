"""What the commands of ``irkit bundle`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.errors import UsageProblem

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

key_option = click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trust this public key, and only it."
)
tsa_option = click.option(
    "--tsa-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this timestamp authority's certificate, and only it.  [default: those of `irkit key trust --use tsa`]",
)


def authorities(tsa_cert: Path | None) -> list[Certificate] | None:
    """The certificates that a timestamp is held against; ``None``: those trusted here."""
    from irkit.evidence.timestamp import certificates_from

    return certificates_from(tsa_cert) if tsa_cert else None


def is_free(output: Path) -> None:
    """Raises ``UsageProblem`` when there is something at ``output``."""
    if output.exists() or output.is_symlink():
        raise UsageProblem(f"{output} is there already", hint="-o names a folder or file that is not there yet")


def names_bundle(word: str) -> bool:
    """Whether what a user typed is a bundle's path.  A folder that lies about under a container's name is not."""
    path = Path(word)
    return path.exists() and ("/" in word or not path.is_dir() or (path / "bagit.txt").exists())
