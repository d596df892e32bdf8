"""RFC 3161: asked for over HTTP, held against an authority, read by openssl too; down, lying and broken authorities."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from irkit.cli.main import run
from irkit.errors import CheckFailed, IrkitError, KeyProblem, UsageProblem
from irkit.evidence import dsse, keys, names, timestamp
from irkit.evidence.keys import Signer
from irkit.evidence.timestamp import ask, certificates_from, check
from irkit.evidence.verify import verify_bundle
from tests.fakes.bundle import make_bundle
from tests.fakes.tsa import Authority
from tests.fits import fits


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with Authority(tmp_path_factory.mktemp("tsa")).serving() as served:
        yield served


@pytest.fixture
def signer() -> Signer:
    return keys.generate("default")


@pytest.fixture
def bundle(tmp_path: Path, signer: Signer) -> Path:
    return make_bundle(tmp_path / "b", signer)


def stamp(bundle: Path, authority: Authority, *words: str) -> int:
    return run(["bundle", "timestamp", str(bundle), "--tsa", authority.url, "--tsa-cert", str(authority.root), *words])


def signature(bundle: Path) -> bytes:
    return dsse.parse((bundle / names.SEAL).read_bytes()).signatures[0]


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_stamped_bundle(bundle: Path, authority: Authority, signer: Signer, form: str, tmp_path: Path) -> None:
    if form == "tar":
        assert run(["bundle", "create", str(bundle), "-o", str(tmp_path / "b.tar")]) == 0
        bundle = tmp_path / "b.tar"
    assert stamp(bundle, authority) == 0
    found = verify_bundle(bundle, [signer.public], tsa=certificates_from(authority.root))
    assert found.ok and found.stamp.state == "valid", found.problems
    assert found.signed == found.stamp.time and found.to_json()["signed"]["by"] == "timestamp"
    fits(found.to_json(), "verify")
    unchecked = verify_bundle(bundle, [signer.public])
    assert unchecked.ok and unchecked.stamp.state == "unchecked" and unchecked.to_json()["signed"]["by"] == "claim"


def test_openssl_says_the_same(bundle: Path, authority: Authority, tmp_path: Path) -> None:
    assert stamp(bundle, authority) == 0
    (tmp_path / "sig").write_bytes(signature(bundle))
    words = [
        "openssl",
        "ts",
        "-verify",
        "-in",
        bundle / names.TIMESTAMP,
        "-data",
        tmp_path / "sig",
        "-CAfile",
        authority.root,
    ]
    assert b"Verification: OK" in subprocess.run(words, capture_output=True, check=True).stdout
    inside = json.loads((bundle / names.SIGSTORE_SEAL).read_bytes())["verificationMaterial"][
        "timestampVerificationData"
    ]
    assert (
        base64.b64decode(inside["rfc3161Timestamps"][0]["signedTimestamp"]) == (bundle / names.TIMESTAMP).read_bytes()
    )


def test_an_authority_can_be_trusted_for_good(
    bundle: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["key", "trust", str(authority.root), "--name", "root", "--use", "tsa"]) == 0
    assert run(["key", "trust", str(authority.root), "--name", "root", "--use", "tsa"]) == 2
    assert run(["bundle", "timestamp", str(bundle), "--tsa", authority.url]) == 0
    capsys.readouterr()
    assert run(["bundle", "verify", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["timestamp"]["state"] == "valid"
    assert run(["bundle", "verify", str(bundle)]) == 0
    assert "a timestamp proves" in capsys.readouterr().out
    assert run(["key", "revoke", "default", "--at", "2100-01-01", "--why", "stolen"]) == 0
    assert run(["report", str(bundle), "-o", str(bundle.parent / "page.html")]) == 0, (
        "every command knows the authority"
    )


def test_a_second_one_must_be_asked_for(bundle: Path, authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    assert stamp(bundle, authority) == 0
    first = (bundle / names.TIMESTAMP).read_bytes()
    assert stamp(bundle, authority) == 2 and (bundle / names.TIMESTAMP).read_bytes() == first
    assert stamp(bundle, authority, "--replace") == 0 and (bundle / names.TIMESTAMP).read_bytes() != first
    (bundle / names.SIGSTORE_SEAL).write_bytes(b"a crash between the two writes")
    assert stamp(bundle, authority) == 3
    assert stamp(bundle, authority, "--replace") == 0
    assert run(["bundle", "verify", str(bundle), "--tsa-cert", str(authority.root)]) == 0


def test_an_authority_that_is_down_leaves_the_bundle_valid(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "timestamp", str(bundle), "--tsa", "http://127.0.0.1:1/"]) == 1
    error = capsys.readouterr().err
    assert "can't be reached" in error and "as it was, and valid" in error
    assert not (bundle / names.TIMESTAMP).exists()
    assert run(["bundle", "verify", str(bundle)]) == 0


@pytest.mark.parametrize("answer", [b"", b"<html>", b"\x30\x80", b"\x30\x05\x30\x03\x02\x01\x02", b"\0" * 2_000_000])
def test_nonsense_for_an_answer(bundle: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Authority, "__init__", lambda self: None)
    monkeypatch.setattr(Authority, "answer", lambda self, query: answer)
    with Authority().serving() as liar, pytest.raises(IrkitError) as caught:  # type: ignore[call-arg]
        ask(liar.url, signature(bundle), [])
    assert not isinstance(caught.value, CheckFailed)


def test_an_answer_to_another_question(
    bundle: Path, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    roots = certificates_from(authority.root)
    for data, why in ((b"other", "something else"), (signature(bundle), "nonce")):
        old = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
        reply = authority.answer(old.as_bytes())
        monkeypatch.setattr(timestamp, "_post", lambda url, body, reply=reply: reply)
        with pytest.raises(CheckFailed, match=why):
            ask(authority.url, signature(bundle), roots)


def test_a_foreign_authority_is_not_believed(
    bundle: Path, authority: Authority, signer: Signer, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    assert stamp(bundle, authority) == 0
    found = verify_bundle(bundle, [signer.public], tsa=certificates_from(other.root))
    assert [one.file for one in found.problems] == [names.TIMESTAMP] and found.stamp.state == "invalid"
    both = [*certificates_from(other.root), *certificates_from(authority.root)]
    assert verify_bundle(bundle, [signer.public], tsa=both).stamp.state == "valid"
    with pytest.raises(CheckFailed, match="no trusted authority"):
        ask(authority.url, signature(bundle), certificates_from(other.root))


def test_unreadable_is_not_invalid(bundle: Path, authority: Authority) -> None:
    assert check(b"\x30\x03abc", b"s", []).state == "unreadable"
    assert stamp(bundle, authority) == 0
    token = (bundle / names.TIMESTAMP).read_bytes()
    assert check(token[:-1], signature(bundle), []).state == "unreadable"
    assert check(token, b"another", []).state == "invalid"


@pytest.mark.thorough
def test_every_altered_byte_ends_in_a_state(bundle: Path, authority: Authority) -> None:
    """No byte makes the parser raise; none of what the authority signed can be another one."""
    assert stamp(bundle, authority) == 0
    roots, token, mark = certificates_from(authority.root), (bundle / names.TIMESTAMP).read_bytes(), signature(bundle)
    first = check(token, mark, roots)
    for place in range(len(token)):
        other = bytearray(token)
        other[place] ^= 0xFF
        found = check(bytes(other), mark, roots)
        assert found.state in ("invalid", "unreadable") or found.time == first.time


def test_the_timestamp_of_another_bundle(bundle: Path, authority: Authority, signer: Signer, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", signer)
    assert stamp(other, authority) == 0
    shutil.copy(other / names.TIMESTAMP, bundle / names.TIMESTAMP)
    problems = verify_bundle(bundle, [signer.public]).problems
    assert {one.file for one in problems} == {names.TIMESTAMP, names.SIGSTORE_SEAL}
    assert any("something else" in one.problem for one in problems)


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/passwd", "x", "http://"])
def test_no_url(bundle: Path, url: str) -> None:
    with pytest.raises(UsageProblem):
        ask(url, b"x", [])


def test_secrets_in_the_url_are_not_shown(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "timestamp", str(bundle), "--tsa", "http://ann:secret@127.0.0.1:1/"]) == 1
    assert "secret" not in capsys.readouterr().err


def test_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"junk")
    for path in (tmp_path / "x", tmp_path / "none"):
        with pytest.raises(KeyProblem):
            certificates_from(path)
