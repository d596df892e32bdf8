"""The files that run: a digest of each that is mapped executable, and the bytes of those that no disk keeps.

Reached through ``/proc/PID/map_files`` and ``/proc/PID/fd`` (proc(5)), so it is the inode that runs, whatever lies under
its name by now: deleted files, memfd, tmpfs, and deleted files that are only held open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from irkit.acquire.host import PROC, HostView, read_text
from irkit.acquire.magic import Magic, open_magic
from irkit.acquire.maps import device_number, parse_maps
from irkit.evidence.writer import BundleWriter, Origin
from irkit.text import text_fields

COLLECTOR = "mapped-files"


@dataclass(frozen=True, slots=True)
class _Link:
    """A magic link to a file.  ``key``: device and inode as the kernel prints them, before the file is touched."""

    pid: int
    path: str
    name: str
    key: tuple[str, int]
    foreign: bool
    held: str


@dataclass(slots=True)
class _Store:
    """What was written so far, and how many bytes there may be more."""

    view: HostView
    writer: BundleWriter
    left: int
    rows: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    inodes: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    kept: int = 0

    @property
    def memory(self) -> set[int]:
        return {one.number for one in self.view.mounts if one.fstype == "tmpfs"}


def acquire_mapped(view: HostView, writer: BundleWriter, limit: int) -> list[dict[str, Any]]:
    """Write ``process/mapped.json`` and ``process/files/N.bin.zst``; a row a file.

    A row: path, sha256, size, device, inode, ``held`` (``mapped`` or ``open``), ``deleted``, ``memory``, pids, and the
    artifact, empty where a disk keeps it.  ``limit``: bytes in total; what is over it has its digest, and is a gap.
    """
    store = _Store(view, writer, limit)
    memory = store.memory
    for link in _links(view):
        row = store.rows.get(link.key)
        if row is None:
            row = store.rows[link.key] = _row(link)
            try:
                with open_magic(link.path, hurried=link.foreign) as file:
                    row = store.rows[link.key] = _taken(file, row, store, memory)
            except OSError as error:
                writer.gap(COLLECTOR, f"pid {link.pid}: {row['path']}", f"can't be read: {error.strerror}")
        if link.pid not in row["pids"]:
            row["pids"].append(link.pid)
    rows = list({id(row): row for row in store.rows.values()}.values())
    origin = Origin(COLLECTOR, f"{PROC}/PID/map_files and fd", "read from the host, the inode and not the name")
    writer.add_json("process/mapped.json", rows, origin)
    return rows


def _links(view: HostView) -> Iterator[_Link]:
    """Each executable mapping, and each open file that has no name any more."""
    for pid in view.pids():
        base = f"{PROC}/{pid}"
        try:
            with open(f"{base}/maps", "rb", buffering=0) as file:  # noqa: PTH123
                maps = parse_maps(file.read())
        except OSError:
            continue  # the process list tells that it is gone
        for one in maps:
            if one.inode and one.executable:
                path = f"{base}/map_files/{one.start:x}-{one.end:x}"
                foreign = device_number(one.device) not in view.own_devices
                yield _Link(pid, path, os.fsdecode(one.path), (one.device, one.inode), foreign, "mapped")
        yield from _nameless(pid, base)


def _nameless(pid: int, base: str) -> Iterator[_Link]:
    try:
        numbers = sorted(os.listdir(f"{base}/fd"), key=int)  # noqa: PTH208
    except OSError:
        return
    for number in numbers:
        path = f"{base}/fd/{number}"
        try:
            target = os.readlink(path)  # noqa: PTH115
        except OSError:
            continue
        if target.startswith("/") and (target.endswith(" (deleted)") or target.startswith("/memfd:")):
            inode = read_text(f"{base}/fdinfo/{number}").partition("\nino:\t")[2].split("\n")[0]
            key = (target, int(inode)) if inode.isdecimal() else (f"{target} {pid}/{number}", 0)
            # Neither fdinfo nor the link tells the device: such a file is read as if a process served it.
            yield _Link(pid, path, target, key, True, "open")


def _row(link: _Link) -> dict[str, Any]:
    return {
        **text_fields("path", link.name.removesuffix(" (deleted)")), "held": link.held, "pids": [],
        "deleted": False, "memory": False, "device": "", "inode": 0, "size": 0, "sha256": "", "artifact": "",
    }  # fmt: skip


def _taken(file: Magic, row: dict[str, Any], store: _Store, memory: set[int]) -> dict[str, Any]:
    """The row of a file, digested; its bytes are kept when no disk does.  One that is known has its row already.

    Raises ``OSError``.
    """
    info = file.info
    twin = store.inodes.setdefault((info.st_dev, info.st_ino), row)
    if twin is not row:
        return twin
    device = f"{os.major(info.st_dev)}:{os.minor(info.st_dev)}"
    row.update(
        device=device, inode=info.st_ino, size=info.st_size, deleted=info.st_nlink == 0,
        memory=row["path"].startswith("/memfd:") or info.st_dev in memory,
    )  # fmt: skip
    if not (row["deleted"] or row["memory"]):
        row["sha256"] = file.sha256()
        return row
    if info.st_size > store.left:
        store.writer.gap(
            COLLECTOR, row["path"], f"{info.st_size} bytes are over this profile's limit: only its digest was taken"
        )
        row["sha256"] = file.sha256()
        return row
    store.left -= info.st_size
    store.kept += 1
    origin = Origin(COLLECTOR, f"the inode behind {row['path']}", "read from the host", "application/octet-stream")
    artifact = store.writer.add(f"process/files/{store.kept}.bin", file.blocks(), origin)
    row.update(sha256=artifact.raw_sha256, artifact=artifact.path)
    return row
