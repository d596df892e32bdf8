"""The processes of a frozen container, from the host's ``/proc`` (proc(5)): nothing is run inside."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irkit.acquire.host import PROC, HostView, boot_time, read_text
from irkit.clock import rfc3339
from irkit.evidence.writer import BLOCK, BundleWriter, Origin
from irkit.text import text_fields

COLLECTOR = "processes"
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
STATUS_FIELDS = {
    "Name": "name", "State": "state", "PPid": "ppid", "Uid": "uid", "Gid": "gid", "Groups": "groups", "NSpid": "nspid",
    "Threads": "threads", "CapInh": "cap_inheritable", "CapPrm": "cap_permitted", "CapEff": "cap_effective",
    "CapBnd": "cap_bounding", "CapAmb": "cap_ambient", "NoNewPrivs": "no_new_privs", "Seccomp": "seccomp", "TracerPid": "tracer",
}  # fmt: skip
EXE_LIMIT = 256 * 1024 * 1024


class ProcessCollector:
    """Reads every process once; what vanishes or can't be read becomes a gap."""

    def __init__(self, view: HostView, gap: Callable[[str, str, str], None]) -> None:
        self.view = view
        self.gap = gap
        self._boot = boot_time()
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._digests: dict[tuple[int, int, int], str] = {}
        self.environ: dict[str, list[dict[str, str]]] = {}

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
        row["namespaces"] = {name: _readlink(f"{base}/ns/{name}") for name in NAMESPACES}
        row["lsm"] = read_text(f"{base}/attr/current").strip("\0\n")
        for name in ("cwd", "root"):
            row.update(text_fields(name, _readlink(f"{base}/{name}")))
        row["environ_names"] = self._environ(pid)
        row["exe"] = self._exe(base)
        row["fds"] = _fds(base)
        row["mapped"] = _mapped(read_text(f"{base}/maps"))
        return row

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

    def _exe(self, base: str) -> dict[str, Any]:
        link = _readlink(f"{base}/exe")
        if not link:
            return {"path": "", "deleted": False, "memory": False, "sha256": "", "size": 0}
        row: dict[str, Any] = {"deleted": False, "memory": False, "sha256": "", "size": 0}
        try:
            info = os.stat(f"{base}/exe")  # noqa: PTH116
            row.update(deleted=info.st_nlink == 0, size=info.st_size, memory=self._in_memory(link, info))
            row["sha256"] = self._digest(f"{base}/exe", info)
        except OSError as error:
            self.gap(COLLECTOR, f"{base}/exe", f"the executable can't be read: {error.strerror}")
        row.update(text_fields("path", link.removesuffix(" (deleted)") if row["deleted"] else link))
        return row

    def _in_memory(self, link: str, info: os.stat_result) -> bool:
        """Whether the program lives in a memfd or on a tmpfs."""
        if link.startswith("/memfd:"):
            return True
        points = [
            mount
            for mount in self.view.mounts
            if mount.fstype == "tmpfs" and link.startswith(mount.point.rstrip("/") + "/")
        ]
        for mount in points:
            try:
                if os.stat(f"{self.view.root}{mount.point}").st_dev == info.st_dev:  # noqa: PTH116
                    return True
            except OSError:
                continue
        return False

    def _digest(self, path: str, info: os.stat_result) -> str:
        key = (info.st_dev, info.st_ino, info.st_mtime_ns)
        if key not in self._digests and stat.S_ISREG(info.st_mode):
            with Path(path).open("rb", buffering=0) as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests.get(key, "")


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
    saved: set[str] = set()
    for row in rows:
        exe = row["exe"]
        if (exe["deleted"] or exe["memory"]) and exe["sha256"] not in saved:
            _save_exe(row["pid"], exe, writer)
            saved.add(exe["sha256"])
    return rows


def _save_exe(pid: int, exe: dict[str, Any], writer: BundleWriter) -> None:
    path = f"{PROC}/{pid}/exe"
    if exe["size"] > EXE_LIMIT:
        writer.gap(COLLECTOR, path, f"the program is larger than {EXE_LIMIT} bytes and was not saved")
        return
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        writer.gap(COLLECTOR, path, f"the program can't be read: {error.strerror}")
        return
    with file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        writer.add(
            f"process/exe-{pid}.bin",
            blocks,
            Origin(COLLECTOR, path, "read from the host", "application/x-executable"),
        )


def _split_nul(text: str) -> list[str]:
    return text.rstrip("\0").split("\0") if text.strip("\0") else []


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def _fds(base: str) -> list[dict[str, Any]]:
    try:
        numbers = sorted(int(name) for name in os.listdir(f"{base}/fd"))  # noqa: PTH208
    except OSError:
        return []
    return [{"fd": number, **text_fields("target", _readlink(f"{base}/fd/{number}"))} for number in numbers]


_MAP = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) [0-9a-f]+ \S+ \d+ +(.+)")


def _mapped(maps: str) -> list[dict[str, Any]]:
    """The files that are mapped, with the union of their permissions."""
    found: dict[str, str] = {}
    for line in maps.split("\n"):
        match = _MAP.fullmatch(line)
        if match and not match.group(2).startswith("["):
            flags, path = match.groups()
            known = found.get(path, "---")
            found[path] = "".join(one if one != "-" else other for one, other in zip(flags[:3], known, strict=True))
    return [{**text_fields("path", path), "flags": flags} for path, flags in sorted(found.items())]
