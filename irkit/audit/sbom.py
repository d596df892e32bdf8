"""A list of an image's packages (SBOM), made by Syft where it is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.audit.programs import Limits, ProgramFailed, document, find, run
from irkit.audit.scanners import SHAPE, cut

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """``option``: Syft's name of it; ``suffix``: what its own specification calls such files; ``count``: its packages."""

    option: str
    suffix: str
    media_type: str
    count: Callable[[Json], int]


def _syft(raw: Json) -> int:
    if "artifacts" not in raw or "schema" not in raw:
        raise KeyError("artifacts")
    return sum(isinstance(one, dict) for one in raw["artifacts"])


def _cyclonedx(raw: Json) -> int:
    """Components that are no files and not the operating system as a whole (CycloneDX 1.6, ``component.type``)."""
    if raw["bomFormat"] != "CycloneDX":
        raise ValueError("not CycloneDX")
    return sum(one["type"] not in ("file", "operating-system") for one in raw.get("components") or ())


def _spdx(raw: Json) -> int:
    """Packages but for the one that the document is about (SPDX 2.3, ``DESCRIBES``)."""
    if not str(raw["spdxVersion"]).startswith("SPDX-"):
        raise ValueError("not SPDX")
    roots = {
        one["relatedSpdxElement"] for one in raw.get("relationships") or () if one["relationshipType"] == "DESCRIBES"
    }
    return sum(one["SPDXID"] not in roots for one in raw.get("packages") or ())


FORMATS = {
    "syft": Format("syft-json", ".syft.json", "application/json", _syft),
    "cyclonedx": Format("cyclonedx-json", ".cdx.json", "application/vnd.cyclonedx+json", _cyclonedx),
    "spdx": Format("spdx-json", ".spdx.json", "application/spdx+json", _spdx),
}


@dataclass(frozen=True, slots=True)
class Sbom:
    """``data``: the document; ``packages``: how many it lists; ``tool``: who made it."""

    image: str
    format: str
    tool: str
    packages: int
    data: bytes

    def to_json(self) -> dict[str, Any]:
        """An object of ``sboms``."""
        return {
            "image": self.image, "format": self.format, "tool": self.tool, "packages": self.packages,
            "size": len(self.data), "sha256": hashlib.sha256(self.data).hexdigest(),
        }  # fmt: skip


def make(archive: Path, image: str, form: str, limits: Limits) -> Sbom:
    """An image that was saved, as a list of packages.  Raises ``ProgramFailed``."""
    path = find("syft")
    if path is None:
        raise ProgramFailed("syft is not installed: not on PATH")
    extra = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_SOURCE_NAME": image}
    data = run([path, f"docker-archive:{archive}", "-q", "-o", FORMATS[form].option], archive.parent, limits, extra)
    count = read(data, form)
    about = document(run([path, "version", "-o", "json"], archive.parent, limits, extra), "syft")
    return Sbom(image, form, cut(f"syft {about.get('version', '')}"), count, data)


def read(data: bytes, form: str) -> int:
    """How many packages a document lists.  Raises ``ProgramFailed`` for one of another form."""
    try:
        return FORMATS[form].count(document(data, "syft"))
    except SHAPE as error:
        raise ProgramFailed(f"syft's document has another form than expected ({type(error).__name__})") from error
