"""Which package owns a changed file, and whether it still is what the package brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from irkit.compare.contents import Content, source_of
from irkit.compare.evidence import Evidence
from irkit.compare.packages import (
    PackageChange,
    Packages,
    compare_packages,
    find_copy,
    is_database,
    judge,
    read_packages,
)
from irkit.compare.vocabulary import Value
from irkit.models import Change, Gap

MASK = 0xFFFFFFFF


@dataclass(slots=True)
class Ownership:
    """The package databases of a side: the image's own, and what the container made of them."""

    side: Evidence
    before: Packages
    after: Packages
    touched: bool = field(default=False)

    @classmethod
    def of(cls, side: Evidence) -> Ownership:
        """Read both, the second one only where a database was changed."""
        before = read_packages(side.before)
        seen = side.inventory
        if not any(is_database(path) for path in (*seen.paths, *seen.gone)):
            return cls(side, before, before)
        return cls(side, before, read_packages(side.after(lambda path: is_database(path) is not None)), touched=True)

    def algorithms(self, change: Change) -> frozenset[str]:
        """Which digests of a file are needed to judge it, besides its sha256."""
        if change.kind != "file":
            return frozenset()
        if change.origin != "layer":
            return self.before.copy_algorithms
        found = self.before.algorithms(change.path)
        if self.touched:
            found |= self.after.algorithms(change.path)
        return found | self.before.copy_algorithms if _may_copy(change) else found

    def judge(self, change: Change, content: Content) -> Mapping[str, Value]:
        """The package facts of a change: ``package``, ``package_state``, ``conffile``, ``copy_of``, ``source_unchanged``."""
        after = change.after
        if change.kind != "file":
            return {}
        if change.origin != "layer":
            return self._copied(change, content) if self.before.managers else {}
        found: dict[str, Value] = {}
        if content.values.get("type") == "bytecode" and (source := source_of(change.path)):
            found["source_unchanged"] = self._source_unchanged(source, change, content)
        if not self.before.managers:
            return found
        owner = self.before.owner(change.path) or (self.after.owner(change.path) if self.touched else None)
        if owner is not None:
            found["package"], found["conffile"] = owner.package, owner.conffile
        if after is None or not after.sha256:
            return found
        state = judge(change.path, {"sha256": after.sha256, **content.digests}, self.before, self.after)
        found["package_state"], found["package_claimed"] = state.state, state.claimed
        # Who can write the container's database can make up a package: one that the image does not have proves nothing.
        made_up = owner is not None and not self.before.versions(owner.key)
        if (state.state == "unowned" or made_up) and _may_copy(change):
            found.update(self._copied(change, content))
        return found

    def _source_unchanged(self, source: str, change: Change, content: Content) -> bool:
        """Whether bytecode belongs to a source that is the image's: a package's, or one whose size and time it names.

        Without a package, only what is new: where the image had bytecode already, nothing compiles it again.
        """
        seen = self.side.inventory
        if source in seen.paths or seen.hidden(source):
            return False
        if self.before.owner(source) is not None:
            return True
        known = self.side.sources.get(source)
        return change.before is None and known is not None and content.source == (known[0] & MASK, known[1] & MASK)

    def _copied(self, change: Change, content: Content) -> dict[str, Value]:
        after = change.after
        if after is None or not after.size or not content.digests:
            return {}
        copy = find_copy({"sha256": after.sha256, **content.digests}, self.before)
        return {} if copy is None else {"copy_of": copy}

    def changes(self) -> list[PackageChange]:
        """What was installed, removed, upgraded or downgraded since the image was made."""
        return compare_packages(self.before, self.after) if self.touched else []

    def gaps(self) -> Iterator[Gap]:
        """What of the databases could not be read."""
        yield from dict.fromkeys((*self.before.problems, *(self.after.problems if self.touched else ())))


def _may_copy(change: Change) -> bool:
    """Whether its bytes were not there in the image, so that they may be another file's."""
    before, after = change.before, change.after
    return before is None or before.kind != "file" or (after is not None and before.sha256 != after.sha256)
