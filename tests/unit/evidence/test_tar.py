"""A bundle as a tar file: one form only, read where it lies; whatever else a tar can say is refused and named."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import bagit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.cli.main import run
from irkit.errors import CheckFailed, UsageProblem
from irkit.evidence import keys, tar
from irkit.evidence.custody import hand_over
from irkit.evidence.keys import PublicKey, Signer
from irkit.evidence.reader import BundleReader
from irkit.evidence.store import FolderStore
from irkit.evidence.tar import BLOCK, RECORD, TarStore, header, unpack, write_tar
from irkit.evidence.verify import verify_bundle
from tests.fakes.bundle import FILES, make_bundle


@pytest.fixture
def signer() -> Signer:
    return keys.generate("default")


@pytest.fixture
def folder(tmp_path: Path, signer: Signer) -> Path:
    return make_bundle(tmp_path / "b", signer)


def digest(folder: Path, signer: Signer) -> str:
    return verify_bundle(folder, [signer.public]).digest.removeprefix("sha256:")


@pytest.fixture
def packed(folder: Path, signer: Signer, tmp_path: Path) -> Path:
    write_tar(FolderStore(folder), tmp_path / "b.tar", digest(folder, signer))
    return tmp_path / "b.tar"


def named(path: Path, signer: Signer) -> set[str]:
    return {problem.file for problem in verify_bundle(path, [signer.public]).problems}


def test_it_holds_and_is_the_same_file_each_time(packed: Path, folder: Path, signer: Signer, tmp_path: Path) -> None:
    found = verify_bundle(packed, [signer.public])
    assert found.ok and found.digest == "sha256:" + digest(folder, signer), found.problems
    write_tar(TarStore(packed), tmp_path / "again.tar", digest(folder, signer))
    assert (tmp_path / "again.tar").read_bytes() == packed.read_bytes()
    assert packed.stat().st_size % RECORD == 0 and packed.stat().st_mode & 0o777 == 0o600


def test_other_tools_read_it(packed: Path, tmp_path: Path) -> None:
    listed = subprocess.run(["tar", "-tf", packed], capture_output=True, text=True, check=True)
    assert not listed.stderr and len(listed.stdout.splitlines()) == len(FILES) + 3
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", packed, "-C", tmp_path / "out"], check=True, capture_output=True)
    (inner,) = (tmp_path / "out").iterdir()
    bagit.Bag(str(inner)).validate()
    with tarfile.open(packed) as archive:
        assert [one.name.partition("/")[2] for one in archive if one.isfile()] == sorted(FILES, key=tar.order)


def test_what_is_in_it_is_read_where_it_lies(packed: Path) -> None:
    reader = BundleReader(packed)
    assert b"".join(reader.stream("a/log")) == b"line\n" * 9 and reader.json("list.json") == [1]


@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "no-filter"])  # Python 3.11.2 has none
def test_unpack_gives_the_folder_back(
    packed: Path, folder: Path, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filtered: bool
) -> None:
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    unpack(packed, digest(folder, signer), tmp_path / "out")
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o600
    assert verify_bundle(tmp_path / "out", [signer.public]).ok
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".")) == []
    with pytest.raises(CheckFailed, match="not named by the bundle's digest"):
        unpack(packed, "0" * 64, tmp_path / "other")


def test_a_hand_over_of_a_tar(packed: Path, signer: Signer) -> None:
    first = hand_over(packed, signer, [], to="Ann", why="court")
    head = hand_over(packed, signer, [], to="Ben", why="court").digest
    found = verify_bundle(packed, [signer.public], head)
    assert first.seq == 1 and found.ok and found.hand_overs == 2


@pytest.mark.thorough
def test_every_byte(packed: Path, signer: Signer, tmp_path: Path) -> None:
    """Headers, names, padding, end: there is no byte of the file that could be another one."""
    whole = packed.read_bytes()
    altered = tmp_path / "altered.tar"
    for place in [*range(0, 6 * BLOCK, 5), *range(6 * BLOCK, len(whole), 23), len(whole) - 1]:
        other = bytearray(whole)
        other[place] ^= (0x01, 0x20, 0x80)[place % 3]
        altered.write_bytes(other)
        try:
            assert named(altered, signer), place
        except UsageProblem:
            assert place < BLOCK, "what is no tar at all any more"


@pytest.mark.parametrize("name", FILES)
def test_a_member_whose_header_or_bytes_are_altered_is_named(packed: Path, signer: Signer, name: str) -> None:
    start, _ = TarStore(packed)._places[name]
    for place, mask in ((start, 1), (start - BLOCK + 100, 1), (start - BLOCK + 156, 2), (start - BLOCK + 1, 1)):
        data = bytearray(packed.read_bytes())
        data[place] ^= mask
        copy = packed.with_name("copy.tar")
        copy.write_bytes(data)
        assert name in named(copy, signer)


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 1024, 10239, 10240, 12000])
def test_cut_off(packed: Path, signer: Signer, cut: int) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data[: len(data) - 1 - cut])
    assert named(packed, signer)


@pytest.mark.parametrize("more", [b"x", b"\0", b"\0" * BLOCK, b"\0" * RECORD, b"x" * RECORD])
def test_trailing_data(packed: Path, signer: Signer, more: bytes) -> None:
    packed.write_bytes(packed.read_bytes() + more)
    assert named(packed, signer) == {packed.name}


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", **fields: object) -> bytes:
    """One member as some other program would write it."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    info.mode, info.mtime = 0o700 if kind == tarfile.DIRTYPE else 0o600, tar.MTIME
    for field, value in fields.items():
        setattr(info, field, value)
    form = tarfile.PAX_FORMAT if info.pax_headers else tarfile.GNU_FORMAT
    return info.tobuf(form) + data + b"\0" * (-len(data) % BLOCK)


