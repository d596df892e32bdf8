"""The processes of a frozen container, from the host's ``/proc`` (proc(5)): nothing is run inside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from irkit.acquire.host import PROC, HostView, Mount, boot_time, link_of, parse_mountinfo, read_text
from irkit.acquire.magic import Magic, open_magic
from irkit.acquire.maps import Mapping, device_number, parse_maps
from irkit.clock import rfc3339
from irkit.evidence.writer import BundleWriter, Origin
from irkit.text import text_fields

COLLECTOR = "processes"
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
STATUS_FIELDS = {
    "Name": "name", "State": "state", "PPid": "ppid", "Uid": "uid", "Gid": "gid", "Groups": "groups", "NSpid": "nspid",
    "Threads": "threads", "CapInh": "cap_inheritable", "CapPrm": "cap_permitted", "CapEff": "cap_effective",
    "CapBnd": "cap_bounding", "CapAmb": "cap_ambient", "NoNewPrivs": "no_new_privs", "Seccomp": "seccomp", "TracerPid": "tracer",
}  # fmt: skip
EXE_LIMIT = 256 * 1024 * 1024
"""Bytes of a program that are digested before the target is isolated; :mod:`irkit.acquire.mapped` takes larger ones."""
FDINFO_LIMIT = 4096
"""Descriptors of one process whose access and position are read before the target is isolated."""


class ProcessCollector:
    """Reads every process once; what vanishes or can't be read becomes a gap."""

    def __init__(self, view: HostView, gap: Callable[[str, str, str], None]) -> None:
        self.view = view
        self.gap = gap
        self._boot = boot_time()
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._digests: dict[tuple[int, int, int], str] = {}
        self._tmpfs = {one.number for one in view.mounts if one.fstype == "tmpfs"}
        self._users = link_of(f"{PROC}/self/ns/user")
        self.environ: dict[str, list[dict[str, str]]] = {}
        self.mounts: dict[str, list[dict[str, Any]]] = {}

    def collect(self) -> list[dict[str, Any]]:
        """One row a process, by pid."""
        return [row for row in map(self._row, self.view.pids()) if row is not None]

    def _row(self, pid: int) -> dict[str, Any] | None:
        base = f"{PROC}/{pid}"
        status = read_text(f"{base}/status")
        if not status:
            self.gap(COLLECTOR, f"pid {pid}", "it was gone before it could be read")
            return None
        row: dict[str, Any] = {"pid": pid}
        for line in status.split("\n"):
            name, _, value = line.partition(":\t")
            if name in STATUS_FIELDS:
                row[STATUS_FIELDS[name]] = value.strip()
        row["ppid"] = int(row.get("ppid", 0))
        row["uid"], row["gid"] = ([int(item) for item in row.get(name, "").split()] for name in ("uid", "gid"))
        row.update(text_fields("name", str(row.get("name", ""))))
        row["argv"] = [text_fields("text", item) for item in _split_nul(read_text(f"{base}/cmdline"))]
        row["started"] = self._started(base)
        row["cgroup"] = read_text(f"{base}/cgroup").strip().splitlines()[-1:]
        row["namespaces"] = {name: link_of(f"{base}/ns/{name}") for name in NAMESPACES}
        if row["namespaces"].get("user") not in ("", self._users):
            row["uid_map"] = _uid_map(read_text(f"{base}/uid_map"))
        row["lsm"] = read_text(f"{base}/attr/current").strip("\0\n")
        for name in ("cwd", "root"):
            row.update(text_fields(name, link_of(f"{base}/{name}")))
        row["environ_names"] = self._environ(pid)
        maps = parse_maps(read_text(f"{base}/maps").encode("utf-8", "surrogateescape"))
        row["exe"] = self._exe(base, maps)
        row["fds"] = descriptors(base)
        if len(row["fds"]) > FDINFO_LIMIT:
            why = f"{len(row['fds'])} are open: access and position are listed of the first {FDINFO_LIMIT} only"
            self.gap(COLLECTOR, f"pid {pid}: descriptors", why)
        row["mapped"] = _mapped(maps)
        self._mounts(row["namespaces"]["mnt"], base)
        return row

    def _mounts(self, namespace: str, base: str) -> None:
        """The mounts of each mount namespace once: a process may have made one of its own."""
        if namespace not in self.mounts:
            self.mounts[namespace] = [_mount_row(one) for one in parse_mountinfo(read_text(f"{base}/mountinfo"))]

    def _started(self, base: str) -> str:
        fields = read_text(f"{base}/stat").rpartition(")")[2].split()
        return rfc3339(self._boot + int(fields[19]) / self._ticks) if len(fields) > 19 else ""

    def _environ(self, pid: int) -> list[str]:
        """Names for the process list; values only into an artifact of their own."""
        pairs = [item.partition("=") for item in _split_nul(read_text(f"{PROC}/{pid}/environ"))]
        self.environ[str(pid)] = [
            {**text_fields("name", name), **text_fields("value", value)} for name, _, value in pairs
        ]
        return [text_fields("name", name)["name"] for name, _, _ in pairs]

    def _exe(self, base: str, maps: Iterable[Mapping]) -> dict[str, Any]:
        link = link_of(f"{base}/exe")
        row: dict[str, Any] = {"path": "", "deleted": False, "memory": False, "sha256": "", "size": 0}
        if not link:
            return row
        try:
            with open_magic(f"{base}/exe", hurried=self._foreign(link, maps)) as file:
                info = file.info
                row.update(deleted=info.st_nlink == 0, size=info.st_size)
                row["memory"] = link.startswith("/memfd:") or info.st_dev in self._tmpfs
                row["sha256"] = self._digest(file)
        except OSError as error:
            self.gap(COLLECTOR, f"{base}/exe", f"the executable can't be read: {error.strerror}")
        row.update(text_fields("path", link.removesuffix(" (deleted)") if row["deleted"] else link))
        return row

    def _foreign(self, link: str, maps: Iterable[Mapping]) -> bool:
        """Whether a process may be the one that answers for the program's file system."""
        name = link.encode("utf-8", "surrogateescape")
        devices = {device_number(one.device) for one in maps if one.path == name}
        return not devices or not devices <= self.view.own_devices

    def _digest(self, file: Magic) -> str:
        key = (file.info.st_dev, file.info.st_ino, file.info.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = file.sha256(EXE_LIMIT)
        return self._digests[key]


def acquire_processes(view: HostView, writer: BundleWriter) -> list[dict[str, Any]]:
    """Write the process list, environments, and the bytes of programs that exist only in memory or are deleted."""
    collector = ProcessCollector(view, writer.gap)
    rows = collector.collect()
    writer.add_json(
        "process/processes.json",
        rows,
        Origin(COLLECTOR, f"{PROC}/PID of {len(rows)} processes", "read from the host"),
    )
    writer.add_json(
        "process/environ.json",
        collector.environ,
        Origin(COLLECTOR, f"{PROC}/PID/environ", "read from the host"),
    )
    writer.add_json(
        "process/mounts.json",
        collector.mounts,
        Origin(COLLECTOR, f"{PROC}/PID/mountinfo", "read from the host, once for each mount namespace"),
    )
    saved: set[str] = set()
    for row in rows:
        exe = row["exe"]
        if (exe["deleted"] or exe["memory"]) and exe["sha256"] and exe["sha256"] not in saved:
            _save_exe(row["pid"], exe, writer)
            saved.add(exe["sha256"])
    return rows


def _save_exe(pid: int, exe: dict[str, Any], writer: BundleWriter) -> None:
    path = f"{PROC}/{pid}/exe"
    if exe["size"] > EXE_LIMIT:
        writer.gap(COLLECTOR, path, f"the program is larger than {EXE_LIMIT} bytes and was not saved")
        return
    origin = Origin(COLLECTOR, path, "read from the host", "application/x-executable")
    try:
        with open_magic(path, hurried=True) as file:
            writer.add(f"process/exe-{pid}.bin", file.blocks(), origin)
    except OSError as error:
        writer.gap(COLLECTOR, path, f"the program can't be read: {error.strerror}")


def _uid_map(text: str) -> list[list[int]]:
    """user_namespaces(7), as irkit's own namespace sees it: ``[first inside, first outside, how many]`` a line."""
    return [[int(item) for item in line.split()] for line in text.splitlines()]


def _split_nul(text: str) -> list[str]:
    return text.rstrip("\0").split("\0") if text.strip("\0") else []


def descriptors(base: str) -> list[dict[str, Any]]:
    """What a process has open: number, target, and from ``fdinfo`` how and where (proc(5)).

    ``access``: ``r``, ``w`` or ``rw``, with ``a`` for appending; ``position``: bytes; empty and 0 for one that is gone.
    """
    try:
        numbers = sorted(int(name) for name in os.listdir(f"{base}/fd"))  # noqa: PTH208
    except OSError:
        return []
    return [
        {
            "fd": number,
            **text_fields("target", link_of(f"{base}/fd/{number}")),
            **(_fdinfo(f"{base}/fdinfo/{number}") if place < FDINFO_LIMIT else _UNREAD),
        }
        for place, number in enumerate(numbers)
    ]


_UNREAD: dict[str, Any] = {"access": "", "position": 0}


def _fdinfo(path: str) -> dict[str, Any]:
    fields = dict(line.partition(":\t")[::2] for line in read_text(path).split("\n"))
    try:
        flags, position = int(fields["flags"], 8), int(fields["pos"])
    except (KeyError, ValueError):
        return _UNREAD
    return {
        "access": ("r", "w", "rw", "")[flags & os.O_ACCMODE] + "a" * bool(flags & os.O_APPEND),
        "position": position,
    }


def _mapped(maps: Iterable[Mapping]) -> list[dict[str, Any]]:
    """The files that are mapped, with the union of their permissions."""
    found: dict[tuple[bytes, str, int], str] = {}
    for one in maps:
        if one.inode:
            key = (one.path, one.device, one.inode)
            known = found.get(key, "---")
            found[key] = "".join(a if a != "-" else b for a, b in zip(one.flags[:3], known, strict=True))
    return [
        {**text_fields("path", os.fsdecode(path)), "device": device, "inode": inode, "flags": flags}
        for (path, device, inode), flags in sorted(found.items())
    ]


def _mount_row(mount: Mount) -> dict[str, Any]:
    """A row of ``process/mounts.json``."""
    options = [name if not value else f"{name}={value}" for name, value in mount.options.items()]
    return {
        **text_fields("point", mount.point), **text_fields("root", mount.root), **text_fields("source", mount.source),
        **text_fields("options", ",".join(options)), "fstype": mount.fstype, "device": mount.device,
    }  # fmt: skip
