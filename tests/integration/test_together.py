"""On a real engine: collectors at the same time take what they take one after the other; a playbook goes through many targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import Lab

HEAD = "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: Own\n"
PARTS = (
    "{id: tmpfs, uses: acquire.tmpfs, with: {profile: full}}", "{id: files, uses: acquire.filesystem, with: {profile: full}}", "{id: mapped, uses: acquire.mapped, with: {profile: full}}",
    "{id: volumes, uses: acquire.volumes, with: {profile: full}}", "{id: image, uses: acquire.image}", "{id: logs, uses: acquire.logs, with: {profile: full}}",
    "{id: engine, uses: acquire.engine}", "{id: host, uses: acquire.host}",
)  # fmt: skip
ALONE = "".join(f"  - {one}\n" for one in PARTS)
TOGETHER = f"  - id: all\n    parallel: [{', '.join(PARTS)}]\n"
END = "  - {id: seal, uses: evidence.seal}\n  - {id: verify, uses: evidence.verify}\n"
SAME = ("tmpfs", "filesystem", "mapped-files", "volumes", "image", "logs")
"""Collectors whose bytes do not change while the target is frozen; of the others only the names are compared."""


def taken(lab: Lab, name: str, path: Path, steps: str, code: int | None = None) -> dict[str, Any]:
    path.write_text(HEAD + "steps:\n" + steps + END)
    ran = lab.irkit("run", str(path), name, "--json", code=code)
    assert ran.out, ran.err
    run = ran.json
    assert lab.irkit("bundle", "verify", run["bundle"]["path"]).code == 0
    index = json.loads((Path(run["bundle"]["path"]) / "data/index.json").read_bytes())
    rows = [one for one in index["artifacts"] if one["collector"] not in ("run", "custody")]
    return {
        "artifacts": [(one["path"], one["raw"]["sha256"] if one["collector"] in SAME and not one["path"].endswith(".json") else "") for one in rows],
        "gaps": sorted((one["collector"], one["what"]) for one in index["gaps"]), "status": index["status"],
        "steps": {one["id"]: one["outcome"] for one in run["steps"]},
    }  # fmt: skip


def victim(lab: Lab) -> str:
    name = lab.run("v", "--tmpfs", "/secret", "-v", "/data", "--network", lab.network("v"))
    dirty = "for i in 1 2 3 4 5 6 7 8; do head -c 400000 /dev/urandom > /root/f$i; cp /root/f$i /data/; done; cp /root/f1 /secret/; echo hello > /proc/1/fd/1"
    lab.docker("exec", name, "sh", "-c", dirty)
    lab.docker("pause", name)
    return name


def test_the_same_bundle(lab: Lab, tmp_path: Path) -> None:
    name = victim(lab)
    taken(lab, name, tmp_path / "first.yaml", ALONE)  # the first reading sets times of access (relatime)
    alone = taken(lab, name, tmp_path / "alone.yaml", ALONE)
    together = taken(lab, name, tmp_path / "together.yaml", TOGETHER)
    assert len(alone["artifacts"]) > 10 and any(digest for _, digest in alone["artifacts"])
    assert together == alone


def test_a_collector_out_of_time_is_that_one_s_failure(lab: Lab, tmp_path: Path) -> None:
    name = victim(lab)
    late = TOGETHER.replace(
        "uses: acquire.filesystem", "uses: acquire.filesystem, timeout: 0.001, on_failure: continue"
    )
    found = taken(lab, name, tmp_path / "late.yaml", late)
    assert found["status"] == "partial" and found["steps"].pop("files") == "failed"
    assert set(found["steps"].values()) <= {"succeeded", "degraded"}, found["steps"]
    assert any(path.startswith("data/logs/") for path, _ in found["artifacts"])


def test_every_container_of_an_image(lab: Lab, tmp_path: Path) -> None:
    network = lab.network("many")
    names = [lab.run(f"m{number}", "--network", network, image="irkit-dev/web:1") for number in range(3)]
    path = tmp_path / "many.yaml"
    path.write_text(
        HEAD + "vars: {others: {type: list}}\nsteps:\n"
        "  - id: all\n    foreach: ${{ vars.others }}\n    uses: playbook.run\n    with: {playbook: contain, target: '${{ item }}'}\n    on_failure: continue\n    register: done\n"
        "  - {id: count, uses: wait_for, with: {seconds: 0}, when: done.count == 3 and done.failed == 1}\n"
    )  # fmt: skip
    ran = lab.irkit(
        "run", str(path), names[0], "--var", f"others={names[1]},{names[2]},no-such-{lab.token}", "--json", code=4
    ).json
    steps = {one["id"]: one["outcome"] for one in ran["steps"]}
    assert [steps[f"all-{number}"] for number in (1, 2, 3)] == ["degraded", "degraded", "failed"] or steps[
        "all-1"
    ] == "succeeded"
    assert steps["all-3"] == "failed" and steps["count"] == "succeeded"
    for name in names[1:]:
        assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "true"
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", names[0]) == "false"
    cases = lab.irkit("case", "list", "--json").json["cases"]
    assert {one["target"]["name"] for one in cases if one["state"] == "contained"} == set(names[1:])
