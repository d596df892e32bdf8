"""What programs of others say of an image: it is saved once, whole, and scanner and Syft read that archive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from irkit.audit import sbom, scanners
from irkit.audit.model import Subject
from irkit.audit.policy import Policy
from irkit.audit.programs import Limits, ProgramFailed
from irkit.audit.sbom import Sbom
from irkit.audit.vulnerabilities import Scan
from irkit.errors import EngineError, StorageError, storage_error
from irkit.home import home, private_folder

ARCHIVE_LIMIT = 64 * 1024**3
PREPARING = 900.0
"""Seconds that an engine may take before the first byte: Docker 20.10 writes every layer to its disk first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whether to scan, and which form of SBOM to make; empty: none."""

    scan: bool = False
    sbom: str = ""

    @property
    def nothing(self) -> bool:
        """Neither."""
        return not self.scan and not self.sbom


@dataclass(frozen=True, slots=True)
class Looked:
    """Of one image.  A text says why there is none; ``None``: it was not asked for.  ``report``: as the scanner printed it."""

    scan: Scan | str | None = None
    sbom: Sbom | str | None = None
    report: bytes = b""

    @classmethod
    def none(cls, why: str, wanted: Wanted) -> Looked:
        """What was asked for could not be had: never to be taken for not asked for."""
        return cls(why if wanted.scan else None, why if wanted.sbom else None)

    def of(self, subject: Subject) -> Subject:
        """The subject, with what was said."""
        return replace(subject, scan=self.scan, sbom=self.sbom)


def look(source: Callable[[], Iterable[bytes]], image: str, wanted: Wanted, policy: Policy, limits: Limits) -> Looked:
    """Save and ask.  ``source``: opens the image as ``docker save`` gives it; ``image``: its id.  What fails is told, not raised."""
    try:
        with _saved(source(), limits) as archive:
            return _ask(archive, image, wanted, policy, limits)
    except (EngineError, StorageError, ProgramFailed) as error:
        return Looked.none(f"the image can't be saved: {error.message}", wanted)


def _ask(archive: Path, image: str, wanted: Wanted, policy: Policy, limits: Limits) -> Looked:
    found: Scan | str | None = None
    listed: Sbom | str | None = None
    report = b""
    if wanted.scan:
        try:
            found, report = scanners.scan(archive, image, policy.vulnerabilities, limits)
        except ProgramFailed as error:
            found = error.message
    if wanted.sbom:
        try:
            listed = sbom.make(archive, image, wanted.sbom, limits)
        except ProgramFailed as error:
            listed = error.message
    return Looked(found, listed, report)


@contextmanager
def _saved(chunks: Iterable[bytes], limits: Limits) -> Iterator[Path]:
    """In a private folder of ``IRKIT_HOME/tmp``, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="scan-", dir=private_folder(home() / "tmp")) as folder:
        path, size = Path(folder) / "image.tar", 0
        try:
            with path.open("xb") as file:
                for chunk in chunks:
                    limits.checkpoint()
                    size += len(chunk)
                    if size > ARCHIVE_LIMIT:
                        raise ProgramFailed(f"it is larger than {ARCHIVE_LIMIT} bytes")
                    file.write(chunk)
        except OSError as error:
            raise storage_error(error, f"can't write {path}") from error
        yield path
