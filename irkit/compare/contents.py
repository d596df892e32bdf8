"""What the bytes of a changed file say: what they are, what an ELF file tells of itself, what was changed in a text.

Each file's bytes go by once.  Of one that is larger than ``WHOLE`` the beginning is looked at, and the rest digested.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

from irkit.compare.content import (
    HEAD,
    EntryChange,
    LogSide,
    TextDiff,
    changed_lines,
    elf_facts,
    entries,
    is_log,
    kind_of,
    log_wiped,
    look,
    sampled,
    text_diff,
)
from irkit.compare.engine_files import own_names
from irkit.compare.evidence import Evidence
from irkit.compare.verdicts import Verdicts
from irkit.compare.vocabulary import Value
from irkit.compare.yara import Hit
from irkit.models import Change, Gap

BLOCK = 1024 * 1024
WHOLE = 64 * BLOCK
TEXT = BLOCK
"""A text up to this size is searched by rules and compared line by line."""
MACHINES = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "arm": "arm", "ppc64le": "powerpc64", "s390x": "s390", "riscv64": "riscv"}  # fmt: skip
"""``Architecture`` of an image (OCI image-spec, GOARCH) → the machine of its ELF files."""
COMPATIBLE = {"x86_64": ("i386",)}
PYC = re.compile(r"(?P<folder>.*)/__pycache__/(?P<name>[^/]+)\.[^./]+-\d+(?:\.opt-\d)?\.pyc")
"""``/lib/__pycache__/x.cpython-311.pyc`` (PEP 3147, PEP 488)."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was seen of one file.  ``values``: facts for rules; ``digests``: hex, by algorithm."""

    values: Mapping[str, Value] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    hits: Sequence[Hit] = ()
    entries: Sequence[EntryChange] = ()
    diff: TextDiff | None = None