HOSTILE: dict[str, Callable[[str], bytes]] = {
    "symlink": lambda top: member(f"{top}/data/zz", tarfile.SYMTYPE, link="/etc/shadow"),
    "symlink within": lambda top: member(f"{top}/data/zz", tarfile.SYMTYPE, link="."),
    "symlink for a folder": lambda top: member(f"{top}/data/z", tarfile.SYMTYPE, link="..") + member(f"{top}/data/z/x", data=b"x"),
    "hardlink": lambda top: member(f"{top}/data/zz", tarfile.LNKTYPE, link=f"{top}/bagit.txt"),
    "device": lambda top: member(f"{top}/data/zz", tarfile.CHRTYPE, devmajor=1, devminor=5),
    "block device": lambda top: member(f"{top}/data/zz", tarfile.BLKTYPE, devmajor=8),
    "fifo": lambda top: member(f"{top}/data/zz", tarfile.FIFOTYPE),
    "dots": lambda top: member(f"{top}/data/../../zz", data=b"x"),
    "dots beside": lambda _: member("../zz", data=b"x"),
    "absolute": lambda _: member("/tmp/irkit-zz", data=b"x"),
    "another folder": lambda _: member("other/zz", data=b"x"),
    "top level": lambda top: member(f"{top}/zz", data=b"x"),
    "no slash": lambda _: member("zz", data=b"x"),
    "upper case": lambda top: member(f"{top}/data/ZZ", data=b"x"),
    "newline": lambda top: member(f"{top}/data/z\nz", data=b"x"),
    "escape": lambda top: member(f"{top}/data/z\x1b[2J", data=b"x"),
    "not utf-8": lambda top: member(f"{top}/data/z\udcff", data=b"x"),
    "twice": lambda top: member(f"{top}/data/list.json", data=b"[2]\n"),
    "a folder twice": lambda top: member(f"{top}/data", tarfile.DIRTYPE),
    "the top folder twice": lambda top: member(top, tarfile.DIRTYPE),
    "out of order": lambda top: member(f"{top}/data/a/zz", data=b"x"),
    "without its folder": lambda top: member(f"{top}/data/new/zz", data=b"x"),
    "huge": lambda top: member(f"{top}/data/zz", size=1 << 62),
    "negative": lambda top: header(f"{top}/data/zz", 0)[:124] + b"\xff" * 12 + header(f"{top}/data/zz", 0)[136:],
    "sparse": lambda top: member(f"{top}/data/zz", tarfile.GNUTYPE_SPARSE, data=b"x"),
    "contiguous": lambda top: member(f"{top}/data/zz", tarfile.CONTTYPE, data=b"x"),
    "old regular": lambda top: member(f"{top}/data/zz", tarfile.AREGTYPE, data=b"x"),
    "multi-volume": lambda top: member(f"{top}/data/zz", b"M", data=b"x"),
    "pax name": lambda top: member(f"{top}/data/zz", data=b"x", pax_headers={"path": "/etc/irkit-zz"}),
    "pax size": lambda top: member(f"{top}/data/zz", data=b"x", pax_headers={"size": "999999999999"}),
    "pax sparse": lambda top: member(f"{top}/data/zz", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "9" * 15}),
    "pax global": lambda top: tarfile.TarInfo.create_pax_global_header({"path": f"{top}/data/zz"}) + member(f"{top}/data/zz"),
    "long name for a short one": lambda top: member("././@LongLink", b"L", data=b"x\0") + member(f"{top}/data/zz"),
    "long link": lambda top: member("././@LongLink", b"K", data=b"/etc/shadow\0") + member(f"{top}/data/zz", tarfile.SYMTYPE),
    "a folder with bytes": lambda top: member(f"{top}/data/zz", tarfile.DIRTYPE, data=b"hidden", size=6),
    "owned by root's name": lambda top: member(f"{top}/data/zz", data=b"x", uname="root"),
    "set-uid": lambda top: member(f"{top}/data/zz", data=b"x", mode=0o4755),
    "a hidden byte in the padding": lambda top: member(f"{top}/data/zz", data=b"x")[:-1] + b"y",
    "after the end": lambda top: b"\0" * (2 * BLOCK) + member(f"{top}/data/zz", data=b"x"),
    "an added file, well formed": lambda top: member(f"{top}/data/zz", data=b"x"),
    "an added folder, well formed": lambda top: member(f"{top}/data/zz", tarfile.DIRTYPE),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("trick", HOSTILE)
