"""What rules may ask of each thing that was found: facts by the names of the vocabulary (docs/rules.md)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.compare.attributes import (
    aspects,
    capability_names,
    file_capabilities,
    is_backdated,
    is_future,
    older_than_image,
)  # fmt: skip
from irkit.compare.running import ENGINE_DNS, Running, arguments, exe_path, is_listening, name_of_process
from irkit.compare.state import ConfigChange
from irkit.compare.vocabulary import Value
from irkit.models import Change

Values = dict[str, Value]
DEFAULT_CAPABILITIES = frozenset({
    "cap_chown", "cap_dac_override", "cap_fsetid", "cap_fowner", "cap_mknod", "cap_net_raw", "cap_setgid", "cap_setuid", "cap_setfcap",
    "cap_setpcap", "cap_net_bind_service", "cap_sys_chroot", "cap_kill", "cap_audit_write",
})  # fmt: skip
"""What the engine gives a container without options (moby, oci/caps/defaults.go)."""
SETUID, SETGID, STICKY, WRITABLE, EXECUTABLE = 0o4000, 0o2000, 0o1000, 0o002, 0o111
SECOND = 1_000_000_000
DISGUISES = re.compile(r"\.(?:jpe?g|png|gif|txt|pdf|docx?|log|html?|css|ico|svg|csv|mp[34])\.(?:php\d?|phtml|jspx?|aspx?|sh|py|pl|elf|so|exe|bin|cgi)$", re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """When: the side was taken, and its image was made; nanoseconds since the epoch, 0 where it is not known."""

    taken_ns: int = 0
    image_ns: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """What else is known of a file than its facts: its contents, its package, who runs it."""

    content: Mapping[str, Value] = field(default_factory=dict)
    package: Mapping[str, Value] = field(default_factory=dict)
    pids: frozenset[int] = frozenset()


def change_values(
    change: Change,
    moment: Moment,
    about: About,
    running: Running | None,
    mounts: frozenset[str],
    covers: frozenset[str] = frozenset(),
) -> Values:
    """A change."""
    after, before = change.after, change.before
    folder, _, name = change.path.rpartition("/")
    values: Values = {
        "path": change.path, "name": name, "folder": folder or "/", "change": change.change, "kind": change.kind, "origin": change.origin,
        "mount": change.path in mounts, **({"beneath": point} if (point := beneath(change, covers)) else {}),
        "hidden": hidden(change.path), "double_extension": DISGUISES.search(name) is not None,
        **about.content, **about.package,
    }  # fmt: skip
    if change.moved_from:
        values["moved_from"] = change.moved_from
    if change.opaque:
        values["opaque"] = True
    if after is not None:
        values.update({
            "uid": after.uid, "gid": after.gid, "size": after.size, "mode": after.mode, "rdev": after.rdev,
            **({"target": after.target} if after.kind == "symlink" else {}),
            "capabilities": file_capabilities(after), "future": is_future(after, moment.taken_ns), "backdated": is_backdated(after),
            "older_than_image": older_than_image(change, moment.image_ns),
            "zero_nanoseconds": after.mtime_ns > 0 and after.mtime_ns % SECOND == 0,
            **_mode(change),
        })  # fmt: skip
    changed = aspects(before, after) if before is not None and after is not None else ()
    for aspect in ("content", "mode", "owner", "times", "xattrs", "acl", "target", "kind", "capabilities"):
        values[f"{aspect}_changed"] = aspect in changed
    values["only"] = changed
    if before is not None and after is not None:
        values["same_size"] = before.size == after.size
        values["same_mtime"] = before.mtime_ns // SECOND == after.mtime_ns // SECOND
    values["running"] = bool(about.pids)
    if running is not None and about.pids:
        values["listening"] = not about.pids.isdisjoint(running.listening)
        values["connected"] = not about.pids.isdisjoint(running.connected)
    return values


def _mode(change: Change) -> Values:
    """Rights that count only where the image did not give the same ones to the same bytes."""
    after, before = change.after, change.before
    if after is None:
        return {}
    is_file = after.kind == "file"
    known = before is not None and before.kind == "file" and before.sha256 == after.sha256
    old = before.mode if before is not None and known else 0
    raised = after.mode & ~old
    return {
        "setuid": is_file and bool(raised & (SETUID | SETGID)),
        "setgid": is_file and bool(after.mode & SETGID),
        "sticky": bool(after.mode & STICKY),
        "executable": is_file and bool(after.mode & EXECUTABLE),
        "world_writable": after.kind in ("file", "directory")
        and bool(after.mode & WRITABLE)
        and not after.mode & STICKY,
        "hardlinks": is_file and after.nlink > 1,
    }


def beneath(change: Change, mounts: Container[str]) -> str:
    """The mount point under which a change on disk lies, so that nobody sees it while the mount is there; empty for none.

    The engine makes mount points itself: folders, and empty files.  One with bytes of its own is hidden too, and so is an emptied folder.
    """
    if change.origin != "layer" or not mounts:
        return ""
    after = change.after
    own = change.opaque or (after is not None and after.kind == "file" and after.size > 0 and _other_bytes(change))
    at = change.path if own else posixpath.dirname(change.path)
    while at != (above := posixpath.dirname(at)):
        if at in mounts:
            return at
        at = above
    return ""


def _other_bytes(change: Change) -> bool:
    before, after = change.before, change.after
    return before is None or after is None or before.sha256 != after.sha256


def hidden(path: str) -> bool:
    """Whether a part of a path is made not to be seen: a leading dot, blanks alone, or characters that don't print."""
    parts = path.split("/")[1:]
    return any(part.startswith(".") or not part.strip() or not part.isprintable() for part in parts)


