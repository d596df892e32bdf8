"""What other people's tools say of a bundle: cosign, securesystemslib, bagit, sha256sum, openssl.  None of them is ours.

Each is shown an altered bundle as well: a tool that says yes to everything would prove nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bagit
import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from irkit.cli.main import run
from irkit.evidence import custody, keys, names, seal
from irkit.evidence.custody import hand_over
from irkit.evidence.keys import Signer
from tests.fakes.bundle import make_bundle
from tests.fakes.tsa import Authority

ROOT = Path(__file__).parents[2]
TRUSTED_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": ""}


@pytest.fixture(scope="session")
def cosign() -> str:
    done = subprocess.run([ROOT / "scripts" / "get-cosign"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["p256", "ed25519"])
def signer(request: pytest.FixtureRequest) -> Signer:
    return keys.generate("default", request.param)


@pytest.fixture
def bundle(tmp_path: Path, signer: Signer) -> Path:
    folder = make_bundle(tmp_path / "b", signer)
    hand_over(folder, signer, [], to="Ann", why="analysis")
    hand_over(folder, signer, [], to="Ben", why="court")
    (tmp_path / "key.pub").write_bytes(signer.public.pem)
    (tmp_path / "root.json").write_text(TRUSTED_ROOT)
    return folder


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    (tmp_path / "tsa").mkdir()
    with Authority(tmp_path / "tsa").serving() as served:
        yield served


def says_yes(cosign: str, bundle: Path, kind: str, file: Path, *words: object) -> bool:
    """Whether cosign verifies ``file`` against a seal, without a network."""
    argv = [
        cosign,
        "verify-blob-attestation",
        "--key",
        bundle.parent / "key.pub",
        "--insecure-ignore-tlog=true",
        "--type",
        kind,
    ]
    env = os.environ | OFFLINE | {"HOME": str(bundle.parent)}
    done = subprocess.run(
        [*map(str, [*argv, *words, file])], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 or "Error" in done.stderr, done.stderr
    return done.returncode == 0


def dsse_form(bundle: Path) -> list[object]:
    return ["--signature", bundle / names.SEAL]


def sigstore_form(bundle: Path) -> list[object]:
    return [
        "--bundle",
        bundle / names.SIGSTORE_SEAL,
        "--new-bundle-format",
        "--trusted-root",
        bundle.parent / "root.json",
    ]


@pytest.mark.parametrize("form", [dsse_form, sigstore_form])
@pytest.mark.parametrize("stamped", [False, True], ids=["plain", "timestamped"])
def test_cosign(cosign: str, bundle: Path, form: object, stamped: bool, authority: Authority) -> None:
    if stamped:
        words = ["--tsa", authority.url, "--tsa-cert", str(authority.root)]
        assert run(["bundle", "timestamp", str(bundle), *words]) == 0
    words_of = form(bundle)  # type: ignore[operator]
    assert says_yes(cosign, bundle, seal.PREDICATE_TYPE, bundle / names.TAG_MANIFEST, *words_of)
    assert says_yes(cosign, bundle, seal.PREDICATE_TYPE, bundle / "data/list.json", *words_of), (
        "every payload is a subject"
    )
    (bundle / "data/list.json").write_bytes(b"[2]\n")
    assert not says_yes(cosign, bundle, seal.PREDICATE_TYPE, bundle / "data/list.json", *words_of)
    (bundle.parent / "key.pub").write_bytes(keys.generate("foreign").public.pem)
    assert not says_yes(cosign, bundle, seal.PREDICATE_TYPE, bundle / names.TAG_MANIFEST, *words_of)


def test_cosign_and_the_chain_of_custody(cosign: str, bundle: Path) -> None:
    for number, line in enumerate((bundle / names.CUSTODY).read_bytes().splitlines()):
        path = bundle.parent / f"line-{number}.json"
        path.write_bytes(line)
        words = ["--signature", path]
        assert says_yes(cosign, bundle, custody.PREDICATE_TYPE, bundle / names.SEAL, *words)
        assert not says_yes(cosign, bundle, custody.PREDICATE_TYPE, bundle / names.TAG_MANIFEST, *words)


def test_a_key_of_cosign_s(cosign: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made by cosign, taken over by irkit: cosign verifies with its own public part what irkit sealed."""
    env = os.environ | OFFLINE | {"HOME": str(tmp_path), "COSIGN_PASSWORD": "secret"}
    subprocess.run([cosign, "generate-key-pair"], cwd=tmp_path, env=env, check=True, capture_output=True)
    words = ["key", "import", str(tmp_path / "cosign.key"), "--name", "default", "--passphrase-file"]
    for wrong in (b"other\n", b"\n"):
        (tmp_path / "pass").write_bytes(wrong)
        assert run([*words, str(tmp_path / "pass")]) == 1
        assert "wrong passphrase" in capsys.readouterr().err
    (tmp_path / "pass").write_bytes(b"secret\n")
    assert run([*words, str(tmp_path / "pass")]) == 0
    signer = keys.load_signer("default", "evidence", lambda _: b"secret")
    assert signer.public.pem == (tmp_path / "cosign.pub").read_bytes()
    folder = make_bundle(tmp_path / "b", signer)
    (tmp_path / "key.pub").write_bytes((tmp_path / "cosign.pub").read_bytes())
    assert says_yes(cosign, folder, seal.PREDICATE_TYPE, folder / names.TAG_MANIFEST, *dsse_form(folder))


