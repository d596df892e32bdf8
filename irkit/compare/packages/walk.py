"""Where language packages lie: a bounded walk over the folders of one side."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from irkit.compare.files import Files
from irkit.compare.packages.model import Problems
from irkit.text import printable

FOLDERS_LIMIT = 400_000
DEPTH_LIMIT = 64
SKIPPED = frozenset({"/proc", "/sys", "/dev"})
METADATA = (".dist-info", ".egg-info")


@dataclass(slots=True)
class Places:
    """What a walk found."""

    metadata: list[str] = field(default_factory=list)
    """Folders (or single files) of pip's metadata."""
    modules: list[str] = field(default_factory=list)
    """Folders that may be npm packages: those directly beneath a ``node_modules``, or beneath a scope in it."""


def find_places(files: Files, problems: Problems) -> Places:
    """Every place where pip or npm keep what they installed.  What was not walked is said in ``problems``."""
    found = Places()
    waiting: deque[tuple[str, int]] = deque([("", 0)])
    asked = 0
    while waiting:
        folder, depth = waiting.popleft()
        names = files.names(folder or "/")
        asked += 1
        if asked > FOLDERS_LIMIT:
            problems.add("pip and npm", f"there are more than {FOLDERS_LIMIT} places: not all were looked at")
            break
        if names and depth >= DEPTH_LIMIT:
            problems.add(f"pip and npm beneath {printable(folder, 100)}", "the folders are too deep")
            continue
        for name in names:
            path = f"{folder}/{name}"
            if name.endswith(METADATA):
                found.metadata.append(path)
            elif path not in SKIPPED and name not in (".", ".."):
                waiting.append((path, depth + 1))
                _module(found, folder, name, path)
    return found


def _module(found: Places, folder: str, name: str, path: str) -> None:
    parent, _, last = folder.rpartition("/")
    inside = last == "node_modules" and not name.startswith("@")
    scoped = last.startswith("@") and parent.endswith("/node_modules")
    if (inside or scoped) and not name.startswith("."):
        found.modules.append(path)
