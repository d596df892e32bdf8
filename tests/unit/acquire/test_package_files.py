"""The image's package databases, found in layers on this disk: all of them, within their limits, and no link followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from irkit.acquire import package_files
from irkit.acquire.attributes import Marks
from irkit.acquire.lower import Lower
from irkit.acquire.package_files import Places, at, keep

FILES = (
    "var/lib/dpkg/status", "var/lib/dpkg/status.d/base", "var/lib/dpkg/info/a.list", "var/lib/dpkg/info/a.md5sums", "var/lib/dpkg/info/a.postinst",
    "usr/lib/python3/dist-packages/x-1.dist-info/RECORD", "usr/lib/python3/dist-packages/x-1.dist-info/METADATA",
    "usr/lib/python3/dist-packages/old.egg-info", "usr/lib/python3/dist-packages/x/__init__.py", "usr/lib/python2/dist-packages/y-1.dist-info/RECORD",
    "srv/venv/lib/python3.11/site-packages/z-1.dist-info/RECORD", "srv/app/node_modules/@s/pkg/package.json", "srv/app/node_modules/@s/pkg/index.js",
)  # fmt: skip
SYSTEM = {
    "/var/lib/dpkg/status", "/var/lib/dpkg/status.d/base", "/var/lib/dpkg/info/a.list", "/var/lib/dpkg/info/a.md5sums",
    "/usr/lib/python3/dist-packages/x-1.dist-info/RECORD", "/usr/lib/python3/dist-packages/x-1.dist-info/METADATA",
    "/usr/lib/python3/dist-packages/old.egg-info",
}  # fmt: skip


@contextmanager
def layers(*folders: Path) -> Iterator[Lower]:
    """The topmost first."""
    descriptors = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders]
    lower = Lower(descriptors, Marks())
    try:
        yield lower
    finally:
        lower.close()
        for one in descriptors:
            os.close(one)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One layer with all kinds of databases."""
    for name in FILES:
        path = tmp_path / "image" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "image"


def kept(lower: Lower, *changed: str) -> tuple[set[str], list[str]]:
    places, taken, gaps = Places(), set(), []
    for path in changed:
        places.see(path)
    keep(lower, places, lambda entry: taken.add(entry.path), lambda path, why: gaps.append(path))
    return taken, gaps


def test_those_in_fixed_places(image: Path) -> None:
    with layers(image) as lower:
        assert kept(lower) == (SYSTEM, [])


def test_those_that_changes_lead_to(image: Path) -> None:
    """A virtual environment's, and a package's of Node."""
    with layers(image) as lower:
        venv, node = "/srv/venv/lib/python3.11/site-packages/z/a.py", "/srv/app/node_modules/@s/pkg/index.js"
        assert kept(lower, venv, node)[0] - SYSTEM == {
            "/srv/venv/lib/python3.11/site-packages/z-1.dist-info/RECORD", "/srv/app/node_modules/@s/pkg/package.json",
        }  # fmt: skip
        assert kept(lower, "/gone/site-packages/x", "/no/node_modules/y", "/node_modules/")[0] == SYSTEM


def test_an_upper_layer_comes_first(image: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper" / "var/lib/dpkg"
    upper.mkdir(parents=True)
    (upper / "status").write_text("longer than before, by far")
    with layers(tmp_path / "upper", image) as lower:
        hit = at(lower, "/var/lib/dpkg/status")
        assert hit is not None and hit.entry.size == 26
        assert kept(lower)[0] == SYSTEM


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Neither out of the image nor within it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "status").write_text("the host's")
    folder = tmp_path / "image" / "var" / "lib"
    folder.mkdir(parents=True)
    (folder / "dpkg").symlink_to(tmp_path / "secret")
    with layers(tmp_path / "image") as lower:
        assert at(lower, "/var/lib/dpkg/status") is None and kept(lower) == (set(), [])
    (folder / "dpkg").unlink()
    (folder / "dpkg").mkdir()
    (folder / "dpkg" / "status").symlink_to(tmp_path / "secret" / "status")
    with layers(tmp_path / "image") as lower:
        assert kept(lower) == (set(), [])


def test_limits_are_gaps(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over the budget is named, and what is smaller is still taken."""
    sizes = {f"/{name}": len(name) for name in FILES}
    monkeypatch.setattr(package_files, "DATABASE_BUDGET", 60)
    with layers(image) as lower:
        taken, gaps = kept(lower)
    assert taken | set(gaps) == SYSTEM and not taken & set(gaps) and gaps
    assert sum(sizes[path] for path in taken) <= 60
