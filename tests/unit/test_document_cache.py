"""Shipped documents that are kept as they were parsed: the same as parsed anew, and never trusted where anything is odd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from irkit import document_cache, documents, resources
from irkit.documents import Doc, Items, Value

TEXT = "a: 1\nb: [x, {c: null, d: 1.5, e: true}, '']\n"


def seen(value: Value) -> object:
    """Values with all places."""
    if isinstance(value, Doc):
        return value.place, [(key, seen(one), value.places[key]) for key, one in value.values.items()]
    if isinstance(value, Items):
        return value.place, [(seen(one), place) for one, place in value]
    return type(value), value


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A document, and a home."""
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    path = tmp_path / "rules" / "one.yaml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.fixture
def kept(shipped: Path, tmp_path: Path) -> Path:
    """What is kept of it."""
    document_cache.load(shipped)
    return tmp_path / "home" / "cache" / "rules-one.json"


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is parsed from now on."""
    found: list[str] = []
    parse = documents.parse
    monkeypatch.setattr(documents, "parse", lambda data, name: (found.append(name), parse(data, name))[1])
    return found


@pytest.mark.parametrize("folder", ["forensics/rules", "forensics/noise"])
def test_the_same_with_all_places(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every shipped document."""
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path))
    for path in sorted(resources.shipped(folder).glob("*.yaml")):
        anew = seen(documents.load(path)[0])
        assert [seen(document_cache.load(path)) for _ in range(2)] == [anew, anew]


def test_it_is_parsed_once(shipped: Path, kept: Path, parses: list[str]) -> None:
    """And the file is nobody else's."""
    again = document_cache.load(shipped)
    assert not parses and seen(again) == seen(documents.parse(TEXT.encode(), str(shipped)))
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_changed_document_is_parsed(shipped: Path, kept: Path, parses: list[str]) -> None:
    """Whatever its name."""
    shipped.write_text("a: 2\n")
    assert document_cache.load(shipped).values["a"] == 2
    assert document_cache.load(shipped).values["a"] == 2 and len(parses) == 1


def forged(data: bytes, body: bytes) -> bytes:
    """With digests that fit."""
    return document_cache._head(hashlib.sha256(data).hexdigest().encode(), body) + b"\n" + body


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o620),
        lambda path: path.chmod(0o602),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"x"', b'"y"')),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.rename(path.with_name("there")).with_name(path.name).symlink_to("there"),
        *(
            lambda path, body=body: path.write_bytes(forged(TEXT.encode(), body))
            for body in (b"[" * 100_000, b"[]", b"3", b"{}", b"[1,1,[]]", b'[1,1,{"a":1}]', b'[1,1,{"a":[[1,1,3],1,1]}]', b"\xff", b'[1,1,{"a":[{},1,1]}]')
        ),
    ],
)  # fmt: skip
def test_what_is_odd_is_parsed_anew(
    spoil: Callable[[Path], object], shipped: Path, kept: Path, parses: list[str]
) -> None:
    """Writable by others, altered, cut, a link, no document."""
    spoil(kept)
    found = document_cache.load(shipped)
    assert parses == [str(shipped)]
    assert seen(found) == seen(documents.parse(TEXT.encode(), str(shipped)))


def test_another_user_s_is_not_read(
    shipped: Path, kept: Path, parses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could write it."""
    monkeypatch.setattr(document_cache.os, "geteuid", lambda: 12345)
    document_cache.load(shipped)
    assert parses


def test_without_a_home_nothing_is_written(shipped: Path, tmp_path: Path) -> None:
    """To look at rules makes no home; one that can't be written to is no error."""
    (tmp_path / "home").rmdir()
    document_cache.load(shipped)
    assert not (tmp_path / "home").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "cache").write_text("in the way")
    assert document_cache.load(shipped).values["a"] == 1
