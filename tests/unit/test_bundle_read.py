"""``bundle show``, ``cat`` and ``extract``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irkit.cli.bundle_common import names_bundle
from irkit.cli.main import run
from irkit.evidence import keys
from irkit.evidence.seal import seal_bundle
from irkit.evidence.writer import BundleWriter, Origin

LOG = b"2026-01-02T03:04:05Z hello \x1b[2J\xff\n"
FACTS = {"case": "c-1", "run": "r-1", "target": {"id": "ab" * 32, "name": "web\x1b[31m", "image": "i", "engine": "e"}}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    writer = BundleWriter(tmp_path / "bundle")
    writer.add("logs/stdout.log", (LOG,), Origin("logs", "s", "m"))
    writer.add_json("process/processes.json", [], Origin("processes", "s", "m"))
    writer.gap("tmpfs", "x\x1b", "why")
    row = {"collector": "logs", "outcome": "succeeded", "message": "1 bytes", "started": "a", "finished": "b"}
    writer.about = {"profile": None, "collectors": [row | {"artifacts": 1, "bytes": len(LOG), "gaps": 0}]}
    seal_bundle(writer, FACTS, "complete", keys.generate("responder"))
    return tmp_path / "bundle"


def test_show(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "show", str(bundle)]) == 0
    text = capsys.readouterr().out
    assert "case c-1, run r-1" in text and "logs" in text and "gap: tmpfs" in text and "\x1b" not in text
    assert run(["bundle", "show", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["artifacts"] == 2 and found["raw_size"] == len(LOG) + 3 and found["collectors"][0]["bytes"] == len(LOG)


@pytest.mark.parametrize("name", ["logs/stdout.log", "data/logs/stdout.log.zst"])
def test_cat_gives_the_bytes_as_they_were(bundle: Path, name: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["bundle", "cat", str(bundle), name]) == 0
    assert capfdbinary.readouterr().out == LOG


def test_cat_escapes_on_a_terminal(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(["bundle", "cat", str(bundle), "logs/stdout.log"]) == 0
    text = capsys.readouterr().out
    assert "hello" in text and "\x1b" not in text


def test_cat_refuses_what_was_altered(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stored = bundle / "data/process/processes.json"
    stored.write_bytes(stored.read_bytes()[::-1])
    assert run(["bundle", "cat", str(bundle), "process/processes.json"]) == 3
    assert "is not what was recorded" in capfd.readouterr().err


def test_extract(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["bundle", "extract", str(bundle), "-o", str(out)]) == 0
    assert (out / "logs/stdout.log").read_bytes() == LOG and (out / "process/processes.json").is_file()
    assert run(["bundle", "extract", str(bundle), "-o", str(out)]) == 2
    assert "is not there yet" in capsys.readouterr().err


def test_extract_a_folder_of_it(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "extract", str(bundle), "-o", str(tmp_path / "o"), "logs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artifacts"] == ["logs/stdout.log"]
    assert run(["bundle", "extract", str(bundle), "-o", str(tmp_path / "p"), "log"]) == 2
    assert not (tmp_path / "p").exists()


def test_nothing_is_extracted_from_an_altered_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "data/extra").write_text("x")
    assert run(["bundle", "extract", str(bundle), "-o", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out").exists()


def test_an_index_of_another_form_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "data/index.json").write_text('{"artifacts": [], "gaps": 1}')
    assert run(["bundle", "show", str(bundle)]) == 3
    assert "not of irkit's form" in capsys.readouterr().err


def test_a_folder_of_a_container_s_name_is_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web").mkdir()
    (tmp_path / "web.tar").touch()
    assert not names_bundle("web") and names_bundle("./web") and names_bundle("web.tar") and not names_bundle("gone")
    (tmp_path / "web" / "bagit.txt").touch()
    assert names_bundle("web")
