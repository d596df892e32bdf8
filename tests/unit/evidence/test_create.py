"""``bundle create``: files as they lie there, links not followed, what can't be taken named."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import bagit
import pytest

from irkit.cli.main import run
from irkit.evidence import keys
from irkit.evidence.reader import BundleReader
from irkit.evidence.verify import verify_bundle


@pytest.fixture(autouse=True)
def key() -> None:
    keys.generate("default")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "Notes 1.TXT").write_bytes(b"hello")
    (folder / "deep" / "empty").write_bytes(b"")
    (folder / "link").symlink_to("/etc/shadow")
    (folder / "etc").symlink_to("/etc")
    (folder / "odd\n\x1b\udcff").write_bytes(b"odd")
    return folder


def make(*words: object) -> int:
    return run(["bundle", "create", *map(str, words)])


def rows(bundle: Path) -> dict[str, dict[str, object]]:
    return {str(row["path"]): row for row in BundleReader(bundle).lines("files/entries.jsonl")}


@pytest.mark.parametrize("out", ["out", "out.tar"])
def test_files_and_folders(source: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    lone = tmp_path / "lone"
    lone.write_bytes(b"lone")
    assert make(source, lone, "-o", tmp_path / out, "--case", "case-12", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    found = verify_bundle(tmp_path / out, list(keys.trusted_keys("evidence")))
    assert found.ok and found.digest == said["digest"] and said["tar"] == out.endswith(".tar")
    assert found.predicate["case"] == "case-12"
    taken = rows(tmp_path / out)
    note = taken[f"{source}/Notes 1.TXT"]
    assert note["artifact"] == "data/files/000001-notes-1.txt.zst" and note["size"] == 5
    reader = BundleReader(tmp_path / out)
    assert b"".join(reader.stream("files/000001-notes-1.txt")) == b"hello"
    assert taken[f"{source}/link"]["target"] == "/etc/shadow" and "artifact" not in taken[f"{source}/link"]
    assert taken[f"{source}/etc"]["kind"] == "link" and not any(path.startswith(f"{source}/etc/") for path in taken)
    assert taken[f"{source}/deep"]["kind"] == "dir" and any(row.get("path_b64") for row in taken.values())
    assert run(["bundle", "show", str(tmp_path / out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("files, of no container\n  case case-12\n") and "\x1b" not in shown
    assert run(["report", str(tmp_path / out), "-o", str(tmp_path / "page.html")]) == 0
    assert {one.name for one in tmp_path.iterdir()} == {"source", "lone", out, "page.html", "irkit-home"}


def test_what_can_not_be_taken_is_a_gap(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(source)
        server.bind("sock")
        assert make(source, "-o", tmp_path / "out") == 4
    gaps = {Path(gap["what"]).name: gap["why"] for gap in BundleReader(tmp_path / "out").index["gaps"]}
    assert gaps == {"fifo": "a fifo holds no bytes to take", "sock": "a socket holds no bytes to take"}
    bagit.Bag(str(tmp_path / "out")).validate()


def test_a_sealed_bundle_is_packed_as_it_is(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(source, "-o", tmp_path / "b") == 0
    assert make(tmp_path / "b", "-o", tmp_path / "b.tar") == 0
    assert make(tmp_path / "b.tar", "-o", tmp_path / "again", "--tar") == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert run(["bundle", "extract", str(tmp_path / "b.tar"), "--whole", "-o", str(tmp_path / "c")]) == 0
    assert (tmp_path / "c/seal.dsse.json").read_bytes() == (tmp_path / "b/seal.dsse.json").read_bytes()
    assert make(tmp_path / "b", "-o", tmp_path / "d") == 2
    (tmp_path / "b/data/x").write_bytes(b"x")
    assert make(tmp_path / "b", "-o", tmp_path / "d.tar") == 3 and not (tmp_path / "d.tar").exists()
    assert "data/x" in capsys.readouterr().err


def test_wrong_words(source: Path, tmp_path: Path) -> None:
    assert make(source, "-o", source) == 2
    assert make(source, "-o", source / "inside") == 2
    assert make(source, "-o", tmp_path / "x", "--case", "a\nb") == 2
    assert make(tmp_path / "none", "-o", tmp_path / "x") == 2
    assert make(source, tmp_path / "none", "-o", tmp_path / "x") == 2
    assert make(source, "-o", tmp_path / "x", "--key", "none") == 1
    assert {one.name for one in tmp_path.iterdir()} == {"source", "irkit-home"}


def test_a_file_that_grows_or_is_swapped_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from irkit.evidence import collect
    from irkit.evidence.writer import BundleWriter

    source = tmp_path / "s"
    source.mkdir()
    (source / "grows").write_bytes(b"x" * 10)
    (source / "swapped").write_bytes(b"x")
    real = os.stat

    def racing(path: object, **more: object) -> os.stat_result:
        facts = real(path, **more)  # type: ignore[arg-type]
        if path == "swapped":
            (source / "swapped").unlink()
            (source / "swapped").symlink_to("/etc/hostname")
        return facts

    monkeypatch.setattr(collect.os, "stat", racing)
    writer = BundleWriter(tmp_path / "b")
    sink = BundleWriter.sink

    def growing(self: BundleWriter, name: str, *rest: object, **more: object) -> object:
        if "grows" in name:
            with (source / "grows").open("ab") as file:
                file.write(b"more")
        return sink(self, name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(BundleWriter, "sink", growing)
    collect.collect_files([source], writer)
    gaps = {Path(gap.what).name: gap.why for gap in writer.gaps}
    assert gaps["grows"] == "it was written to while it was read"
    assert "can't be read" in gaps["swapped"], "not through the link that took its place"
    assert writer.artifacts[0].raw_size == 14


@pytest.mark.parametrize("out", ["out", "out.tar"])
def test_encrypted_from_the_start(source: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    from irkit.evidence import age

    recipient = age.make_identity(tmp_path / "ann.key")
    assert make(source, "-o", tmp_path / out, "--recipient", recipient) == 0
    assert run(["bundle", "show", str(tmp_path / out)]) == 0
    assert "an encrypted bundle: --identity" in capsys.readouterr().out
    assert run(["bundle", "verify", str(tmp_path / out)]) == 0
    assert "encrypted: the bundle inside was not opened" in capsys.readouterr().out
    assert run(["bundle", "verify", str(tmp_path / out), "--identity", str(tmp_path / "ann.key")]) == 0
    assert "not opened" not in capsys.readouterr().out
    reader = BundleReader(tmp_path / out, age.identities_from([tmp_path / "ann.key"]))
    assert b"".join(reader.stream("files/000001-notes-1.txt")) == b"hello"
    assert make(tmp_path / out, "-o", tmp_path / "x.tar", "--recipient", recipient) == 2
