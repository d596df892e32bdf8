"""Encrypted bundles: verified without being read, given back to the byte, and nothing for whom it is not meant."""

from __future__ import annotations

import json
import os
from pathlib import Path

import bagit
import pyrage
import pytest

from irkit.cli.main import run
from irkit.errors import CheckFailed, KeyProblem, StorageError, UsageProblem
from irkit.evidence import age, keys, names
from irkit.evidence.custody import hand_over
from irkit.evidence.keys import Signer
from irkit.evidence.store import open_store
from irkit.evidence.verify import verify_bundle
from tests.fakes.bundle import make_bundle


@pytest.fixture
def signer() -> Signer:
    return keys.generate("default")


@pytest.fixture
def plain(tmp_path: Path, signer: Signer) -> Path:
    folder = make_bundle(tmp_path / "plain", signer)
    hand_over(folder, signer, [], to="Ann", why="court")
    return folder


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    age.make_identity(tmp_path / "ann.key")
    return tmp_path / "ann.key"


def recipient(identity: Path) -> str:
    return identity.read_text().splitlines()[0].removeprefix("# public key: ")


@pytest.fixture(params=["folder", "tar"])
def sealed(plain: Path, identity: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    output = tmp_path / ("e.tar" if request.param == "tar" else "e")
    assert run(["bundle", "encrypt", str(plain), "--recipient", recipient(identity), "-o", str(output)]) == 0
    return output


def test_it_is_verified_without_being_read(sealed: Path, signer: Signer, tmp_path: Path) -> None:
    found = verify_bundle(sealed, [signer.public])
    assert found.ok and found.status == "complete" and found.predicate["case"] == "c"
    if sealed.is_dir():
        bagit.Bag(str(sealed)).validate()
        stored = b"".join(one.read_bytes() for one in sealed.rglob("*") if one.is_file())
        assert b"nowhere" not in stored and b"collector" in stored
    assert {one.name for one in tmp_path.iterdir()} == {"plain", "ann.key", sealed.name, "irkit-home"}


def test_it_is_given_back_to_the_byte(sealed: Path, plain: Path, identity: Path, tmp_path: Path) -> None:
    assert run(["bundle", "decrypt", str(sealed), "--identity", str(identity), "-o", str(tmp_path / "back")]) == 0
    files = {str(one.relative_to(plain)) for one in plain.rglob("*") if one.is_file()}
    assert {str(one.relative_to(tmp_path / "back")) for one in (tmp_path / "back").rglob("*") if one.is_file()} == files
    for name in files:
        assert (tmp_path / "back" / name).read_bytes() == (plain / name).read_bytes()
        assert (tmp_path / "back" / name).stat().st_mode & 0o777 == 0o600


def test_the_commands_read_it_with_an_identity(
    sealed: Path, identity: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    words = ["--identity", str(identity)]
    assert run(["bundle", "cat", str(sealed), "a/log", *words]) == 0
    assert capfd.readouterr().out == "line\n" * 9
    assert run(["bundle", "verify", str(sealed), *words]) == 0
    assert run(["bundle", "show", str(sealed), *words]) == run(["bundle", "show", str(sealed)]) == 0
    capfd.readouterr()
    assert run(["bundle", "list", str(sealed), "--json", *words]) == 0
    assert [row["path"] for row in json.loads(capfd.readouterr().out)["artifacts"]][-1] == "data/list.json"
    assert run(["bundle", "extract", str(sealed), "-o", str(tmp_path / "out"), *words]) == 0
    assert (tmp_path / "out/a/log").read_bytes() == b"line\n" * 9
    capfd.readouterr()
    assert run(["bundle", "list", str(sealed), "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert listed["encrypted"]["recipients"] == 1 and all(row["path"].endswith(".age") for row in listed["artifacts"])


def test_a_wrong_identity_is_told_and_leaves_nothing(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    age.make_identity(tmp_path / "eve.key")
    before = set(tmp_path.rglob("*"))
    assert (
        run(["bundle", "decrypt", str(sealed), "--identity", str(tmp_path / "eve.key"), "-o", str(tmp_path / "x")]) == 1
    )
    assert "none of the identities given can open this bundle" in capsys.readouterr().err
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_keys_are_recipients_too(plain: Path, tmp_path: Path, kind: str, identity: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    private = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (tmp_path / "ssh").write_bytes(pem)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / "ssh.pub").write_bytes(b"# team\n" + public + b" ann@host\n" + recipient(identity).encode() + b"\n")
    assert (
        run(["bundle", "encrypt", str(plain), "--recipient", str(tmp_path / "ssh.pub"), "-o", str(tmp_path / "e")]) == 0
    )
    for number, one in enumerate((tmp_path / "ssh", identity)):
        assert (
            run(["bundle", "decrypt", str(tmp_path / "e"), "--identity", str(one), "-o", str(tmp_path / f"d{number}")])
            == 0
        )


def test_an_altered_one_is_not_decrypted(
    sealed: Path, identity: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if sealed.is_file():
        return
    victim = sealed / "data/plain/data/list.json.age"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    assert run(["bundle", "decrypt", str(sealed), "--identity", str(identity), "-o", str(tmp_path / "x")]) == 3
    assert "data/plain/data/list.json.age" in capsys.readouterr().err
    with pytest.raises(CheckFailed, match="can't be decrypted"):
        open_store(sealed, age.identities_from([identity])).open("data/list.json")


def test_another_bundle_inside_is_seen(plain: Path, signer: Signer, identity: Path, tmp_path: Path) -> None:
    """Sealed by a trusted key, but its inside is altered evidence: the inner seal tells."""
    found = verify_bundle(plain, [signer.public])
    (plain / "data/list.json").write_bytes(b"[2]\n")
    age.encrypt_bundle(open_store(plain), found, tmp_path / "e", age.recipients_from([recipient(identity)]), signer)
    assert verify_bundle(tmp_path / "e", [signer.public]).ok
    inner = verify_bundle(tmp_path / "e", [signer.public], identities=age.identities_from([identity]))
    assert [one.file for one in inner.problems] == ["plain/data/list.json"]
    assert run(["bundle", "decrypt", str(tmp_path / "e"), "--identity", str(identity), "-o", str(tmp_path / "x")]) == 3
    assert not (tmp_path / "x").exists()


def test_sizes_are_known_without_decrypting(sealed: Path, plain: Path, identity: Path) -> None:
    sizes = open_store(sealed, age.identities_from([identity])).entries()
    assert sizes == {name: (plain / name).stat().st_size for name in sizes} and names.SEAL in sizes


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072, 300_000])
def test_sizes_at_the_edges_of_chunks(tmp_path: Path, signer: Signer, identity: Path, size: int) -> None:
    from irkit.evidence.seal import seal_bundle
    from irkit.evidence.writer import BundleWriter
    from tests.fakes.bundle import FACTS, ORIGIN

    writer = BundleWriter(tmp_path / "p")
    writer.add("raw", (os.urandom(size),), ORIGIN, compress=False)
    seal_bundle(writer, FACTS, "complete", signer)
    found = verify_bundle(tmp_path / "p", [signer.public])
    age.encrypt_bundle(
        open_store(tmp_path / "p"), found, tmp_path / "e", age.recipients_from([recipient(identity)]), signer
    )
    inner = open_store(tmp_path / "e", age.identities_from([identity]))
    assert inner.entries()["data/raw"] == size
    assert inner.open("data/raw").read() == (tmp_path / "p/data/raw").read_bytes()


def test_a_full_disk_is_an_error_not_half_a_bundle(
    plain: Path, signer: Signer, identity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyrage drops the errors of what it writes to: they must come out all the same."""
    from irkit.evidence.writer import Sink

    def full(self: Sink, data: bytes) -> int:
        raise StorageError("no space left")

    monkeypatch.setattr(Sink, "write", full)
    to = age.recipients_from([recipient(identity)])
    with pytest.raises(StorageError):
        age.encrypt_bundle(open_store(plain), verify_bundle(plain, [signer.public]), tmp_path / "e", to, signer)
    assert not (tmp_path / "e").exists() and not list(tmp_path.glob(".e*"))


@pytest.mark.parametrize("word", ["age1xx", "ssh-ed25519 AAAA", "none", "/dev/null", "AGE-SECRET-KEY-1X"])
def test_no_recipient(word: str) -> None:
    with pytest.raises(UsageProblem):
        age.recipients_from([word])


@pytest.mark.parametrize(
    "data", [b"", b"# only words\n", b"AGE-SECRET-KEY-1X\n", b"\xff", b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"]
)
def test_no_identity(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "k").write_bytes(data)
    with pytest.raises(KeyProblem):
        age.identities_from([tmp_path / "k"])


def test_a_secret_given_as_recipient_is_not_shown(tmp_path: Path, identity: Path) -> None:
    with pytest.raises(UsageProblem) as caught:
        age.recipients_from([str(identity)])
    assert "SECRET" not in str(caught.value)


def test_an_identity_is_never_overwritten(identity: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "age", "-o", str(identity)]) == 2
    assert identity.stat().st_mode & 0o777 == 0o600


def test_the_format_is_age(sealed: Path, identity: Path, plain: Path) -> None:
    """What another tool for age does: no more than the file and the identity are needed."""
    if sealed.is_dir():
        data = (sealed / "data/plain/data/list.json.age").read_bytes()
        (secret,) = [line for line in identity.read_text().splitlines() if line.startswith("AGE")]
        assert (
            pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(secret)]) == (plain / "data/list.json").read_bytes()
        )
        assert data.startswith(b"age-encryption.org/v1\n")


def test_a_full_temporary_folder_is_told(sealed: Path, identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyrage may say that all went well although its writes failed."""

    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    store = open_store(sealed, age.identities_from([identity]))
    monkeypatch.setattr(age.tempfile, "SpooledTemporaryFile", lambda max_size: Full())
    for name in (names.SEAL, "data/list.json"):
        with pytest.raises(StorageError):
            store.open(name)
