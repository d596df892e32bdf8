"""Where irkit keeps its cases and keys, and how it writes there so that a crash leaves no half file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from irkit import home_safety
from irkit.errors import Refused, storage_error

CONFIG = "config.yaml"
BALLAST = 4 * 1024 * 1024


def home() -> Path:
    """``IRKIT_HOME``, or ``irkit`` in the XDG data folder; looked at once it is there.

    Raises ``Refused`` when anybody but root and this user can write to it: it says whom irkit trusts.
    """
    named = os.environ.get("IRKIT_HOME", "")
    if named in _SAFE:  # asked for at every step of every run
        return _SAFE[named]
    folder = named_home()
    wrong = home_safety.fault(str(folder))
    if wrong:
        raise Refused(f"{folder} is not trusted: {wrong}", hint=home_hint(str(folder)))
    if named == str(folder) and folder.exists():
        _SAFE[named] = folder
    return folder


_SAFE: dict[str, Path] = {}


def home_hint(name: str) -> str:
    """How to mend a home that is not trusted."""
    who = "root" if os.geteuid() == 0 else "you"
    return (
        f"irkit takes keys, policies and hooks from there: nobody but {who} may write to it. `chmod -R go-w {name}` and"
        f" `chown -R` mend it, once you have looked at what is in it; or set IRKIT_HOME to a folder of your own"
    )


def named_home() -> Path:
    """The same, whoever it belongs to: to tell of it, not to read there."""
    named = os.environ.get("IRKIT_HOME")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "irkit"


def config_file() -> Path:
    """The operator's configuration (:mod:`irkit.config`), whether or not it is there."""
    return home() / CONFIG


def random_name(size: int) -> str:
    """``size`` random bytes in hexadecimal.  As ``secrets.token_hex``, whose import brings random and hmac along (ADR 2)."""
    return os.urandom(size).hex()


def private_folder(path: Path) -> Path:
    """Make ``path`` and its parents, mode 0700.  Raises ``StorageError``."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, f"can't make {path}") from error
    return path


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` in one step, on the disk before this returns.  Raises ``StorageError``."""
    temporary = path.with_name(f".{path.name}.{random_name(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, f"can't write {path}") from error


def json_rows(value: object, *, sort_keys: bool = True) -> bytes:
    """One JSON document (RFC 8259), made to be read by line: an object's members, to the second level, and a list's items.

    Not ``indent``, for which :mod:`json` leaves its C encoder and is ten times slower.
    """
    encode = json.JSONEncoder(sort_keys=sort_keys).encode
    return _rows(value, encode, sort_keys, 0).encode() + b"\n"


JSON_LEVELS = 2


def _rows(value: object, encode: Callable[[object], str], sort_keys: bool, level: int) -> str:
    if level < JSON_LEVELS and value:
        edge, inner = " " * level, " " * (level + 1)
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            names = sorted(value) if sort_keys else value
            rows = [f"{inner}{encode(name)}: {_rows(value[name], encode, sort_keys, level + 1)}" for name in names]
            return "{\n" + ",\n".join(rows) + f"\n{edge}}}"
        if isinstance(value, list | tuple):
            return "[\n" + ",\n".join([inner + encode(one) for one in value]) + f"\n{edge}]"
    return encode(value)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """:func:`write_file` of one JSON object."""
    write_file(path, json_rows(value))


def sync_folder(path: Path) -> None:
    """Put a folder's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Ballast:
    """A few megabytes kept in reserve, so that a full disk still leaves room for the journal and the seal."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".ballast"

    def take(self) -> None:
        """Occupy the space.  Raises ``StorageError`` when there is none."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BALLAST)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise storage_error(error, f"can't reserve {BALLAST} bytes in {self.path.parent}") from error

    def drop(self) -> bool:
        """Give the space back; whether there was any."""
        existed = self.path.exists()
        self.path.unlink(missing_ok=True)
        return existed


def read_json(path: Path) -> dict[str, Any] | None:
    """A file that :func:`write_json` wrote; ``None`` when there is none, or it can't be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
