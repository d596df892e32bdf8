"""Reports of Trivy, Grype and Docker Scout, and programs that behave badly.  Stand-ins print recorded reports: the
real Trivy and Syft run in tests/packaging."""

from __future__ import annotations

import contextlib
import datetime
import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.audit import sbom
from irkit.audit.programs import Limits, ProgramFailed, run
from irkit.audit.scanners import SCANNERS, choose, parse, scan
from irkit.audit.vulnerabilities import ALL_SEVERITIES, Ignored, Scan, ScanRules, Vulnerability, judge, outcome

DATA = Path(__file__).parents[2] / "data" / "scanners"
REPORTS = {"trivy": "trivy.json", "grype": "grype.json", "scout": "scout.sarif.json"}
TODAY = datetime.date(2026, 11, 27)
OPENSSL = Vulnerability("CVE-2024-0001", "openssl", "3.0.11-1~deb12u1", "3.0.13-1~deb12u1", "critical")
FOUND = {
    "trivy": [OPENSSL, Vulnerability("CVE-2024-0002", "openssl", "3.0.11-1~deb12u1", "", "low")],
    "grype": [
        OPENSSL,
        Vulnerability("CVE-2024-0002", "openssl", "3.0.11-1~deb12u1", "", "negligible"),
        Vulnerability("CVE-2024-0003", "zlib1g", "1:1.2.13.dfsg-1", "", "unknown"),
    ],
    "scout": [
        OPENSSL,
        Vulnerability("CVE-2024-0005", "golang.org/x/crypto", "0.17.0", "0.17.1", "high"),
        Vulnerability("CVE-2024-0005", "zlib", "1:1.2.13.dfsg-1", "", "high"),
        Vulnerability("CVE-2024-0006", "zlib", "1:1.2.13.dfsg-1", "", "unknown"),
    ],
}


def raw(name: str) -> Any:
    return json.loads((DATA / REPORTS[name]).read_text(encoding="utf-8"))


def read(name: str, document: Any) -> Scan:
    return parse(SCANNERS[name], json.dumps(document).encode())


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_read(name: str) -> None:
    assert sorted(read(name, raw(name)).vulnerabilities) == sorted(FOUND[name])


def test_what_a_report_says_of_itself() -> None:
    assert read("trivy", raw("trivy")).packages == 2
    grype = read("grype", raw("grype"))
    assert (grype.version, grype.built[:10]) == ("0.87.0", "2026-11-20")
    assert grype.notes == ("1 hidden by the scanner's own configuration",)
    older = raw("grype")
    older["descriptor"]["db"] = {"built": "2025-01-02T00:00:00Z", "schemaVersion": 5}
    assert read("grype", older).built[:10] == "2025-01-02"
    ended = raw("trivy")
    ended["Metadata"]["OS"]["EOSL"] = True
    assert "no more security updates" in read("trivy", ended).notes[0]
    nothing = raw("trivy")
    del nothing["Metadata"]["OS"], nothing["Results"]
    silent = raw("scout")
    silent["runs"][0]["results"] = []
    assert outcome(read("scout", silent), ScanRules(), TODAY).state == "warn"
    half = raw("trivy")
    half["Results"][0]["Vulnerabilities"][0]["PkgName"] = "a\ud800"
    assert read("trivy", half).vulnerabilities[0].package == "a\\ud800"
    bare = read("trivy", nothing)
    assert bare.packages == 0
    assert outcome(bare, ScanRules(), TODAY).state == "unknown"


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("document", [{}, [], 1, None, {"runs": []}, {"matches": [1]}, {"SchemaVersion": 2, "Results": [{"Vulnerabilities": [{}]}]}, {"SchemaVersion": 1, "Results": []}])  # fmt: skip
def test_a_report_of_another_form_is_never_taken_for_a_good_one(name: str, document: Any) -> None:
    with pytest.raises(ProgramFailed):
        read(name, document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=10), one, max_size=4),
    max_leaves=10,
)


def mutated(document: Any, draw: Any) -> Any:
    """The document with one value, chosen at any depth, replaced or left out."""
    at, inside = document, True
    while inside:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return document
        key = draw(st.sampled_from(keys))
        inside = isinstance(at[key], dict | list) and bool(at[key]) and draw(st.integers(0, 9)) > 0
        if inside:
            at = at[key]
        elif draw(st.booleans()):
            at[key] = draw(JSON)
        else:
            del at[key]
    return document


