"""On a real engine: collectors at the same time take what they take one after the other; a playbook goes through many targets."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import zstandard

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


def content(path: Path) -> Any:
    """What does not change from one reading to the next: all but the times of access, which the host sets as it likes."""
    with zstandard.open(path, "rb") as stream:
        if path.name.endswith(".jsonl.zst"):
            rows = [json.loads(line) for line in stream.read().splitlines()]
            return [
                {**row, **{side: timeless(row[side]) for side in ("before", "after") if side in row}} for row in rows
            ]
        if path.name.endswith(".tar.zst"):
            if not (data := stream.read()):
                return None  # cut short: a collector out of time
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                return [member(tar, one) for one in tar]
        return hashlib.sha256(stream.read()).hexdigest()


def timeless(side: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (side or {}).items() if key != "atime_ns"}


def member(tar: tarfile.TarFile, one: tarfile.TarInfo) -> tuple[Any, ...]:
    data = tar.extractfile(one) if one.isreg() else None
    pax = {key: value for key, value in one.pax_headers.items() if key != "atime"}
    return (
        one.name,
        one.type,
        one.mode,
        one.uid,
        one.gid,
        one.linkname,
        one.mtime,
        pax,
        hashlib.sha256(data.read() if data else b"").hexdigest(),
    )


def taken(lab: Lab, name: str, path: Path, steps: str, code: int | None = None) -> dict[str, Any]:
    path.write_text(HEAD + "steps:\n" + steps + END)
    ran = lab.irkit("run", str(path), name, "--json", code=code)
    assert ran.out, ran.err
    run = ran.json
    assert lab.irkit("bundle", "verify", run["bundle"]["path"]).code == 0
    index = json.loads((Path(run["bundle"]["path"]) / "data/index.json").read_bytes())
    rows = [one for one in index["artifacts"] if one["collector"] not in ("run", "custody")]
    return {
        "artifacts": {one["path"]: content(Path(run["bundle"]["path"]) / one["path"]) if one["collector"] in SAME and not one["path"].endswith(".json") else None
                      for one in rows},
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
    alone = taken(lab, name, tmp_path / "alone.yaml", ALONE)
    together = taken(lab, name, tmp_path / "together.yaml", TOGETHER)
    assert len(alone["artifacts"]) > 10 and alone["artifacts"]["data/volumes/0.tar.zst"]
    assert list(together["artifacts"]) == list(alone["artifacts"])
    for path, found in alone["artifacts"].items():
        assert together["artifacts"][path] == found, path
    assert together == alone


def test_a_collector_out_of_time_is_that_one_s_failure(lab: Lab, tmp_path: Path) -> None:
    name = victim(lab)
    late = TOGETHER.replace(
        "uses: acquire.filesystem", "uses: acquire.filesystem, timeout: 0.001, on_failure: continue"
    )
    found = taken(lab, name, tmp_path / "late.yaml", late)
    assert found["status"] == "partial" and found["steps"].pop("files") == "failed"
    assert set(found["steps"].values()) <= {"succeeded", "degraded"}, found["steps"]
    assert any(path.startswith("data/logs/") for path in found["artifacts"])


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
