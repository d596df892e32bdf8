"""Profiles on a real engine: what they ask for is in the bundle, what they leave out is named."""

from __future__ import annotations

import json
from pathlib import Path

from irkit.evidence.reader import BundleReader

from .conftest import Lab

SECRET = b"irkit-secret-of-a-shell"


def test_full_takes_memory(lab: Lab) -> None:
    name = lab.run("mem")
    command = "X=irkit-secret; Y=$X-of-a-shell; (sleep 600; echo $Y) >/dev/null 2>&1 & sleep 0.3"
    lab.docker("exec", name, "sh", "-c", command)
    run = lab.irkit("contain", name, "--var", "profile=full", "--json").json
    assert run["status"] == "succeeded" and run["quarantine"]["state"] == "proven"
    steps = [step["id"] for step in run["steps"]]
    assert steps.index("prove") < steps.index("memory") < steps.index("tmpfs")
    reader = BundleReader(Path(run["bundle"]["path"]))
    cores = [row["path"] for row in reader.index["artifacts"] if row["path"].endswith(".core.zst")]
    assert len(cores) == len(reader.json("process/processes.json")) >= 2
    found = [SECRET in b"".join(reader.stream(path.removeprefix("data/").removesuffix(".zst"))) for path in cores]
    assert any(found)
    assert {row["collector"]: row["outcome"] for row in reader.index["collectors"]}["memory"] == "succeeded"


def test_a_profile_of_ones_own(lab: Lab, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("apiVersion: irkit/v1\nkind: Profile\nid: own\ncollectors:\n  frozen:\n    - {collect: processes}\n")
    name = lab.run("own")
    path = lab.irkit("snapshot", name, "--var", f"profile={own}", "--json").json["bundle"]["path"]
    index = json.loads((Path(path) / "data/index.json").read_bytes())
    assert index["profile"]["id"] == "own"
    outcomes = {row["collector"]: row["outcome"] for row in index["collectors"]}
    assert outcomes.pop("processes") == "succeeded" and set(outcomes.values()) == {"left-out"}
    assert not any(
        row["path"].startswith(("data/logs", "data/filesystem", "data/engine")) for row in index["artifacts"]
    )
