"""Killed at every record of the journal and at random times, a run resumes to the same end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from irkit.playbook.journal import read_journal

from .conftest import Lab

KILLED = """
import os, signal, sys
from irkit.playbook import journal
at, before, written = int(sys.argv.pop(1)), sys.argv.pop(1) == "before", journal.Journal.write
count = 0
def write(self, kind, **facts):
    global count
    count += 1
    if before and count == at: os.kill(os.getpid(), signal.SIGKILL)
    written(self, kind, **facts)
    if count == at: os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.write = write
from irkit.cli.main import main
main()
"""


def case_of(lab: Lab, name: str) -> Path:
    (found,) = [path for path in (lab.home / "cases").iterdir() if name in path.name]
    return found


def end_of(lab: Lab, name: str, run: dict[str, Any]) -> dict[str, Any]:
    """What must be the same however often the run was cut off."""
    assert lab.irkit("bundle", "verify", run["bundle"]["path"]).code == 0
    index = json.loads((Path(run["bundle"]["path"]) / "data/index.json").read_bytes())
    networks = lab.docker("inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}", name).split()
    return {
        "status": run["status"], "quarantine": run["quarantine"]["state"], "networks": len(networks),
        "on": networks[0].startswith("irkit-"), "paused": lab.docker("inspect", "-f", "{{.State.Paused}}", name),
        "steps": [(step["id"], step["outcome"]) for step in run["steps"]], "bundle": run["bundle"]["status"],
        "taken": sorted(one["path"] for one in index["artifacts"] if one["complete"] and not one["path"].startswith("data/interrupted/")),
    }  # fmt: skip


def settled(lab: Lab, name: str) -> dict[str, Any]:
    """Resume until the run ends; the journal's chain holds all the while."""
    case = case_of(lab, name)
    ran = lab.irkit("resume", case.name, "--json", code=None)
    if ran.code not in (0, 4):
        raise AssertionError(f"exit {ran.code}: {ran.err}")
    (run,) = (case / "runs").iterdir()
    rows = list(read_journal(run / "journal.jsonl"))
    ended = [row["id"] for row in rows if row["type"] == "step-finished"]
    assert len(ended) == len(set(ended)), "a step that was done was done again"
    _once(run)
    return end_of(lab, name, ran.json)


def _once(run: Path) -> None:
    """No changing call of the engine succeeded twice."""
    calls = [json.loads(line) for path in sorted(run.glob("calls*.jsonl")) for line in path.read_text().splitlines()]
    done = [
        f"{one['method']} {one['path']}" for one in calls
        if one["method"] not in ("GET", "HEAD") and one["status"] and one["status"] < 300
    ]  # fmt: skip
    assert done and len(done) == len(set(done)), sorted(one for one in done if done.count(one) > 1)


