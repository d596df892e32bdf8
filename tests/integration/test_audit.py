"""Real containers, each wrong in one way; and the private engine's real configuration."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from irkit import schemas

from .conftest import Lab

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
    jsonschema.validate(found, schemas.load("audit"))
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
    jsonschema.validate(found, schemas.load("audit"))
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
