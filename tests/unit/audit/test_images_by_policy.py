"""Checks of an image by the policy: its age, its base's age, scans and packages; and the policy's own form."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irkit import documents
from irkit.audit.judged import base_reference
from irkit.audit.looked import Wanted, look
from irkit.audit.model import Subject
from irkit.audit.policy import Policy, read_policy
from irkit.audit.programs import Limits
from irkit.audit.run import BY_ID, audit, gate, looked_at
from irkit.audit.sarif import sarif
from irkit.audit.sbom import Sbom
from irkit.audit.vulnerabilities import Scan, Vulnerability
from irkit.engine.fake.engine import FakeEngine
from irkit.errors import EngineError, PlaybookInvalid
from tests.fits import fits

from .test_scanners import DATA, programs, stand_in

assert programs
TODAY = datetime.date(2026, 11, 27)
DIGEST = "sha256:" + "a" * 64
LABELS = {
    "org.opencontainers.image.base.name": "reg.example:5000/debian:12",
    "org.opencontainers.image.base.digest": DIGEST,
}
FULL = """
apiVersion: irkit/v1
kind: AuditPolicy
rebuild: high
max_base_age_days: 30
sbom: cyclonedx
vulnerabilities:
  scanner: grype
  fail_on: medium
  only_fixed: true
  max_database_age_days: 7
  offline: true
  timeout: 60
  ignore:
    - {id: CVE-1, package: "open*", reason: not reached, until: 2027-01-31}
