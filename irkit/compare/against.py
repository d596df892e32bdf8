"""One side against another: each known by what it changed of its own image, or as a whole tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from irkit.models import Change, FileFacts

Tree = Mapping[str, FileFacts]
"""Every path of a file system and what is known of it."""


def differ(before: FileFacts, after: FileFacts) -> bool:
    """Whether anything but bookkeeping differs: a folder's times, sizes and link counts follow its contents.

    Attributes are held against each other only where both sides could know them.
    """
    if before.kind != after.kind or before.mode != after.mode or (before.uid, before.gid) != (after.uid, after.gid):
        return True
    if before.target != after.target or before.rdev != after.rdev or dict(before.xattrs) != dict(after.xattrs):
        return True
    if before.kind == "directory":
        return False
    if before.kind == "file" and (before.size != after.size or _digests_differ(before, after)):
        return True
    return before.mtime_ns // 1_000_000_000 != after.mtime_ns // 1_000_000_000


def _digests_differ(before: FileFacts, after: FileFacts) -> bool:
    return bool(before.sha256 and after.sha256) and before.sha256 != after.sha256


class Reference:
    """What another side, of the same image, changed: held in memory, by path and origin."""

    def __init__(self, changes: Iterator[Change]) -> None:
        self._known = {(one.origin, one.path): one for one in changes}

    def against(self, change: Change) -> Change | None:
        """A change of ours, seen from the other side; ``None`` when the other has the same."""
        other = self._known.pop((change.origin, change.path), None)
        if other is None:
            return change
        return between(change.path, other.after, change.after, change)

    def rest(self) -> Iterator[Change]:
        """What only the other side changed: as it is here again, which is as the image has it."""
        for other in self._known.values():
            found = between(other.path, other.after, other.before, other)
            if found is not None:
                yield replace(found, moved_from="", opaque=False)
        self._known = {}


def between(path: str, before: FileFacts | None, after: FileFacts | None, like: Change) -> Change | None:
    """The difference of one path between two sides."""
    if before is None and after is None:
        return None
    if before is None or after is None:
        return replace(like, path=path, change="added" if before is None else "deleted", before=before, after=after)
    return replace(like, path=path, change="changed", before=before, after=after) if differ(before, after) else None


def tree_changes(before: Tree, after: Tree) -> Iterator[Change]:
    """Every difference of two trees, by path, parents first."""
    for path in sorted({*before, *after}, key=lambda one: one.split("/")):
        found = between(path, before.get(path), after.get(path), Change(path, "changed", None, None))
        if found is not None:
            yield found


def changed_tree(tree: Tree, changes: Iterator[Change]) -> dict[str, FileFacts]:
    """An image's tree with what a container changed of it on disk: what was deleted takes what lay in it along."""
    found = dict(tree)
    gone: list[str] = []
    for change in changes:
        if change.origin != "layer":
            continue
        if change.after is None:
            found.pop(change.path, None)
            gone.append(change.path + "/")
        else:
            if change.after.kind != "directory" and change.before is not None and change.before.kind == "directory":
                gone.append(change.path + "/")
            found[change.path] = change.after
    if gone:
        new = {change for change in found if change not in tree or found[change] is not tree[change]}
        beneath = tuple(gone)
        found = {path: facts for path, facts in found.items() if path in new or not path.startswith(beneath)}
    return found