class Examiner:
    """Looks at the files of a side."""

    def __init__(self, side: Evidence, verdicts: Verdicts, gaps: list[Gap], *, diffs: bool = False) -> None:
        self._side = side
        self._verdicts = verdicts
        self._gaps = gaps
        self._diffs = diffs
        self._machine = MACHINES.get(str(side.image.get("Architecture") or ""), "")

    def look(self, change: Change, stream: BinaryIO | None, algorithms: Iterable[str] = ()) -> Content:
        """A change's content.  Without its bytes only what its facts and the image's version tell."""
        after = change.after
        before = self._before(change)
        if after is None or after.kind != "file" or stream is None:
            data = b"" if after is not None and after.kind == "file" and after.size == 0 else None
            return self._told(change, before, data, {"type": "empty"} if data == b"" else {})
        data, digests = _read(stream, {"sha256", *algorithms})
        values = self._kind(data, after.size, change.path.rpartition("/")[2])
        hits = self._scan(change.path, data, values)
        if self._verdicts.lists:
            values["ioc"] = self._indicators(change.path, digests, data, str(values["type"]))
        return self._told(change, before, data, values, digests, hits)

    def _before(self, change: Change) -> bytes | None:
        if change.origin == "mount" and change.path in self._side.engine_files:
            return self._side.engine_files[change.path].expected
        if change.origin != "layer" or change.before is None or change.before.kind != "file":
            return None
        return self._side.before.read(change.path, TEXT)

    def _told(
        self, change: Change, before: bytes | None, data: bytes | None, values: dict[str, Value],
        digests: Mapping[str, str] | None = None, hits: Sequence[Hit] = (),
    ) -> Content:  # fmt: skip
        path = change.path
        values.update(self._log(change, before, data))
        if kind_of(path) == "web":
            values["web_root"] = True
        readable = data is not None and len(data) <= TEXT and (change.before is None or before is not None)
        is_text = values.get("type") in ("text", "script", "empty")
        diff = None
        if is_text and readable and data is not None:
            values["added_lines"], values["removed_lines"], _ = changed_lines(before, data)
            values["content"] = data.decode("utf-8", "surrogateescape")
        if (
            self._diffs
            and change.kind == "file"
            and ((is_text and readable) or (change.after is None and before is not None))
        ):
            diff = text_diff(path, before, data if change.after is not None else None)
        found: Sequence[EntryChange] = ()
        if kind_of(path) is not None and change.kind == "file" and (readable or change.after is None):
            found = entries(path, before, data if change.after is not None else None, own=self._own)
        return Content(values, digests or {}, hits, found, diff)

    @cached_property
    def _own(self) -> tuple[str, ...]:
        return own_names(self._side.container)

    def _kind(self, data: bytes, size: int, name: str) -> dict[str, Value]:
        seen = look(data[:HEAD], size, name)
        values: dict[str, Value] = {"type": seen.type}
        if seen.interpreter:
            values["interpreter"] = seen.interpreter
        if seen.type == "elf" and (elf := elf_facts(data, size)) is not None:
            folders = tuple(part for one in (elf.rpath, elf.runpath) for part in one.split(":") if part)
            allowed = (self._machine, *COMPATIBLE.get(self._machine, ()))
            values.update(
                static=elf.static, stripped=elf.stripped, packed=elf.packed, rpath=folders, entropy=round(elf.entropy * 100),
                foreign=bool(self._machine) and elf.machine not in allowed,
            )  # fmt: skip
        elif seen.type == "data":
            values["entropy"] = round(sampled(data, 0, len(data)) * 100)
        return values

    def _scan(self, path: str, data: bytes, values: dict[str, Value]) -> Sequence[Hit]:
        if self._verdicts.yara is None or not data:
            return ()
        scan = self._verdicts.yara.scan(data, self._verdicts.timings)
        if scan.problem:
            self._gaps.append(Gap("yara", path, scan.problem))
        values["yara"] = scan.names
        return scan.hits

    def _indicators(self, path: str, digests: Mapping[str, str], data: bytes, kind: str) -> tuple[str, ...]:
        lists = self._verdicts.lists
        found = list(lists.of_file(path, digests))
        if kind in ("text", "script") and len(data) <= TEXT:
            found += lists.of_text(data.decode("utf-8", "surrogateescape"))
        return tuple(dict.fromkeys(map(str, found)))

    def _log(self, change: Change, before: bytes | None, data: bytes | None) -> dict[str, Value]:
        form = is_log(change.path)
        if not form or change.kind not in ("file", "symlink"):
            return {}
        was, now = change.before, change.after
        told = log_wiped(
            change.path,
            LogSide(was.kind, was.size, before or b"", was.target) if was is not None else None,
            LogSide(now.kind, now.size, (data or b"")[: 8 * BLOCK], now.target) if now is not None else None,
        )
        return {
            "log": form, "log_emptied": told.emptied, "log_shrank": told.shrank, "log_linked_away": told.linked_away,
            "log_rewritten": told.rewritten and before is not None, "log_zeroed": told.zeroed, "log_holes": told.holes,
            "log_cut": told.lines_cut if before is not None and data is not None else 0,
        }  # fmt: skip

    def of_program(self, name: str) -> tuple[dict[str, Value], Sequence[Hit], Mapping[str, str]]:
        """A program's bytes that the bundle holds as an artifact: what they are, and what YARA says of them."""
        data, size = b"", 0
        digest = hashlib.sha256()
        for block in self._side.reader.stream(name):
            digest.update(block)
            size += len(block)
            if len(data) < WHOLE:
                data += block
        values = self._kind(data[:WHOLE], size, "")
        return values, self._scan(name, data[:WHOLE], values), {"sha256": digest.hexdigest()}


def source_of(path: str) -> str:
    """The source that Python bytecode is compiled from; empty for anything else."""
    found = PYC.fullmatch(path)
    return f"{found['folder']}/{found['name']}.py" if found else ""


def _read(stream: BinaryIO, algorithms: Iterable[str]) -> tuple[bytes, dict[str, str]]:
    """The first bytes of a file, and digests of all of it."""
    made = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    pieces: list[bytes] = []
    held = 0
    while block := stream.read(BLOCK):
        for one in made.values():
            one.update(block)
        if held < WHOLE:
            pieces.append(block)
            held += len(block)
    return b"".join(pieces)[:WHOLE], {name: one.hexdigest() for name, one in made.items()}
