"""Sides of a comparison, made by hand: bundles as a collector leaves them, without an engine."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.compare import evidence as kept
from irkit.compare.evidence import Evidence
from irkit.compare.ioc import IocLists
from irkit.compare.noise import Noise, noise_of
from irkit.compare.rules import RuleSet, rules_of
from irkit.compare.verdicts import Verdicts
from irkit.documents import parse
from irkit.evidence import names
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter, Origin
from irkit.models import Change, FileFacts

HEAD = "apiVersion: irkit/v1\nkind: {}\n{}:\n"


def facts(data: bytes = b"", mode: int = 0o644, **more: Any) -> FileFacts:
    """Of a regular file with these bytes."""
    return FileFacts("file", mode, 0, 0, len(data), sha256=hashlib.sha256(data).hexdigest(), **more)


FOLDER = FileFacts("directory", 0o755, 0, 0, 0)


@dataclass
class Made:
    """What a side holds; :meth:`at` writes it."""

    container: Mapping[str, Any] = field(default_factory=lambda: {"Id": "c" * 64, "State": {"Pid": 100}})
    image: Mapping[str, Any] = field(default_factory=lambda: {"Architecture": "amd64"})
    processes: Sequence[Mapping[str, Any]] = ()
    sockets: Sequence[Mapping[str, Any]] = ()
    originals: Mapping[str, bytes] = field(default_factory=dict)
    changes: list[tuple[Change, bytes | None]] = field(default_factory=list)
    more: Mapping[str, object] = field(default_factory=dict)
    """Other artifacts: JSON, and ``.jsonl`` of one line."""

    def add(self, path: str, data: bytes, mode: int = 0o644, origin: str = "layer", **more: Any) -> Made:
        """A new file."""
        self.changes.append((Change(path, "added", None, facts(data, mode, **more), origin), data))
        return self

    def change(self, path: str, old: bytes, new: bytes, mode: int = 0o644, old_mode: int = 0o644) -> Made:
        """Other bytes."""
        self.originals = {**self.originals, path: old}
        self.changes.append((Change(path, "changed", facts(old, old_mode), facts(new, mode)), new))
        return self

    def delete(self, path: str, old: bytes) -> Made:
        """A file that is gone."""
        self.originals = {**self.originals, path: old}
        self.changes.append((Change(path, "deleted", facts(old), None), None))
        return self

    def at(self, folder: Path) -> Evidence:
        """As evidence."""
        writer = BundleWriter(folder)
        for name, value in (
            ("engine/container-before.json", self.container), ("engine/image.json", self.image),
            ("process/processes.json", self.processes), ("network/sockets.json", self.sockets),
        ):  # fmt: skip
            writer.add_json(name, value, Origin("engine-state", "a test", "by hand"))
        for name, archive, origin in ((*kept.LISTS[0], "layer"), (*kept.LISTS[1], "tmpfs")):
            rows = [(one, data) for one, data in self.changes if one.origin == origin]
            lines = "".join(json.dumps(one.to_json()) + "\n" for one, _ in rows).encode()
            writer.add(name, [lines], Origin("filesystem", "a test", "by hand"))
            _archive(writer, archive, {one.path: data for one, data in rows if data is not None})
        _archive(writer, kept.ORIGINALS, self.originals)
        for name, value in self.more.items():
            if name.endswith(".jsonl"):
                writer.add(name, [json.dumps(value).encode() + b"\n"], Origin("filesystem", "a test", "by hand"))
            else:
                writer.add_json(name, value, Origin("engine-state", "a test", "by hand"))
        writer.put("bagit.txt", b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
        writer.put(names.INDEX, json.dumps(writer.index({"taken": "2024-05-01T12:00:00Z", "target": {}})).encode())
        return Evidence(BundleReader(writer.folder))


def side(
    folder: Path, before: Mapping[str, bytes], after: Mapping[str, bytes | None], *, originals: Mapping[str, bytes] | None = None,
    more: Mapping[str, object] | None = None,
) -> Evidence:  # fmt: skip
    """``after`` names what differs from the image (``None``: deleted); ``originals``: what is kept of the image, without it ``before``."""
    made = Made(more=more or {})
    for path, now in after.items():
        was = before.get(path)
        if now is None:
            made.delete(path, was or b"")
        elif was is None:
            made.add(path, now)
        else:
            made.change(path, was, now)
    if originals is not None:
        made.originals = originals
    return made.at(folder)


def _archive(writer: BundleWriter, name: str, files: Mapping[str, bytes]) -> None:
    writer.add(name, [tar_of(files)], Origin("filesystem", "a test", "by hand"))


def tar_of(files: Mapping[str, bytes | str | None]) -> bytes:
    """``path → bytes``, a link's target, or ``None`` for a folder; of ``=TARGET`` a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            if isinstance(data, bytes):
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                continue
            member.type = tarfile.DIRTYPE if data is None else tarfile.LNKTYPE if data[0] == "=" else tarfile.SYMTYPE
            member.linkname = (data or "").lstrip("=")
            tar.addfile(member)
    return out.getvalue()


def process(pid: int, ppid: int, path: str, **more: Any) -> dict[str, Any]:
    """A row of ``process/processes.json``."""
    exe = {"path": path, "deleted": False, "memory": False, "sha256": "", **more.pop("exe", {})}
    argv = [{"text": one} for one in more.pop("argv", ())]
    return {"pid": pid, "ppid": ppid, "name": path.rpartition("/")[2], "exe": exe, "argv": argv, "uid": [0, 0, 0, 0], **more}  # fmt: skip


def socket(pids: Sequence[int], local: str, port: int, state: str = "listen", **more: Any) -> dict[str, Any]:
    """A row of ``network/sockets.json``."""
    return {"pids": list(pids), "local": local, "local_port": port, "state": state, "protocol": "tcp", **more}


def verdicts(rules: str = "", groups: str = "", lists: IocLists | None = None) -> Verdicts:
    """Rules (``ID ON SEVERITY WHERE`` lines) and noise (``ID WHERE`` lines) of a test's own."""
    made = "".join(
        f"- {{id: {one[0]}, on: {one[1]}, severity: {one[2]}, title: T, reason: R, next: N, where: {one[3]}}}\n"
        for one in (line.split(" ", 3) for line in rules.strip().splitlines())
    )
    noise = "".join(
        f"- {{id: {one[0]}, title: T, where: {one[1]}}}\n"
        for one in (line.split(" ", 1) for line in groups.strip().splitlines())
    )
    some = rules_of(parse((HEAD.format("Rules", "rules") + made).encode(), "r"), True) if made else ()
    folded = noise_of(parse((HEAD.format("Noise", "groups") + noise).encode(), "n")) if noise else ()
    return Verdicts(RuleSet(some), Noise(folded), None, lists or IocLists(()))
