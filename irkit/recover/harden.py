"""Taking away what let an attacker in, or further: a function from a recipe to a recipe, with every change listed.

What is not known to be harmless to the service (its user, its own folders of the host) is not changed but told.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from irkit.engine.docker_config import DEFAULT_CAPABILITIES, ENGINE_SOCKETS
from irkit.errors import UsageProblem
from irkit.mounts import UNSEEN
from irkit.recover.config import Recipe
from irkit.text import printable

SOCKET_FOLDERS = frozenset(
    f"{run}{one}" for run in ("/run", "/var/run") for one in ("", "/docker", "/podman", "/containerd", "/crio")
) | {"/", "/var"}
WRITABLE = ("/tmp", "/run", "/var/tmp")  # noqa: S108 - places of the container's
"""Where nearly every program writes (Filesystem Hierarchy Standard 3.0, 3.15, 3.18 and 5.15)."""
TMPFS = "rw,noexec,nosuid,nodev,size=67108864,mode=1777"
MEMORY = 1024**3
"""Bytes, where there is no limit."""
PIDS = 512
BY_OTHERS = " by --volumes-from"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is hardened: ``what`` in words, ``fields`` the fields of ``inspect`` that differ by it."""

    name: str
    what: str
    fields: tuple[str, ...]

    def to_json(self) -> dict[str, str]:
        """As in ``rebuilt.hardened``."""
        return {"name": self.name, "what": self.what}

    def __str__(self) -> str:
        return f"hardened, {self.name}: {self.what}"


@dataclass(frozen=True, slots=True)
class NotHardened:
    """One thing that should be changed, and that irkit can't."""

    name: str
    why: str

    def to_json(self) -> dict[str, str]:
        """As in ``rebuilt.not_hardened``."""
        return {"name": self.name, "why": self.why}

    def __str__(self) -> str:
        return f"not hardened, {self.name}: {self.why}"


@dataclass(frozen=True, slots=True)
class Hardened:
    """The recipe after all changes."""

    recipe: Recipe
    changes: tuple[Change, ...] = ()
    left: tuple[NotHardened, ...] = ()


@dataclass(slots=True)
class _Work:
    """A recipe under way: ``body`` and ``host`` are copies of its own.  ``mounts``: sources, by place."""

    name: str
    body: dict[str, Any]
    host: dict[str, Any]
    image: Mapping[str, Any]
    mounts: Mapping[str, tuple[str, ...]]
    changes: list[Change] = field(default_factory=list)
    left: list[NotHardened] = field(default_factory=list)

    def change(self, what: str, *fields: str) -> None:
        self.changes.append(Change(self.name, what, fields))

    def leave(self, why: str) -> None:
        self.left.append(NotHardened(self.name, why))