@pytest.mark.parametrize("name", REPORTS)
@given(data=st.data())
def test_no_report_breaks_a_reader_or_loses_its_bounds(name: str, data: Any) -> None:
    try:
        found = read(name, mutated(raw(name), data.draw))
    except ProgramFailed:
        return
    for one in found.vulnerabilities:
        assert one.severity in ALL_SEVERITIES
        assert max(len(one.id), len(one.package), len(one.version), len(one.fixed)) <= 512
        "".join((one.id, one.package, one.version, one.fixed, *found.notes, found.version, found.built)).encode()
    outcome(found, ScanRules(max_database_age_days=1), TODAY)


@pytest.mark.parametrize("name", REPORTS)
def test_bytes_that_are_no_json(name: str) -> None:
    for text in (b"", b"{", b"\xff\xfe", b"[" * 200_000):
        with pytest.raises(ProgramFailed):
            parse(SCANNERS[name], text)


def made(*severities: str, fixed: str = "2", packages: int | None = 9, built: str = "2026-11-26T00:00:00Z") -> Scan:
    rows = tuple(Vulnerability(f"CVE-{number}", "p", "1", fixed, one) for number, one in enumerate(severities))
    return Scan("trivy", "1", "sha256:a", built, packages, rows)


def test_the_policy_s_threshold() -> None:
    assert outcome(made("critical", "low"), ScanRules(fail_on="high"), TODAY).state == "fail"
    assert outcome(made("critical"), ScanRules(), TODAY).severity == "critical"
    assert outcome(made("medium", "low", "negligible"), ScanRules(fail_on="high"), TODAY).state == "pass"
    assert outcome(made("medium"), ScanRules(fail_on="medium"), TODAY).severity == "medium"
    assert outcome(made("high", fixed=""), ScanRules(only_fixed=True), TODAY).state == "pass"
    assert outcome(made("high", fixed=""), ScanRules(), TODAY).state == "fail"
    assert outcome(made("unknown"), ScanRules(), TODAY).state == "warn"


def test_an_old_or_undated_database_is_no_pass() -> None:
    rules = ScanRules(max_database_age_days=7)
    assert outcome(made(), rules, TODAY).state == "pass"
    assert outcome(made(built="2026-11-01T00:00:00Z"), rules, TODAY).state == "unknown"
    assert outcome(made(built=""), rules, TODAY).state == "unknown"
    assert outcome(made(built="2999-01-01T00:00:00Z"), rules, TODAY).state == "unknown"
    assert outcome(made("critical", built=""), rules, TODAY).state == "fail"


def test_ignored_up_to_its_day_and_in_its_package_alone() -> None:
    rules = ScanRules(ignore=(Ignored("CVE-0", "p", "not reached", TODAY),))
    assert [one.state for one in judge(made("high"), rules, TODAY)] == ["ignored"]
    assert outcome(made("high"), rules, TODAY).state == "pass"
    assert outcome(made("high"), rules, TODAY + datetime.timedelta(days=1)).state == "fail"
    assert outcome(made("high", "high"), rules, TODAY).state == "fail"
    other = ScanRules(ignore=(Ignored("CVE-0", "q*", "not reached", TODAY),))
    assert outcome(made("high"), other, TODAY).state == "fail"


