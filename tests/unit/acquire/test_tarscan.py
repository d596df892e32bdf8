"""A tar stream's members and digests while it goes by: the same as ``tarfile`` finds, in pieces of any size."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.acquire import tarwriter
from irkit.acquire.tarscan import HEADER_LIMIT, Found, NotATar, TarScan, pax_records
from irkit.acquire.tarwriter import Member, TarWriter, pax_record

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=130).filter(
    lambda name: name not in (".", "..")
)


def scanned(data: bytes, step: int = 10**9) -> tuple[list[Found], str]:
    found: list[Found] = []
    scan = TarScan(found.append)
    for start in range(0, len(data), step):
        scan.feed(data[start : start + step])
    scan.close()
    return found, scan.problem


def made(members: list[tuple[str, bytes]], form: int) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode, member.uid = len(content), 1_500_000_000, 0o4755, 1000
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=2000)), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3000),
)
@settings(max_examples=120, deadline=None)
def test_what_tarfile_writes(members: list[tuple[str, bytes]], form: int, step: int) -> None:
    found, problem = scanned(made(members, form), step)
    assert problem == ""
    assert [(one.path, one.facts.sha256, one.facts.mode) for one in found] == [
        (f"/{name}", hashlib.sha256(content).hexdigest(), 0o4755) for name, content in members
    ]


def test_what_our_own_writer_writes() -> None:
    data = io.BytesIO()
    writer = TarWriter(data)
    writer.add(Member("d" * 120, tarwriter.DIRECTORY, 0o1777, 2**31, 5, mtime_ns=-1_500_000_000))
    about = Member("f", tarwriter.FILE, 0o600, size=5, mtime_ns=123, pax={"SCHILY.xattr.user.x": b"\xff"})
    writer.member(tarwriter.member(about, b"hello"))
    writer.add(Member("h", tarwriter.LINK, target="f"))
    writer.add(Member("s", tarwriter.SYMLINK, 0o777, target="../x" * 60))
    writer.add(Member("n", tarwriter.CHAR, 0o666, device=0x103))
    writer.close()
    found, problem = scanned(data.getvalue(), 7)
    assert problem == ""
    folder, file, link, symlink, node = found
    assert (folder.path, folder.facts.uid, folder.facts.mtime_ns) == ("/" + "d" * 120, 2**31, -1_500_000_000)
    assert (file.facts.mtime_ns, dict(file.facts.xattrs)) == (123, {"user.x": "ff"})
    assert file.facts.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert (link.link, link.facts.sha256) == ("/f", "") and symlink.facts.target == "../x" * 60
    assert (node.facts.kind, node.facts.rdev) == ("char", "1:3")


@given(st.binary(max_size=5000))
def test_any_bytes_end_in_a_list_or_a_problem(data: bytes) -> None:
    scanned(data)


@given(st.data())
@settings(max_examples=150)
def test_an_altered_archive_never_raises(data: st.DataObject) -> None:
    archive = bytearray(made([("a" * 120, b"x" * 700), ("b", b"y")], tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 6))):
        archive[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    scanned(bytes(archive), data.draw(st.integers(1, 900)))


def test_a_stream_that_breaks_off_is_said() -> None:
    data = made([("a", b"x" * 700)], tarfile.PAX_FORMAT)
    for end in (0, 100, 512, 1000, 512 + 1024):
        assert scanned(data[:end])[1] == "the stream ended before the archive did"


def test_a_header_of_gigabytes_costs_nothing() -> None:
    huge = tarwriter.headers(Member("x", b"x", size=HEADER_LIMIT + 1))
    assert "mebibyte" in scanned(huge)[1]

    def many() -> Iterator[bytes]:
        for _ in range(20):
            body = pax_record(b"k", b"v" * 100_000)
            yield tarwriter.headers(Member("x", b"x", size=len(body))) + body + tarwriter.padding(len(body))

    assert "mebibyte" in scanned(b"".join(many()))[1]


@pytest.mark.parametrize(
    "data", [b"5 a=b\n", b"x", b"99999999999999999999999999 a=b\n", b"0 a=b\n", b"6 abcd\n", b"7 a=bbb"]
)
def test_faulty_pax_records(data: bytes) -> None:
    with pytest.raises(NotATar):
        pax_records(data)
