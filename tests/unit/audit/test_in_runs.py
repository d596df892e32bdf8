"""The audit in a run: as evidence, in the report, and as a rebuild's gate; on a fake engine, with stand-ins for scanners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irkit import schemas
from irkit.actions import auditing
from irkit.audit.policy import Policy
from irkit.audit.rebuilt import of_recipe
from irkit.audit.run import audit
from irkit.cli.main import run as irkit
from irkit.engine.interface import Container
from irkit.errors import CheckFailed
from irkit.evidence import keys
from irkit.evidence.reader import BundleReader
from irkit.evidence.verify import verify_bundle
from irkit.home import home
from tests.fits import fits
from tests.unit.playbook.test_handing import IMAGE, Ended, play

from .test_images_by_policy import TODAY
from .test_scanners import DATA, programs, stand_in

assert programs
HEAD = "apiVersion: irkit/v1\nkind: AuditPolicy\n"
SEAL = "  - {id: seal, uses: evidence.seal}\n"
CHECK = "  - {id: audit, uses: audit.check, register: a}\n"


@pytest.fixture(autouse=True)
def key(irkit_home: Path) -> None:
    keys.generate("default")


def policy(text: str) -> None:
    (home() / "audit.yaml").write_text(HEAD + text, encoding="utf-8")


def scanner(programs: Path) -> None:
    version = '{"Version":"0.76.0","VulnerabilityDB":{"UpdatedAt":"2026-11-20T00:00:00Z"}}'
    stand_in(programs, "trivy", f"[ \"$1\" != version ] || {{ echo '{version}'; exit; }}\ncat {DATA}/trivy.json")
    document = '{"bomFormat":"CycloneDX","components":[{"type":"library","name":"x"}]}'
    stand_in(
        programs, "syft", f'[ "$1" != version ] || {{ echo \'{{"version":"1.18.1"}}\'; exit; }}\necho \'{document}\''
    )


def kept(ended: Ended) -> Any:
    found = BundleReader(ended.bundle).json(auditing.ALL)
    fits(found, "audit")
    return found


def test_it_is_evidence_and_the_report_shows_it(programs: Path, tmp_path: Path) -> None:
    scanner(programs)
    policy("sbom: cyclonedx\nvulnerabilities: {}\n")
    ended = play(CHECK + SEAL)
    assert ended.row("audit")["outcome"] == "succeeded"
    assert ended.registered("audit")["refused"] == 1
    assert verify_bundle(ended.bundle, keys.trusted_keys("evidence")).ok
    found = kept(ended)
    assert [row["state"] for row in found["scans"][0]["vulnerabilities"]] == ["refused", "accepted"]
    reader = BundleReader(ended.bundle)
    assert reader.json(auditing.SCAN_REPORT)["SchemaVersion"] == 2
    assert reader.json("audit/sbom.cdx.json")["bomFormat"] == "CycloneDX"
    page = tmp_path / "page.html"
    assert irkit(["report", str(ended.bundle), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    for word in ('<h2 id="audit">', "CVE-2024-0001", "3.0.13-1~deb12u1", "No new privileges", "syft 1.18.1"):
        assert word in text, word


def test_no_audit_no_section(tmp_path: Path) -> None:
    ended = play("  - {id: engine, uses: acquire.engine}\n" + SEAL)
    assert irkit(["report", str(ended.bundle), "-o", str(tmp_path / "page.html")]) == 0
    assert 'id="audit"' not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_scan_that_can_t_be_made_is_a_gap(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    ended = play("  - {id: audit, uses: audit.check, with: {scan: true}}\n" + SEAL)
    assert ended.row("audit")["outcome"] == "degraded"
    assert "no scanner is installed" in ended.row("audit")["message"]
    gaps = BundleReader(ended.bundle).index["gaps"]
    assert [(one["collector"], one["what"]) for one in gaps if one["collector"] == "audit"] == [
        ("audit", "known vulnerabilities")
    ]


def test_a_threshold_fails_the_step_after_the_evidence_was_written() -> None:
    ended = play("  - {id: audit, uses: audit.check, with: {fail_on: high}, on_failure: continue}\n" + SEAL)
    assert ended.row("audit")["outcome"] == "failed"
    assert kept(ended)["counts"]["unknown"] > 0


def test_after_the_seal_it_is_refused() -> None:
    ended = play(SEAL + "  - {id: audit, uses: audit.check, on_failure: continue}\n")
    assert "sealed already" in ended.row("audit")["message"]


def body(**host: Any) -> dict[str, Any]:
    return {
        "Image": IMAGE,
        "User": "1000",
        "HostConfig": {"Privileged": False, "SecurityOpt": None, "CapAdd": None, **host},
    }


def test_a_rebuild_is_stopped_by_its_policy_alone() -> None:
    context = play(SEAL).context
    auditing.decide(context, "web", body(Privileged=True))
    assert "audit" not in context.facts.result
    policy("rebuild: critical\n")
    with pytest.raises(CheckFailed, match=r"the audit stops the rebuild: 5\.5 on web"):
        auditing.decide(context, "web", body(Privileged=True))
    assert context.facts.result["audit"]["passed"] is False
    written = json.loads((context.run_folder / "audit.json").read_text(encoding="utf-8"))
    fits(written, "audit")
    auditing.decide(context, "web", body())
    assert context.facts.result["audit"]["passed"] is True
    jsonschema.validate(context.facts.result["audit"], schemas.load("run")["properties"]["audit"])


def test_a_vulnerable_image_stops_a_rebuild(programs: Path) -> None:
    scanner(programs)
    context = play(SEAL).context
    policy("rebuild: critical\nvulnerabilities: {}\n")
    with pytest.raises(
        CheckFailed, match="vulnerabilities on web: 1 refused by the policy; worst: CVE-2024-0001 in openssl"
    ):
        auditing.decide(context, "web", body())
    (programs / "trivy").unlink()
    policy("rebuild: high\nvulnerabilities: {scanner: trivy}\n")
    with pytest.raises(CheckFailed, match="no scanner is installed"):
        auditing.decide(context, "web", body())


def test_a_recipe_is_audited_as_the_container_that_it_makes() -> None:
    engine = play(SEAL).context.engine
    mounts = {
        "Binds": ["/etc:/x:ro,rshared", "data:/data"],
        "Mounts": [{"Type": "bind", "Source": "/run/docker.sock", "Target": "/s"}],
    }
    cases: list[tuple[dict[str, Any], str, str]] = [
        (body(**mounts), "5.6", "fail"), (body(**mounts), "5.20", "fail"), (body(**mounts), "5.32", "fail"),
        (body(), "5.6", "pass"), (body(), "5.32", "pass"), (body(NetworkMode="host"), "5.10", "fail"), (body(), "4.1", "pass"),
        ({**body(), "User": ""}, "4.1", "fail"), (body(), "5.7", "info"), (body(), "5.28", "pass"),
    ]  # fmt: skip
    for recipe, check, state in cases:
        made = {**recipe, "Image": engine.image(IMAGE).id}
        subject = of_recipe(engine, "web", made)
        assert audit([subject], Policy(), TODAY, [check]).findings[0].state == state, (check, recipe)


def test_what_comes_by_volumes_from_is_audited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = play(SEAL).context.engine
    made = {**body(VolumesFrom=["peer:ro"]), "Image": engine.image(IMAGE).id}
    assert audit([of_recipe(engine, "web", made)], Policy(), TODAY, ["5.32"]).findings[0].state == "unknown", "no peer"
    peer = Container({"Id": "p", "Mounts": [{"Type": "bind", "Source": "/run/docker.sock", "Destination": "/s"}]})
    monkeypatch.setattr(engine, "container", lambda ref: peer)
    assert audit([of_recipe(engine, "web", made)], Policy(), TODAY, ["5.32"]).findings[0].state == "fail"


def test_a_bundle_that_holds_the_image_is_scanned_offline(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scanner(programs)
    ended = play("  - {id: engine, uses: acquire.engine}\n  - {id: image, uses: acquire.image-save}\n" + SEAL)
    capsys.readouterr()
    irkit(["audit", str(ended.bundle), "--scan", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["vulnerabilities"][0]["id"] for one in found["scans"]] == ["CVE-2024-0001"]
    without = play("  - {id: engine, uses: acquire.engine}\n" + SEAL)
    capsys.readouterr()
    irkit(["audit", str(without.bundle), "--scan", "--check", "vulnerabilities", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["findings"]
    assert (row["state"], "does not hold the image" in row["evidence"]) == ("unknown", True)


def test_how_the_command_prints_and_refuses(programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scanner(programs)
    ended = play("  - {id: engine, uses: acquire.engine}\n  - {id: image, uses: acquire.image-save}\n" + SEAL)
    listed = tmp_path / "web.cdx.json"
    capsys.readouterr()
    irkit(["audit", str(ended.bundle), "--scan", "--sbom", str(listed)])
    printed = capsys.readouterr()
    assert "1 refused, 1 let pass" in printed.out
    assert "CVE-2024-0001  openssl 3.0.11-1~deb12u1: fixed in 3.0.13-1~deb12u1" in printed.out
    assert json.loads(listed.read_text(encoding="utf-8"))["bomFormat"] == "CycloneDX"
    assert irkit(["audit", str(ended.bundle), "--sbom", str(listed)]) == 2
    assert irkit(["audit", "--scan"]) == 2
    capsys.readouterr()
    irkit(["audit", str(ended.bundle), "--scan", "--format", "sarif"])
    assert json.loads(capsys.readouterr().out)["version"] == "2.1.0"
