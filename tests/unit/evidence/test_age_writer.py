"""Encryption while acquiring: nothing plain on the disk, and the same bundle as without."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path
from typing import Any

import bagit
import pyrage
import pytest

from irkit.cli.main import run
from irkit.errors import StorageError
from irkit.evidence import age, keys
from irkit.evidence.age_writer import AgeFile, EncryptedWriter
from irkit.evidence.keys import Signer
from irkit.evidence.reader import BundleReader
from irkit.evidence.seal import Sealed, seal_bundle
from irkit.evidence.verify import verify_bundle
from irkit.evidence.writer import Origin
from tests.fakes.bundle import FACTS, ORIGIN

SECRET = b"password=hunter2 " * 5000


@pytest.fixture
def signer() -> Signer:
    return keys.generate("default")


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    age.make_identity(tmp_path / "ann.key")
    return tmp_path / "ann.key"


def writer_for(identity: Path, folder: Path, **more: Any) -> EncryptedWriter:
    return EncryptedWriter(folder, [one.to_public() for one in age.identities_from([identity])], **more)


@pytest.fixture
def sealed(tmp_path: Path, identity: Path, signer: Signer) -> tuple[EncryptedWriter, Sealed]:
    writer = writer_for(identity, tmp_path / "e")
    writer.add("process/environ", (SECRET,), ORIGIN, compress=False)
    writer.add("logs/stdout.log", (SECRET, b"end"), Origin("logs", "hunter2", "m"))
    writer.add_json("list.json", [1], ORIGIN)
    writer.gap("logs", "hunter2", "why")
    facts = FACTS | {"target": {"name": "hunter2"}}
    return writer, seal_bundle(writer, facts, "complete", signer)


def test_nothing_plain_is_on_the_disk(sealed: tuple[EncryptedWriter, Sealed], signer: Signer, tmp_path: Path) -> None:
    _, done = sealed
    stored = [one.read_bytes() for one in done.path.rglob("*") if one.is_file()]
    assert not any(b"hunter2" in data for data in stored)
    assert all(b"hunter2" not in str(one).encode() for one in done.path.rglob("*"))
    found = verify_bundle(done.path, [signer.public])
    assert found.ok and found.digest == done.digest and found.predicate["target"] == {}
    bagit.Bag(str(done.path)).validate()


def test_it_is_read_back_by_its_recipient(
    sealed: tuple[EncryptedWriter, Sealed], identity: Path, signer: Signer, tmp_path: Path
) -> None:
    _, done = sealed
    assert run(["bundle", "decrypt", str(done.path), "--identity", str(identity), "-o", str(tmp_path / "plain")]) == 0
    found = verify_bundle(tmp_path / "plain", [signer.public])
    assert found.ok and found.predicate["target"] == {"name": "hunter2"}
    reader = BundleReader(tmp_path / "plain")
    assert b"".join(reader.stream("logs/stdout.log")) == SECRET + b"end" and len(reader.index["gaps"]) == 1
    assert (tmp_path / "plain/data/process/environ").read_bytes() == SECRET


def test_the_run_itself_reads_it_back_and_nobody_else(sealed: tuple[EncryptedWriter, Sealed]) -> None:
    writer, done = sealed
    assert BundleReader(done.path, writer.identities).json("list.json") == [1]
    assert BundleReader(done.path).index["encrypted"]["recipients"] == 1
    from irkit.errors import KeyProblem

    with pytest.raises(KeyProblem):
        BundleReader(done.path, [pyrage.x25519.Identity.generate()])


def test_sealed_once_more_after_a_failure(identity: Path, signer: Signer, tmp_path: Path) -> None:
    writer = writer_for(identity, tmp_path / "e")
    writer.add("run/run.json", (b"1",), ORIGIN)
    seal_bundle(writer, FACTS, "partial", signer)
    writer.forget("data/run/")
    writer.add("run/run.json", (b"2",), ORIGIN)
    done = seal_bundle(writer, FACTS, "complete", signer)
    found = verify_bundle(done.path, [signer.public], identities=writer.identities)
    assert found.ok and found.status == "complete", found.problems
    assert b"".join(BundleReader(done.path, writer.identities).stream("run/run.json")) == b"2"


def test_a_broken_stream_is_kept_with_a_gap(identity: Path, signer: Signer, tmp_path: Path) -> None:
    writer = writer_for(identity, tmp_path / "e")
    with pytest.raises(RuntimeError), writer.sink("part.bin", ORIGIN) as sink:
        sink.write(b"first")
        raise RuntimeError("gone")
    assert [(one.complete, one.raw_size) for one in writer.artifacts] == [(False, 5)]
    done = seal_bundle(writer, FACTS, "partial", signer)
    assert verify_bundle(done.path, [signer.public], identities=writer.identities).ok
    assert b"".join(BundleReader(done.path, writer.identities).stream("part.bin")) == b"first"


@pytest.mark.parametrize("size", [1, 100, 5_000_000])
def test_a_full_disk_removes_the_half_file(
    identity: Path, signer: Signer, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: list[bool] = []
    writer = writer_for(identity, tmp_path / "e", on_full=lambda: bool(full.append(True)))
    real = EncryptedWriter.open

    def opened(self: EncryptedWriter, path: str) -> Any:
        file = real(self, path)
        file._file.close()  # type: ignore[attr-defined]
        file._file = open("/dev/full", "wb", buffering=0)  # type: ignore[attr-defined]  # noqa: SIM115
        return file

    monkeypatch.setattr(EncryptedWriter, "open", opened)
    with pytest.raises(StorageError, match="no space left"):
        writer.add("big.bin", (os.urandom(size),), ORIGIN, compress=False)
    monkeypatch.undo()
    assert full and not writer.artifacts and not writer.place("data/big.bin").exists()
    done = seal_bundle(writer, FACTS, "partial", signer)
    assert verify_bundle(done.path, [signer.public], identities=writer.identities).ok


def test_many_at_once_and_no_thread_is_left(identity: Path, signer: Signer, tmp_path: Path) -> None:
    before = threading.active_count()
    writer = writer_for(identity, tmp_path / "e")
    with writer.sink("a", ORIGIN) as one, writer.sink("b", ORIGIN, compress=False) as other:
        for _ in range(200):
            one.write(b"a" * 10_000)
            other.write(b"b" * 10_000)
    done = seal_bundle(writer, FACTS, "complete", signer)
    assert threading.active_count() == before
    reader = BundleReader(done.path, writer.identities)
    assert sum(map(len, reader.stream("a"))) == sum(map(len, reader.stream("b"))) == 2_000_000


def test_thrown_away_unfinished() -> None:
    recipient = pyrage.x25519.Identity.generate().to_public()
    file = AgeFile(io.BytesIO(), [recipient], lambda stored: pytest.fail("not finished"))
    file.write(b"x")
    file.close()
    assert not file._thread.is_alive()


def test_what_can_not_be_encrypted_to_is_an_error() -> None:
    file = AgeFile(io.BytesIO(), [], lambda stored: pytest.fail("not encrypted"))
    with pytest.raises(OSError, match="can't encrypt") as caught:
        for _ in range(100):
            file.write(b"x" * 100_000)
    assert caught.value.errno in (0, errno.EPIPE)
    file.close()


def test_wrong_recipients_are_said_before_anything_is_touched(tmp_path: Path) -> None:
    assert run(["contain", "web-1", "--recipient", "age1nonsense"]) == 2
    assert run(["snapshot", "web-1", "--recipient", str(tmp_path / "none")]) == 2
