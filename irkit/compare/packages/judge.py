"""What a file is to the packages: intact, upgraded, altered, unknown or unowned; and what became of the packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from irkit.compare.packages.model import ALGORITHMS, Installed, Ownership, PackageChange, PackageState
from irkit.compare.packages.packages import Packages
from irkit.compare.packages.versions import order

HEX = re.compile(r"(?:[0-9a-f]{2}){16,64}")
OWN_WORD = "only the container's own database vouches for it, and whoever was root in the container could write that"
OFFLINE = "the digests that the package really has can't be known offline"
EMPTY = frozenset({
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b",
    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
})  # fmt: skip
"""The digests of nothing: an empty file is no copy of another one."""


def judge(path: str, digests: Mapping[str, str], before: Packages, after: Packages) -> PackageState:
    """What the file at ``path`` of the compared side is to its package.

    ``digests``: ``algorithm → hexadecimal`` of its bytes, at least those that :meth:`Packages.algorithms` of both sides
    names (for a symbolic link of apk: of its text).  The image's database is asked first: it was written before anyone
    was in the container.
    """
    mine = before.owners(path)
    if (match := _match(mine, digests)) is not None:
        return PackageState(
            "intact", match, f"it has the {match.algorithm.upper()} that the image's own database names"
        )
    claims = mine if after is before else after.owners(path)
    moved = _moved_claim(mine, claims, before)
    if moved is None:
        return _unmoved(mine, claims, digests)
    taken = mine[0] if mine and all(one.key != moved.key for one in mine) else None
    return _moved(moved, before.versions(moved.key), taken, digests)


def _moved_claim(mine: tuple[Ownership, ...], claims: tuple[Ownership, ...], before: Packages) -> Ownership | None:
    """The claim of a package that was installed or changed since; the image's owner of the file comes before others.

    Where the image's owner is as it was and still claims the file, nobody else's claim counts: managers let no package
    take a file that another one keeps.
    """
    keys = {one.key for one in mine}
    moved = [one for one in claims if one.version not in before.versions(one.key)]
    if any(one.key in keys and one not in moved for one in claims):
        return None
    return min(moved, key=lambda one: one.key not in keys, default=None)


def _match(owners: tuple[Ownership, ...], digests: Mapping[str, str]) -> Ownership | None:
    return next((one for one in owners if one.digest and digests.get(one.algorithm, "").lower() == one.digest), None)


def _label(owner: Ownership) -> str:
    return f"{owner.package} {owner.version}".strip()


def _moved(claim: Ownership, was: tuple[str, ...], taken: Ownership | None, digests: Mapping[str, str]) -> PackageState:
    """Its package was installed, or got another version, since the image was made; ``taken``: from another package."""
    history = f"{_label(claim)} was {', '.join(was)} in the image" if was else f"{_label(claim)} is not in the image"
    if taken is not None:
        history += f", where the file belongs to {_label(taken)}"
    if _match((claim,), digests) is not None:
        return PackageState("upgraded", claim, f"{history}; {OWN_WORD}: {OFFLINE}", claimed=taken is not None)
    if not claim.digest or claim.algorithm not in digests:
        return PackageState("unknown", claim, f"{history}; {_nothing(claim)}", claimed=taken is not None)
    return PackageState("altered", claim, f"{history}; it does not even match the container's own database")


def _unmoved(mine: tuple[Ownership, ...], claims: tuple[Ownership, ...], digests: Mapping[str, str]) -> PackageState:
    """Its package is as it was, or gone, or there is none."""
    vouched = _match(claims, digests)
    if not mine:
        if not claims:
            return PackageState("unowned", None, "no package database names it")
        detail = f"the container's database claims it for {_label(claims[0])}, the image's database of the same version does not"
        return PackageState("unowned", claims[0], detail, claimed=claims[0].manager != "npm")
    owner = mine[0]
    if not owner.digest or owner.algorithm not in digests:
        return PackageState("unknown", owner, _nothing(owner))
    detail = f"it does not have the {owner.algorithm.upper()} that the image's database names for {_label(owner)}"
    if owner.conffile:
        detail += "; it is a configuration file, which administrators change"
    if vouched is not None:
        detail += "; the container's database was rewritten to vouch for it"
    return PackageState("altered", owner, detail, claimed=vouched is not None)


def _nothing(owner: Ownership) -> str:
    if owner.digest:
        return f"no {owner.algorithm.upper()} of the file was given"
    if owner.manager == "npm":
        return "it lies in the package's folder; npm keeps no digests, and no list of files"
    return f"the database of {owner.manager} holds no digest of it"


def find_copy(digests: Mapping[str, str], before: Packages) -> str | None:
    """A path in the image whose package gave it just these bytes; of several the shortest, then the first by name.

    ``digests`` needs those of :attr:`Packages.copy_algorithms`.  An empty file is a copy of nothing.
    """
    found = (
        one.path
        for algorithm, digest in digests.items()
        if algorithm in ALGORITHMS and HEX.fullmatch(digest.lower()) and digest.lower() not in EMPTY
        for one in before.copies(algorithm, digest.lower())
    )
    return min(found, key=lambda path: (len(path), path), default=None)


def compare_packages(before: Packages, after: Packages) -> list[PackageChange]:
    """What was installed, removed, or got another version or another entry since the image was made; sorted."""
    if before is after:
        return []
    was, now = _by_key(before), _by_key(after)
    found = [change for key in {*was, *now} for change in _changes(was.get(key, []), now.get(key, []), before, after)]
    return sorted(found, key=lambda one: (one.manager, one.name, one.architecture, one.folder, one.version, one.before))


def _by_key(packages: Packages) -> dict[tuple[str, str, str, str], list[Installed]]:
    found: dict[tuple[str, str, str, str], list[Installed]] = {}
    for one in packages.installed:
        found.setdefault(one.key, []).append(one)
    return found


def _changes(was: list[Installed], now: list[Installed], before: Packages, after: Packages) -> Iterator[PackageChange]:
    old = {one.version: one for one in was}
    new = {one.version: one for one in now}
    gone, come = ([one[version] for version in one if version not in other] for one, other in ((old, new), (new, old)))
    if len(gone) == len(come) == 1:
        sign = order(come[0].manager, come[0].version, gone[0].version)
        word = {1: "upgraded", -1: "downgraded"}.get(sign or 0, "changed")
        yield _change(word, come[0], come[0].version, gone[0].version)
    else:
        yield from (_change("removed", one, "", one.version) for one in gone)
        yield from (_change("installed", one, one.version, "") for one in come)
    for version in old.keys() & new.keys():
        if before.mark(old[version]) != after.mark(new[version]):
            yield _change("reinstalled", new[version], version, version)


def _change(word: str, one: Installed, version: str, before: str) -> PackageChange:
    return PackageChange(word, one.manager, one.name, version, before, one.architecture, one.folder)
