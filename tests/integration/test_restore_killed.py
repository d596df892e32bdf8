"""A restore that is killed: gone on with, nothing twice, and no half volume stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Lab
from .test_restore import backup, victim, volume  # noqa: F401 - a fixture

KILLED = """
import os, signal, sys, time
from irkit.engine.docker import DockerEngine
from irkit.recover.placing import Placer
call, when = sys.argv.pop(1), sys.argv.pop(1)
owner = Placer if call == "finish" else DockerEngine
real = getattr(owner, call)
def killed(*args, **more):
    if when == "before": os.kill(os.getpid(), signal.SIGKILL)
    done = real(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)
def later(*args, made=DockerEngine.create_volume):
    volume = made(*args)
    time.sleep(1.1)  # what the engine calls a volume's time, of a second's precision, may move when it is filled
    return volume
if call != "create_volume": DockerEngine.create_volume = later
setattr(owner, call, killed)
from irkit.cli.main import main
main()
"""


def killed(lab: Lab, call: str, when: str, *argv: str) -> None:
    words = [sys.executable, "-c", KILLED, call, when, *argv]
    done = subprocess.run(words, env=lab.environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == -9, done.stderr.decode()


def restored_volumes(lab: Lab) -> list[str]:
    return [one for one in lab.docker("volume", "ls", "-q").split() if lab.token in one and "restored" in one]


def settled(lab: Lab, web: str, old: str, volume: str) -> None:  # noqa: F811
    """One fresh volume, one container with it that runs, the old one aside with the suspect volume; no record left."""
    (fresh,) = restored_volumes(lab)
    inspected = json.loads(lab.docker("inspect", web))[0]
    assert inspected["Id"] != old and inspected["State"]["Running"]
    assert [one["Name"] for one in inspected["Mounts"]] == [fresh]
    assert lab.docker("exec", web, "cat", "/data/sub/config") == "clean"
    before = json.loads(lab.docker("inspect", old))[0]
    assert before["Name"].startswith(f"/{web}-before-restore-") and before["Name"].count("-before-restore-") == 1
    assert [one["Name"] for one in before["Mounts"]] == [volume] and not before["State"]["Running"]
    named = lab.docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={web}").split()
    assert len(named) == 2, named
    (case,) = (lab.home / "cases").iterdir()
    assert not list((case / "restores").glob("*.begun.json")) and list((case / "restores").glob("*.json"))


PLACES = [
    ("create_volume", "before"), ("create_volume", "after"), ("finish", "before"), ("rename", "before"), ("rename", "after"),
    ("create", "after"), ("connect", "after"), ("start", "after"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "when"), PLACES)
def test_resumed(lab: Lab, volume: str, call: str, when: str) -> None:  # noqa: F811
    source = backup(lab.home / "backup")
    web = victim(lab, volume)
    if call == "connect":  # the second network is joined after the container was made
        lab.docker("network", "connect", lab.network("second"), web)
    lab.docker("stop", "-t", "0", web)
    old = lab.docker("inspect", "-f", "{{.Id}}", web)
    killed(lab, call, when, "restore", web, "--from", str(source))
    made = lab.docker("inspect", "-f", "{{.Id}}", web, check=False) if (call, when) == ("start", "after") else ""
    (case,) = (lab.home / "cases").iterdir()
    done = lab.irkit("resume", case.name, "--json", code=None)
    assert done.code in (0, 4), done.err
    settled(lab, web, old, volume)
    if made:
        assert lab.docker("inspect", "-f", "{{.Id}}", web) == made, "it ran, and was made again"
    (run,) = (case / "runs").iterdir()
    assert Path(done.json["restored"]["path"]) == case / "restores" / f"{run.name}.json"


@pytest.mark.parametrize(("call", "when"), [("create_volume", "after"), ("finish", "before"), ("rename", "before")])
def test_the_same_command_again(lab: Lab, volume: str, call: str, when: str) -> None:  # noqa: F811
    source = backup(lab.home / "backup")
    web = victim(lab, volume)
    lab.docker("stop", "-t", "0", web)
    old = lab.docker("inspect", "-f", "{{.Id}}", web)
    killed(lab, call, when, "restore", web, "--from", str(source))
    (half,) = restored_volumes(lab)
    done = lab.irkit("restore", web, "--from", str(source), "--json", code=None)
    assert done.code in (0, 4), done.err
    assert half not in restored_volumes(lab)
    settled(lab, web, old, volume)


def test_a_label_alone_removes_nothing(lab: Lab, volume: str) -> None:  # noqa: F811
    """A volume that says it is irkit's, and is in no record of the case."""
    source = backup(lab.home / "backup")
    web = victim(lab, volume)
    lab.docker("stop", "-t", "0", web)
    mine = f"{volume}-restored-beef"
    lab.docker("volume", "create", "--label", f"dev.irkit.restored={volume}", mine)
    done = lab.irkit("restore", web, "--from", str(source), code=None)
    assert done.code in (0, 4), done.err
    assert mine in restored_volumes(lab)