def expected(lab: Lab) -> dict[str, Any]:
    name = lab.run("plain", "--network", lab.network("plain"))
    run = lab.irkit("contain", name, "--json").json
    return end_of(lab, name, run)


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Everything is as without the kill."""
    for key, value in wanted.items():
        assert found[key] == value, key


def killed_at(lab: Lab, name: str, at: int, when: str) -> int:
    argv = [sys.executable, "-c", KILLED, str(at), when, "contain", name, "--json"]
    done = subprocess.run(argv, env=lab.environment, capture_output=True, check=False, timeout=60)
    return done.returncode


RECORDS = 32
"""Of a journal of contain, at most."""
KILLS = int(os.environ.get("IRKIT_KILLS", "0"))
"""How many runs are killed in all (``make kills``: 200): at every boundary, the rest at random times; 0: a few of both."""
EVERY = 1 if KILLS else 4
BATCH = 20
BATCHES = max(1, (KILLS - 2 * RECORDS + BATCH - 1) // BATCH)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_boundaries(lab: Lab, when: str) -> None:
    wanted = expected(lab)
    tried = 0
    for at in range(2 if when == "after" else 3, RECORDS, EVERY):
        name = lab.run(f"k{at}{when}", "--network", lab.network(f"n{at}{when}"))
        if killed_at(lab, name, at, when) != -9:
            break
        same(settled(lab, name), wanted)
        tried += 1
    assert tried >= (25 if KILLS else 5), "a journal of contain has about 30 records: each is a place to be killed at"


def _journal(lab: Lab, name: str) -> list[dict[str, Any]]:
    (path,) = lab.home.glob(f"cases/*{name}*/runs/*/journal.jsonl")
    return list(read_journal(path))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_at_random(lab: Lab, batch: int) -> None:
    wanted = expected(lab)
    chance = random.Random(f"{os.environ.get('IRKIT_SEED', '7')} {batch}")
    runs, killed = BATCH if KILLS else 6, 0
    for number in range(runs):
        name = lab.run(f"r{number}", "--network", lab.network(f"r{number}"))
        process = subprocess.Popen(
            [sys.executable, "-m", "irkit", "contain", name, "--json"],
            env=lab.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not list(lab.home.glob(f"cases/*{name}*/runs/*/journal.jsonl")) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.02, 1.0))
        process.kill()
        process.wait()
        ended = any(row["type"] == "run-finished" for row in _journal(lab, name))
        if process.wait() == -9 and not ended:
            same(settled(lab, name), wanted)
            killed += 1
    assert killed >= runs // 2, "most of them had ended before they were killed"


def test_after_a_signal_the_rest_is_done_in_a_bundle_of_its_own(lab: Lab) -> None:
    name = lab.run("sig", "--network", lab.network("sig"))
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", "contain", name],
        env=lab.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while '"step-finished","id":"processes"' not in "".join(
        path.read_text() for path in lab.home.glob("cases/*/runs/*/journal.jsonl")
    ):
        time.sleep(0.005)
    process.terminate()
    assert process.wait() == 6
    case = case_of(lab, name)
    run = lab.irkit("resume", case.name, "--json", code=None).json
    assert run["quarantine"]["state"] == "proven" and run["bundle"]["path"].endswith("-2")
    for bundle in (case / "bundles").iterdir():
        assert lab.irkit("bundle", "verify", str(bundle)).code == 0
    assert lab.irkit("resume", case.name, code=5).err.count("this run has ended")


def test_what_has_changed_refuses(lab: Lab, tmp_path: Path) -> None:
    name = lab.run("chg", "--network", lab.network("chg"))
    own = tmp_path / "own.yaml"
    text = "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: Own\nsteps:\n  - {id: f, uses: container.freeze}\n  - {id: l, uses: acquire.logs}\n  - {id: s, uses: evidence.seal}\n"
    own.write_text(text)
    argv = [sys.executable, "-c", KILLED, "3", "after", "run", str(own), name]
    assert subprocess.run(argv, env=lab.environment, capture_output=True, check=False).returncode == -9
    case = case_of(lab, name)
    own.write_text(text.replace("name: Own", "name: Other"))
    assert "the playbook is not what it was" in lab.irkit("resume", case.name, code=5).err
    own.write_text(text)
    (journal,) = case.glob("runs/*/journal.jsonl")
    good = journal.read_bytes()
    journal.write_bytes(
        good.replace(b'"freeze', b'"frieze', 1) if b'"freeze' in good else good.replace(b'"f"', b'"g"', 1)
    )
    assert "does not follow" in lab.irkit("resume", case.name, code=3).err
    journal.write_bytes(good + b'{"half a line')
    assert lab.irkit("resume", case.name, "--json").json["status"] == "succeeded"
    lab.docker("rm", "-f", name)
    assert lab.irkit("resume", case.name, code=1).err


def test_an_encrypted_run_is_refused(lab: Lab) -> None:
    name = lab.run("enc")
    recipient = lab.irkit("key", "age", "-o", str(lab.home.parent / "ann.age"), "--json").json["recipient"]
    argv = [sys.executable, "-c", KILLED, "5", "after", "snapshot", name, "--recipient", recipient]
    assert subprocess.run(argv, env=lab.environment, capture_output=True, check=False).returncode == -9
    assert "encrypted its evidence" in lab.irkit("resume", case_of(lab, name).name, code=5).err


def test_a_run_that_does_not_wait_for_its_approval(lab: Lab, tmp_path: Path) -> None:
    name = lab.run("apr", "--network", lab.network("apr"))
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "apiVersion: irkit/v1\nkind: Playbook\nid: plan\nname: Plan\nsteps:\n  - {id: freeze, uses: container.freeze}\n"
        "  - {id: logs, uses: acquire.logs}\n  - {id: seal, uses: evidence.seal}\n  - {id: verify, uses: evidence.verify}\n"
        "  - {id: remove, uses: container.remove, approve: {message: Remove it?, by: [ann]}}\n"
    )
    lab.irkit("key", "generate", "--name", "ann", "--use", "approval")
    run = lab.irkit("run", str(plan), name, "--no-wait", "--json", code=7)
    assert run.json["status"] == "waiting" and "irkit case approve" in run.err
    case = run.json["case"]
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "true"
    assert lab.irkit("resume", case, "--no-wait", code=7).out == run.json["bundle"]["path"] + "\n"
    lab.irkit("case", "approve", case, "remove", "--key", "ann")
    done = lab.irkit("resume", case, "--no-wait", "--json").json
    assert done["status"] == "succeeded" and done["bundle"] == run.json["bundle"]
    assert not lab.docker("ps", "-aq", "--filter", f"name={name}")
    assert "run-waiting" in lab.irkit("case", "show", case).out
