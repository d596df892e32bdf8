"""What the bytes of a changed file say: what they are, what an ELF file tells of itself, what was changed in a text.

Each file's bytes go by once.  Of one that is larger than ``WHOLE`` the beginning is looked at, and the rest digested; rules search a text to its end.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from irkit.compare.holes import LIMIT as HOLES
from irkit.compare.holes import Dense
from irkit.compare.long_text import LINE, OVERLAP, LongText, Original, Searches
from irkit.compare.packages import is_database
from irkit.compare.patterns import joined
from irkit.compare.verdicts import Verdicts
from irkit.compare.vocabulary import Searched, Value
from irkit.compare.yara import Hit
from irkit.models import Change, Gap
from irkit.package_paths import BYTECODE
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.compare.content import TextDiff
    from irkit.compare.ioc import IocLists, Match

BLOCK = 1024 * 1024
WHOLE = 64 * BLOCK
TEXT = BLOCK
"""A text up to this size is held for rules and compared line by line; a longer one is searched as its bytes go by."""
MACHINES = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "arm": "arm", "ppc64le": "powerpc64", "s390x": "s390", "riscv64": "riscv"}  # fmt: skip
"""``Architecture`` of an image (OCI image-spec, GOARCH) → the machine of its ELF files."""
FEW = 50
"""Texts of which each rule searches what it asks for; of more, one pattern made of all of them is searched first."""
NOTHING = Searched(frozenset())
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
    """Texts that rules did not wholly search: counted, and the first of each kind named."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, why: str, path: str) -> None:
        """One more.  ``why``: ``pieces``, ``no original`` or ``holes``."""
        self.counts[why] += 1
        self.first.setdefault(why, path)

    def gaps(self) -> Iterator[Gap]:
        """One for each kind."""
        words = {
            "pieces": f"lines longer than {LINE} bytes: rules searched them in pieces",
            "no original": "what the image had is not in the bundle: rules did not search for new lines",
            "holes": f"holes of more than {HOLES} bytes in all were passed over: rules searched what lies between them, "
            "and of their digests only the evidence's own sha256, if it has one, was held against indicators",
        }
        for why, count in self.counts.items():
            yield Gap(
                "comparison",
                f"{count} {'files' if why == 'holes' else 'texts'}",
                f"{words[why]}; the first is {printable(self.first[why])}",
            )


