"""Flip, drop, add, swap, truncate, append: each file of a sealed bundle in each way, every single byte of the small
ones, as a folder and as a tar; each is caught, and the file is named.

What no file of the bundle can show by itself, that a chain of custody was cut at its end or taken away, is pinned from
outside, as docs/verify-by-hand.md says: the expected head is given throughout.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irkit.cli.main import run
from irkit.evidence import keys, names
from irkit.evidence.custody import hand_over
from irkit.evidence.keys import PublicKey
from irkit.evidence.timestamp import certificates_from
from irkit.evidence.verify import verify_store
from tests.fakes.bundle import FILES, MemoryStore, make_bundle
from tests.fakes.tsa import Authority

ALL = (*FILES, names.CUSTODY, names.TIMESTAMP)
Alter = Callable[[dict[str, bytes]], None]


class Pinned:
    """A sealed and handed-over bundle, and what is known of it elsewhere: its key, and the head of its chain."""

    def __init__(self, folder: Path, authority: Path) -> None:
        signer = keys.generate("default")
        self.folder = make_bundle(folder, signer)
        hand_over(folder, signer, [], to="Ann", why="analysis")
        self.head = hand_over(folder, signer, [], to="Ben", why="court").digest
        self.key: PublicKey = signer.public
        with Authority(authority).serving() as served:
            assert run(["bundle", "timestamp", str(folder), "--tsa", served.url, "--tsa-cert", str(served.root)]) == 0
            self.tsa = certificates_from(served.root)
        self.whole = MemoryStore.of(folder).files

    def named(self, files: dict[str, bytes]) -> set[str]:
        """The files that ``verify`` names, without a trusted timestamp authority even."""
        found = verify_store(MemoryStore(files), [self.key], self.head)
        assert found.ok == (not found.problems)
        return {problem.file for problem in found.problems}


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinned]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRKIT_HOME", str(tmp_path_factory.mktemp("home")))
        yield Pinned(tmp_path_factory.mktemp("bundle") / "b", tmp_path_factory.mktemp("tsa"))


def test_as_it_is_it_holds(pinned: Pinned) -> None:
    assert set(pinned.whole) == set(ALL)
    assert not pinned.named(pinned.whole)
    assert verify_store(MemoryStore(pinned.whole), [pinned.key], pinned.head, pinned.tsa).stamp.state == "valid"


@pytest.mark.parametrize("name", ALL)
def test_every_byte(pinned: Pinned, name: str) -> None:
    data = pinned.whole[name]
    for place in range(len(data)):
        other = bytearray(data)
        other[place] ^= (0x01, 0x20, 0x80)[place % 3]
        assert name in pinned.named(pinned.whole | {name: bytes(other)}), f"byte {place} of {name}"


@pytest.mark.parametrize("name", ALL)
def test_drop_and_empty(pinned: Pinned, name: str) -> None:
    assert name in pinned.named({one: data for one, data in pinned.whole.items() if one != name})
    assert name in pinned.named(pinned.whole | {name: b""})


@pytest.mark.parametrize("name", ALL)
def test_truncate_at_every_length(pinned: Pinned, name: str) -> None:
    data = pinned.whole[name]
    for length in range(0, len(data), max(1, len(data) // 200)):
        assert name in pinned.named(pinned.whole | {name: data[:length]}), length
    assert name in pinned.named(pinned.whole | {name: data[:-1]})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("more", [b"\n", b" ", b"\0", b"x", b"{}\n"], ids=repr)
def test_append_and_prepend(pinned: Pinned, name: str, more: bytes) -> None:
    for data in (pinned.whole[name] + more, more + pinned.whole[name], pinned.whole[name] * 2):
        assert name in pinned.named(pinned.whole | {name: data})


@pytest.mark.parametrize(
    "name", ["data/a/more", "data/new", "data/a/log", "more.txt", ".x", "seal.tsr.bak", "data/A", "data/a\n"]
)
def test_add_beside(pinned: Pinned, name: str) -> None:
    for data in (b"", b"x", pinned.whole["data/a/raw"]):
        assert name in pinned.named(pinned.whole | {name: data})


@pytest.mark.parametrize("pair", list(itertools.combinations(ALL, 2)), ids="-".join)
def test_swap(pinned: Pinned, pair: tuple[str, str]) -> None:
    one, other = pair
    found = pinned.named(pinned.whole | {one: pinned.whole[other], other: pinned.whole[one]})
    if names.SEAL in pair:
        assert names.SEAL in found  # without the seal nothing else can be judged
    else:
        assert set(pair) <= found


@pytest.mark.parametrize("name", ALL)
def test_rename(pinned: Pinned, name: str) -> None:
    files = {one: data for one, data in pinned.whole.items() if one != name}
    found = pinned.named(files | {name + ".bak": pinned.whole[name]})
    assert name in found and (name == names.SEAL or name + ".bak" in found)


def test_a_file_and_all_its_digests_made_anew(pinned: Pinned) -> None:
    """What somebody does who knows the format but has no key."""
    import hashlib

    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    files = dict(pinned.whole)
    old, files["data/a/raw"] = files["data/a/raw"], b"other"
    files[names.MANIFEST] = files[names.MANIFEST].replace(digest(old).encode(), digest(b"other").encode())
    before = digest(pinned.whole[names.MANIFEST]).encode()
    files[names.TAG_MANIFEST] = files[names.TAG_MANIFEST].replace(before, digest(files[names.MANIFEST]).encode())
    assert {"data/a/raw", names.MANIFEST, names.TAG_MANIFEST} <= pinned.named(files)
