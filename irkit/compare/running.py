"""Who runs what: processes and sockets of a side, joined with the files that they run and map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from irkit.compare.evidence import Evidence
from irkit.text import text_from

ENGINE_DNS = "127.0.0.11"
"""The engine's own DNS server listens there inside every container on a network of a user's."""


class Running:
    """The processes and sockets of one side."""

    def __init__(self, side: Evidence) -> None:
        self.side = side

    @cached_property
    def processes(self) -> dict[int, dict[str, Any]]:
        """By pid, on the engine's host."""
        return {int(row["pid"]): row for row in self.side.processes}

    @cached_property
    def sockets(self) -> list[dict[str, Any]]:
        """Rows that have an address, the engine's own left out."""
        rows = self.side.rows("network/sockets.json")
        return [row for row in rows if "local" in row and row["local"] != ENGINE_DNS]

    @cached_property
    def listening(self) -> frozenset[int]:
        """Pids that wait for others to connect."""
        return frozenset(pid for row in self.sockets if is_listening(row) for pid in row["pids"])

    @cached_property
    def connected(self) -> frozenset[int]:
        """Pids that are connected to somebody else than themselves."""
        return frozenset(pid for row in self.sockets if row["state"] == "established" for pid in row["pids"])

    @cached_property
    def by_path(self) -> Mapping[str, frozenset[int]]:
        """The path of a program or of what it maps → pids."""
        found: dict[str, set[int]] = defaultdict(set)
        for pid, row in self.processes.items():
            found[exe_path(row)].add(pid)
            for one in row.get("mapped") or ():
                if "x" in str(one.get("flags")):
                    found[text_from(one, "path")].add(pid)
        return {path: frozenset(pids) for path, pids in found.items()}

    @cached_property
    def first(self) -> int:
        """The container's first process; 0 when it is not running."""
        return int((self.side.container.get("State") or {}).get("Pid") or 0)

    def other_user(self, uid: int) -> bool:
        """Whether the image names a user by number, and it is another; a name can't be told from here."""
        user = str((self.side.image.get("Config") or {}).get("User") or "").partition(":")[0]
        return user.isdecimal() and uid >= 0 and int(user) != self.inside(uid)

    def inside(self, uid: int) -> int:
        """A user's number in the container: another one than on the host where its first process is in a user namespace (userns-remap)."""
        for first, outside, count in self.processes.get(self.first, {}).get("uid_map") or ():
            if outside <= uid < outside + count:
                return int(first + uid - outside)
        return uid

    def execed(self, pid: int) -> bool:
        """Whether it, or an ancestor of it, came in from outside (`docker exec`, nsenter): its line does not end at the first process.

        A process whose parent ended is given to the first process of the namespace, and looks like one of its own.
        """
        seen: set[int] = set()
        while pid not in seen:
            seen.add(pid)
            if pid == self.first:
                return False
            row = self.processes.get(pid)
            if row is None:
                return bool(self.first)
            pid = int(row["ppid"])
        return False


def is_listening(row: Mapping[str, Any]) -> bool:
    """Whether a socket waits for others: TCP that listens, UDP that is bound and not connected."""
    return row["state"] == "listen" or (str(row["protocol"]).startswith("udp") and row["state"] == "unconnected")


def exe_path(row: Mapping[str, Any]) -> str:
    """A process's program, as the kernel names it."""
    return text_from(row["exe"], "path")


def arguments(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a process was started with."""
    return tuple(text_from(one, "text") for one in row.get("argv") or ())


def name_of_process(row: Mapping[str, Any]) -> str:
    """A process's own name for itself."""
    return text_from(row, "name")
