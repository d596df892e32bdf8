"""What mounts show of the host: a volume of the driver `local` may be a folder of the host in disguise.

``docker volume create --opt type=none --opt o=bind --opt device=/run`` makes one.  Its options are those of mount(8)
(docs.docker.com/reference/cli/docker/volume/create, "Driver-specific options"); only the volume's own inspect tells
them, and the container's says no more than its name.  A volume of another driver does what that driver likes.

A source may be a symbolic link, too: :func:`followed`, where the engine's host can be seen (:mod:`irkit.host_paths`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from irkit.errors import EngineError
from irkit.host_paths import HostPaths, of_engine
from irkit.text import text_fields, text_from

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
LINK = "Link"
"""Set on a row of :func:`followed`: the source by its own name, where ``Source`` is where that leads."""
UNFOLLOWED = "Unfollowed"
"""Set on a row of :func:`followed`: why nobody could see whether its source is a link."""
UNBOUND = "Unbound"
"""Set on a row of :func:`seen_through`: it is no bind mount, but shows a part of the host all the same."""
NOT_SEEN = "nobody looked"
ROOT_OF_PROCESS = re.compile(r"/proc/(?:1|self|thread-self)/(?:root|cwd)(?=/|\Z)")


def shown(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The host's paths that a volume of the driver `local` shows, normalized; none for one of its own.

    ``options``: ``Options`` of its inspect (``type``, ``o``, ``device``).  A disk's path is that of its device node.
    """
    words = _words(options)
    kind, device = str(options.get("type") or ""), str(options.get("device") or "")
    if _binds(options):
        return (_normal(device),) if device else ()
    if kind in KERNEL:
        return (KERNEL[kind],)
    if kind == "overlay":
        pairs = (one.partition("=") for one in words)
        return tuple(_normal(part) for name, _, value in pairs if name in OVERLAY for part in value.split(":") if part)
    return (_normal(device),) if device.startswith("/") and not device.startswith("//") else ()


def _binds(options: Mapping[str, Any]) -> bool:
    return bool({"bind", "rbind"} & {*_words(options), str(options.get("type") or "")})


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
    apart = {} if _binds(options) else {UNBOUND: True}
    return {"RW": bool(mount.get("RW", True)) and "ro" not in words, "Propagation": spread, **apart}


class Seen(NamedTuple):
    """Where a source leads: paths of the host, none for what could not be told; and why, where that is not all."""

    paths: tuple[str, ...]
    why: str = ""


def followed(rows: Iterable[Json], look: Callable[[Json], Seen]) -> list[Json]:
    """Rows of :func:`seen_through`, each bind mount as what its source leads to: more than one where that has changed.

    ``/var/run`` is ``/run`` on every current system, and told by the name that was given.
    """
    found: list[Json] = []
    for row in rows:
        if row.get("Type") != "bind":
            found.append(row)
            continue
        source, seen = str(row.get("Source") or ""), look(row)
        mark = {UNFOLLOWED: seen.why} if seen.why else {}
        leads = [one for one in seen.paths if without_link(one) != without_link(source)]
        if len(leads) < len(seen.paths) or not leads:
            found.append({**row, **mark})
        found += [{**row, "Source": one, LINK: source, **mark} for one in leads]
    return found


def without_link(path: str) -> str:
    """A path of the host in one form, with the one link that everybody has followed."""
    path = posixpath.normpath("/" + path.lstrip("/"))
    return path.removeprefix("/var") if path == "/var/run" or path.startswith("/var/run/") else path


def seen_at(host: HostPaths | str, container: Container | None, row: Json) -> Seen:
    """Where a bind mount's source leads now, and what a container that runs has mounted.  ``host``: or why it can't be seen."""
    if isinstance(host, str):
        return Seen((), host)
    source = str(row.get("Source") or "")
    try:
        real = host.follow(source)
    except OSError as error:
        return Seen((), f"it can't be read: {error.strerror or error}")
    if container is None or row.get(UNBOUND):
        return Seen((real,))
    now = host.mounted(container, str(row.get("Destination") or ""), real)
    if now is None:
        return Seen((real,), "something else is mounted now, which the host has nowhere")
    return Seen((real, now)) if now else Seen((real,))


def record(row: Json, seen: Seen) -> dict[str, Any]:
    """A row of ``engine/sources.json``: what :func:`seen_at` found, for those who have the bundle alone."""
    return {
        **text_fields("destination", str(row.get("Destination") or "")), **text_fields("source", str(row.get("Source") or "")),
        "leads_to": [text_fields("path", one) for one in seen.paths], "why_not": seen.why,
    }  # fmt: skip


def recorded(rows: object) -> Callable[[Json], Seen]:
    """As :func:`seen_at`, from :func:`record`'s rows; those that are not of its form are passed over."""
    known: dict[tuple[str, str], Seen] = {}
    for one in rows if isinstance(rows, list) else ():
        try:
            paths = tuple(text_from(path, "path") for path in one["leads_to"])
            known[text_from(one, "destination"), text_from(one, "source")] = Seen(paths, str(one["why_not"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return lambda row: known.get((str(row.get("Destination") or ""), str(row.get("Source") or "")), Seen((), NOT_SEEN))


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
    """A container's inspect with its mounts :func:`seen_through` and :func:`followed`."""
    rows = list(container.raw.get("Mounts") or ())
    seen = seen_through(rows, volumes_of(engine, rows))
    return {**container.raw, "Mounts": followed(seen, partial(seen_at, of_engine(engine.endpoint), container))}
