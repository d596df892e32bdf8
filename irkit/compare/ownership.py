"""Which package owns a changed file, and whether it still is what the package brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from irkit.compare.contents import Content
from irkit.compare.describe import Value
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
from irkit.models import Change, Gap


@dataclass(slots=True)
class Ownership:
    """The package databases of a side: the image's own, and what the container made of them."""

    before: Packages
    after: Packages
    touched: bool = field(default=False)

    @classmethod
    def of(cls, side: Evidence) -> Ownership:
        """Read both, the second one only where a database was changed."""
        before = read_packages(side.before)
        seen = side.inventory
        if not any(is_database(path) for path in (*seen.paths, *seen.gone)):
            return cls(before, before)
        return cls(before, read_packages(side.after(lambda path: is_database(path) is not None)), touched=True)

    def algorithms(self, path: str) -> tuple[str, ...]:
        """Which digests of a file are needed to judge it, besides its sha256."""
        return tuple({*self.before.algorithms(path), *self.after.algorithms(path)})

    def judge(self, change: Change, content: Content) -> Mapping[str, Value]:
        """The package facts of a change: ``package``, ``package_state``, ``conffile``, ``copy_of``."""
        after = change.after
        if change.origin != "layer" or (after or change.before) is None:
            return {}
        found: dict[str, Value] = {}
        if (owner := self.after.owner(change.path) or self.before.owner(change.path)) is not None:
            found["package"], found["conffile"] = owner.package, owner.conffile
        if after is None or after.kind != "file" or not after.sha256:
            return found
        digests = {"sha256": after.sha256, **content.digests}
        found["package_state"] = judge(change.path, digests, self.before, self.after).state
        if change.before is None and after.size and (copy := find_copy(digests, self.before)) is not None:
            found["copy_of"] = copy
        return found

    def changes(self) -> list[PackageChange]:
        """What was installed, removed, upgraded or downgraded since the image was made."""
        return compare_packages(self.before, self.after) if self.touched else []

    def gaps(self) -> Iterator[Gap]:
        """What of the databases could not be read."""
        seen: set[tuple[str, str]] = set()
        for one in (*self.before.problems, *self.after.problems):
            if (one.what, one.why) not in seen:
                seen.add((one.what, one.why))
                yield Gap("packages", one.what, one.why)
