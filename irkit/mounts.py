"""What mounts show of the host: a volume of the driver `local` may be a folder of the host in disguise.

``docker volume create --opt type=none --opt o=bind --opt device=/run`` makes one.  Its options are those of mount(8)
(docs.docker.com/reference/cli/docker/volume/create, "Driver-specific options"); only the volume's own inspect tells
them, and the container's says no more than its name.  A volume of another driver does what that driver likes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from irkit.errors import EngineError

if TYPE_CHECKING:
    from irkit.engine.interface import Container, Engine

Json = Mapping[str, Any]
KERNEL = {
    "proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev", "devpts": "/dev/pts", "debugfs": "/sys/kernel/debug",
    "tracefs": "/sys/kernel/tracing", "securityfs": "/sys/kernel/security", "bpf": "/sys/fs/bpf", "cgroup": "/sys/fs/cgroup",
    "cgroup2": "/sys/fs/cgroup", "efivarfs": "/sys/firmware/efi/efivars", "mqueue": "/dev/mqueue",
}  # fmt: skip
"""File systems that are the kernel's own, by where the host has them: the device is only a word there."""
OVERLAY = ("lowerdir", "upperdir")
PROPAGATIONS = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
UNSEEN = "Unseen"
"""Set on a row of :func:`seen_through`: a volume that could not be asked about."""
ROOT_OF_PROCESS = re.compile(r"/proc/(?:1|self|thread-self)/(?:root|cwd)(?=/|\Z)")


def shown(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The host's paths that a volume of the driver `local` shows, normalized; none for one of its own.

    ``options``: ``Options`` of its inspect (``type``, ``o``, ``device``).  A disk's path is that of its device node.
    """
    words = _words(options)
    kind, device = str(options.get("type") or ""), str(options.get("device") or "")
    if {"bind", "rbind"} & {*words, kind}:
        return (_normal(device),) if device else ()
    if kind in KERNEL:
        return (KERNEL[kind],)
    if kind == "overlay":
        pairs = (one.partition("=") for one in words)
        return tuple(_normal(part) for name, _, value in pairs if name in OVERLAY for part in value.split(":") if part)
    return (_normal(device),) if device.startswith("/") and not device.startswith("//") else ()


def _words(options: Mapping[str, Any]) -> list[str]:
    return [one.strip() for one in str(options.get("o") or "").split(",")]


def _normal(path: str) -> str:
    """One form: two slashes are one to Linux (not to ``normpath``), and the root of the host's first process is the host's."""
    path = posixpath.normpath("/" + path.lstrip("/"))
    return posixpath.normpath(ROOT_OF_PROCESS.sub("/", path).replace("//", "/"))


def seen_through(mounts: Iterable[Json], volumes: Iterable[Json]) -> list[Json]:
    """``Mounts`` of a container's inspect, with each disguised volume as what it is: one bind mount a path, its ``Name`` kept.

    ``volumes``: inspects of volumes.  A volume of the driver `local` that is not among them has :data:`UNSEEN`.
    """
    known = {str(one.get("Name")): one for one in volumes}
    found: list[Json] = []
    for mount in mounts:
        if mount.get("Type") != "volume" or mount.get("Driver") not in ("local", "", None):
            found.append(mount)
            continue
        volume = known.get(str(mount.get("Name")))
        if volume is None:
            found.append({**mount, UNSEEN: True})
            continue
        options = volume.get("Options") or {}
        paths = shown(options) if volume.get("Driver") in ("local", "", None) else ()
        found += [{**mount, "Type": "bind", "Source": one, **_rights(mount, options)} for one in paths] or [mount]
    return found


def _rights(mount: Json, options: Mapping[str, Any]) -> dict[str, Any]:
    words = _words(options)
    spread = next((one for one in words if one in PROPAGATIONS), str(mount.get("Propagation") or "rprivate"))
    return {"RW": bool(mount.get("RW", True)) and "ro" not in words, "Propagation": spread}


def volumes_of(engine: Engine, mounts: Iterable[Json]) -> list[Json]:
    """The inspects of all volumes among mounts, each asked for once; one that the engine does not tell is left out."""
    names = {str(one["Name"]): None for one in mounts if one.get("Type") == "volume" and one.get("Name")}
    found = []
    for name in names:
        try:
            found.append(engine.volume(name))
        except EngineError:
            continue
    return found


def with_sources(engine: Engine, container: Container) -> dict[str, Any]:
    """A container's inspect with its mounts :func:`seen_through`."""
    rows = list(container.raw.get("Mounts") or ())
    return {**container.raw, "Mounts": seen_through(rows, volumes_of(engine, rows))}