class Examiner:
    """Looks at the files of a side."""

    def __init__(self, side: Evidence, verdicts: Verdicts, gaps: list[Gap], *, diffs: bool = False) -> None:
        self._side = side
        self._verdicts = verdicts
        self._gaps = gaps
        self._diffs = diffs
        self.unread = Unread()
        self._texts = 0
        self._machine = MACHINES.get(str(side.image.get("Architecture") or ""), "")

    def look(self, change: Change, stream: BinaryIO | None, algorithms: Iterable[str] = ()) -> Content:
        """A change's content.  Without its bytes only what its facts and the image's version tell."""
        after = change.after
        before = self._before(change)
        if after is None or after.kind != "file" or stream is None:
            data = b"" if after is not None and after.kind == "file" and after.size == 0 else None
            return self._told(change, before, data, {"type": "empty"} if data == b"" else {})
        words: dict[Match, None] = {}
        read = _read(stream, {"sha256", *algorithms}, lambda head: self._long(change, before, head, words))
        data, digests = read.data, read.digests
        if isinstance(stream, Dense):
            digests = {"sha256": after.sha256} if after.sha256 else {}
            self.unread.add("holes", change.path)
        values = self._kind(data, after.size, change.path.rpartition("/")[2])
        hits = self._scan(change.path, data, values, read.size)
        if self._verdicts.lists:
            values["ioc"] = self._indicators(change.path, digests, data, str(values["type"]), words)
        return self._told(change, before, data, values, digests, hits, read.long)

    def _long(self, change: Change, before: bytes | None, head: bytes, words: dict[Match, None]) -> LongText | None:
        """What searches a file that is longer than :data:`TEXT`, of which ``head`` is the beginning: if it is a text."""
        was = change.before
        size = change.after.size if change.after is not None else 0
        if look(head[:HEAD], size, change.path.rpartition("/")[2]).type not in ("text", "script"):
            return None
        original = Original()
        if was is not None and was.kind == "file":
            original = Original(before, was.size, was.sha256)
        lists = self._verdicts.lists
        return LongText(self._searches, original, (lambda data: words.update(_words(lists, data))) if lists else None)

    @cached_property
    def _searches(self) -> Searches:
        return Searches(self._verdicts.searches())

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
        digests: Mapping[str, str] | None = None, hits: Sequence[Hit] = (), long: LongText | None = None,
    ) -> Content:  # fmt: skip
        path = change.path
        values.update(self._log(change, before, data))
        if kind_of(path) == "web":
            values["web_root"] = True
        held = before is not None or change.before is None or change.before.kind != "file"
        is_text = values.get("type") in ("text", "script", "empty")
        told = long.held if long is not None else held
        if long is not None:
            values.update(long.values())
            self._left(change, long)
        elif is_text and data is not None and held:
            values.update(self._lines(before, data))
        if is_text and data is not None and not told and not _same_bytes(change) and not is_database(path):
            self.unread.add("no original", path)
        diff = None
        if self._diffs and change.kind == "file":
            if is_text and data is not None and told:
                diff = _text_diff(change, before, data)
            elif change.after is None and before is not None:
                diff = contents.text_diff(path, before, None)
        source = named_source(data) if values.get("type") == "bytecode" and data is not None else None
        return Content(values, digests or {}, hits, self._entries(change, before, data, held), diff, source)

    def _lines(self, before: bytes | None, data: bytes) -> dict[str, Value]:
        """The lines of a text of :data:`TEXT` bytes at most; of one with too many of them, what is found in them."""
        added, removed, cut = contents.changed_lines(before, data)
        if not cut:
            texts: dict[str, Value] = {"added_lines": added, "removed_lines": removed}
            if self._searches["content"]:
                texts["content"] = data.decode("utf-8", "surrogateescape")
            self._texts += 1
            if self._texts > FEW and self._verdicts.timings is None:
                for fact, lines in (("added_lines", added), ("removed_lines", removed)):
                    if not lines or self._searches.nothing_in(fact, joined(lines)):
                        texts[fact] = NOTHING
            return texts
        long = LongText(self._searches, Original(before or b""))
        long.feed(data)
        return long.values()

    def _left(self, change: Change, long: LongText) -> None:
        if long.in_pieces and not _same_bytes(change):
            self.unread.add("pieces", change.path)

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

    def _scan(self, path: str, data: bytes, values: dict[str, Value], size: int) -> Sequence[Hit]:
        """``size``: of the whole file, of which ``data`` may be the beginning only."""
        if self._verdicts.yara is None or not data:
            return ()
        scan = self._verdicts.yara.scan(data, self._verdicts.timings)
        said = f"only the first {len(data)} of {size} bytes were scanned" if size > len(data) else ""
        if scan.problem or said:
            self._gaps.append(Gap("yara", path, scan.problem or said))
        values["yara"] = scan.names
        return scan.hits

    def _indicators(
        self, path: str, digests: Mapping[str, str], data: bytes, kind: str, words: Iterable[Match]
    ) -> tuple[str, ...]:
        """``words``: what a text that is longer than :data:`TEXT` holds."""
        lists = self._verdicts.lists
        found = [*lists.of_file(path, digests), *words]
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
        return values, self._scan(name, data[:WHOLE], values, size), {"sha256": digest.hexdigest()}


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


def _text_diff(change: Change, before: bytes | None, data: bytes) -> TextDiff:
    """Of a text that may be longer than ``data``, and of which the image's bytes are not kept where it only grew."""
    was, now = change.before, change.after
    if before is None and was is not None and was.kind == "file":
        before = data[: was.size]
    diff = contents.text_diff(change.path, before, data)
    return replace(diff, truncated=True) if now is not None and now.size > len(data) else diff


def _same_bytes(change: Change) -> bool:
    before, after = change.before, change.after
    return before is not None and after is not None and bool(after.sha256) and before.sha256 == after.sha256


def _words(lists: IocLists, data: bytes) -> dict[Match, None]:
    """The indicators in a part of a text, which may be longer than what is searched at once."""
    found: dict[Match, None] = {}
    for place in range(0, len(data), TEXT - OVERLAP):
        found.update(dict.fromkeys(lists.of_text(data[place : place + TEXT].decode("utf-8", "surrogateescape"))))
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """The first bytes of a file; digests and size of all of it; what searched it, if it is a long text."""

    data: bytes
    digests: Mapping[str, str]
    size: int
    long: LongText | None


def _read(stream: BinaryIO, algorithms: Iterable[str], long: Callable[[bytes], LongText | None]) -> _Seen:
    """``long`` is asked once more than :data:`TEXT` bytes were read, with all of them."""
    made = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    pieces: list[bytes] = []
    size = 0
    text: LongText | None = None
    while block := stream.read(BLOCK):
        for one in made.values():
            one.update(block)
        if size < WHOLE:
            pieces.append(block)
        size += len(block)
        if text is not None:
            text.feed(block)
        elif size > TEXT >= size - len(block) and (text := long(b"".join(pieces))) is not None:
            for piece in pieces:
                text.feed(piece)
    return _Seen(b"".join(pieces)[:WHOLE], {name: one.hexdigest() for name, one in made.items()}, size, text)