"""


def day(text: str) -> int:
    return int(datetime.datetime.fromisoformat(f"{text}T00:00:00+00:00").timestamp())


def image(**change: Any) -> dict[str, Any]:
    return {
        "Id": DIGEST,
        "Config": {"Labels": LABELS},
        "RootFS": {"Layers": ["a", "b"]},
        "Created": "2026-11-20T00:00:00Z",
        **change,
    }


def answer(check: str, subject: Subject, policy: Policy | None = None) -> tuple[str, str]:
    (found,) = audit([subject], policy or Policy(), TODAY, [check]).findings
    return found.state, found.evidence


def test_a_base_that_the_engine_has_is_proven_by_its_layers() -> None:
    limit = Policy(max_base_age_days=30)
    history = [{"Created": day("2020-01-01")}]
    old = {"Created": "2026-01-01T00:00:00Z", "RootFS": {"Layers": ["a"]}}
    new = {**old, "Created": "2026-11-01T00:00:00Z"}
    other = {**new, "RootFS": {"Layers": ["x"]}}
    more = {**new, "RootFS": {"Layers": ["a", "b", "c"]}}
    state, seen = answer("base-age", Subject("s", image=image(), history=history, base=new), limit)
    assert (state, "whose layers it has" in seen) == ("pass", True)
    assert answer("base-age", Subject("s", image=image(), history=history, base=old), limit)[0] == "fail"
    for liar in (other, more, {**new, "RootFS": {"Layers": []}}):
        state, seen = answer("base-age", Subject("s", image=image(), history=history, base=liar), limit)
        assert (state, "unproven" in seen) == ("fail", True)


def test_the_oldest_step_of_the_history_counts_and_the_epoch_tells_nothing() -> None:
    history = [{"Created": day("2026-11-20")}, {"Created": day("2026-11-01")}, {"Created": 0}]
    limit = Policy(max_base_age_days=26)
    assert answer("base-age", Subject("s", image=image(), history=history), limit)[0] == "pass"
    assert answer("base-age", Subject("s", image=image(), history=history), Policy(max_base_age_days=25))[0] == "fail"
    assert (
        answer("base-age", Subject("s", image=image(), history=[{"Created": day("2999-01-01")}]), limit)[0] == "unknown"
    )
    for nothing in ([{"Created": 0}], [], None):
        assert answer("base-age", Subject("s", image=image(), history=nothing), limit)[0] == "unknown"
        assert answer("base-age", Subject("s", image=image(), history=nothing))[0] == "info"
    assert answer("base-age", Subject("s", image=image(), history=[{"Created": 1 << 80}]), limit)[0] == "unknown"


def test_an_image_s_label_tells_its_age_where_its_own_time_is_the_epoch() -> None:
    made = image(
        Created="1970-01-01T00:00:00Z", Config={"Labels": {"org.opencontainers.image.created": "2026-11-01T00:00:00Z"}}
    )
    assert answer("image-age", Subject("s", image=made), Policy(max_image_age_days=25))[0] == "fail"
    assert answer("image-age", Subject("s", image=made), Policy(max_image_age_days=26))[0] == "pass"


@pytest.mark.parametrize("name", ["../../x", "x y", "", "X", "a/../b", "a" * 300])
def test_a_label_of_another_form_is_asked_of_no_engine(name: str) -> None:
    assert base_reference(image()) == f"reg.example:5000/debian@{DIGEST}"
    labels = {**LABELS, "org.opencontainers.image.base.name": name}
    assert base_reference(image(Config={"Labels": labels})) == ""
    assert (
        base_reference(image(Config={"Labels": {**LABELS, "org.opencontainers.image.base.digest": "sha256:x"}})) == ""
    )


def scan(severity: str = "critical", fixed: str = "2") -> Scan:
    return Scan(
        "trivy", "1", DIGEST, "2026-11-26T00:00:00Z", 3, (Vulnerability("CVE-1", "openssl\x1b", "1", fixed, severity),)
    )


def test_a_refused_vulnerability_closes_the_gate_with_its_own_severity() -> None:
    found = audit([Subject("s", image=image(), scan=scan())], Policy(), TODAY, ["vulnerabilities"])
    assert found.findings[0].check.severity == "critical"
    assert not gate(found, "critical").passed
    fits(found.to_json(), "audit")
    ignored = read_policy(documents.parse(FULL.encode(), "x"), BY_ID)
    assert gate(audit([Subject("s", image=image(), scan=scan())], ignored, TODAY, ["vulnerabilities"]), "low").passed


def test_a_scan_that_could_not_be_made_is_unknown_and_one_that_nobody_asked_for_is_told() -> None:
    state, seen = answer("vulnerabilities", Subject("s", image=image(), scan="no scanner is installed"))
    assert (state, seen) == ("unknown", "no scanner is installed")
    assert answer("vulnerabilities", Subject("s", image=image())) == ("info", "not scanned: `--scan`, or `vulnerabilities` in the policy, asks for it")  # fmt: skip
    assert answer("sbom", Subject("s", image=image(), sbom="syft is not installed"))[0] == "unknown"
    assert answer("sbom", Subject("s", image=image(), sbom=Sbom(DIGEST, "spdx", "syft 1", 0, b"")))[0] == "warn"
    assert answer("sbom", Subject("s", image=image(), sbom=Sbom(DIGEST, "spdx", "syft 1", 7, b"")))[0] == "pass"


def test_what_could_not_be_answered_can_be_excepted() -> None:
    text = (
        "apiVersion: irkit/v1\nkind: AuditPolicy\nexceptions:\n  - {check: '2.7', reason: remote, until: 2026-12-01}\n"
    )
    about = Subject("engine", info={}, host="the engine is remote: its host can't be read from here")
    plain = audit([about], Policy(), TODAY, ["2.7"])
    assert (plain.findings[0].state, plain.findings[0].evidence) == ("unknown", about.host)
    assert not gate(plain, "critical").passed
    policy = read_policy(documents.parse(text.encode(), "x"), BY_ID)
    excepted = audit([about], policy, TODAY, ["2.7"])
    assert excepted.findings[0].state == "excepted"
    assert gate(excepted, "critical").passed


def test_the_policy_is_read_and_its_schema_agrees() -> None:
    policy = read_policy(documents.parse(FULL.encode(), "x"), BY_ID)
    assert (policy.rebuild, policy.max_base_age_days, policy.sbom, policy.scan) == ("high", 30, "cyclonedx", True)
    rules = policy.vulnerabilities
    assert (rules.scanner, rules.fail_on, rules.only_fixed, rules.max_database_age_days) == ("grype", "medium", True, 7)
    assert (rules.offline, rules.seconds, rules.ignore[0].package) == (True, 60, "open*")
    fits(documents.parse(FULL.encode(), "x").plain(), "audit-policy")


@pytest.mark.parametrize(
    "fault", ["scanner: clair", "fail_on: worst", "timeout: 0", "max_database_age_days: -1", "colour: red"]
)
def test_a_faulty_policy_is_refused(fault: str) -> None:
    text = f"apiVersion: irkit/v1\nkind: AuditPolicy\nvulnerabilities:\n  {fault}\n"
    with pytest.raises(PlaybookInvalid, match=r"x:4:\d+: "):
        read_policy(documents.parse(text.encode(), "x"), BY_ID)
    with pytest.raises(jsonschema.ValidationError):
        fits(documents.parse(text.encode(), "x").plain(), "audit-policy")


def test_an_entry_without_reason_or_end_is_refused() -> None:
    for left in ("id", "reason", "until"):
        fields = {"id": "C", "reason": "r", "until": "2027-01-01"}
        fields[left] = "''" if left == "reason" else fields[left]
        words = ", ".join(f"{name}: {value}" for name, value in fields.items() if name != left or left == "reason")
        text = f"apiVersion: irkit/v1\nkind: AuditPolicy\nvulnerabilities:\n  ignore:\n    - {{{words}}}\n"
        with pytest.raises(PlaybookInvalid):
            read_policy(documents.parse(text.encode(), "x"), BY_ID)


def test_an_image_is_saved_read_and_gone(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    stand_in(
        programs,
        "trivy",
        f'[ "$1" != version ] || {{ echo \'{{}}\'; exit; }}\ncat "$3" >{tmp_path}/seen; cat {DATA}/trivy.json',
    )
    document = json.dumps({"bomFormat": "CycloneDX", "components": [{"type": "library"}]})
    stand_in(
        programs, "syft", f'[ "$1" != version ] || {{ echo \'{{"version": "1.18.1"}}\'; exit; }}\necho \'{document}\''
    )
    told = look(lambda: iter((b"ab", b"c")), DIGEST, Wanted(True, "cyclonedx"), Policy(), Limits(20))
    assert isinstance(told.scan, Scan)
    assert isinstance(told.sbom, Sbom)
    assert (told.sbom.packages, told.sbom.tool, told.scan.built) == (1, "syft 1.18.1", "")
    assert (tmp_path / "seen").read_bytes() == b"abc"
    assert json.loads(told.report)["SchemaVersion"] == 2
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_an_image_that_the_engine_does_not_give_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))

    def fails() -> Any:
        raise EngineError("gone")

    told = look(fails, DIGEST, Wanted(True, "spdx"), Policy(), Limits(20))
    assert told.scan == told.sbom == "the image can't be saved: gone"


def test_sarif_tells_each_refused_vulnerability_and_what_is_unknown() -> None:
    subjects = [Subject("s\x1b", image=image(), scan=scan()), Subject("e", info={}, host="remote")]
    log = sarif(audit(subjects, Policy(), TODAY, ["vulnerabilities", "4.1", "4.6", "2.7"]))
    (one,) = log["runs"]
    rules = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    results = {row["ruleId"]: row for row in one["results"]}
    assert set(results) == {"CVE-1", "4.1", "4.6", "2.7"}
    assert all(rules[row["ruleIndex"]] == name for name, row in results.items())
    assert (results["CVE-1"]["level"], results["2.7"]["properties"]["state"]) == ("error", "unknown")
    assert "\x1b" not in json.dumps(log, ensure_ascii=False)
    again = sarif(audit(subjects, Policy(), TODAY, ["vulnerabilities"]))
    assert again["runs"][0]["results"][0]["partialFingerprints"] == results["CVE-1"]["partialFingerprints"]


def test_an_excepted_scan_stays_out_of_sarif() -> None:
    text = "apiVersion: irkit/v1\nkind: AuditPolicy\nexceptions:\n  - {check: vulnerabilities, subject: a, reason: known, until: 2027-01-01}\n"
    policy = read_policy(documents.parse(text.encode(), "x"), BY_ID)
    for name, count in (("a", 0), ("b", 1)):
        found = audit([Subject(name, image=image(), scan=scan())], policy, TODAY, ["vulnerabilities"])
        assert len(sarif(found)["runs"][0]["results"]) == count


def test_an_image_that_is_gone_is_not_an_image_that_nobody_asked_about() -> None:
    engine = FakeEngine("irkit-test/image:1")
    subjects = [Subject("engine", info={}), Subject("c", container={})]
    wanted = Wanted(True, "spdx")
    first, second = looked_at(engine, subjects, wanted, Policy(), Limits(5))
    assert (first.scan, second.scan) == (None, "the engine does not know the image any more")
    assert answer("vulnerabilities", second)[0] == "unknown"
    assert looked_at(engine, subjects, Wanted(), Policy(), Limits(5))[1].scan is None
