"""A bundle out of a user's own files: a copy from another tool, a disk image, notes, photographs.

Each regular file becomes an artifact ``files/NUMBER-NAME`` (the name made plain), and ``files/entries.jsonl`` says what
lay where: one object an entry, its real ``path``, ``kind``, ``mode``, ``uid``, ``gid``, ``size``, ``mtime_ns``, a link's
``target``, and the ``artifact`` with its bytes.  No link is followed, no device opened: what can't be taken is a gap.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.errors import StorageError, UsageProblem
from irkit.evidence.writer import BundleWriter, Origin
from irkit.text import printable, text_fields

COLLECTOR = "files"
LINES = "application/jsonl"
BLOCK = 1024 * 1024
KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device", stat.S_IFBLK: "device",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """An entry on the disk: the folder it lies in (a descriptor, good while it is handled), its name and whole path."""

    folder: int
    name: str
    path: str


def collect_files(sources: Sequence[Path], writer: BundleWriter) -> int:
    """Take every file in ``sources`` (files and folders) into ``writer``; how many were taken.

    Raises ``UsageProblem`` for a source that is not there, ``StorageError`` when the disk is full.
    """
    entries: list[bytes] = []
    taken = 0
    for source in sources:
        for found in _walk(source, writer):
            row, artifact = _take(found, writer, taken + 1)
            taken += bool(artifact)
            entries.append(json.dumps(row | ({"artifact": artifact} if artifact else {})).encode() + b"\n")
    writer.add(
        "files/entries.jsonl", entries, Origin(COLLECTOR, "the list of what was taken", "lstat", LINES), compress=False
    )
    return taken


def _walk(source: Path, writer: BundleWriter) -> Iterator[Found]:
    """A source the user named, itself or all that lies in it, in order; links below it are not followed."""
    whole = source.resolve()
    try:
        kind = stat.S_IFMT(whole.lstat().st_mode)
    except OSError as error:
        raise UsageProblem(f"can't read {source}: {error.strerror}") from error
    if kind != stat.S_IFDIR:
        folder = os.open(whole.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield Found(folder, whole.name, str(whole))
        finally:
            os.close(folder)
        return

    def lost(error: OSError) -> None:
        writer.gap(COLLECTOR, printable(str(error.filename)), f"the folder can't be read: {error.strerror}")

    for parent, folders, files, folder in os.fwalk(whole, onerror=lost):
        folders.sort()
        for name in sorted(folders + files):
            yield Found(folder, name, f"{parent}/{name}")


def _take(found: Found, writer: BundleWriter, number: int) -> tuple[dict[str, Any], str]:
    row: dict[str, Any] = text_fields("path", found.path)
    try:
        facts = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
        row |= {
            "kind": KINDS.get(stat.S_IFMT(facts.st_mode), "other"), "mode": f"{stat.S_IMODE(facts.st_mode):04o}", "uid": facts.st_uid,
            "gid": facts.st_gid, "size": facts.st_size, "mtime_ns": facts.st_mtime_ns,
        }  # fmt: skip
        if row["kind"] == "link":
            row |= text_fields("target", os.readlink(found.name, dir_fd=found.folder))
        elif row["kind"] == "file":
            return row, _copy(found, writer, number)
        elif row["kind"] != "dir":
            writer.gap(COLLECTOR, printable(found.path), f"a {row['kind']} holds no bytes to take")
    except OSError as error:
        writer.gap(COLLECTOR, printable(found.path), f"can't be read: {error.strerror}")
    return row, ""


def _copy(found: Found, writer: BundleWriter, number: int) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "-", found.name.lower())[:60].strip("-._") or "file"
    name = f"files/{number:06d}-{plain}"
    # Not through a link that took its place meanwhile, and not hanging on a FIFO.
    descriptor = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=found.folder)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "it is no regular file any more")
        try:
            with writer.sink(name, Origin(COLLECTOR, printable(found.path), "read")) as sink:
                while block := file.read(BLOCK):
                    sink.write(block)
        except StorageError:
            raise
        except OSError:
            return writer.artifacts[-1].path  # what was read is kept, and the writer has told the gap
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        writer.gap(COLLECTOR, printable(found.path), "it was written to while it was read")
    return writer.artifacts[-1].path
