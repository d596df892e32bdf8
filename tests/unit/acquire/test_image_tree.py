"""An image's tree from archives that are made by hand: layers over layers, however they are compressed."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from irkit.acquire.image_tree import read_tree
from irkit.errors import EvidenceAltered
from tests.unit.compare.sides import tar_of


def saved(*layers: bytes, links: dict[str, str] | None = None) -> io.BytesIO:
    """As `docker save` writes it."""
    files: dict[str, bytes | str | None] = {f"{number}/layer.tar": data for number, data in enumerate(layers)}
    files |= links or {}
    names = [f"{number}/layer.tar" for number in range(len(layers))] + list(links or {})
    return io.BytesIO(tar_of({**files, "manifest.json": json.dumps([{"Layers": names}]).encode()}))


def paths(*layers: bytes) -> set[str]:
    return set(read_tree(saved(*layers), "i"))


LOWER = tar_of({"a": None, "a/one": b"1", "a/two": b"2", "a/sub": None, "a/sub/deep": b"d", "top": b"t"})


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        ({"a/.wh.one": b""}, {"/a", "/a/two", "/a/sub", "/a/sub/deep", "/top"}),
        ({"a/.wh.sub": b""}, {"/a", "/a/one", "/a/two", "/top"}),
        ({"a/.wh..wh..opq": b"", "a/new": b"n"}, {"/a", "/a/new", "/top"}),
        ({"a/new": b"n", "a/.wh..wh..opq": b""}, {"/a", "/a/new", "/top"}),
        ({".wh.a": b"", "a": None, "a/two": b"again"}, {"/a", "/a/two", "/top"}),
        ({"a/two": b"again", ".wh.a": b""}, {"/a/two", "/top"}),
        ({"a/one": b"again", "a/.wh.one": b""}, {"/a", "/a/one", "/a/two", "/a/sub", "/a/sub/deep", "/top"}),
        ({".wh..wh..opq": b"", "x": b"x"}, {"/x"}),
        ({"a": b"a file now"}, {"/a", "/top"}),
        ({".wh.to": b""}, {"/a", "/a/one", "/a/two", "/a/sub", "/a/sub/deep", "/top"}),
    ],
)
def test_layers_as_the_image_spec_says(upper: dict[str, bytes | None], expected: set[str]) -> None:
    """Whiteouts and opaque folders hide what lies below them, never what is in their own layer, in whichever order."""
    assert paths(LOWER, tar_of(upper)) == expected


def test_the_upper_layer_s_facts_hold() -> None:
    tree = read_tree(saved(LOWER, tar_of({"top": b"other", "link": "top", "hard": "=a/one"})), "i")
    assert tree["/top"].size == 5 and tree["/link"].target == "top"
    assert (tree["/hard"].sha256, tree["/hard"].nlink) == (tree["/a/one"].sha256, 2)


def test_a_shared_layer_is_a_link() -> None:
    """Docker 20.10 writes it once; a link that leads nowhere, or round, is no image."""
    assert set(read_tree(saved(LOWER, links={"x/layer.tar": "../0/layer.tar"}), "i")) == paths(LOWER)
    for target in ("layer.tar", "../gone"):
        with pytest.raises(EvidenceAltered):
            read_tree(saved(LOWER, links={"x/layer.tar": target}), "i")


def frames(data: bytes, pack: Callable[[bytes], bytes]) -> bytes:
    return b"".join(pack(data[at : at + 700]) for at in range(0, len(data), 700))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_layers(pack: Callable[[bytes], bytes]) -> None:
    """In one piece, and in many (eStargz, zstd:chunked); what is cut is not taken for all."""
    assert paths(pack(LOWER)) == paths(frames(LOWER, pack)) == paths(LOWER)
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
    if pack is not gzip.compress:
        assert paths(pack(LOWER) + skipped) == paths(LOWER)
    for cut in (pack(LOWER)[:-20], frames(LOWER, pack)[:-20], pack(LOWER)[:40]):
        with pytest.raises(EvidenceAltered):
            paths(cut)
    with pytest.raises(EvidenceAltered):
        paths(gzip.compress(LOWER) + b"no gzip")


@pytest.mark.thorough
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_costs_no_memory(pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(tar_of({"zeros": bytes(16 << 20)}))
    assert len(bomb) < 1 << 20
    archive = saved(bomb)
    tracemalloc.start()
    assert read_tree(archive, "i")["/zeros"].size == 16 << 20
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "files",
    [
        {}, {"manifest.json": b""}, {"manifest.json": b"[]"}, {"manifest.json": b'[{"Layers": ["gone"]}]'}, {"manifest.json": b'[{"Layers": 3}]'},
        {"manifest.json": b"[" * 100_000}, {"manifest.json": b'[{"Layers": ["d"]}]', "d": None},
        {"manifest.json": b'[{"Layers": ["l"]}]', "l": b"x" * 2000}, {"manifest.json": json.dumps([{"Layers": ["l"] * 1025}]).encode(), "l": LOWER},
    ],
)  # fmt: skip
def test_what_is_no_image(files: dict[str, bytes | str | None]) -> None:
    with pytest.raises(EvidenceAltered):
        read_tree(io.BytesIO(tar_of(files)), "i")


def test_what_is_no_archive() -> None:
    for data in (b"", b"x" * 600, saved(LOWER).getvalue()[:1024]):
        with pytest.raises(EvidenceAltered):
            read_tree(io.BytesIO(data), "i")


def test_names_stay_bytes() -> None:
    """A name that is no UTF-8 comes out as it went in."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        tar.addfile(tarfile.TarInfo("bad\udcff"))
    assert paths(out.getvalue()) == {"/bad\udcff"}
