"""The documents of the bundle and key commands fit their schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from irkit import schemas
from irkit.cli.main import run
from irkit.evidence import age
from tests.fakes.tsa import Authority


@pytest.mark.thorough
def test_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fits(schema: str, *words: object, code: int = 0) -> None:
        capsys.readouterr()
        assert run([*map(str, words), "--json"]) == code
        jsonschema.validate(json.loads(capsys.readouterr().out), schemas.load(schema))

    (tmp_path / "note").write_bytes(b"x")
    (tmp_path / "tsa").mkdir()
    recipient = age.make_identity(tmp_path / "ann.key")
    bundle, secret = tmp_path / "b", tmp_path / "e"
    fits("key", "key", "generate")
    fits("created", "bundle", "create", tmp_path / "note", "-o", bundle)
    fits("created", "bundle", "create", bundle, "-o", tmp_path / "b.tar")
    fits("encrypted", "bundle", "encrypt", bundle, "--recipient", recipient, "-o", secret)
    fits("encrypted", "bundle", "decrypt", secret, "--identity", tmp_path / "ann.key", "-o", tmp_path / "d")
    with Authority(tmp_path / "tsa").serving() as authority:
        fits("timestamp", "bundle", "timestamp", bundle, "--tsa", authority.url)
        fits(
            "timestamp",
            "bundle",
            "timestamp",
            bundle,
            "--tsa",
            authority.url,
            "--tsa-cert",
            authority.root,
            "--replace",
        )
    fits("verify", "bundle", "verify", bundle)
    assert run(["key", "list", "--pem", "default"]) == 0
    (tmp_path / "k.pub").write_text(capsys.readouterr().out)
    fits("key", "key", "trust", tmp_path / "k.pub", "--name", "ann", "--use", "evidence", "--valid-until", "2100-01-01")
    fits("key", "key", "revoke", "ann", "--at", "2026-01-01", "--why", "lost")
    fits("verify", "bundle", "verify", bundle, code=3)
