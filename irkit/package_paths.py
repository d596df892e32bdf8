"""Paths in package databases: which are plain, which are two names of one place, and which files hold databases."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass

PATH_LIMIT = 4096
"""PATH_MAX of Linux."""
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32")
"""Folders of the root that are links into ``/usr`` on a merged system (https://wiki.debian.org/UsrMerge)."""


@dataclass(frozen=True, slots=True)
class DatabasePath:
    """Files of an image that must be kept to know its packages offline.

    ``pattern`` is an :mod:`fnmatch` pattern of absolute paths; its ``*`` crosses slashes.
    """

    pattern: str
    manager: str
    limit: int
    """Bytes of one file: a larger one is not read."""


MIB = 1024 * 1024
DATABASE_PATHS: tuple[DatabasePath, ...] = (
    DatabasePath("/var/lib/dpkg/status", "dpkg", 64 * MIB),
    DatabasePath("/var/lib/dpkg/diversions", "dpkg", MIB),
    DatabasePath("/var/lib/dpkg/status.d/*", "dpkg", 16 * MIB),
    DatabasePath("/var/lib/dpkg/info/*.list", "dpkg", 16 * MIB),
    DatabasePath("/var/lib/dpkg/info/*.md5sums", "dpkg", 16 * MIB),
    DatabasePath("/lib/apk/db/installed", "apk", 32 * MIB),
    DatabasePath("/usr/lib/apk/db/installed", "apk", 32 * MIB),
    *(
        DatabasePath(f"{folder}/{name}", "rpm", 256 * MIB)
        for folder in ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
        for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages")
    ),
    DatabasePath("*.dist-info/METADATA", "pip", MIB),
    DatabasePath("*.dist-info/RECORD", "pip", 16 * MIB),
    DatabasePath("*.egg-info/PKG-INFO", "pip", MIB),
    DatabasePath("*.egg-info/installed-files.txt", "pip", 4 * MIB),
    DatabasePath("*.egg-info", "pip", MIB),
    DatabasePath("*/node_modules/*/package.json", "npm", MIB),
    DatabasePath("/node_modules/*/package.json", "npm", MIB),
)
"""All that :func:`irkit.compare.packages.read_packages` reads."""
DATABASE_BUDGET = 256 * MIB
"""Bytes of all of them that are worth keeping: keep in the order of the list, and name what is left out as a gap."""
BYTECODE = re.compile(r"(?P<folder>.*)/__pycache__/(?P<name>[^/]+?)\.[^./]+-\d+(?:\.opt-\d)?\.pyc")
"""``/lib/__pycache__/x.cpython-311.opt-1.pyc`` (PEP 3147, PEP 488)."""


def is_database(path: str) -> DatabasePath | None:
    """The entry of :data:`DATABASE_PATHS` that an absolute path falls under.  Cheap: it is asked for each file of an image."""
    name = path.rpartition("/")[2]
    if path.startswith("/var/lib/dpkg/"):
        return _dpkg(path, name)
    found = _FIXED.get(path)
    if found is not None:
        return found
    if name == "package.json":
        return _NPM if "/node_modules/" in path else None
    if name in _PIP_NAMES or name.endswith(".egg-info"):
        return _pip(path, name)
    return None


_FIXED = {one.pattern: one for one in DATABASE_PATHS if "*" not in one.pattern}
_BY_PATTERN = {one.pattern: one for one in DATABASE_PATHS}
_LISTS = {ending: _BY_PATTERN[f"/var/lib/dpkg/info/*{ending}"] for ending in (".list", ".md5sums")}
_NPM = _BY_PATTERN["*/node_modules/*/package.json"]
_PIP_NAMES = {"METADATA": ".dist-info", "RECORD": ".dist-info", "PKG-INFO": ".egg-info", "installed-files.txt": ".egg-info"}  # fmt: skip


def _dpkg(path: str, name: str) -> DatabasePath | None:
    if path.startswith("/var/lib/dpkg/info/"):
        return _LISTS.get(name[-5:]) or _LISTS.get(name[-8:])
    if path.startswith("/var/lib/dpkg/status.d/"):
        return _BY_PATTERN["/var/lib/dpkg/status.d/*"]
    return _FIXED.get(path)


def _pip(path: str, name: str) -> DatabasePath | None:
    if name.endswith(".egg-info"):
        return _BY_PATTERN["*.egg-info"]
    ending = _PIP_NAMES[name]
    return _BY_PATTERN[f"*{ending}/{name}"] if path[: -len(name) - 1].endswith(ending) else None


def database_limit(path: str) -> int:
    """How many bytes of a file of a database are read; 0 for another file."""
    found = is_database(path)
    return found.limit if found is not None else 0


def other_name(path: bytes) -> tuple[str, bytes] | None:
    """Of a path beneath ``/bin`` or ``/usr/bin`` and their like: the folder's name, and the path on the other side."""
    first, _, rest = path[1:].partition(b"/")
    if first == b"usr":
        first = rest.partition(b"/")[0]
        other = b"/" + rest
    else:
        other = b"/usr" + path
    name = first.decode("latin-1")
    return (name, other) if name in MERGED and other.rstrip(b"/").count(b"/") >= 2 else None


def is_plain(path: bytes) -> bool:
    """Whether a database's path is absolute, and without ``..``, ``.``, doubled slashes, or control bytes that end names."""
    return (
        path[:1] == b"/"
        and len(path) <= PATH_LIMIT
        and b"\0" not in path
        and b"//" not in path
        and b"/../" not in path
        and b"/./" not in path
        and not path.endswith((b"/..", b"/.", b"/"))
    )


def joined(folder: str, relative: str) -> str | None:
    """A path of a list that is relative to ``folder``, ``..`` resolved; ``None`` when it is no plain path."""
    if not relative or "\0" in relative or len(relative) > PATH_LIMIT:
        return None
    found = posixpath.normpath(posixpath.join(folder, relative))
    found = "/" + found.lstrip("/")
    return found if is_plain(os.fsencode(found)) else None