def test_securesystemslib_and_in_toto_statements(bundle: Path, signer: Signer) -> None:
    """The seal and each line of the custody chain, as python-securesystemslib (TUF, in-toto) reads DSSE."""
    scheme = ("ecdsa", "ecdsa-sha2-nistp256") if signer.public.kind == "p256" else ("ed25519", "ed25519")
    public = signer.public.pem.decode() if signer.public.kind == "p256" else signer.public.key.public_bytes_raw().hex()  # type: ignore[union-attr]
    key = SSlibKey("", *scheme, {"public": public})
    previous = ""
    envelopes = [(bundle / names.SEAL).read_bytes(), *(bundle / names.CUSTODY).read_bytes().splitlines()]
    assert len(envelopes) == 3
    for number, data in enumerate(envelopes):
        envelope = Envelope.from_dict(json.loads(data))
        assert set(envelope.verify([key], 1)) == {""}
        statement = json.loads(envelope.payload)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        for name, digest in subjects.items():
            assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
        if number:
            assert (statement["predicate"]["seq"], statement["predicate"]["previous"]) == (number, previous)
            previous = hashlib.sha256(data).hexdigest()
        envelope.payload = envelope.payload.replace(b"sha256", b"sha255", 1)
        with pytest.raises(VerificationError):
            envelope.verify([key], 1)


def test_bagit(bundle: Path) -> None:
    bagit.Bag(str(bundle)).validate()
    (bundle / "data/list.json").write_bytes(b"[2]\n")
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(bundle)).validate()


def blocks() -> list[str]:
    page = (ROOT / "docs" / "verify-by-hand.md").read_text()
    return re.findall(r"```(?:ba)?sh\n(.*?)```", page, re.S)


def by_hand(number: int, bundle: Path, **more: object) -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "BUNDLE": str(bundle),
        "KEY": str(bundle.parent / "key.pub"),
        **{name: str(one) for name, one in more.items()},
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", blocks()[number]], env=env, capture_output=True, text=True, check=False
    )


def test_the_page_with_sha256sum_and_openssl_alone(bundle: Path, authority: Authority) -> None:
    words = ["--tsa", authority.url, "--tsa-cert", str(authority.root)]
    assert by_hand(2, bundle, TSA=authority.root).returncode != 0, "there is no timestamp yet"
    assert run(["bundle", "timestamp", str(bundle), *words]) == 0
    for number in range(3):
        done = by_hand(number, bundle, TSA=authority.root)
        assert done.returncode == 0, done.stderr
    assert "VERIFIED" in by_hand(0, bundle).stdout and "2 hand-overs" in by_hand(1, bundle).stdout
    assert "Time stamp:" in by_hand(2, bundle, TSA=authority.root).stdout
    (authority.folder / "other").mkdir()
    assert by_hand(2, bundle, TSA=Authority(authority.folder / "other").root).returncode != 0
    stamp = (bundle / names.TIMESTAMP).read_bytes()
    (bundle / names.TIMESTAMP).write_bytes(stamp[:-5] + b"\0" * 5)
    assert by_hand(2, bundle, TSA=authority.root).returncode != 0
    (bundle / "data/list.json").write_bytes(b"[2]\n")
    assert by_hand(0, bundle).returncode != 0


def test_a_tar_of_it_by_hand(bundle: Path, tmp_path: Path) -> None:
    """Unpacked with plain tar, it is the bundle again."""
    assert run(["bundle", "create", str(bundle), "-o", str(tmp_path / "b.tar")]) == 0
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "b.tar", "-C", tmp_path / "out"], check=True)
    (inner,) = (tmp_path / "out").iterdir()
    inner.rename(tmp_path / "again")
    assert "VERIFIED" in by_hand(0, tmp_path / "again").stdout
