"""Package databases of an image, shared by the targets of a command: never other ones than each would find for itself."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from irkit.acquire.attributes import Marks
from irkit.acquire.image_databases import keep_databases
from irkit.acquire.image_files import ImageFiles
from irkit.acquire.lower import Lower
from irkit.acquire.package_files import Places
from irkit.acquire.taker import SMALL, TarTaker

MARKS = Marks("user.overlay.")
INFO = "var/lib/dpkg/info"


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """An engine's own layer, as Docker makes one for each container, and two of an image."""
    own, upper, lower = (tmp_path / name for name in ("own", "upper", "lower"))
    (own / "etc").mkdir(parents=True)
    for layer, files in (
        (upper, {f"{INFO}/b.list": "/b\n", "usr/lib/python3/dist-packages/x.dist-info/METADATA": "Name: x\n"}),
        (lower, {f"{INFO}/a.list": "/a\n", f"{INFO}/a.md5sums": "", "var/lib/dpkg/status": "P" * (SMALL + 1)}),
    ):
        for name, text in files.items():
            (layer / name).parent.mkdir(parents=True, exist_ok=True)
            (layer / name).write_text(text)
    return [own, upper, lower]


def kept(layers: list[Path], known: ImageFiles | None, places: Places | None = None, before: str = "") -> bytes:
    """The tar of a target of its own; ``before``: a file that was kept before the databases were."""
    tar = io.BytesIO()
    folders = [os.open(one, os.O_RDONLY | os.O_DIRECTORY) for one in layers]
    lower = Lower(folders, MARKS)
    try:
        taker = TarTaker(tar, lambda what, why: pytest.fail(f"{what}: {why}"), 10**6, known=known)
        if before:
            hit = lower.find(
                tuple((number, str(Path(before).parent)) for number in (1, 2)), f"/{before}", Path(before).name
            )
            assert hit is not None
            taker.keep(hit.entry)
        keep_databases(lower, places or Places(), taker, known, lambda what, why: pytest.fail(f"{what}: {why}"))
        taker.close()
    finally:
        lower.close()
        for folder in folders:
            os.close(folder)
    return tar.getvalue()


def contents(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        found = {}
        for member in opened.getmembers():
            file = opened.extractfile(member)
            assert member.name not in found and file is not None
            found[member.name] = file.read()
        return found


def test_the_next_target_of_the_image_searches_nothing(
    layers: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = ImageFiles()
    first = kept(layers, known)
    assert contents(first) == contents(kept(layers, None))
    assert len(contents(first)) == 5
    monkeypatch.setattr(Lower, "names", lambda *_: pytest.fail("searched again"))
    other = tmp_path / "own of another"
    shutil.copytree(layers[0], other)
    assert contents(kept([other, *layers[1:]], known)) == contents(first)


def hide(layers: list[Path]) -> None:
    os.setxattr(layers[1] / "var/lib/dpkg", "user.overlay.opaque", b"y")


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: (layers[2] / INFO / "a.list").write_text("/c\n"),
        lambda layers: (layers[2] / INFO / "c.list").write_text("/c\n"),
        lambda layers: (layers[2] / INFO / "a.list").unlink(),
        lambda layers: (layers[2] / INFO / "a.list").chmod(0o600),
        lambda layers: (layers[2] / INFO / "a.list").rename(layers[2] / INFO / "d.list"),
        lambda layers: (layers[2] / "var/lib/dpkg/status").write_text("Q" * (SMALL + 1)),
        lambda layers: (layers[2] / "lib/apk/db").mkdir(parents=True),
        lambda layers: shutil.copytree(layers[2] / "var", layers[0] / "var"),
        lambda layers: (layers[0] / "var").write_text("in the way"),
        hide,
    ],
    ids=["bytes", "new", "gone", "mode", "renamed", "large", "new folder", "in the own layer", "covered", "opaque"],
)  # fmt: skip
def test_what_changed_is_searched_again(layers: list[Path], change: Callable[[list[Path]], object]) -> None:
    known = ImageFiles()
    kept(layers, known)
    time.sleep(0.02)  # the kernel's clock of files moves every few milliseconds
    change(layers)
    fresh = kept(layers, None)
    assert kept(layers, known) == fresh
    assert contents(kept(layers, known)) == contents(fresh)


def test_places_that_the_changes_told_are_others(layers: list[Path]) -> None:
    known, places = ImageFiles(), Places()
    kept(layers, known)
    (layers[2] / "opt/site-packages/y.dist-info").mkdir(parents=True)
    (layers[2] / "opt/site-packages/y.dist-info/METADATA").write_text("Name: y\n")
    places.see("/opt/site-packages/new.py")
    assert "opt/site-packages/y.dist-info/METADATA" in contents(kept(layers, known, places))
    assert "opt/site-packages/y.dist-info/METADATA" not in contents(kept(layers, known))


def test_one_that_was_kept_before_is_not_kept_twice(layers: list[Path]) -> None:
    known = ImageFiles()
    first = kept(layers, known)
    again = kept(layers, known, before=f"{INFO}/a.list")
    assert contents(again) == contents(first)


def test_a_redirect_is_followed_for_each(layers: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it leads is not among the folders that were looked at in that layer."""
    (layers[2] / "elsewhere").mkdir()
    (layers[2] / "elsewhere/z.list").write_text("/z\n")
    shutil.rmtree(layers[1] / INFO)
    (layers[1] / INFO).mkdir()
    os.setxattr(layers[1] / INFO, "user.overlay.redirect", b"/elsewhere")
    known = ImageFiles()
    assert f"{INFO}/z.list" in contents(kept(layers, known)) and not known.databases
