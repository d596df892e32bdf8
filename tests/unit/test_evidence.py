"""A bundle: sealed, verified by us and by other tools, and every change to it caught with the file named."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import bagit
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from irkit.errors import CheckFailed, EvidenceAltered, Interrupted, IrkitError, KeyProblem, StorageError, UsageProblem
from irkit.evidence import dsse, keys, names
from irkit.evidence import writer as writing
from irkit.evidence.keys import PublicKey, Signer
from irkit.evidence.reader import BundleReader
from irkit.evidence.seal import seal_bundle
from irkit.evidence.verify import Verification, claimed_key, verify_bundle
from irkit.evidence.writer import BundleWriter, Origin

ORIGIN = Origin("test", "nowhere", "made up")
FACTS = {"case": "case-1", "run": "run-1", "target": {}}
FILES = (
    "bag-info.txt", "bagit.txt", "data/filesystem/layer.tar.zst", "data/index.json", "data/process/list.json",
    "data/raw.bin", "manifest-sha256.txt", "seal.dsse.json", "seal.sigstore.json", "tagmanifest-sha256.txt",
)  # fmt: skip
PAYLOAD = tuple(name for name in FILES if name.startswith("data/"))


@pytest.fixture
def signer() -> Signer:
    return keys.generate("test")


@pytest.fixture
def bundle(tmp_path: Path, signer: Signer) -> Path:
    writer = BundleWriter(tmp_path / "bundle")
    writer.add("filesystem/layer.tar", (b"layer " * 1000, b"more"), ORIGIN)
    writer.add_json("process/list.json", [{"pid": 1}], ORIGIN)
    writer.add("raw.bin", (b"\x00\xff\n" * 10,), ORIGIN, compress=False)
    seal_bundle(writer, FACTS, "complete", signer)
    return tmp_path / "bundle"


def check(bundle: Path) -> Verification:
    return verify_bundle(bundle, list(keys.trusted_keys("evidence")))


def named(bundle: Path) -> set[str]:
    outcome = check(bundle)
    assert not outcome.ok
    return {problem.file for problem in outcome.problems}


def test_good(bundle: Path, signer: Signer) -> None:
    outcome = check(bundle)
    assert outcome.ok, outcome.problems
    assert (outcome.status, outcome.key, outcome.key_name, outcome.files) == ("complete", signer.public.id, "test", 4)
    assert {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()} == set(FILES)
    assert outcome.predicate["case"] == "case-1"
    assert claimed_key(bundle) == signer.public.id
    json.dumps(outcome.to_json())


def test_only_the_owner_may_read(bundle: Path) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in (bundle, bundle / "data", bundle / names.SEAL))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _link(path: Path) -> None:
    moved = path.parent.parent / "elsewhere"
    if path.parent.name != "bundle":
        moved = path.parents[2] / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _cut_one(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.rstrip(b"\n")[:-1] if path.suffix in (".json", ".txt") else data[:-1])


@pytest.mark.thorough
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", [_flip, Path.unlink, _halve, lambda path: path.write_bytes(b""), _cut_one, _append, _link, _fifo],
    ids=["flip", "drop", "halve", "empty", "cut-one", "append", "link", "fifo"],
)  # fmt: skip
def test_damage_is_caught_and_named(bundle: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(bundle / name)
    assert name in named(bundle)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PAYLOAD + names.TAGGED + (names.TAG_MANIFEST,))
def test_every_flipped_byte_is_caught(bundle: Path, name: str) -> None:
    whole = (bundle / name).read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        data = bytearray(whole)
        data[position] ^= 0x20
        (bundle / name).write_bytes(data)
        assert name in named(bundle), position


@pytest.mark.thorough
@pytest.mark.parametrize("pair", list(itertools.combinations(FILES, 2)), ids="-".join)
def test_swapped_files_are_caught(bundle: Path, pair: tuple[str, str]) -> None:
    one, other = (bundle / name for name in pair)
    kept = bundle.parent / "kept"
    one.rename(kept)
    other.rename(one)
    kept.rename(other)
    found = named(bundle)
    assert found & set(pair)
    if not {names.SEAL, names.TAG_MANIFEST} & set(pair):
        assert set(pair) <= found


@pytest.mark.parametrize(
    "name", ["data/added.json", "added.txt", "data/deep/er/x", "data/new\nline", "data/\udcff", ".hidden"]
)
def test_an_added_file_is_caught(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(b"x")
    assert name in named(bundle)


def test_an_added_link_to_a_folder_is_caught(bundle: Path) -> None:
    (bundle / "data/etc").symlink_to("/etc")
    assert named(bundle) == {"data/etc"}


@pytest.mark.parametrize("name", sorted(names.TOP_LEVEL))
def test_a_tag_file_turned_folder_is_caught(bundle: Path, name: str) -> None:
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).mkdir()
    assert name in named(bundle)


def test_manifests_made_anew_do_not_help(bundle: Path) -> None:
    (bundle / "data/raw.bin").write_bytes(b"other")
    bag = bagit.Bag(str(bundle))
    bag.save(manifests=True)
    assert {"data/raw.bin", names.TAG_MANIFEST} <= named(bundle)


def test_a_foreign_key_is_not_trusted(bundle: Path) -> None:
    foreign = ec.generate_private_key(ec.SECP256R1())
    outcome = verify_bundle(bundle, [PublicKey("foreign", foreign.public_key())])
    assert [problem.file for problem in outcome.problems] == [names.SEAL]
    assert (outcome.status, outcome.key, outcome.predicate) == ("", "", {})
    assert not verify_bundle(bundle, []).ok


def test_resealed_by_a_foreign_key_is_not_trusted(bundle: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    attacker = Signer(PublicKey("attacker", private.public_key()), private)
    payload = json.loads(dsse.parse((bundle / names.SEAL).read_bytes()).payload)
    envelope = dsse.sign(payload, attacker)
    (bundle / names.SEAL).write_bytes(envelope)
    (bundle / names.SIGSTORE_SEAL).write_bytes(dsse.sigstore_bundle(envelope, attacker.public.id))
    assert names.SEAL in named(bundle)


def test_a_key_for_images_does_not_vouch_for_evidence(tmp_path: Path) -> None:
    signer = keys.generate("images", uses=("image",))
    writer = BundleWriter(tmp_path / "bundle")
    seal_bundle(writer, FACTS, "complete", signer)
    assert names.SEAL in named(tmp_path / "bundle")
    with pytest.raises(KeyProblem, match="not for evidence"):
        keys.load_signer("images", "evidence", lambda _: None)


def test_ed25519(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    writer.add("raw.bin", (b"x",), ORIGIN)
    seal_bundle(writer, FACTS, "partial", keys.generate("ed", "ed25519"))
    outcome = check(tmp_path / "bundle")
    assert outcome.ok
    assert outcome.status == "partial"


def test_sha256sum(bundle: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", names.MANIFEST, names.TAG_MANIFEST],
        cwd=bundle,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK") == len(FILES) - 3


def test_bagit(bundle: Path) -> None:
    bagit.Bag(str(bundle)).validate()


def test_openssl(bundle: Path, signer: Signer, tmp_path: Path) -> None:
    import base64

    envelope = json.loads((bundle / names.SEAL).read_bytes())
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    (tmp_path / "pae").write_bytes(f"DSSEv1 {len(kind)} {kind} {len(body)} ".encode() + body)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "pub").write_bytes(signer.public.pem)
    command = ["openssl", "dgst", "-sha256", "-verify", "pub", "-signature", "sig", "pae"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.stdout == b"Verified OK\n", done.stderr


def test_pae_vector() -> None:
    assert (
        dsse.pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b'{"payload": 1}', b"[" * 100_000, b"\xff", b'{"signatures": [{"sig": "*"}], "payload": "", "payloadType": ""}'])  # fmt: skip
def test_what_is_no_envelope(data: bytes) -> None:
    with pytest.raises(CheckFailed):
        dsse.parse(data)
    with pytest.raises(CheckFailed):
        dsse.from_sigstore_bundle(data)


def _breaking(error: BaseException) -> Iterator[bytes]:
    yield b"first"
    yield b"second"
    raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("gone"), Interrupted("a signal"), OSError(errno.EIO, "bad"), KeyboardInterrupt()]
)
def test_a_broken_stream_is_kept_with_a_gap(tmp_path: Path, signer: Signer, error: BaseException) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    with pytest.raises(type(error)):
        writer.add("part.bin", _breaking(error), ORIGIN)
    (artifact,), (gap,) = writer.artifacts, writer.gaps
    assert (artifact.complete, artifact.raw_size, gap.what) == (False, 11, "data/part.bin.zst")
    assert gap.why.startswith("incomplete, 11 bytes were read")
    seal_bundle(writer, FACTS, "partial", signer)
    assert check(tmp_path / "bundle").ok
    reader = BundleReader(tmp_path / "bundle")
    assert b"".join(reader.stream("part.bin")) == b"firstsecond"
    assert len(reader.index["gaps"]) == 1


def test_a_full_disk_removes_the_half_file(tmp_path: Path, signer: Signer) -> None:
    full: list[bool] = []
    writer = BundleWriter(tmp_path / "bundle", on_full=lambda: bool(full.append(True)))
    with pytest.raises(StorageError, match="no space left"), writer.sink("big.bin", ORIGIN, compress=False) as sink:
        sink._file.close()
        sink._file = open("/dev/full", "wb", buffering=0)  # type: ignore[assignment]  # noqa: SIM115
        sink.write(b"x" * 10)
    assert (full, writer.artifacts, [gap.what for gap in writer.gaps]) == ([True], [], ["data/big.bin"])
    seal_bundle(writer, FACTS, "partial", signer)
    assert check(tmp_path / "bundle").ok


def test_what_the_signature_does_not_cover_has_one_form(bundle: Path) -> None:
    """Media type, key names, blanks: the signature would still hold."""
    for name, old, new in (
        (names.SIGSTORE_SEAL, b"bundle.v0.3+json", b"bundle.v0.2+json"), (names.SEAL, b'"keyid": ""', b'"keyid": "x"'),
        (names.SEAL, b"{\n", b"{ \n"), (names.SIGSTORE_SEAL, b"tlogEntries", b"tlogentries"),
    ):  # fmt: skip
        data = (bundle / name).read_bytes()
        assert old in data
        (bundle / name).write_bytes(data.replace(old, new, 1))
        assert named(bundle) == {name}
        (bundle / name).write_bytes(data)
    assert check(bundle).ok


def test_an_added_folder_is_named(bundle: Path) -> None:
    (bundle / "data" / "process" / "empty").mkdir()
    (bundle / "other").mkdir()
    assert named(bundle) == {"data/process/empty", "other"}


def test_the_seal_uses_the_reserve_of_a_full_disk(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room: list[bool] = []
    writer = BundleWriter(tmp_path / "bundle", on_full=lambda: room.append(True) or len(room) == 1)
    writer.add("a", (b"1",), ORIGIN)
    real = writing.write_file

    def full(path: Path, data: bytes, mode: int = 0o600) -> None:
        if not room:
            raise StorageError("no space left")
        real(path, data, mode)

    monkeypatch.setattr(writing, "write_file", full)
    seal_bundle(writer, FACTS, "complete", signer)
    assert room == [True] and check(tmp_path / "bundle").ok


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "A", "a b", "", "a//b", ".x", "a\n", "a/"])
def test_names_that_irkit_would_not_choose(tmp_path: Path, name: str) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    with pytest.raises(IrkitError, match="not a new artifact name"):
        writer.add(name, (b"",), ORIGIN, compress=False)


def test_a_name_twice(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    writer.add("a", (b"1",), ORIGIN)
    with pytest.raises(IrkitError, match="not a new artifact name"):
        writer.add("a", (b"2",), ORIGIN)


def test_reader_checks_what_it_reads(bundle: Path) -> None:
    reader = BundleReader(bundle)
    assert b"".join(reader.stream("raw.bin")) == b"\x00\xff\n" * 10
    assert reader.json("process/list.json") == [{"pid": 1}]
    with pytest.raises(UsageProblem):
        list(reader.stream("none"))
    for name in ("raw.bin", "filesystem/layer.tar.zst"):
        _flip(bundle / "data" / name)
        with pytest.raises(EvidenceAltered):
            list(reader.stream(name.removesuffix(".zst")))


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        check(tmp_path / "none")
    with pytest.raises(UsageProblem):
        check(tmp_path)


def test_passphrase() -> None:
    keys.generate("locked", passphrase=b"secret")
    assert keys.load_signer("locked", "evidence", lambda _: b"secret").public.kind == "p256"
    for wrong in (b"other", None):
        with pytest.raises(KeyProblem):
            keys.load_signer("locked", "evidence", lambda _, wrong=wrong: wrong)  # type: ignore[misc]
    assert (keys.keys_folder() / "locked.key").stat().st_mode & 0o777 == 0o600


def test_unused_key_files_can_not_vouch(bundle: Path) -> None:
    shutil.copy(keys.keys_folder() / "test.pub", keys.keys_folder() / "copy.pub")
    (keys.keys_folder() / "bad.pub").write_bytes(b"junk")
    assert [key.name for key in keys.trusted_keys()] == ["test"]
