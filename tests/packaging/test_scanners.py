"""The real Trivy and the real Syft on a made image, without a network; Trivy with a made database."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

import pytest

from irkit.audit import sbom, scanners
from irkit.audit.looked import Wanted, look
from irkit.audit.policy import Policy
from irkit.audit.programs import Limits, ProgramFailed
from irkit.audit.sbom import Sbom
from irkit.audit.vulnerabilities import Scan, ScanRules, Vulnerability, outcome
from tests.fakes.scanned import OPENSSL, image, trivy_database

ROOT = Path(__file__).parents[2]
BUILT = "2026-11-20T00:00:00Z"
TODAY = datetime.date(2026, 11, 27)
KNOWN = {
    "openssl": {"CVE-2024-0001": ("3.0.13-1~deb12u1", "CRITICAL"), "CVE-2024-0002": ("", "LOW")},
    "zlib1g": {"CVE-2024-0003": ("1:1.0", "HIGH")},
}


def tool(name: str) -> Path:
    done = subprocess.run([ROOT / "scripts" / "get-tools", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH with both, a proxy that nobody answers at, and a cache of our own."""
    monkeypatch.setenv("PATH", ":".join(str(tool(name).parent) for name in ("trivy", "syft")))
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRIVY_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    trivy_database(tmp_path / "cache", KNOWN, BUILT)
    return tmp_path


@pytest.mark.usefixtures("machine")
def test_trivy_and_syft_on_one_image() -> None:
    archive, number = image()
    policy = Policy(vulnerabilities=ScanRules(offline=True))
    told = look(lambda: iter([archive]), number, Wanted(True, "cyclonedx"), policy, Limits(120))
    assert isinstance(told.scan, Scan), told.scan
    assert told.scan.vulnerabilities == (
        Vulnerability("CVE-2024-0001", "openssl", OPENSSL, "3.0.13-1~deb12u1", "critical"),
        Vulnerability("CVE-2024-0002", "openssl", OPENSSL, "", "low"),
    )
    assert (told.scan.version, told.scan.built, told.scan.packages, told.scan.notes) == ("0.76.0", BUILT, 2, ())
    assert json.loads(told.report)["Metadata"]["ImageID"] == number
    assert outcome(told.scan, policy.vulnerabilities, TODAY).severity == "critical"
    assert isinstance(told.sbom, Sbom), told.sbom
    assert (told.sbom.packages, told.sbom.tool) == (2, "syft 1.18.1")
    assert json.loads(told.sbom.data)["metadata"]["component"]["name"] == number


def test_syft_s_three_forms_list_the_same(machine: Path) -> None:
    path = machine / "image.tar"
    path.write_bytes(image()[0])
    assert {form: sbom.make(path, "sha256:a", form, Limits(120)).packages for form in sbom.FORMATS} == dict.fromkeys(
        sbom.FORMATS, 2
    )


@pytest.mark.usefixtures("machine")
def test_an_image_without_packages_is_not_clean() -> None:
    archive, number = image({"bin/app": "x"})
    rules = ScanRules(offline=True)
    told = look(lambda: iter([archive]), number, Wanted(True, ""), Policy(vulnerabilities=rules), Limits(120))
    assert isinstance(told.scan, Scan), told.scan
    assert told.scan.packages == 0
    assert outcome(told.scan, rules, TODAY).state == "unknown"


def test_what_lies_about_hides_nothing(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / ".trivyignore").write_text("CVE-2024-0001\n")
    (machine / "trivy.yaml").write_text("severity: [LOW]\n")
    monkeypatch.chdir(machine)
    monkeypatch.setenv("TRIVY_SEVERITY", "LOW")
    path = machine / "work" / "image.tar"
    path.parent.mkdir()
    path.write_bytes(image()[0])
    found, _ = scanners.scan(path, "sha256:a", ScanRules(offline=True), Limits(120))
    assert {one.id for one in found.vulnerabilities} == {"CVE-2024-0001", "CVE-2024-0002"}


def test_no_database_and_no_image_are_failures(machine: Path) -> None:
    path = machine / "image.tar"
    path.write_bytes(b"no image")
    with pytest.raises(ProgramFailed, match="trivy failed"):
        scanners.scan(path, "sha256:a", ScanRules(offline=True), Limits(120))
    path.write_bytes(image()[0])
    (machine / "cache" / "db" / "trivy.db").unlink()
    with pytest.raises(ProgramFailed, match="trivy failed"):
        scanners.scan(path, "sha256:a", ScanRules(offline=True), Limits(120))
