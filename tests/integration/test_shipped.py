"""The shipped playbooks, each run to its end on a real engine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .conftest import WEB, Lab


def state(lab: Lab, name: str) -> str:
    return lab.docker("inspect", "-f", "{{.State.Status}}", name, check=False)


def steps(run: dict) -> dict[str, str]:  # type: ignore[type-arg]
    return {row["id"]: row["outcome"] for row in run["steps"]}


@pytest.mark.parametrize("playbook", ["cryptominer", "web-shell", "leaked-secret"])
def test_contained_with_more_evidence(lab: Lab, playbook: str) -> None:
    name = lab.run("one", "--network", lab.network("net"), "-v", "/data", "-e", "API_TOKEN=s3cr3t-value")
    run = lab.irkit(
        "run", playbook, name, "--json", *(["--var", "wait=1"] if playbook == "leaked-secret" else []), code=None
    ).json
    assert run["quarantine"]["state"] == "proven" and run["bundle"]["status"] == "complete", run
    assert run["status"] in ("succeeded", "degraded") and state(lab, name) == "paused"
    assert Path(run["report"]).is_file()
    collectors = {row["id"] for row in run["steps"]}
    assert collectors >= {"cryptominer": {"contain-memory"}, "web-shell": {"contain-volumes"}}.get(
        playbook, {"rotated"}
    )
    assert "s3cr3t-value" not in json.dumps(run["scope"])


def test_evidence_only_changes_nothing(lab: Lab) -> None:
    name = lab.run("only")
    run = lab.irkit("run", "evidence-only", name, "--json", code=None).json
    assert run["bundle"]["status"] == "complete" and state(lab, name) == "running" and Path(run["report"]).is_file()
    assert steps(run)["audit"] == "succeeded" and 'id="audit"' in Path(run["report"]).read_text(encoding="utf-8")


def test_supply_chain_contains_every_container_of_the_image(lab: Lab) -> None:
    lab.docker("tag", WEB, "bad/image:1")
    names = [lab.run(f"bad{number}", image=WEB) for number in range(3)]
    run = lab.irkit("run", "supply-chain", names[0], "--json", code=None).json
    assert [state(lab, one) for one in names] == ["paused"] * 3, run
    each = next(row for row in run["steps"] if row["id"] == "others")
    assert each["outcome"] == "succeeded", run["steps"]
    assert len(lab.irkit("case", "list", "--json").json["cases"]) == 3


def test_those_who_share_a_volume_are_contained_too(lab: Lab) -> None:
    lab.docker("volume", "create", "irkit-shared")
    try:
        first, second = (lab.run(f"vol{number}", "-v", "irkit-shared:/data") for number in range(2))
        alone = lab.run("alone")
        run = lab.irkit("run", "ransomware-volume", first, "--json", code=None).json
        assert (state(lab, first), state(lab, second), state(lab, alone)) == ("paused", "paused", "running"), run
        third = lab.run("vol3", "-v", "irkit-shared:/data")
        again = lab.irkit("run", "container-escape", third, "--var", "others=true", "--json", code=None).json
        assert steps(again)["volumes-1"] == "skipped", again["steps"]  # contained already
    finally:
        lab.docker("ps", "-aq", "--filter", "volume=irkit-shared")


def agree(lab: Lab, argv: list[str], wanted: list[str]) -> dict:  # type: ignore[type-arg]
    """Run, and approve at another terminal what is asked."""
    lab.irkit("key", "generate", "--name", "ann", "--use", "approval", code=None)  # the second time it is there
    given: list[str] = []
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", *argv, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=lab.environment,
    )

    def approve() -> None:
        while process.poll() is None:
            for one in lab.irkit("case", "pending", "--json").json["requests"]:
                lab.irkit("case", "approve", one["case"], one["step"], "--key", "ann")
                given.append(one["step"])
            time.sleep(0.2)

    other = threading.Thread(target=approve)
    other.start()
    out, err = process.communicate(timeout=120)
    other.join()
    assert given == wanted, err
    result: dict = json.loads(out)  # type: ignore[type-arg]
    return result


def test_eradicate_image(lab: Lab) -> None:
    folder = lab.home / "context"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(f"FROM {WEB}\nLABEL bad=yes\n")
    lab.docker("build", "-q", "-t", "bad/eradicate:1", str(folder))
    lab.docker("tag", "bad/eradicate:1", "bad/eradicate:2")
    name = lab.run("evil", image="bad/eradicate:1")
    other = lab.run("also", image="bad/eradicate:2")
    refused = agree(lab, ["run", "eradicate-image", name], ["eradicate"])
    assert steps(refused)["eradicate"] == "failed" and "no evidence holds them" in refused["error"]["message"]
    assert state(lab, name) == "" and state(lab, other) == "running"
    assert lab.docker("images", "-q", "bad/eradicate").split()
    assert lab.irkit("case", "show", refused["case"], "--json").json["state"] == "eradicated"
    second = agree(lab, ["run", "eradicate-image", other], ["eradicate"])
    assert steps(second)["eradicate"] in ("succeeded", "degraded"), second["steps"]
    assert state(lab, other) == "" and not lab.docker("images", "-q", "bad/eradicate").split()
    assert list(Path(second["bundle"]["path"]).glob("data/image/*"))
    denied = json.loads((lab.home / "denied.json").read_bytes())["denied"]
    assert second["target"]["image_id"] in {row["digest"] for row in denied}


def test_lessons_learned_keeps_the_answers(lab: Lab) -> None:
    name = lab.run("past")
    lab.irkit("contain", name, code=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", "run", "lessons-learned", name, "--json", "--var", "wait=8"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=lab.environment,
    )  # fmt: skip
    while not (asked := lab.irkit("case", "pending", "--json").json["questions"]):
        assert process.poll() is None
        time.sleep(0.1)
    lab.irkit("case", "answer", asked[0]["case"], "root-cause", "an old library")
    out, err = process.communicate(timeout=60)
    run = json.loads(out)
    told = {row["id"]: row["message"] for row in run["steps"]}
    assert told["root-cause"].endswith("answered: an old library") and told["slow"].endswith(
        "answered: not answered"
    ), err
    assert run["status"] == "succeeded"


def test_rebuild_service(lab: Lab) -> None:
    lab.irkit("key", "generate", "--name", "builder", "--use", "image")
    lab.irkit("image", "sign", WEB, "--key", "builder")
    name = lab.run("svc")
    lab.irkit("contain", name, code=None)
    run = agree(lab, ["run", "rebuild-service", name, "--var", f"image={WEB}"], ["agree"])
    assert run["status"] == "succeeded", run
    assert state(lab, name) == "running"
