"""Playbooks and forensics data: the user's own folder first, then what is shipped in the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from irkit import data
from irkit.errors import UsageProblem
from irkit.home import home

KINDS = (
    "playbooks",
    "forensics/profiles",
    "forensics/rules",
    "forensics/scenarios",
    "forensics/yara",
    "forensics/noise",
    "forensics/attack",
)
SUFFIX = {"forensics/yara": ".yar"}
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def shipped(kind: str) -> Path:
    """The shipped folder of a kind.  irkit is installed as files (wheel, editable, checkout), so this is a path.

    Not by ``importlib.resources``, which gives the same path and takes longer to import than a playbook to read (ADR 2).
    """
    return Path(data.__path__[0]) / kind


def folders(kind: str) -> tuple[Path, ...]:
    """The user's own folder, then the shipped one."""
    return home() / kind, shipped(kind)


def find(kind: str, name: str) -> Path:
    """A document by name, or by a path that the user wrote.  Raises ``UsageProblem``."""
    ending = SUFFIX.get(kind, ".yaml")
    if "/" in name or name.endswith((".yaml", ".yml", ending)):
        if Path(name).is_file():
            return Path(name)
        raise UsageProblem(f"no such file: {name}")
    if NAME.fullmatch(name):
        for folder in folders(kind):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    known = ", ".join(sorted({path.stem for path in every(kind)}))
    raise UsageProblem(f"no {kind.rpartition('/')[2].rstrip('s')} {name!r}", hint=f"there are: {known}")


def every(kind: str) -> Iterator[Path]:
    """Every document of a kind; a user's own hides a shipped one of the same name."""
    seen = set()
    for folder in folders(kind):
        for path in sorted(folder.glob(f"*{SUFFIX.get(kind, '.yaml')}")) if folder.is_dir() else ():
            if path.name not in seen:
                seen.add(path.name)
                yield path
