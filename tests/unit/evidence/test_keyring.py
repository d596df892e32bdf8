"""Validity, rotation, revocation: what a key's seals are worth before and after, with and without a timestamp."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.cli.main import run
from irkit.errors import KeyProblem, UsageProblem
from irkit.evidence import keyring, keys, names
from irkit.evidence.custody import hand_over, read_chain
from irkit.evidence.keys import Signer, load_signer, public_from_file, trusted_keys
from irkit.evidence.timestamp import certificates_from
from irkit.evidence.validity import Validity, parse_time
from irkit.evidence.verify import verify_bundle
from tests.fakes.bundle import make_bundle
from tests.fakes.tsa import Authority

OLD, SOON = "2020-01-01T00:00:00.000000Z", "2126-01-01T00:00:00.000000Z"


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


def verify(bundle: Path, authority: Authority | None = None) -> tuple[bool, str]:
    found = verify_bundle(bundle, trusted_keys("evidence"), tsa=certificates_from(authority.root) if authority else [])
    assert {one.file for one in found.problems} <= {names.SEAL}
    return found.ok, found.problems[0].problem if found.problems else ""


def stamp(bundle: Path, authority: Authority) -> None:
    assert run(["bundle", "timestamp", str(bundle), "--tsa", authority.url, "--tsa-cert", str(authority.root)]) == 0


def test_a_revoked_key_is_not_believed_without_a_timestamp(bundle: Path, authority: Authority) -> None:
    assert run(["key", "revoke", "default", "--at", "2125-01-01", "--why", "stolen"]) == 0
    assert verify(bundle) == (
        False,
        "its key was revoked as of 2125-01-01T00:00:00.000000Z, and no valid timestamp proves that it was sealed before",
    )


def test_what_was_stamped_before_still_holds(
    bundle: Path, authority: Authority, signer: Signer, tmp_path: Path
) -> None:
    stamp(bundle, authority)
    keyring.revoke("default", SOON, "stolen")
    assert verify(bundle, authority) == (True, "")
    assert not verify(bundle)[0], "an unchecked timestamp proves nothing"
    late = make_bundle(tmp_path / "late", signer)
    assert not verify(late, authority)[0]


def test_what_was_stamped_afterwards_does_not(bundle: Path, authority: Authority) -> None:
    stamp(bundle, authority)
    keyring.revoke("default", parse_time("2021-01-01"), "stolen")
    ok, why = verify(bundle, authority)
    assert not ok and "which is not before" in why


def test_a_revocation_is_only_moved_back(signer: Signer) -> None:
    keyring.revoke("default", SOON, "lost")
    assert keyring.revoke("default", OLD, "found out").validity.revoked == OLD
    for at in (OLD, SOON):
        with pytest.raises(UsageProblem, match="already"):
            keyring.revoke("default", at, "again")
    with pytest.raises(KeyProblem):
        keyring.revoke("none", OLD, "x")


def test_a_revoked_key_signs_nothing_under_any_name(signer: Signer, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pem"
    shutil.copy(keys.keys_folder() / "default.key", copy)
    keys.trust("second", signer.public.pem, ("evidence",))
    keyring.revoke("second", OLD, "stolen")
    for name in ("default", str(copy)):
        with pytest.raises(KeyProblem, match="revoked as of 2020"):
            load_signer(name, "evidence", lambda _: None)
    (tmp_path / "k.pub").write_bytes(signer.public.pem)
    assert public_from_file(tmp_path / "k.pub").validity.revoked == OLD
    assert {key.validity.revoked for key in trusted_keys()} == {OLD}


def test_it_is_revoked_for_a_key_file_given_by_hand_too(bundle: Path, signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_bytes(signer.public.pem)
    assert run(["bundle", "verify", str(bundle), "--key", str(tmp_path / "k.pub")]) == 0
    keyring.revoke("default", SOON, "stolen")
    assert run(["bundle", "verify", str(bundle), "--key", str(tmp_path / "k.pub")]) == 3


@pytest.mark.parametrize(
    ("limits", "ok"),
    [
        ((), True),
        (("--valid-until", "2100-01-01"), True),
        (("--valid-until", "2021-01-01"), False),
        (("--valid-from", "2021-01-01"), True),
        (("--valid-from", "2100-01-01T00:00:00+02:00"), False),
    ],
)
def test_from_and_until(
    bundle: Path, signer: Signer, limits: tuple[str, ...], ok: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.pub").write_bytes(signer.public.pem)
    for path in keys.keys_folder().glob("default.*"):
        path.unlink()
    assert run(["key", "trust", str(tmp_path / "k.pub"), "--name", "ann", "--use", "evidence", *limits]) == 0
    assert verify(bundle)[0] is ok
    assert ok or "by its own claim" in verify(bundle)[1]


def test_limits_that_make_no_sense(signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_bytes(signer.public.pem)
    for limits in (("--valid-from", "2022-01-01", "--valid-until", "2021-01-01"), ("--valid-from", "soon")):
        assert run(["key", "trust", str(tmp_path / "k.pub"), "--name", "ann", "--use", "evidence", *limits]) == 2
    assert [key.name for key in trusted_keys()] == ["default"]


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_rotation(bundle: Path, signer: Signer, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    words = ["key", "rotate", "--type", kind, "--passphrase-file", str(tmp_path / "secret"), "--json"]
    assert run(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["key"]["type"] == kind and said["retired"]["valid_until"] and said["retired"]["id"] == signer.public.id
    assert sorted(path.name for path in keys.keys_folder().glob("*.key")) == ["default.key"]
    assert verify(bundle) == (True, ""), "what was sealed before the rotation holds"
    fresh = load_signer("default", "evidence", lambda _: b"hunter2")
    assert fresh.public.id == said["key"]["id"] != signer.public.id
    assert verify(make_bundle(tmp_path / "new", fresh)) == (True, "")
    assert not verify(make_bundle(tmp_path / "late", signer))[0], "the old key can't seal any more"
    assert run(words) == 0, "and once more"


def test_only_own_keys_are_rotated(signer: Signer) -> None:
    keys.trust("ann", signer.public.pem, ("evidence",))
    for name in ("ann", "none"):
        with pytest.raises(KeyProblem):
            keyring.rotate(name)


def test_a_key_for_images_that_is_revoked_or_old_vouches_for_none(tmp_path: Path) -> None:
    keys.generate("images", uses=("image", "evidence"))
    assert [key.name for key in trusted_keys("image")] == ["images"]
    keyring.limit("images", until=OLD)
    assert not list(trusted_keys("image")) and list(trusted_keys("evidence"))
    with pytest.raises(KeyProblem, match="may not vouch for an image"):
        public_from_file(keys.keys_folder() / "images.pub", "image")


def test_the_chain_of_custody_and_revoked_keys(bundle: Path, signer: Signer) -> None:
    other = keys.generate("other")
    hand_over(bundle, signer, [other.public], to="Ann", why="1")
    hand_over(bundle, other, [signer.public], to="Ben", why="2")
    hand_over(bundle, signer, [other.public], to="Cid", why="3")
    data, seal = (bundle / names.CUSTODY).read_bytes(), (bundle / names.SEAL).read_bytes()
    assert len(read_chain(data, seal, list(trusted_keys())).entries) == 3
    keyring.revoke("default", SOON, "stolen")
    chain = read_chain(data, seal, list(trusted_keys()))
    assert len(chain.entries) == 2 and "line 3: its key was revoked" in chain.problems[0]
    keyring.revoke("default", OLD, "long ago")
    assert not read_chain(data, seal, list(trusted_keys())).entries


def test_keys_of_an_earlier_version_have_no_limits(signer: Signer) -> None:
    path = keys.keys_folder() / "default.json"
    path.write_text(json.dumps({"uses": ["evidence"], "created": "x"}))
    assert next(trusted_keys()).validity == Validity()


def test_list_tells(signer: Signer, capsys: pytest.CaptureFixture[str]) -> None:
    keyring.revoke("default", OLD, "stolen")
    assert run(["key", "list"]) == 0
    assert "REVOKED as of 2020-01-01T00:00:00Z" in capsys.readouterr().out


TIMES = st.sampled_from(
    ["", "2021-01-01T00:00:00.000000Z", "2022-01-01T00:00:00.000000Z", "2023-01-01T00:00:00.000000Z"]
)


@given(TIMES, TIMES, TIMES, TIMES.filter(bool), TIMES)
def test_a_revoked_key_never_holds_without_proof(
    since: str, until: str, revoked: str, claimed: str, proven: str
) -> None:
    objection = Validity(since, until, revoked).objection(claimed, proven)
    if revoked and (not proven or proven >= revoked):
        assert objection
    if not (since or until or revoked):
        assert not objection


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(UsageProblem):
        assert len(parse_time(text)) == 27


def test_keys_made_by_openssl_are_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess

    (tmp_path / "pass").write_bytes(b"secret\n")
    for name, words in (
        ("a", ["-algorithm", "ed25519"]),
        ("b", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ):
        argv = ["openssl", "genpkey", *words, "-aes256", "-pass", f"file:{tmp_path}/pass", "-out", str(tmp_path / name)]
        subprocess.run(argv, check=True, capture_output=True)
        assert (
            run(["key", "import", str(tmp_path / name), "--name", name, "--passphrase-file", str(tmp_path / "pass")])
            == 0
        )
        assert b"ENCRYPTED" in (keys.keys_folder() / f"{name}.key").read_bytes()
        assert load_signer(name, "evidence", lambda _: b"secret").public.name == name


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
     b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\ne30=\n-----END ENCRYPTED COSIGN PRIVATE KEY-----\n",
     b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"],
)  # fmt: skip
def test_what_is_no_key_is_not_taken_over(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "k").write_bytes(data)
    with pytest.raises(KeyProblem):
        keys.import_key("k", tmp_path / "k", ("evidence",), lambda _: b"x")
    assert not list(trusted_keys())


def test_rsa_and_other_curves_are_refused(tmp_path: Path) -> None:
    import subprocess

    for words in (["-algorithm", "RSA"], ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]):
        subprocess.run(["openssl", "genpkey", *words, "-out", str(tmp_path / "k")], check=True, capture_output=True)
        with pytest.raises(KeyProblem, match="neither a P-256"):
            keys.import_key("k", tmp_path / "k", ("evidence",), lambda _: None)
