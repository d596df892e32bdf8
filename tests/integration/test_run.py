"""Playbooks of one's own on a real engine: an approval from another terminal, a rollback, a run that was refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irkit import resources

from .conftest import Lab

HEAD = "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: Own\n"
FREEZE = "  - {id: freeze, uses: container.freeze, approve: {message: Freeze it?, timeout: 60}}\n"


@pytest.mark.parametrize("deny", [False, True])
def test_an_approval_from_another_terminal(lab: Lab, tmp_path: Path, deny: bool) -> None:
    name = lab.run("ask")
    (tmp_path / "own.yaml").write_text(HEAD + "steps:\n" + FREEZE)
    lab.irkit("key", "generate", "--name", "ann", "--use", "approval")
    argv = [sys.executable, "-m", "irkit", "run", str(tmp_path / "own.yaml"), name, "--json"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=lab.environment)
    while not (waiting := lab.irkit("case", "pending", "--json").json["requests"]):
        assert process.poll() is None
        time.sleep(0.1)
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "false"
    assert lab.irkit("case", "approve", waiting[0]["case"], "freeze", code=1).err.count("default") >= 1
    lab.irkit("case", "approve", waiting[0]["case"], "freeze", "--key", "ann", *(["--deny"] if deny else []))
    out, _ = process.communicate(timeout=90)
    assert process.returncode == (5 if deny else 0)
    assert json.loads(out)["steps"][0]["outcome"] == ("failed" if deny else "succeeded")
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == ("false" if deny else "true")
    assert not lab.irkit("case", "pending", "--json").json["requests"]


@pytest.mark.parametrize("undo", [False, True])
def test_a_rollback_leaves_the_containment_unless_asked(lab: Lab, tmp_path: Path, undo: bool) -> None:
    name = lab.run("roll")
    (tmp_path / "own.yaml").write_text(
        HEAD + "steps:\n  - {id: freeze, uses: container.freeze, rollback: {uses: container.thaw}}\n"
        "  - {id: clean, uses: image.verify, with: {image: 'nobody/signed:this'}, on_failure: rollback}\n"
    )
    run = lab.irkit(
        "run", str(tmp_path / "own.yaml"), name, "--json", *(["--undo-containment"] if undo else []), code=None
    ).json
    assert run["status"] == "failed"
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == ("false" if undo else "true")


def test_a_preflight_refuses_before_anything_is_touched(lab: Lab, tmp_path: Path) -> None:
    name = lab.run("pre")
    (tmp_path / "own.yaml").write_text(
        HEAD
        + "preflight:\n  - {check: not target.running, message: stop it first}\nsteps:\n  - {id: f, uses: container.freeze}\n"
    )
    ran = lab.irkit("run", str(tmp_path / "own.yaml"), name, code=5)
    assert "stop it first" in ran.err and lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "false"


GIVEN = {
    **dict.fromkeys(("rebuild", "rebuild-service", "failover", "update-service"), ("--var", "image=irkit-dev/web:1")),
    "restore": ("--var", "source=/srv/backup"),
}


@pytest.mark.parametrize("playbook", sorted(path.stem for path in resources.shipped("playbooks").glob("*.yaml")))
def test_a_dry_run_makes_no_changing_call(lab: Lab, playbook: str) -> None:
    name = lab.run("dry", "--network", lab.network("dry"))
    before = json.loads(lab.docker("inspect", name))[0]
    lab.irkit("run", playbook, name, "--dry-run", *GIVEN.get(playbook, ()), code=None)
    calls = [
        json.loads(line)
        for path in lab.home.glob("cases/*/runs/*/calls.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert calls and {call["method"] for call in calls} <= {"GET", "HEAD"}
    after = json.loads(lab.docker("inspect", name))[0]
    assert after["State"] == before["State"] and after["NetworkSettings"] == before["NetworkSettings"]
