"""Noise: changes that say nothing by themselves, folded into named groups and counted, never dropped (docs/rules.md).

A group's conditions alone fold nothing that could matter.  What may be folded is decided here, by what the thing *is*:

- nothing that has a finding, a YARA hit or an indicator, and no copy of a program of the image;
- no setuid or setgid file, no file capability, no device node: no group can allow that;
- no symbolic link, FIFO or socket, no executable, ELF file, script, archive, hidden name or opaque folder, unless the group says so in ``also``;
- bytecode only where its source is unchanged, or where its package vouches for it;
- no file whose bytes nobody has looked at: a group is not told by a name alone;
- a mount only where the kernel's table shows one (the fact ``mount``): a path proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from irkit import document_cache, documents, resources
from irkit.compare.conditions import Test, Where, read_where
from irkit.compare.rule_index import Index
from irkit.compare.vocabulary import Value
from irkit.documents import Doc, Place, closest

FOLDER = "forensics/noise"
ALSO = ("symlink", "fifo", "socket", "executable", "elf", "script", "archive", "hidden", "opaque", "unread")
"""What a group may fold beyond plain files and folders."""
_PROGRAMS = frozenset({"elf", "script", "pe", "mach-o"})
_MODES = 0o6000


@dataclass(frozen=True, slots=True)
class Group:
    """One kind of noise."""

    id: str
    title: str
    where: Where
    also: frozenset[str]
    place: Place


@dataclass(slots=True)
class Tally:
    """How many changes were folded, by group: always shown."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, group: Group) -> None:
        """One more."""
        self.counts[group.id] = self.counts.get(group.id, 0) + 1


class Noise:
    """Groups, ready for many changes.  Of two groups with one id the first counts: a user's own stand first."""

    def __init__(self, groups: Iterable[Group]) -> None:
        by_id: dict[str, Group] = {}
        for group in groups:
            by_id.setdefault(group.id, group)
        self.groups = tuple(by_id.values())
        self._tests: tuple[Test, ...] = tuple(group.where.test() for group in self.groups)
        self._index = Index((number, group.where) for number, group in enumerate(self.groups))

    def fold(self, values: Mapping[str, Value], finding: bool = False) -> Group | None:
        """The group of a change by its facts (``on: change``); ``None``: it is shown.  ``finding``: whether it has one."""
        if finding:
            return None
        for number in self._index.candidates(values):
            group = self.groups[number]
            if self._tests[number](values) and not objection(values, group.also):
                return group
        return None


def objection(values: Mapping[str, Value], also: frozenset[str] = frozenset()) -> str:
    """Why a change can't be folded, whatever its path; "" when it can."""
    if any(values.get(name) for name in ("yara", "ioc", "copy_of")):
        return "it fits a rule or an indicator, or copies a program"
    mode = values.get("mode")
    if values.get("setuid") or values.get("setgid") or values.get("capabilities") or values.get("capabilities_changed"):
        return "it gives rights to whoever starts it"
    kind = values.get("kind")
    if kind == "file" and isinstance(mode, int) and mode & _MODES:
        return "it gives rights to whoever starts it"
    if kind not in ("file", "directory") and kind not in also:
        return f"it is no plain file or folder, but {kind or 'unknown'}"
    for name in ("hidden", "opaque", "executable"):
        if values.get(name) and name not in also:
            return f"it is {name}"
    return _of_content(values, also) if kind == "file" and values.get("change") != "deleted" else ""


def _of_content(values: Mapping[str, Value], also: frozenset[str]) -> str:
    what, size = values.get("type"), values.get("size")
    if what is None:
        return "" if size == 0 or "unread" in also else "nobody has looked at its bytes"
    if what == "bytecode":
        vouched = values.get("source_unchanged") or (
            values.get("package_state") in ("intact", "upgraded") and not values.get("package_claimed")
        )
        return "" if vouched else "it is bytecode, and nothing vouches for its source"
    name = what if what in ("elf", "script", "archive") else "elf" if what in _PROGRAMS else ""
    return f"it is {what}" if name and name not in also else ""


def load_noise() -> Noise:
    """The shipped groups, and a user's own in front of them: kept as the rules are.  Raises ``PlaybookInvalid``."""
    return _noise_of_files(tuple(documents.stamp(path) for path in resources.every(FOLDER)))


@lru_cache(maxsize=1)
def _noise_of_files(files: tuple[documents.Stamp, ...]) -> Noise:
    return Noise(group for path, *_ in files for group in read_noise(Path(path)))


def read_noise(path: Path) -> Iterator[Group]:
    """The groups of one file."""
    shipped = path.parent == resources.shipped(FOLDER)
    yield from noise_of(document_cache.load(path) if shipped else documents.load(path)[0], checked=shipped)


def noise_of(doc: Doc, *, checked: bool = False) -> Iterator[Group]:
    """The groups of a document.  ``checked``: a test has compiled its patterns."""
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("Noise",))
    doc.text("description", "")
    groups = doc.items("groups").docs()
    doc.done()
    for item in groups:
        also = item.texts("also", None) if "also" in item.values else ()
        for word in also:
            if word not in ALSO:
                raise item.places["also"].error(f"no group can fold {word!r}", closest(word, ALSO))
        group = Group(
            item.text("id"),
            item.text("title"),
            read_where(item.mapping("where"), "change", checked=checked),
            frozenset(also),
            item.place,
        )
        item.done()
        yield group
