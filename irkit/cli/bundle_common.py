"""What the commands of ``irkit bundle`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from irkit.errors import EvidenceAltered, UsageProblem

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from irkit.evidence.verify import Verification

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
