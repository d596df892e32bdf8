"""Signatures of playbooks: who vouches, for what, and what is refused without."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from irkit import resources
from irkit.cli.main import cli
from irkit.config import Signatures
from irkit.errors import NotTrusted
from irkit.evidence import keys
from irkit.playbook import signed
from irkit.playbook.reader import load_playbook

TEXT = "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: Own\nsteps: [{id: a, uses: container.freeze}]\n"
POLICY = Signatures(True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "own.yaml"
    found.write_text(TEXT)
    return found


def vouch(path: Path, name: str, use: str = "playbook") -> Path:
    signer = keys.generate(name, uses=(use,))
    return signed.sign(load_playbook(path), path, signer)


def test_signed(path: Path) -> None:
    with pytest.raises(NotTrusted, match="no signature beside it"):
        signed.require(load_playbook(path), POLICY)
    vouch(path, "ann")
    assert signed.require(load_playbook(path), POLICY) == {"own.yaml": ["ann"]}
    with pytest.raises(NotTrusted, match="1 of 2"):
        signed.require(load_playbook(path), Signatures(True, 2))
    vouch(path, "bob")
    assert sorted(signed.require(load_playbook(path), Signatures(True, 2))["own.yaml"]) == ["ann", "bob"]
    assert signed.require(load_playbook(path), Signatures()) == {}


def test_one_key_counts_once(path: Path) -> None:
    beside = vouch(path, "ann")
    beside.with_name("own.yaml.copy.dsse.json").write_bytes(beside.read_bytes())
    with pytest.raises(NotTrusted, match="1 of 2"):
        signed.require(load_playbook(path), Signatures(True, 2))


def test_altered(path: Path) -> None:
    vouch(path, "ann")
    before = load_playbook(path)
    path.write_text(TEXT.replace("freeze", "thaw"))
    with pytest.raises(NotTrusted, match="another content"):
        signed.require(load_playbook(path), POLICY)
    assert signed.require(before, POLICY)  # what was parsed is what is judged, whatever lies there now


def test_a_swap_after_parsing_does_not_help(path: Path) -> None:
    vouch(path, "ann")
    path.write_text(TEXT.replace("freeze", "thaw"))
    evil = load_playbook(path)
    path.write_text(TEXT)
    with pytest.raises(NotTrusted):
        signed.require(evil, POLICY)


def test_a_signature_of_another_file(path: Path) -> None:
    beside = vouch(path, "ann")
    other = path.with_name("other.yaml")
    other.write_text(TEXT)
    other.with_name(beside.name.replace("own", "other")).write_bytes(beside.read_bytes())
    with pytest.raises(NotTrusted, match="another file"):
        signed.require(load_playbook(other), POLICY)


def test_a_key_for_something_else(path: Path) -> None:
    vouch(path, "ann", "approval")
    with pytest.raises(NotTrusted):
        signed.require(load_playbook(path), POLICY)


def test_a_revoked_key(path: Path) -> None:
    vouch(path, "ann")
    done = CliRunner().invoke(cli, ["key", "revoke", "ann", "--why", "lost"], standalone_mode=False)
    assert done.exception is None, done.exception
    with pytest.raises(NotTrusted, match="revoked"):
        signed.require(load_playbook(path), POLICY)


def test_includes_count(path: Path) -> None:
    outer = path.with_name("outer.yaml")
    outer.write_text(
        TEXT.replace("{id: a, uses: container.freeze}", "{id: a, include: ./own.yaml}, {id: b, include: release}")
    )
    vouch(outer, "ann")
    with pytest.raises(NotTrusted, match=r"own\.yaml"):
        signed.require(load_playbook(outer), POLICY)
    vouch(path, "bob")
    assert set(signed.require(load_playbook(outer), POLICY)) == {"own.yaml", "outer.yaml"}
    with pytest.raises(NotTrusted, match=r"release\.yaml"):
        signed.require(load_playbook(outer), Signatures(True, 1, "require"))


def test_a_playbook_of_that_name_is_not_a_shipped_one(tmp_path: Path) -> None:
    own = tmp_path / "contain.yaml"
    own.write_text((resources.shipped("playbooks") / "contain.yaml").read_text())
    assert signed.require(load_playbook(resources.shipped("playbooks") / "contain.yaml"), POLICY) == {}
    with pytest.raises(NotTrusted):
        signed.require(load_playbook(own), POLICY)


def test_from_the_command_line(path: Path) -> None:
    run = CliRunner().invoke
    assert run(cli, ["playbook", "verify", str(path)], standalone_mode=False).return_value == 3
    run(cli, ["key", "generate", "--name", "plans", "--use", "playbook"], standalone_mode=False)
    done = run(cli, ["playbook", "sign", str(path), "--key", "plans"], standalone_mode=False)
    assert done.return_value == 0 and Path(done.output.strip()).is_file(), done.exception
    done = run(cli, ["playbook", "verify", str(path)], standalone_mode=False)
    assert done.return_value == 0 and "signed by plans" in done.output
