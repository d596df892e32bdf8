"""Real containers, each wrong in one way; and the private engine's real configuration."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.scanned import image, trivy_database
from tests.fits import fits

from .conftest import WEB, Lab

GOOD = (
    "--user", "1000", "--read-only", "--memory", "64m", "--cpu-shares", "512", "--pids-limit", "50", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", "--health-cmd", "true", "--restart", "on-failure:5",
)  # fmt: skip
CASES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "privileged": (("--privileged",), {"5.5", "5.4", "5.22"}),
    "capability": (("--cap-add", "SYS_ADMIN"), {"5.4"}),
    "hostnet": (("--network", "host"), {"5.10"}),
    "hostpid": (("--pid", "host"), {"5.16"}),
    "hostipc": (("--ipc", "host"), {"5.17"}),
    "hostuts": (("--uts", "host"), {"5.21"}),
    "etc": (("-v", "/etc:/host-etc:ro"), {"5.6"}),
    "seccomp": (("--security-opt", "seccomp=unconfined"), {"5.22"}),
    "port": (("-p", "127.0.0.1:881:80"), {"5.8"}),
    "open": (("-p", "18881:80"), {"5.14"}),
    "device": (("--device", "/dev/null:/dev/x"), {"5.18"}),
}


def bad(found: dict[str, Any]) -> set[str]:
    return {row["id"] for row in found["findings"] if row["scope"] == "container" and row["state"] in ("fail", "warn")}


@pytest.fixture
def network(lab: Lab) -> str:
    return lab.network("audited")


def discarded(lab: Lab) -> set[str]:
    """Checks of limits that this engine's kernel can't set: the engine drops them with a warning, and the audit must say so."""
    limits = {"5.11": "MemoryLimit", "5.12": "CPUShares", "5.29": "PidsLimit"}
    return {check for check, name in limits.items() if lab.docker("info", "-f", f"{{{{.{name}}}}}") != "true"}


def audited(lab: Lab, name: str, code: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = lab.irkit("audit", name, "--json", code=code).json
    fits(found, "audit")
    return found


def test_each_fault_is_found_and_none_else(lab: Lab, network: str) -> None:
    good = lab.run("good", *GOOD, "--network", network)
    base = discarded(lab)
    assert bad(audited(lab, good)) == base
    for case, (options, expected) in CASES.items():
        where = () if "--network" in options else ("--network", network)
        name = lab.run(case, *GOOD, *where, *options)
        assert bad(audited(lab, name)) == expected | base, case
        lab.docker("rm", "-f", name)
    unanswered = {row["id"] for row in audited(lab, good)["findings"] if row["state"] == "unknown"}
    assert not unanswered & set.union(*(expected for _, expected in CASES.values()))


def test_a_plain_container_fails_what_it_leaves_to_the_engine(lab: Lab) -> None:
    name = lab.run("plain")
    assert {"5.11", "5.13", "5.26", "5.29", "5.30"} <= bad(audited(lab, name))
    assert lab.irkit("audit", name, "--fail-on", "medium", code=3).code == 3


def test_the_engine_s_real_configuration(lab: Lab) -> None:
    found = lab.irkit("audit", "--json", code=None).json
    fits(found, "audit")
    states = {row["id"]: (row["state"], row["evidence"]) for row in found["findings"]}
    assert states["2.2"][0] == "fail", states["2.2"]
    assert states["2.6"][0] == "pass"
    assert states["2.7"] == ("pass", "it does not listen on TCP")
    assert states["2.16"][0] in ("pass", "fail"), states["2.16"]
    assert states["3.15"][0] in ("pass", "fail"), states["3.15"]
    assert states["2.5"][0] == "pass", states["2.5"]


def test_a_bundle_answers_as_its_container_did(lab: Lab) -> None:
    name = lab.run("kept", "--cap-add", "SYS_ADMIN")
    live = bad(audited(lab, name))
    made = lab.irkit("snapshot", name, "--json", code=None).json
    assert bad(audited(lab, made["bundle"]["path"])) == live


POLICY = "apiVersion: irkit/v1\nkind: AuditPolicy\n"


def tool(name: str) -> str:
    """The folder of a scanner."""
    script = Path(__file__).parents[2] / "scripts" / "get-tools"
    return str(Path(subprocess.run([script, name], capture_output=True, text=True, check=True).stdout.strip()).parent)


def test_an_image_as_this_engine_saves_it_is_scanned_and_listed(lab: Lab, tmp_path: Path) -> None:
    archive, _ = image()
    lab.home.mkdir(exist_ok=True)
    (tmp_path / "image.tar").write_bytes(archive)
    lab.docker("load", "-q", "-i", str(tmp_path / "image.tar"))
    try:
        trivy_database(
            tmp_path / "cache", {"openssl": {"CVE-2024-0001": ("3.0.13-1~deb12u1", "HIGH")}}, "2026-11-20T00:00:00Z"
        )
        (lab.home / "audit.yaml").write_text(POLICY + "vulnerabilities: {offline: true}\n")
        environment = {
            "PATH": f"{tool('trivy')}:{tool('syft')}:{os.environ['PATH']}",
            "TRIVY_CACHE_DIR": str(tmp_path / "cache"),
        }
        listed = tmp_path / "web.spdx.json"
        argv = ("audit", "irkit-test/scanned:1", "--sbom", str(listed), "--fail-on", "high", "--json")
        found = lab.irkit(*argv, env=environment, code=3).json
        fits(found, "audit")
        (scan,) = found["scans"]
        assert [(one["id"], one["package"], one["state"]) for one in scan["vulnerabilities"]] == [
            ("CVE-2024-0001", "openssl", "refused")
        ]
        assert (scan["packages"], found["sboms"][0]["packages"]) == (2, 2)
        assert json.loads(listed.read_text())["spdxVersion"].startswith("SPDX-")
        log = json.loads(
            lab.irkit("audit", "irkit-test/scanned:1", "--format", "sarif", env=environment, code=None).out
        )
        assert "CVE-2024-0001" in {one["ruleId"] for one in log["runs"][0]["results"]}
        assert not list((lab.home / "tmp").iterdir())
    finally:
        lab.docker("rmi", "-f", "irkit-test/scanned:1")


def test_a_rebuild_has_the_audit_s_decision(lab: Lab) -> None:
    name = lab.run("unsafe", "--cap-add", "SYS_ADMIN")
    before = json.loads(lab.docker("inspect", name))[0]["Id"]
    lab.irkit("contain", name, code=None)
    lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    lab.irkit("image", "sign", WEB, "--key", "rel")
    (lab.home / "audit.yaml").write_text(POLICY + "rebuild: high\n")
    plan = lab.irkit("rebuild", name, "--image", WEB, "--plan", "--json", code=3).json
    fits(plan, "rebuild-plan")
    told = lab.irkit("rebuild", name, "--image", WEB, "--plan", code=3).out
    assert "the audit stops it" in told and f"stops: 5.4 on {name}" in told and f"warns: 5.12 on {name}" in told
    assert not list((lab.home / "tmp").glob("*")), "nothing is left of the question"
    refused = lab.irkit("rebuild", name, "--image", WEB, "--json", code=3)
    assert "the audit stops the rebuild" in refused.err and "5.4 on" in refused.err
    assert refused.json["audit"] == plan["audit"], "asked beforehand, the audit says the same"
    assert json.loads(lab.docker("inspect", name))[0]["Id"] == before
    soon = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=2)
    excepted = "".join(f"  - {{check: '{one}', reason: known, until: {soon}}}\n" for one in ("5.4", "4.1"))
    (lab.home / "audit.yaml").write_text(POLICY + "rebuild: high\nexceptions:\n" + excepted)
    plan = lab.irkit("rebuild", name, "--image", WEB, "--plan", "--json").json
    done = lab.irkit("rebuild", name, "--image", WEB, "--json", code=None)
    assert done.json["audit"] == plan["audit"] and not plan["audit"]["reasons"]
    fits(done.json, "run")
    assert done.json["audit"]["passed"] is True and done.json["audit"]["counts"]["excepted"] == 2
    assert json.loads(lab.docker("inspect", name))[0]["Id"] != before
