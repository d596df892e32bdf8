"""What the bytes of a changed file say: what they are, what an ELF file tells of itself, what was changed in a text.

Each file's bytes go by once.  Of one that is larger than ``WHOLE`` the beginning is looked at, and the rest digested.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from irkit.compare import content as contents
from irkit.compare.content import (
    HEAD,
    EntryChange,
    LogSide,
    entries,
    is_log,
    kind_of,
    log_wiped,
    look,
    problem,
    sampled,
)
from irkit.compare.engine_files import own_names
from irkit.compare.evidence import Evidence
from irkit.compare.packages import is_database
from irkit.compare.verdicts import Verdicts
from irkit.compare.vocabulary import Value
from irkit.compare.yara import Hit
from irkit.models import Change, Gap
from irkit.package_paths import BYTECODE
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.compare.content import TextDiff

BLOCK = 1024 * 1024
WHOLE = 64 * BLOCK
TEXT = BLOCK
"""A text up to this size is searched by rules and compared line by line."""
MACHINES = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "arm": "arm", "ppc64le": "powerpc64", "s390x": "s390", "riscv64": "riscv"}  # fmt: skip
"""``Architecture`` of an image (OCI image-spec, GOARCH) → the machine of its ELF files."""
COMPATIBLE = {"x86_64": ("i386",)}


@dataclass(frozen=True, slots=True)
class Content:
    """What was seen of one file.  ``values``: facts for rules; ``digests``: hex, by algorithm."""

    values: Mapping[str, Value] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    hits: Sequence[Hit] = ()
    entries: Sequence[EntryChange] = ()
    diff: TextDiff | None = None
    source: tuple[int, int] | None = None
    """Of bytecode: size and mtime (seconds) of the source that it names."""


@dataclass(slots=True)
class Unread:
    """Texts that rules did not search, or not wholly: counted, and the first of each kind named."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, why: str, path: str) -> None:
        """One more.  ``why``: ``beginning`` or ``no original``."""
        self.counts[why] += 1
        self.first.setdefault(why, path)

    def gaps(self) -> Iterator[Gap]:
        """One for each kind."""
        words = {
            "beginning": f"longer than {TEXT} bytes: rules searched their beginning only",
            "no original": "what the image had is not in the bundle: rules did not search for new lines",
        }
        for why, count in self.counts.items():
            yield Gap("comparison", f"{count} texts", f"{words[why]}; the first is {printable(self.first[why])}")


class Examiner:
    """Looks at the files of a side."""

    def __init__(self, side: Evidence, verdicts: Verdicts, gaps: list[Gap], *, diffs: bool = False) -> None:
        self._side = side
        self._verdicts = verdicts
        self._gaps = gaps
        self._diffs = diffs
        self.unread = Unread()
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
        if change.origin == "volume" and change.before is not None and change.before.kind == "file":
            return self._side.volumes_before.read(change.path, TEXT)
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
        held = before is not None or change.before is None or change.before.kind != "file"
        readable = data is not None and len(data) <= TEXT and held
        is_text = values.get("type") in ("text", "script", "empty")
        diff = None
        left = is_text and data is not None and not readable and not _same_bytes(change)
        if left and not is_log(path) and not is_database(path):
            self.unread.add("beginning" if held else "no original", path)
        if is_text and data is not None and held:
            values["added_lines"], values["removed_lines"], _ = contents.changed_lines(before, data[:TEXT])
            values["content"] = data[:TEXT].decode("utf-8", "surrogateescape")
        if (
            self._diffs
            and change.kind == "file"
            and ((is_text and readable) or (change.after is None and before is not None))
        ):
            diff = contents.text_diff(path, before, data if change.after is not None else None)
        source = named_source(data) if values.get("type") == "bytecode" and data is not None else None
        return Content(values, digests or {}, hits, self._entries(change, before, data, held), diff, source)

    def _entries(self, change: Change, before: bytes | None, data: bytes | None, held: bool) -> Sequence[EntryChange]:
        """What changed in a file that matters, or that it can't be told: a file must not hide by its size."""
        file, after = kind_of(change.path), change.after
        if file is None or change.kind != "file" or (after is not None and data is None):
            return ()
        if not held:  # over the limit: what acquisition left out for another reason is its gap
            was = change.before.size if change.before is not None and not _same_bytes(change) else 0
            return (problem(file, f"the image's version has {was} bytes"),) if was > TEXT else ()
        now = data[: TEXT + 1] if after is not None and data is not None else None
        return entries(change.path, before, now, own=self._own)

    @cached_property
    def _own(self) -> tuple[str, ...]:
        return own_names(self._side.container)

    def _kind(self, data: bytes, size: int, name: str) -> dict[str, Value]:
        seen = look(data[:HEAD], size, name)
        values: dict[str, Value] = {"type": seen.type}
        if seen.interpreter:
            values["interpreter"] = seen.interpreter
        if seen.type == "elf" and (elf := contents.elf_facts(data, size)) is not None:
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


def named_source(data: bytes) -> tuple[int, int] | None:
    """Size and mtime of the source in the head of a .pyc (PEP 552); ``None`` for one that names a hash, or is too short.

    Both are 32 bits, little-endian, after the magic number and the flags.
    """
    if len(data) < 16 or data[4:8] != bytes(4):
        return None
    return int.from_bytes(data[12:16], "little"), int.from_bytes(data[8:12], "little")


def source_of(path: str) -> str:
    """The source that Python bytecode is compiled from; empty for anything else."""
    found = BYTECODE.fullmatch(path)
    return f"{found['folder']}/{found['name']}.py" if found else ""


def _same_bytes(change: Change) -> bool:
    before, after = change.before, change.after
    return before is not None and after is not None and bool(after.sha256) and before.sha256 == after.sha256


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