def process_values(
    pid: int, running: Running, exe_of: Callable[[str], Mapping[str, Value]], content: Mapping[str, Value]
) -> Values:
    """A process.  ``exe_of``: what is known of the change under its program's path."""
    row = running.processes[pid]
    effective = capability_names(str(row.get("cap_effective") or "0"))
    uid = int(row["uid"][1]) if len(row.get("uid") or ()) > 1 else -1
    exe, argv, path = row["exe"], arguments(row), exe_path(row)
    names = tuple(str(one) for one in row.get("environ_names") or ())
    return {
        "path": path, "name": name_of_process(row), "args": argv, "cmdline": " ".join(argv), "pid": pid,
        "uid": running.inside(uid), "root": 0 in (uid, running.inside(uid)), "other_user": running.other_user(uid), "capabilities": effective,
        "extra_capabilities": tuple(one for one in effective if one not in DEFAULT_CAPABILITIES),
        "deleted": bool(exe["deleted"]), "memory": bool(exe["memory"]), "memfd": path.startswith("/memfd:"),
        "execed": running.execed(pid), "listening": pid in running.listening, "connected": pid in running.connected,
        "environment": names, "cwd": str(row.get("cwd") or ""),
        **exe_of(path), **content,
    }  # fmt: skip


def socket_values(row: Mapping[str, Any], running: Running, exposed: frozenset[str]) -> tuple[Values, str]:
    """A socket, and how it is named in a finding."""
    protocol = str(row["protocol"]).removesuffix("6")
    names = {pid: name_of_process(running.processes[pid]) if pid in running.processes else "?" for pid in row["pids"]}
    exes = [running.processes[pid]["exe"] for pid in row["pids"] if pid in running.processes]
    values: Values = {
        "listening": is_listening(row), "exposed": f"{row['local_port']}/{protocol}" in exposed, "protocol": protocol,
        "state": str(row["state"]), "local": str(row["local"]), "port": int(row["local_port"]),
        "peer": str(row.get("remote") or ""), "peer_port": int(row.get("remote_port") or 0),
        "loopback": loopback(str(row["local"])) or loopback(str(row.get("remote") or "")), "process": ", ".join(names.values()),
        "process_memory": any(one["memory"] for one in exes), "process_deleted": any(one["deleted"] for one in exes),
    }  # fmt: skip
    held = ", ".join(f"pid {pid} ({name})" for pid, name in names.items()) or "no process"
    return values, f"{row['protocol']} {row['local']}:{row['local_port']} held by {held}"


def loopback(address: str) -> bool:
    """Whether only the container itself can reach it."""
    return address == "::1" or (address.startswith("127.") and address != ENGINE_DNS)


def config_values(change: ConfigChange) -> Values:
    """A difference of the running state."""
    values: Values = {"name": change.name, "change": change.change, "value": change.value, "before": change.before}
    if change.name == "mount":
        values["writable"] = change.value.endswith(":rw")
    return values


def exposed_ports(*documents: Mapping[str, Any]) -> frozenset[str]:
    """``80/tcp``: the ports that the image or the container's creator announced."""
    return frozenset(_ports(documents))


def _ports(documents: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    for one in documents:
        yield from (one.get("Config") or {}).get("ExposedPorts") or {}
