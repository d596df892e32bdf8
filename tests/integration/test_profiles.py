"""Profiles on a real engine: what they ask for is in the bundle, what they leave out is named."""

from __future__ import annotations

import hashlib
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


def test_what_runs_is_kept_though_it_was_deleted(lab: Lab) -> None:
    name = lab.run("gone", "--tmpfs", "/opt:exec")
    script = "cp /bin/busybox /opt/sleep && (/opt/sleep 600 >/dev/null 2>&1 &) ; sleep 0.3; rm /opt/sleep"
    lab.docker("exec", name, "sh", "-c", script)
    run = lab.irkit("contain", name, "--json").json
    assert run["status"] == "succeeded" and run["quarantine"]["state"] == "proven"
    reader = BundleReader(Path(run["bundle"]["path"]))
    (row,) = [row for row in reader.json("process/mapped.json") if row["path"] == "/opt/sleep"]
    assert row["deleted"] and row["memory"] and row["held"] == "mapped"
    data = b"".join(reader.stream(row["artifact"].removeprefix("data/").removesuffix(".zst")))
    assert hashlib.sha256(data).hexdigest() == row["sha256"] and data.startswith(b"\x7fELF")
    (hidden,) = [one for one in reader.json("process/processes.json") if one["pid"] in row["pids"]]
    assert hidden["exe"]["sha256"] == row["sha256"]
    mounts = reader.json("process/mounts.json")[hidden["namespaces"]["mnt"]]
    assert {"/", "/dev/shm", "/proc"} <= {mount["point"] for mount in mounts}
    tables = reader.json("network/ip.json")
    assert any(route["dst"] == "default" for route in tables["routes"]), "read before the networks were left"
    assert reader.json("host/facts.json")["kernel"] and "synchronised" in reader.json("host/facts.json")["clock"]


def test_a_checkpoint_is_refused_clearly(lab: Lab, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "apiVersion: irkit/v1\nkind: Profile\nid: own\ncollectors:\n  isolated:\n"
        "    - {collect: memory, which: yara, limit_bytes: 1000000000}\n"
        "    - {collect: checkpoint, limit_bytes: 1000000000}\n"
    )
    name = lab.run("ckpt")
    run = lab.irkit("contain", name, "--var", f"profile={own}", "--json", code=4).json
    assert [gap["why"] for gap in run["gaps"]] == [
        'the engine makes no checkpoints: Docker needs "experimental": true in its configuration and criu on its host'
    ]
    assert run["quarantine"]["state"] == "proven"
    rows = BundleReader(Path(run["bundle"]["path"])).json("memory/index.json")
    assert rows and all(row["left_out"] == "no rule hit" for row in rows)
