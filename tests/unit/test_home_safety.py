"""A home that others can write to is not trusted: it holds keys, policies and hooks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from irkit import home as homes
from irkit.errors import Refused
from irkit.evidence.keys import trusted_keys
from irkit.home import home, private_folder
from irkit.home_safety import fault

OTHER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    monkeypatch.setenv("IRKIT_HOME", str(folder))
    return folder


def test_its_own_is_trusted(mine: Path) -> None:
    assert fault(str(mine)) == "", "one that is not there yet"
    (private_folder(home()) / "trust.yaml").write_text("")
    assert fault(str(mine)) == "" and home() == mine
    assert mine.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_one_that_others_can_write_to(mine: Path, mode: int) -> None:
    mine.mkdir()
    mine.chmod(mode)
    with pytest.raises(Refused, match="can be written by others") as caught:
        home()
    assert "chmod" in str(caught.value.hint) and "IRKIT_HOME" in str(caught.value.hint)
    with pytest.raises(Refused):
        list(trusted_keys())
    mine.chmod(0o700)
    assert home() == mine, "once it is mended"


@as_root
def test_one_of_another_user(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.mkdir(mode=0o700)
    os.chown(mine, OTHER, OTHER)
    monkeypatch.setenv("SUDO_UID", str(OTHER))
    with pytest.raises(Refused, match=f"belongs to the user {OTHER}"):
        home()


@as_root
def test_made_by_another_user_between_two_looks(mine: Path) -> None:
    assert home() == mine
    mine.mkdir(mode=0o700)
    os.chown(mine, OTHER, OTHER)
    with pytest.raises(Refused):
        home()


@pytest.mark.parametrize("name", ["trust.yaml", "config.yaml", "keys", "keys/rel.pub", "forensics/rules/x.yaml", "denied.json"])  # fmt: skip
def test_what_is_in_it(mine: Path, name: str) -> None:
    mine.mkdir()
    mine.chmod(0o755)
    path = mine / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "keys":
        path.mkdir()
    else:
        path.write_text("")
    for at in (path.parent, path):
        at.chmod(0o755)
    assert fault(str(mine)) == ""
    path.chmod(0o777)
    assert fault(str(mine)) == f"{path} can be written by others (mode 0777)"
    mine.chmod(0o700)
    assert fault(str(mine)) == "", "nobody else comes there"


@as_root
def test_what_is_in_it_of_another_user(mine: Path) -> None:
    mine.mkdir()
    mine.chmod(0o755)
    (mine / "trust.yaml").write_text("")
    os.chown(mine / "trust.yaml", OTHER, OTHER)
    assert f"{mine}/trust.yaml belongs to" in fault(str(mine))
    (mine / "trust.yaml").unlink()
    theirs = mine.parent / "theirs"
    theirs.write_text("")
    os.chown(theirs, OTHER, OTHER)
    (mine / "trust.yaml").symlink_to(theirs)
    assert f"{mine}/trust.yaml belongs to" in fault(str(mine)), "a link is what it leads to"
    (mine / "trust.yaml").unlink()
    (mine / "gone").symlink_to("nowhere")
    assert fault(str(mine)) == ""


def test_the_way_to_it(tmp_path: Path) -> None:
    above = tmp_path / "above"
    (above / "home").mkdir(parents=True)
    (above / "home").chmod(0o700)
    assert fault(str(above / "home")) == ""
    above.chmod(0o777)
    assert fault(str(above / "home")) == f"{above}, on the way to it, can be written by others"
    above.chmod(0o1777)
    assert fault(str(above / "home")) == "", "in a sticky folder only its owner can rename it"
    above.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(above / "home")
    assert fault(str(link)) == ""
    above.chmod(0o777)
    assert "on the way" in fault(str(link)), "the folder that is meant, too"


@as_root
@pytest.mark.parametrize("what", ["folder", "link"])
def test_the_way_is_another_user_s(tmp_path: Path, what: str) -> None:
    (tmp_path / "real" / "home").mkdir(parents=True, mode=0o700)
    theirs = tmp_path / "theirs"
    if what == "folder":
        theirs = tmp_path / "real"
    else:
        theirs.symlink_to(tmp_path / "real")
    os.chown(theirs, OTHER, OTHER, follow_symlinks=False)
    assert fault(str(theirs / "home")) == f"{theirs}, on the way to it, belongs to the user {OTHER}"


@pytest.mark.thorough
def test_a_command_refuses_and_doctor_tells(mine: Path) -> None:
    mine.mkdir()
    mine.chmod(0o777)

    def irkit(*argv: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "irkit", *argv]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    done = irkit("key", "list")
    assert (done.returncode, done.stdout) == (5, "") and "is not trusted" in done.stderr and "hint:" in done.stderr
    assert "is not trusted" in irkit("doctor").stdout
    assert irkit("key", "--help").returncode == 0


def test_it_is_looked_at_once(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.mkdir(mode=0o700)
    home()
    monkeypatch.setattr(homes.home_safety, "fault", lambda name: pytest.fail("again"))
    home()
