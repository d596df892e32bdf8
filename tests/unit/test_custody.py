"""The chain of custody: every way to alter it is seen, and told by its line."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.cli.main import run
from irkit.errors import EvidenceAltered, UsageProblem
from irkit.evidence import keys, names
from irkit.evidence.custody import Chain, hand_over, read_chain
from irkit.evidence.keys import Signer
from irkit.evidence.seal import seal_bundle
from irkit.evidence.verify import verify_bundle
from irkit.evidence.writer import BundleWriter, Origin
from tests.fits import fits

FACTS = {"case": "c-1", "run": "r-1", "target": {}}


@pytest.fixture(params=["p256", "ed25519"])
def signer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    return keys.generate("default", request.param)


@pytest.fixture
def bundle(tmp_path: Path, signer: Signer) -> Path:
    writer = BundleWriter(tmp_path / "bundle")
    writer.add("logs/stdout.log", (b"x",), Origin("logs", "s", "m"))
    seal_bundle(writer, FACTS, "complete", signer)
    return tmp_path / "bundle"


def chained(bundle: Path, signer: Signer) -> bytes:
    for number in range(3):
        hand_over(bundle, signer, [], to=f"to {number}", why="analysis\x1b[2J")
    return (bundle / names.CUSTODY).read_bytes()


def read(data: bytes, bundle: Path, signer: Signer, head: str = "") -> Chain:
    return read_chain(data, (bundle / names.SEAL).read_bytes(), [signer.public], head)


def test_a_chain_holds(bundle: Path, signer: Signer) -> None:
    chain = read(chained(bundle, signer), bundle, signer)
    assert not chain.problems and [one.seq for one in chain.entries] == [1, 2, 3]
    found = verify_bundle(bundle, [signer.public], chain.head)
    assert found.ok and found.hand_overs == 3 and found.custody_head == chain.head
    fits(found.to_json(), "verify")


@pytest.mark.thorough
def test_every_altered_byte_is_seen(bundle: Path, signer: Signer) -> None:
    data = chained(bundle, signer)
    for place in range(0, len(data), 7):
        other = bytearray(data)
        other[place] ^= 1
        assert read(bytes(other), bundle, signer).problems, place


@pytest.mark.thorough
@pytest.mark.parametrize("order", [(1, 2), (0, 2), (0, 0, 1, 2), (1, 0, 2), (2,)])
def test_dropped_added_and_swapped_lines(bundle: Path, signer: Signer, order: tuple[int, ...]) -> None:
    lines = chained(bundle, signer).splitlines(keepends=True)
    assert read(b"".join(lines[one] for one in order), bundle, signer).problems


def test_a_cut_end_is_told_by_its_head_only(bundle: Path, signer: Signer) -> None:
    data = chained(bundle, signer)
    whole = read(data, bundle, signer)
    cut = b"".join(data.splitlines(keepends=True)[:2])
    assert not read(cut, bundle, signer).problems
    assert "cut at its end" in read(cut, bundle, signer, whole.head).problems[0]
    assert "later hand-overs follow" in read(data, bundle, signer, whole.entries[0].digest).problems[0]
    assert "cut off" in read(data[:-1], bundle, signer).problems[0]
    (bundle / names.CUSTODY).unlink()
    found = verify_bundle(bundle, [signer.public], whole.head)
    assert not found.ok and found.problems[0].file == names.CUSTODY


def test_a_line_of_a_stranger_or_of_another_bundle(bundle: Path, signer: Signer, tmp_path: Path) -> None:
    stranger = keys.generate("stranger")
    hand_over(bundle, stranger, [], to="a", why="b")
    data = (bundle / names.CUSTODY).read_bytes()
    assert "no signature by a trusted key" in read(data, bundle, signer).problems[0]
    with pytest.raises(EvidenceAltered, match="nothing was added"):
        hand_over(bundle, signer, [], to="a", why="b")
    assert "another bundle" in read_chain(data, b"other seal", [stranger.public]).problems[0]


@given(st.binary(max_size=200))
def test_garbage_is_a_problem_never_a_traceback(data: bytes) -> None:
    chain = read_chain(data, b"seal", [])
    assert bool(chain.problems) == bool(data)


def test_hostile_lines(bundle: Path, signer: Signer) -> None:
    for line in (
        b"[" * 60_000 + b"\n",
        b"x" * 100_000 + b"\n",
        b'{"payload": 1, "payloadType": 2, "signatures": []}\n',
        b"\n",
    ):
        assert read(line, bundle, signer).problems
    (bundle / names.CUSTODY).symlink_to("/etc/passwd")
    assert not verify_bundle(bundle, [signer.public]).ok


@pytest.mark.parametrize(("to", "why"), [("", "x"), ("x", " "), ("x" * 5000, "x")])
def test_words_are_needed(bundle: Path, signer: Signer, to: str, why: str) -> None:
    with pytest.raises(UsageProblem):
        hand_over(bundle, signer, [], to=to, why=why)
    assert not (bundle / names.CUSTODY).exists()


def test_commands(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "custody", "show", str(bundle)]) == 0
    assert run(["bundle", "custody", "add", str(bundle), "--to", "Ann\x1b[2J", "--why", "w", "--json"]) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    assert run(["bundle", "custody", "show", str(bundle), "--expect-head", head]) == 0
    text = capsys.readouterr().out
    assert head in text and "\x1b" not in text
    assert run(["bundle", "verify", str(bundle), "--expect-head", head]) == 0
    assert f"1 hand-overs, head {head}" in capsys.readouterr().out
    assert run(["bundle", "verify", str(bundle), "--expect-head", "sha256:0"]) == 3
    (bundle / "data/logs/stdout.log.zst").write_bytes(b"")
    assert run(["bundle", "custody", "add", str(bundle), "--to", "a", "--why", "w"]) == 3
    assert "nothing was added" in capsys.readouterr().err


@pytest.mark.thorough
def test_by_hand(bundle: Path, signer: Signer, tmp_path: Path) -> None:
    """The second block of docs/verify-by-hand.md, run as it stands: openssl and sha256sum alone tell the same."""
    page = (Path(__file__).parents[2] / "docs" / "verify-by-hand.md").read_text()
    script = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0]
    (tmp_path / "key.pem").write_bytes(signer.public.pem)

    def by_hand() -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "BUNDLE": str(bundle), "KEY": str(tmp_path / "key.pem")}
        command = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    data = chained(bundle, signer)
    head = read(data, bundle, signer).head
    done = by_hand()
    assert done.returncode == 0 and done.stdout.endswith(f"3 hand-overs, head {head}\n"), done.stderr
    lines = data.splitlines(keepends=True)
    for other in (lines[0] + lines[2], lines[1], lines[0] * 2, data[:-1], data.replace(b"A", b"B", 1)):
        (bundle / names.CUSTODY).write_bytes(other)
        assert by_hand().returncode != 0
    (bundle / names.CUSTODY).write_bytes(data)
    (bundle / names.SEAL).write_bytes(b"another")
    assert by_hand().returncode != 0