def test_hostile_members(
    packed: Path, signer: Signer, trick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = TarStore(packed)
    end = max(start + size + (-size % BLOCK) for start, size in store._places.values())
    data = packed.read_bytes()[:end] + HOSTILE[trick](store._top)
    data += b"\0" * (2 * BLOCK)
    packed.write_bytes(data + b"\0" * (-len(data) % RECORD))
    found = verify_bundle(packed, [signer.public])
    assert not found.ok and len(found.problems) < 4
    before = set(tmp_path.rglob("*"))
    assert run(["bundle", "extract", str(packed), "--whole", "-o", str(tmp_path / "out")]) == 3
    assert run(["bundle", "extract", str(packed), "-o", str(tmp_path / "out")]) == 3
    assert set(tmp_path.rglob("*")) == before
    assert "\x1b" not in capsys.readouterr().err
    if "added" not in trick:  # an added one is seen by verify; unpack believes that verify has been asked
        with pytest.raises(CheckFailed):
            unpack(packed, store._top.removeprefix("irkit-"), tmp_path / "out")


def test_members_swapped(packed: Path, signer: Signer) -> None:
    store = TarStore(packed)
    (one, size), (other, _) = store._places["data/list.json"], store._places["data/a/raw"]
    data = bytearray(packed.read_bytes())
    data[one : one + BLOCK], data[other : other + BLOCK] = data[other : other + BLOCK], data[one : one + BLOCK]
    packed.write_bytes(data)
    assert {"data/list.json", "data/a/raw"} <= named(packed, signer) and size < BLOCK


def test_long_names_and_large_sizes_have_one_form_too() -> None:
    for name, size in (
        ("irkit-0/data/" + "x" * 120, 5),
        ("irkit-0/data/big", 9 << 30),
        ("irkit-0/data/" + "y" * 180, 1 << 40),
    ):
        with tarfile.open(fileobj=io.BytesIO(header(name, 0) + b"\0" * 1024)) as archive:
            assert archive.getnames() == [name]
        assert tarfile.TarInfo.frombuf(header(name, size)[-BLOCK:], "ascii", "strict").size == size


def test_a_bundle_with_a_long_name(signer: Signer, tmp_path: Path) -> None:
    from irkit.evidence.seal import seal_bundle
    from irkit.evidence.writer import BundleWriter
    from tests.fakes.bundle import FACTS, ORIGIN

    writer = BundleWriter(tmp_path / "b")
    writer.add("f" * 120 + "/" + "x" * 60, (b"1",), ORIGIN, compress=False)
    seal_bundle(writer, FACTS, "complete", signer)
    write_tar(FolderStore(tmp_path / "b"), tmp_path / "b.tar", digest(tmp_path / "b", signer))
    assert verify_bundle(tmp_path / "b.tar", [signer.public]).ok


@given(st.binary(max_size=3 * BLOCK), st.integers(0, 4 * BLOCK))
@settings(deadline=None, max_examples=60)
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.tar"
    whole = header("irkit-0123456789abcdef/", 0) + header("irkit-0123456789abcdef/bagit.txt", 3) + b"abc"
    path.write_bytes(whole[:place] + data + whole[place + len(data) :])
    try:
        assert not verify_bundle(path, list[PublicKey]()).ok
    except UsageProblem:
        assert path.read_bytes()[257:262] != b"ustar"


def test_no_tar(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"hello")
    assert run(["bundle", "verify", str(tmp_path / "x.tar")]) == 2
    assert run(["bundle", "verify", str(tmp_path / "none.tar")]) == 2


def test_the_commands_read_it(packed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["verify"], ["list"], ["custody", "add", "--to", "Ann", "--why", "court"], ["custody", "show"]):
        head, *rest = words if words[0] != "custody" else [f"custody {words[1]}", *words[2:]]
        assert run(["bundle", *head.split(), str(packed), *rest]) == 0, words
    assert run(["bundle", "cat", str(packed), "a/log"]) == 0
    assert "line\nline" in capfd.readouterr().out
    assert run(["bundle", "extract", str(packed), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["artifacts"] == ["a/log", "a/raw", "list.json"]
    assert run(["report", str(packed), "-o", str(packed)]) == 2
    assert run(["report", str(packed), "-o", str(tmp_path / "page.html")]) == 0
