"""The target as its host sees it: its processes by cgroup and namespace, its mounts, whether it is frozen."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cached_property

from irkit.engine.interface import Container
from irkit.mountinfo import PROC, Mount, link_of, parse_mountinfo, read_text

__all__ = ["PROC", "HostView", "Mount", "boot_time", "link_of", "locate", "parse_mountinfo", "read_text"]


class HostView:
    """A running container's first process, seen from its host."""

    def __init__(self, container_id: str, pid: int) -> None:
        self.container_id = container_id
        self.pid = pid
        self.seen: list[int] = []
        """What :meth:`pids` found when it was last asked."""

    @property
    def root(self) -> str:
        """Its root folder, as a path that only :mod:`irkit.acquire.beneath` may be given."""
        return f"{PROC}/{self.pid}/root"

    @property
    def netns(self) -> str:
        """Its network namespace."""
        return f"{PROC}/{self.pid}/ns/net"

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        """Its mounts."""
        return parse_mountinfo(read_text(f"{PROC}/{self.pid}/mountinfo"))

    @cached_property
    def own_devices(self) -> frozenset[int]:
        """Devices (``st_dev``) whose files the kernel itself reads: every mount that we or the target see, and memfd."""
        ours = parse_mountinfo(read_text(f"{PROC}/self/mountinfo"))
        memory = os.memfd_create("irkit", os.MFD_CLOEXEC)
        try:
            found = {os.fstat(memory).st_dev}
        finally:
            os.close(memory)
        # A container's root may be FUSE itself (rootless storage): its server runs on the host, and is not frozen.
        found.update(one.number for one in (*ours, *self.mounts) if not one.served or one.point == "/")
        return frozenset(found)

    def pids(self) -> list[int]:
        """Every process of the container: by its cgroup, and by its pid namespace and those beneath it.

        A process may leave its cgroup, and make itself a pid namespace, but never one that is not beneath its own.
        """
        found = set(self._by_cgroup())
        own, mine = link_of(f"{PROC}/{self.pid}/ns/pid"), link_of(f"{PROC}/self/ns/pid")
        if own and own != mine:
            from irkit.acquire.spaces import spaces  # not before the target is frozen

            seen = spaces("pid")
            for space, some in seen.pids.items():
                if space == own or own in seen.above.get(space, ()):
                    found.update(some)
        found.add(self.pid)
        self.seen = sorted(found)
        return self.seen

    def _by_cgroup(self) -> Iterator[int]:
        for folder in self.cgroups():
            for parent, _, _ in os.walk(folder):
                for line in read_text(f"{parent}/cgroup.procs").split():
                    if line.isdigit() and line != "0":
                        yield int(line)
            return

    def cgroups(self) -> Iterator[str]:
        """Its cgroup folders that name it, the freezer's first (v1), or the only one (v2)."""
        rows = [line.split(":", 2) for line in read_text(f"{PROC}/{self.pid}/cgroup").splitlines()]
        rows = [row for row in rows if len(row) == 3 and self.container_id in row[2]]
        for _, controllers, path in sorted(rows, key=lambda row: row[1] != "freezer"):
            for mount in _cgroup_mounts():
                fits = (
                    mount.fstype == "cgroup2"
                    if not controllers
                    else mount.fstype == "cgroup" and set(controllers.split(",")) <= set(mount.options)
                )
                folder = mount.point + path
                if fits and os.path.isdir(folder):  # noqa: PTH112 - a hot path of plain strings
                    yield folder

    def frozen(self) -> bool | None:
        """Whether the kernel says that all of it is frozen; ``None`` when it can't be asked."""
        for folder in self.cgroups():
            state = read_text(f"{folder}/freezer.state").strip()
            if state:
                return state == "FROZEN"
            events = read_text(f"{folder}/cgroup.events")
            if events:
                return "frozen 1" in events
        return None


def _cgroup_mounts() -> tuple[Mount, ...]:
    """Where this host's cgroups are mounted: read once, since a host of many containers has a long table of mounts.

    A reading that failed is not kept: every target of the process would be without its cgroup.
    """
    if not _CGROUP_MOUNTS.get("all"):
        _CGROUP_MOUNTS["all"] = parse_mountinfo(read_text(f"{PROC}/self/mountinfo"), " - cgroup")
    return _CGROUP_MOUNTS["all"]


_CGROUP_MOUNTS: dict[str, tuple[Mount, ...]] = {}


def locate(container: Container) -> HostView | str:
    """The container's processes on this host, or the reason why they can't be seen from here."""
    if not container.running or not container.pid:
        return "the container is not running: it has no processes, sockets, memory or tmpfs"
    lines = read_text(f"{PROC}/{container.pid}/cgroup")
    if container.id not in lines:
        return (
            "the engine's processes can't be seen from here: it runs on another host, or irkit runs inside a container"
        )
    if not os.access(f"{PROC}/{container.pid}/ns/net", os.R_OK):
        return "no right to read the processes of the container: run irkit as root"
    return HostView(container.id, container.pid)


def boot_time() -> float:
    """When this host booted, seconds since the epoch."""
    for line in read_text(f"{PROC}/stat").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
