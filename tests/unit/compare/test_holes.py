"""Files with holes: what is in them is read, their zeros only as far as that costs nothing."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from irkit.compare.holes import LIMIT, SHORT, Dense, Zeros
from irkit.models import Change, FileFacts
from tests.unit.compare.sides import Made, verdicts
from tests.unit.compare.test_contents import examiner

TERA = 1024**4


def sparse(folder: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    """A tar of one file, by GNU tar."""
    with (folder / "holes").open("wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    tar = folder / "x.tar"
    subprocess.run(["tar", "-cSf", tar, "--format=pax", "-C", folder, "holes"], check=True)
    return tar


def test_a_terabyte_of_holes_is_not_read(tmp_path: Path) -> None:
    tar = sparse(tmp_path, TERA, (0, b"first"), (TERA // 2, b"payload" * 1000))
    with tarfile.open(fileobj=io.BytesIO(tar.read_bytes()), mode="r|") as archive:
        member = archive.next()
        assert member is not None
        file = archive.extractfile(member)
        assert file is not None
        stream = Zeros().opened(member, file)
        assert isinstance(stream, Dense)
        data = b"".join(iter(lambda: stream.read(1000), b""))
    assert data.startswith(b"first\0") and b"\0" + b"payload" * 1000 + b"\0" in data
    assert len(data) < 10**6 and SHORT < LIMIT


def test_few_holes_are_read_as_the_zeros_that_they_are(tmp_path: Path) -> None:
    tar = sparse(tmp_path, 3_000_000, (1_500_000, b"payload"))
    with tarfile.open(fileobj=io.BytesIO(tar.read_bytes()), mode="r|") as archive:
        member = archive.next()
        assert member is not None
        file = archive.extractfile(member)
        assert file is not None
        zeros = Zeros()
        stream = zeros.opened(member, file)
        assert hashlib.sha256(stream.read()).digest() == hashlib.sha256((tmp_path / "holes").read_bytes()).digest()
        assert LIMIT - 3_000_000 < zeros.left < LIMIT
        zeros.left = 0
        assert isinstance(zeros.opened(member, file), Dense)


@pytest.mark.parametrize("digest", ["", "ab" * 32])
def test_rules_search_what_lies_between_holes(tmp_path: Path, digest: str) -> None:
    tar = sparse(tmp_path, TERA, (0, b"#!/bin/sh\n"), (TERA // 2, b"\nevil line\n"))
    looks, gaps = examiner(Made(), tmp_path, verdicts("r change low {content: evil}"))
    after = FileFacts(kind="file", mode=0o644, uid=0, gid=0, size=TERA, mtime_ns=0, ctime_ns=0, nlink=1, sha256=digest)
    with tarfile.open(fileobj=io.BytesIO(tar.read_bytes()), mode="r|") as archive:
        member = archive.next()
        assert member is not None
        file = archive.extractfile(member)
        assert file is not None
        found = looks.look(Change("/x", "added", None, after), Zeros().opened(member, file), ("md5",))
    assert found.values["type"] == "script" and "evil" in json.dumps(found.values, default=str)
    assert found.digests == ({"sha256": digest} if digest else {})
    assert any("holes" in gap.why for gap in looks.unread.gaps()) and not gaps