def stand_in(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is PATH's first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    path = folder / "image.tar"
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(("name", "program"), [("trivy", "trivy"), ("grype", "grype"), ("scout", "docker")])
def test_a_scanner_gets_an_archive_and_nothing_that_it_could_pull_or_obey(
    name: str, program: str, programs: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    version = '{"Version":"0.76.0","VulnerabilityDB":{"UpdatedAt":"2026-11-20T00:00:00Z"}}'
    stand_in(programs, program, f"[ \"$1\" != version ] || {{ echo '{version}'; exit; }}\n(echo \"$@\"; ls -A; env) >{told}\ncat {DATA / REPORTS[name]}")  # fmt: skip
    monkeypatch.setenv("TRIVY_SEVERITY", "CRITICAL")
    monkeypatch.setenv("GRYPE_ONLY_FIXED", "true")
    found, report = scan(archive, "sha256:a", ScanRules(scanner=name), Limits(20))
    assert sorted(found.vulnerabilities) == sorted(FOUND[name])
    assert found.image == "sha256:a"
    assert json.loads(report) == raw(name)
    words = told.read_text(encoding="utf-8")
    assert f"{archive}\n" in words or f"{archive} " in words
    assert "sha256:a" not in words
    assert "TRIVY_SEVERITY" not in words
    assert "GRYPE_ONLY_FIXED" not in words
    assert not list((archive.parent / "empty").iterdir())
    if name == "trivy":
        assert (found.version, found.built) == ("0.76.0", "2026-11-20T00:00:00Z")
    if name != "scout":
        scan(archive, "sha256:a", ScanRules(scanner=name, offline=True), Limits(20))
        switch = {"trivy": "TRIVY_SKIP_DB_UPDATE=true", "grype": "GRYPE_DB_AUTO_UPDATE=false"}[name]
        assert switch in told.read_text(encoding="utf-8")
        assert switch not in words


def test_auto_takes_the_first_and_never_one_that_sends_the_image_away(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs))
    stand_in(programs, "docker", "exit 0")
    with pytest.raises(ProgramFailed, match="trivy and grype not on PATH"):
        choose(ScanRules())
    stand_in(programs, "grype", "exit 0")
    assert choose(ScanRules())[0].name == "grype"
    stand_in(programs, "trivy", "exit 0")
    assert choose(ScanRules())[0].name == "trivy"
    assert choose(ScanRules(scanner="scout"))[0].name == "scout"
    with pytest.raises(ProgramFailed, match="offline"):
        choose(ScanRules(scanner="scout", offline=True))


@pytest.mark.thorough
def test_a_program_that_fails_hangs_or_floods(programs: Path, archive: Path) -> None:
    bad = str(stand_in(programs, "bad", "echo first >&2; printf 'no \\033[31mdatabase\\n' >&2; exit 3"))
    with pytest.raises(ProgramFailed, match=r"bad failed \(3\): no \\x1b\[31mdatabase"):
        run([bad], archive.parent, Limits(20))
    child = archive.parent / "child"
    slow = str(stand_in(programs, "slow", f"sleep 60 & echo $! >{child}; sleep 60"))
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match="took longer than 1 seconds"):
        run([slow], archive.parent, Limits(1))
    assert time.monotonic() - began < 10
    time.sleep(0.1)
    state = Path(f"/proc/{child.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    flood = str(stand_in(programs, "flood", "yes"))
    with pytest.raises(ProgramFailed, match="more than 1000000 bytes"):
        run([flood], archive.parent, Limits(20, 1_000_000))
    quiet = str(stand_in(programs, "quiet", "exec >&- 2>&-; sleep 60"))
    with pytest.raises(ProgramFailed, match="longer"):
        run([quiet], archive.parent, Limits(1))
    with pytest.raises(ProgramFailed, match="can't be started"):
        run([str(programs / "none")], archive.parent, Limits(1))


def test_a_signal_ends_a_program(programs: Path, archive: Path) -> None:
    slow = str(stand_in(programs, "slow", "sleep 60"))

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run([slow], archive.parent, Limits(60, checkpoint=stop))


def test_packages_are_counted_in_each_form_of_sbom() -> None:
    component = {"type": "library", "name": "a"}
    documents: dict[str, Any] = {
        "syft": {"artifacts": [{"name": "a"}, {"name": "b"}], "schema": {"version": "16.0.18"}},
        "cyclonedx": {"bomFormat": "CycloneDX", "components": [component, component, {"type": "operating-system"}, {"type": "file"}]},
        "spdx": {
            "spdxVersion": "SPDX-2.3", "packages": [{"SPDXID": "a"}, {"SPDXID": "b"}, {"SPDXID": "root"}],
            "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": "root", "relationshipType": "DESCRIBES"}],
        },
    }  # fmt: skip
    for form, document in documents.items():
        assert sbom.read(json.dumps(document).encode(), form) == 2
        for other in documents:
            if other != form:
                with pytest.raises(ProgramFailed):
                    sbom.read(json.dumps(document).encode(), other)


@given(document=JSON, form=st.sampled_from(sorted(sbom.FORMATS)))
def test_no_document_breaks_the_count(document: Any, form: str) -> None:
    with contextlib.suppress(ProgramFailed):
        assert sbom.read(json.dumps(document).encode(), form) >= 0
