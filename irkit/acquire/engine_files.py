"""The files that the engine writes and mounts into each container: ``/etc/hosts``, ``/etc/hostname``, ``/etc/resolv.conf``.

They lie in no layer, so neither an export nor a list of changes shows what was written into them.  ``inspect`` names them
(Docker Engine API v1.41: ``HostsPath``, ``HostnamePath``, ``ResolvConfPath``).  They are read before the quarantine is
joined, because the engine rewrites them whenever a network comes or goes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

from irkit.acquire.attributes import NO_OVERLAY
from irkit.acquire.beneath import Entry, facts_of, open_folder
from irkit.engine.interface import Container
from irkit.evidence.writer import BundleWriter, Origin

COLLECTOR = "network-state"
FILES = (("/etc/hosts", "HostsPath"), ("/etc/hostname", "HostnamePath"), ("/etc/resolv.conf", "ResolvConfPath"))
HOSTS_OWN = {
    "/etc/hosts": ("/etc/hosts",),
    "/etc/hostname": ("/etc/hostname",),
    "/etc/resolv.conf": ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"),
}
"""What the engine may have copied them from."""
LIMIT = 1024 * 1024
HASH = ".hash"
"""Beside ``resolv.conf`` Docker keeps the digest of what it wrote (moby, libnetwork/resolvconf)."""


def acquire_engine_files(before: Container, local: bool, writer: BundleWriter) -> int:
    """Write ``network/files/NAME`` and ``network/files.json``; how many there are.  ``local``: the engine's host is this one.

    A file of more than ``LIMIT`` bytes, and one that can't be read, is a gap.  What the user mounts there is a volume's.
    """
    taken = {str(one.get("Destination")) for one in before.raw.get("Mounts") or ()}
    named = [(path, str(before.raw.get(key) or "")) for path, key in FILES if path not in taken]
    rows = []
    for path, source in named:
        if not source:
            continue  # it was never started
        if not local:
            writer.gap(COLLECTOR, path, "the engine mounts it from its own host, which is another one")
            continue
        try:
            rows.append(_one(path, source, writer))
        except OSError as error:
            writer.gap(COLLECTOR, path, f"the engine's file can't be read: {error.strerror or error}")
    origin = Origin(COLLECTOR, f"container {before.id}", "host-side read of the engine's own files")
    writer.add_json("network/files.json", {"schema": "irkit.engine-files/v1", "files": rows}, origin)
    return len(rows)


def _one(path: str, source: str, writer: BundleWriter) -> dict[str, Any]:
    above, _, name = source.rpartition("/")
    with open_folder(os.path.realpath(above)) as folder:  # the engine's word, and out of the container's reach
        entry = Entry(path, name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False), NO_OVERLAY)
        data = _read(entry)
        facts = facts_of(entry, "")
    written = _digest(f"{source}{HASH}") if path == "/etc/resolv.conf" else ""
    row: dict[str, Any] = {"path": path, "engine_sha256": written, "artifact": "", "same_as_host": _shared(path, data)}
    if len(data) > LIMIT:
        writer.gap(COLLECTOR, path, f"{facts.size} bytes are over the limit of {LIMIT}: not taken")
    else:
        facts = replace(facts, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        row["artifact"] = f"network/files/{path.rpartition('/')[2]}"
        origin = Origin(COLLECTOR, path, "host-side read of the engine's own file", "text/plain")
        with writer.sink(row["artifact"], origin) as sink:
            sink.write(data)
    return {**row, "facts": facts.to_json()}


def _read(entry: Entry) -> bytes:
    descriptor = entry.open()
    try:
        return os.pread(descriptor, LIMIT + 1, 0)
    finally:
        os.close(descriptor)


def _shared(path: str, data: bytes) -> list[str]:
    """Lines that the host's own file has as well: where the engine copied it, they are nobody's in the container."""
    lines = set(data.split(b"\n"))
    found: set[bytes] = set()
    for name in HOSTS_OWN[path]:
        try:
            with open(name, "rb") as file:  # noqa: PTH123
                found |= lines & set(file.read(LIMIT).split(b"\n"))
        except OSError:
            continue
    return sorted(line.decode("ascii") for line in found if line.isascii() and line.strip())


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(256).decode("ascii", "replace").strip().removeprefix("sha256:")
    except OSError:
        return ""