def harden(
    plan: Recipe,
    names: Iterable[str],
    image_config: Mapping[str, Any],
    mounts: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Hardened:
    """Each of ``names`` (:data:`NAMES`), in their order there.

    ``image_config``: the new image's ``Config``.  ``mounts``: the old container's by place, with their sources, volumes
    :func:`irkit.mounts.seen_through`; those too that it had of others (``--volumes-from``), as no other word of them is
    in the recipe.
    """
    host = dict(plan.body.get("HostConfig") or {})
    work = _Work("", dict(plan.body), host, image_config, mounts)
    wanted = set(names)
    for name, act in _EACH.items():
        if name in wanted:
            work.name = name
            act(work)
    if wanted and work.host.get("Privileged"):
        work.name = "privileged"
        work.leave("it stays privileged, so that capabilities, seccomp, AppArmor and masked paths are without effect")
    work.body["HostConfig"] = work.host
    if not work.changes:
        return Hardened(plan, (), tuple(work.left))
    networks, leave = plan.networks, plan.leave
    if any(one.name == "host-network" for one in work.changes):
        networks, leave = (), ()
    return Hardened(
        replace(plan, body=work.body, networks=networks, leave=leave), tuple(work.changes), tuple(work.left)
    )


def chosen(words: Iterable[str], keep: Iterable[str]) -> tuple[str, ...]:
    """The names that ``--harden`` and ``--keep`` mean; ``all`` is all of them.  Raises ``UsageProblem``."""
    wanted, kept = {one for word in words for one in (NAMES if word == "all" else (word,))}, set(keep)
    unknown = next((one for one in sorted(wanted | kept) if one not in NAMES), None)
    if unknown is not None:
        raise UsageProblem(f"nothing to harden is called {printable(unknown, 60)}", hint=f"all, or: {', '.join(NAMES)}")
    return tuple(one for one in NAMES if one in wanted - kept)


# -- one function each ----------------------------------------------------------------------------------------------


def _privileged(work: _Work) -> None:
    if not work.host.get("Privileged"):
        return
    work.host["Privileged"] = False
    without = _security(work, lambda one: one != "label=disable")  # what the engine itself set for a privileged one
    work.host.update(SecurityOpt=without, MaskedPaths=None, ReadonlyPaths=None)
    fields = ("Privileged", "SecurityOpt", "MaskedPaths", "ReadonlyPaths")
    work.change("no longer privileged: no added capabilities, no devices of the host", *_in_host(*fields))


def _capabilities(work: _Work) -> None:
    added = [str(one) for one in work.host.get("CapAdd") or ()]
    more = [one for one in added if one.upper().removeprefix("CAP_") not in DEFAULT_CAPABILITIES]
    if more:
        work.host["CapAdd"] = [one for one in added if one not in more]
        work.change(f"without the added {', '.join(more)}", *_in_host("CapAdd"))


def _socket(work: _Work) -> None:
    gone = []
    for place, sources, how in _all_mounts(work):
        if any(map(_is_socket, sources)) and not how.startswith(BY_OTHERS):
            gone.append(place)
            continue
        for source in sources:
            if what := _reaches_socket(source):
                work.leave(f"{what} is mounted at {printable(place)}{how}, and {_means(source)}")
    if not gone:
        return
    work.host["Binds"] = [one for one in work.host.get("Binds") or () if _bind(one)[1] not in gone]
    work.host["Mounts"] = [one for one in work.host.get("Mounts") or () if str(one.get("Target")) not in gone]
    work.change(
        f"the engine's socket is not mounted at {printable(', '.join(gone))}",
        *_in_host("Binds", "Mounts"), *(f"Mounts[{one}]" for one in gone), *(f"Config.Volumes[{one}]" for one in gone),
    )  # fmt: skip


def _all_mounts(work: _Work) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Place, sources on the host, and how it comes there: its own mounts, then those that ``--volumes-from`` brings.

    Of those none can be left out alone.  What a volume shows is known only by the old container's mounts.
    """
    own = set()
    for source, place in _binds(work.host):
        own.add(place)
        if source.startswith("/"):
            yield place, tuple({source: None, **dict.fromkeys(work.mounts.get(posixpath.normpath(place), ()))}), ""
        else:
            sources = work.mounts.get(posixpath.normpath(place), ())
            yield place, sources, f" by the volume {printable(source)}"
    for place, sources in work.mounts.items() if work.host.get("VolumesFrom") else ():
        if place not in own:
            yield place, sources, BY_OTHERS


def _is_socket(source: str) -> bool:
    return posixpath.basename(source) in ENGINE_SOCKETS


def _reaches_socket(source: str) -> str:
    """What it is, in words; empty for what has nothing to do with a socket."""
    if source.startswith(f"{UNSEEN}:"):
        return f"the volume {printable(source.partition(':')[2])}"
    return f"{printable(source)} of the host" if _is_socket(source) or _may_hold_socket(source) else ""


def _means(source: str) -> str:
    if source.startswith(f"{UNSEEN}:"):
        return "the engine does not tell what it shows of the host"
    return "is the engine's socket" if _is_socket(source) else "may have the engine's socket in it"


def _may_hold_socket(source: str) -> bool:
    """Two slashes at the beginning are one to Linux, but not to POSIX, nor to ``normpath``."""
    return source.startswith("/") and posixpath.normpath("/" + source.lstrip("/")) in SOCKET_FOLDERS


def _network(work: _Work) -> None:
    if work.host.get("NetworkMode") != "host":
        return
    ports = sorted({*(work.body.get("ExposedPorts") or ()), *(work.image.get("ExposedPorts") or ())})
    work.host["NetworkMode"] = "default"
    work.host["PortBindings"] = {one: [{"HostIp": "", "HostPort": one.partition("/")[0]}] for one in ports}
    work.body.pop("NetworkingConfig", None)
    told = (
        f"published at the same number: {', '.join(ports)}" if ports else "nothing is published, as no port is exposed"
    )
    fields = (*_in_host("NetworkMode", "PortBindings"), "Networks", "Ports", "Config.Hostname")
    work.change(f"a network of its own, the engine's default one, in place of the host's; {told}", *fields)


def _space(key: str, what: str) -> Callable[[_Work], None]:
    def act(work: _Work) -> None:
        if work.host.get(key) == "host":
            work.host[key] = ""
            if key in ("PidMode", "IpcMode"):  # the engine itself had switched the labels off
                work.host["SecurityOpt"] = _security(work, lambda one: one != "label=disable")
            work.change(
                f"its own {what} namespace in place of the host's", *_in_host(key, "SecurityOpt"), "Config.Hostname"
            )

    return act


def _read_only(work: _Work) -> None:
    if work.host.get("ReadonlyRootfs"):
        return
    taken = (
        set(work.mounts)
        | {place for _, place in _binds(work.host)}
        | {str(one.get("Target")) for one in work.host.get("Mounts") or ()}
    )
    taken |= {*(work.body.get("Volumes") or ()), *(work.image.get("Volumes") or ()), *(work.host.get("Tmpfs") or ())}
    places = [one for one in WRITABLE if one not in taken]
    work.host["ReadonlyRootfs"] = True
    work.host["Tmpfs"] = {**(work.host.get("Tmpfs") or {}), **dict.fromkeys(places, TMPFS)}
    work.change(
        f"the root file system is read-only; in memory and writable: {', '.join(places) or 'nothing more'}",
        *_in_host("ReadonlyRootfs", "Tmpfs"),
    )


def _user(work: _Work) -> None:
    if not is_root(str(work.body.get("User") or work.image.get("User") or "")):
        return
    if is_root(str(work.image.get("User") or "")):
        work.leave("the image names no user but root; set USER in it")
        return
    del work.body["User"]
    work.change(
        f"runs as {printable(str(work.image['User']), 60)}, the image's own user, in place of root", "Config.User"
    )


def is_root(user: str) -> bool:
    """Whether ``USER`` means root: none, ``root``, ``0``, with any group."""
    return re.fullmatch(r"|root|[+-]?0+", user.partition(":")[0]) is not None


def _memory(work: _Work) -> None:
    if int(work.host.get("Memory") or 0) > 0:
        return
    limit = max(MEMORY, int(work.host.get("MemoryReservation") or 0))
    work.host["Memory"] = limit
    work.change(f"at most {limit} bytes of memory", *_in_host("Memory", "MemorySwap"))


def _pids(work: _Work) -> None:
    if int(work.host.get("PidsLimit") or 0) <= 0:
        work.host["PidsLimit"] = PIDS
        work.change(f"at most {PIDS} processes", *_in_host("PidsLimit"))


def _no_new_privileges(work: _Work) -> None:
    words = _security(work, lambda one: one.partition("=")[0] != "no-new-privileges")
    if not any(
        _equals(one) in ("no-new-privileges", "no-new-privileges=true") for one in work.host.get("SecurityOpt") or ()
    ):
        work.host["SecurityOpt"] = [*words, "no-new-privileges"]
        work.change("no process gains privileges by a setuid program", *_in_host("SecurityOpt"))


def _confined(by: str, what: str) -> Callable[[_Work], None]:
    def act(work: _Work) -> None:
        kept = _security(work, lambda one: one != f"{by}=unconfined")
        if len(kept) < len(work.host.get("SecurityOpt") or ()):
            work.host["SecurityOpt"] = kept
            work.change(f"the engine's default {what} in place of none", *_in_host("SecurityOpt"))

    return act


def _system_paths(work: _Work) -> None:
    if [] in (work.host.get("MaskedPaths"), work.host.get("ReadonlyPaths")):
        work.host.update(MaskedPaths=None, ReadonlyPaths=None)
        work.change(
            "the engine's default masked and read-only paths of /proc and /sys",
            *_in_host("MaskedPaths", "ReadonlyPaths"),
        )


_EACH: Mapping[str, Callable[[_Work], None]] = {
    "privileged": _privileged, "capabilities": _capabilities, "docker-socket": _socket, "host-network": _network,
    "host-pid": _space("PidMode", "pid"), "host-ipc": _space("IpcMode", "IPC"), "host-uts": _space("UTSMode", "UTS"),
    "host-userns": _space("UsernsMode", "user"), "read-only": _read_only, "root-user": _user, "memory": _memory, "pids": _pids,
    "no-new-privileges": _no_new_privileges, "seccomp": _confined("seccomp", "system call filter"),
    "apparmor": _confined("apparmor", "AppArmor profile"), "system-paths": _system_paths,
}  # fmt: skip
NAMES = tuple(_EACH)


def _in_host(*names: str) -> tuple[str, ...]:
    return tuple(f"HostConfig.{one}" for one in names)


def _equals(option: object) -> str:
    """``seccomp:unconfined``, the old form, as ``seccomp=unconfined``."""
    text = str(option)
    return text if "=" in text else text.replace(":", "=", 1)


def _security(work: _Work, kept: Callable[[str], bool]) -> list[str]:
    return [str(one) for one in work.host.get("SecurityOpt") or () if kept(_equals(one))]


def _bind(text: object) -> tuple[str, str]:
    """``/source:/place:ro`` → its source and place (Engine API, ``HostConfig.Binds``)."""
    parts = str(text).split(":")
    return parts[0], parts[1] if len(parts) > 1 else ""


def _binds(host: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in host.get("Binds") or ():
        yield _bind(one)
    for mount in host.get("Mounts") or ():
        if mount.get("Type") in ("bind", "volume"):
            yield str(mount.get("Source") or "of its own"), str(mount.get("Target"))
