"""The chain on a fake engine and a small registry: what links say, and that each is needed."""

from __future__ import annotations

import base64
import gzip
import io
import json
import resource
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec

from irkit.cli.main import run
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.fake.state import FakeImage
from irkit.engine.interface import Image
from irkit.errors import NotTrusted, StorageError, UsageProblem
from irkit.evidence import keys
from irkit.trust import denied
from irkit.trust.content import read_content
from irkit.trust.gpg import check_status
from irkit.trust.image import sign_image
from irkit.trust.model import Found, TrustKey
from irkit.trust.policy import load_policy
from irkit.trust.sigstore import read_bundle
from irkit.trust.verify import judge, verify
from tests.fakes.registry import CONFIG, INDEX, LAYER, OCI, one_file, sha256
from tests.fakes.signers import bundle, raw_sign, simple
from tests.fakes.web import Answer, Asked, server
from tests.fits import fits

ENV = ("PATH=/bin",)


@dataclass(slots=True)
class Held(FakeImage):
    """An image whose id, description and archive belong together, as overlay2 or (``own_id``) containerd's store has it."""

    tree: bytes = b""
    label: str = ""
    own_id: str = ""
    names: list[str] = field(default_factory=list)

    @property
    def layer(self) -> bytes:
        return one_file("hello", self.tree)

    @property
    def document(self) -> bytes:
        about = {"Labels": {"org.opencontainers.image.version": self.label}, "Env": list(ENV)}
        return json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "config": about,
                "rootfs": {"type": "layers", "diff_ids": [sha256(self.layer)]},
            }
        ).encode()

    @property
    def id(self) -> str:
        return self.own_id or sha256(self.document)

    def raw(self) -> dict[str, Any]:
        return FakeImage.raw(self) | {
            "Id": self.id,
            "RootFS": {"Layers": [sha256(self.layer)]},
            "RepoDigests": self.names,
        }

    def archive(self) -> bytes:
        return archive({"c.json": self.document, "l.tar": self.layer})


def archive(files: dict[str, bytes], layer: str = "l.tar") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in {
            **files,
            "manifest.json": json.dumps([{"Config": "c.json", "Layers": [layer]}]).encode(),
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Shop:
    """One image at a registry, signed by a key, and the same on an engine."""

    def __init__(self, folder: Path, asked: Asked) -> None:
        self.folder, self.asked, self.store = folder, asked, dict[str, tuple[str, bytes]]()
        asked.answer = self.answer
        self.name = f"127.0.0.1:{asked.port}/team/web"
        self.reference = f"{self.name}:1"
        self.image = Held(self.reference, tree=b"clean", label="1.4.2")
        self.engine = FakeEngine(self.reference)
        self.engine._images = [self.image]
        self.signer = keys.generate("alice", uses=("image",))
        (folder / "alice.pub").write_bytes(self.signer.public.pem)
        assert isinstance(self.signer.private, ec.EllipticCurvePrivateKey)
        self.key = self.signer.private
        self.digest = self.put(self.image)
        self.policy()

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        kind, body = self.store.get(path, ("", b""))
        return (200, {"Content-Type": kind}, body) if body else (404, {}, b"")

    def blob(self, data: bytes) -> dict[str, Any]:
        self.store[f"/v2/team/web/blobs/{sha256(data)}"] = ("application/octet-stream", data)
        return {"digest": sha256(data), "size": len(data)}

    def manifest(self, document: dict[str, Any], tag: str = "") -> str:
        data = json.dumps(document).encode()
        for name in (sha256(data), *([tag] if tag else ())):
            self.store[f"/v2/team/web/manifests/{name}"] = (document["mediaType"], data)
        return sha256(data)

    def put(self, image: Held, tag: str = "1") -> str:
        layers = [{"mediaType": LAYER, **self.blob(gzip.compress(image.layer, mtime=0))}]
        return self.manifest(
            {"mediaType": OCI, "config": {"mediaType": CONFIG, **self.blob(image.document)}, "layers": layers}, tag
        )

    def index(self, *rows: dict[str, Any]) -> str:
        return self.manifest({"mediaType": INDEX, "manifests": list(rows)}, "1")

    def sign(self, digest: str = "") -> None:
        digest = digest or self.digest
        payload = json.dumps(simple(digest, self.name)).encode()
        row = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", **self.blob(payload), "annotations": {"dev.cosignproject.cosign/signature": raw_sign(self.key, payload)}}  # fmt: skip
        self.manifest({"mediaType": OCI, "config": {}, "layers": [row]}, f"{digest.replace(':', '-')}.sig")

    def policy(self, **rule: Any) -> None:
        document = {
            "apiVersion": "irkit/v1", "kind": "TrustPolicy", "keys": {"alice": {"public_key": str(self.folder / "alice.pub")}},
            "repositories": [{"match": "127.0.0.1:*/**", "keys": ["alice"], "accept": ["cosign"], **rule}],
        }  # fmt: skip
        (self.folder / "trust.yaml").write_text(json.dumps(document))

    def ask(self, reference: str = "", **how: Any) -> Any:
        verdict = verify(reference or self.reference, load_policy(self.folder / "trust.yaml"), self.engine, **how)
        fits(verdict.to_json(), "image")
        assert verdict.accepted == all(one.result != "broken" for one in verdict.links) == bool(verdict.image_id)
        return verdict


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with server(lambda path, headers: (404, {}, b"")) as asked:
        yield Shop(tmp_path, asked)


def test_every_link_holds(shop: Shop) -> None:
    shop.sign()
    verdict = shop.ask()
    assert [one.name for one in verdict.links] == [
        "policy",
        "reference",
        "config",
        "signatures",
        "requirements",
        "local",
        "tag",
        "unmoved",
    ]
    assert {one.result for one in verdict.links} == {"held"}
    assert (verdict.image_id, verdict.config, verdict.manifest, verdict.resolved) == (
        shop.image.id,
        shop.image.id,
        shop.digest,
        shop.digest,
    )
    assert [one.key for one in verdict.keys] == ["alice"] and verdict.layers == (sha256(shop.image.layer),)
    made = shop.engine.create({"Image": verdict.image_id}, "made")
    assert shop.ask(container=shop.engine.container(made)).links[-1].name == "container"


def test_containerds_store(shop: Shop) -> None:
    """There the id is the index's or the manifest's digest."""
    row = {"mediaType": OCI, "digest": shop.digest, "size": len(shop.store[f"/v2/team/web/manifests/{shop.digest}"][1])}
    index = shop.index({**row, "platform": {"os": "linux", "architecture": "amd64"}}, {**row, "platform": {"os": "unknown", "architecture": "unknown"}, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})  # fmt: skip
    shop.sign(index)
    for own in (index, shop.digest):
        shop.image.own_id, shop.image.names = own, [f"{shop.name}@{own}"]
        assert shop.ask().image_id == own
    shop.image.own_id = sha256(b"another")
    assert "does not have this image" in shop.ask().reason


def test_an_altered_copy_on_the_engine(shop: Shop) -> None:
    """The engine says that it has the signed image, by its id; what it holds is another."""
    shop.sign()
    good = shop.image.id
    shop.image.tree, shop.image.own_id = b"evil", good
    verdict = shop.ask()
    assert verdict.links[-1].name == "local" and "holds another image than was signed" in verdict.reason
    shop.image.names = [f"{shop.name}@{shop.digest}"]
    assert "holds another image than was signed" in shop.ask().reason


def test_a_tag_of_the_engine_s_own_that_leads_elsewhere(shop: Shop) -> None:
    shop.sign()
    shop.image.tag = "other:1"
    evil = Held(shop.reference, tree=b"evil")
    shop.engine._images.append(evil)
    verdict = shop.ask()
    assert verdict.links[-1].name == "tag" and evil.id in verdict.reason and "docker pull" in verdict.hint
    shop.engine._images.remove(evil)
    assert shop.ask().accepted, "without a tag of that name there is nothing to lead astray"


def test_another_container(shop: Shop) -> None:
    shop.sign()
    evil = Held("evil:1", tree=b"evil")
    shop.engine._images.append(evil)
    made = shop.engine.create({"Image": "evil:1"}, "made")
    assert "was made from another image" in shop.ask(container=shop.engine.container(made)).reason


def test_an_index(shop: Shop) -> None:
    row = {"mediaType": OCI, "digest": shop.digest, "size": len(shop.store[f"/v2/team/web/manifests/{shop.digest}"][1])}
    platform = {"os": "linux", "architecture": "amd64"}
    shop.sign(shop.index({**row, "platform": platform}, {**row, "platform": {**platform, "architecture": "arm64"}}))
    assert shop.ask().accepted
    for rows, why in (
        ([{**row, "platform": platform}, {**row, "platform": platform}], "has 2 manifests"), ([], "has no manifests"),
        ([{**row, "size": 1, "platform": platform}], "not what its index says"), ([{**row, "digest": "sha256:0", "platform": platform}], "a digest that is none"),
        ([{**row, "size": -1, "platform": platform}], "no size"), ([row], "has no manifests"),
    ):  # fmt: skip
        shop.sign(shop.index(*rows))
        assert why in shop.ask().reason


@pytest.mark.thorough
def test_manifests_that_contradict_their_configuration(shop: Shop) -> None:
    config = {"mediaType": CONFIG, **shop.blob(shop.image.document)}
    layer = {"mediaType": LAYER, **shop.blob(gzip.compress(shop.image.layer, mtime=0))}
    bare = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["x"]}}).encode()
    for document, why in (
        ({"config": {**config, "mediaType": "application/vnd.cncf.helm.config.v1+json"}, "layers": [layer]}, "is no image's"),
        ({"config": {**config, "size": 1}, "layers": [layer]}, "another size than it says"), ({"config": config, "layers": []}, "has 0 layers"),
        ({"config": config, "layers": [layer, layer]}, "has 2 layers"), ({"config": {**config, "digest": "sha256:x"}, "layers": [layer]}, "a digest that is none"),
        ({"config": {"mediaType": CONFIG, **shop.blob(bare)}, "layers": [layer]}, "names no layers"), ({"config": [], "layers": [layer]}, "is no object"),
        ({"config": config, "layers": [layer] * 1001}, "more than 1000"), ({"config": config, "layers": {}}, "no list"),
    ):  # fmt: skip
        shop.sign(shop.manifest({"mediaType": OCI, **document}, "1"))
        assert why in shop.ask().reason


def test_an_engine_that_answers_with_another_image(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sign()
    evil = Held("evil:1", tree=b"evil")
    found = shop.engine.image
    monkeypatch.setattr(shop.engine, "image", lambda ref: Image(evil.raw()) if ref == shop.image.id else found(ref))
    assert "the engine answers" in shop.ask().reason
    monkeypatch.setattr(
        shop.engine, "image", lambda ref: Image(shop.image.raw() | {"RootFS": {"Layers": [sha256(b"x")]}})
    )
    assert "describes other layers" in shop.ask().reason


def test_versions_count_by_signed_labels(shop: Shop) -> None:
    shop.sign()
    shop.policy(minimum_version="1.4.2")
    assert shop.ask().accepted
    shop.policy(minimum_version="1.4.3")
    assert "it is version 1.4.2" in shop.ask().reason
    shop.policy(minimum_version="1.0", version_label="other")
    assert "is no version" in shop.ask().reason


def test_a_statement(shop: Shop) -> None:
    """No registry is asked for it; where one is, its manifest must be the statement's."""
    sign_image(shop.engine, shop.reference, shop.signer, annotations={"env": "prod"})
    shop.policy(accept=["statement"], annotations={"env": "prod"})
    verdict = shop.ask()
    assert verdict.accepted and shop.asked.rows == [] and [one.kind for one in verdict.keys] == ["statement"]
    shop.policy(accept=["statement"], annotations={"env": "test"})
    assert "its annotation env" in shop.ask().reason
    shop.policy(accept=["cosign", "statement"])
    assert shop.ask().accepted and shop.asked.rows
    sign_image(shop.engine, shop.reference, shop.signer, at_registry=True)
    assert shop.ask().accepted
    shop.image.names = [f"{shop.name}@sha256:{'1' * 64}"]
    sign_image(shop.engine, shop.reference, shop.signer)
    assert "another manifest than the registry's" in shop.ask().reason


def test_a_statement_when_the_registry_is_down(shop: Shop) -> None:
    sign_image(shop.engine, shop.reference, shop.signer)
    shop.policy(accept=["cosign", "statement"])
    shop.store.clear()
    verdict = shop.ask()
    assert verdict.accepted and ("reference", "unchecked") in [(one.name, one.result) for one in verdict.links]
    shop.policy(accept=["cosign"])
    assert "has no team/web/manifests/1" in shop.ask().reason


def test_a_lying_registry_is_not_made_up_for_by_a_statement(shop: Shop) -> None:
    sign_image(shop.engine, shop.reference, shop.signer)
    shop.policy(accept=["cosign", "statement"])
    shop.asked.answer = lambda path, headers: (
        200,
        {"Content-Type": OCI, "Docker-Content-Digest": "sha256:0"},
        shop.answer(path, headers)[2] or b"{}",
    )
    assert "the registry says that its manifest" in shop.ask().reason


def test_a_statement_names_its_tag(shop: Shop) -> None:
    sign_image(shop.engine, shop.reference, shop.signer)
    shop.policy(accept=["statement"], identity="exact")
    assert shop.ask().accepted
    shop.image.tag = f"{shop.name}:2"
    assert "it is for" in shop.ask(f"{shop.name}:2").reason


def test_a_policy_that_leads_nowhere_is_no_absence(shop: Shop, irkit_home: Path) -> None:
    irkit_home.mkdir(exist_ok=True)
    (irkit_home / "trust.yaml").symlink_to(irkit_home / "gone.yaml")
    with pytest.raises(UsageProblem, match="can't read"):
        load_policy()


def test_a_statement_over_what_the_engine_only_pretends_to_have(shop: Shop) -> None:
    """The registry has a new image, unsigned. The engine holds an old one, well signed, under the new one's id."""
    old = Held(shop.reference, tree=b"old")
    shop.engine._images = [old]
    sign_image(shop.engine, shop.reference, shop.signer)
    old.own_id = shop.image.id
    shop.policy(accept=["cosign", "statement"])
    assert "holds another image than was signed" in shop.ask().reason
    denied.add([sha256(old.layer)], "miner")
    assert not shop.ask().accepted


def test_without_a_policy(shop: Shop) -> None:
    verdict = verify(shop.reference, None, shop.engine)
    assert not verdict.accepted and "there is no signature over" in verdict.reason
    sign_image(shop.engine, shop.reference, shop.signer)
    good = verify(shop.reference, None, shop.engine)
    assert good.accepted and good.rule == "key ring" and shop.asked.rows == []
    assert verify(shop.image.id, None, shop.engine).accepted, "an id belongs to no repository"
    shop.image.tag = "elsewhere/web:1"
    assert "it is for" in verify("elsewhere/web:1", None, shop.engine).reason
    assert run(["key", "revoke", "alice", "--why", "x"]) == 0
    assert "no key is trusted for images" in verify(shop.reference, None, shop.engine).reason


def test_an_id_and_a_policy(shop: Shop) -> None:
    with pytest.raises(UsageProblem, match="belongs to no repository"):
        shop.ask(shop.image.id)


def test_no_engine(shop: Shop) -> None:
    shop.sign()
    verdict = verify(shop.reference, load_policy(shop.folder / "trust.yaml"), platform="linux/amd64")
    assert (
        verdict.accepted
        and not verdict.image_id
        and {one.name for one in verdict.links if one.result == "unchecked"} == {"local", "tag"}
    )
    shop.policy(accept=["statement"])
    assert not verify(shop.reference, load_policy(shop.folder / "trust.yaml")).accepted


# -- denied digests -------------------------------------------------------------------------------------------------


def test_denied(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.sign()
    for digest in (
        shop.digest,
        shop.image.id,
        sha256(shop.image.layer),
        sha256(gzip.compress(shop.image.layer, mtime=0)),
    ):
        assert run(["image", "deny", digest, "--why", "miner"]) == 0
        assert "miner" in shop.ask().reason
        capsys.readouterr()
        assert run(["image", "deny", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        fits(told, "denied")
        assert [one["digest"] for one in told["denied"]] == [digest]
        assert run(["image", "deny", "--remove", digest]) == 0
    assert shop.ask().accepted
    assert run(["image", "deny", "--remove", shop.digest]) == 2 and run(["image", "deny", "sha256:0"]) == 2
    sign_image(shop.engine, shop.reference, shop.signer)
    assert verify(shop.reference, None, shop.engine).accepted
    denied.add([sha256(shop.image.layer)], "miner")
    assert "miner" in verify(shop.reference, None, shop.engine).reason, "without a registry and a policy, too"


def test_a_list_that_can_t_be_read_denies_everything(shop: Shop) -> None:
    shop.sign()
    denied.add([sha256(b"x")], "")
    denied.path().write_text("{")
    with pytest.raises(StorageError, match="can't be read"):
        shop.ask()


@pytest.mark.thorough
def test_many_at_once_deny(irkit_home: Path) -> None:
    program = "import sys; from irkit.trust import denied; [denied.add(['sha256:' + f'{int(sys.argv[1]) * 100 + n:064x}'], '') for n in range(10)]"
    running = [subprocess.Popen([sys.executable, "-c", program, str(number)]) for number in range(4)]
    assert [one.wait(30) for one in running] == [0] * 4
    assert len(denied.load()) == 40 and [one.name for one in irkit_home.iterdir()].count("denied.json") == 1


# -- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data,
        gzip.compress,
        lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
        zstandard.compress,
    ],
)
def test_packed_layers(pack: Any) -> None:
    image = Held("x", tree=b"clean" * 1000)
    found = read_content(iter([archive({"c.json": image.document, "l.tar": pack(image.layer)})]))
    assert found.layers == (sha256(image.layer),) and found.config == sha256(image.document)


@pytest.mark.parametrize(
    "files",
    [{"l.tar": b"\x1f\x8b broken"}, {"l.tar": gzip.compress(b"x")[:-4]}, {"l.tar": b"\x28\xb5\x2f\xfd broken"}, {"l.tar": b"evil"}, {"c.json": b"{}"}, {"c.json": b"[]"}, {"c.json": b"{"}],
)  # fmt: skip
def test_archives_that_contradict_themselves(files: dict[str, bytes]) -> None:
    image = Held("x", tree=b"clean")
    with pytest.raises(NotTrusted):
        read_content(iter([archive({"c.json": image.document, "l.tar": image.layer, **files})]))


def test_an_archive_with_a_name_twice() -> None:
    """The engine's own reader may take the other one."""
    image = Held("x", tree=b"clean")
    evil = archive({"c.json": image.document, "l.tar": b"evil"}).rstrip(b"\0")
    whole = evil + b"\0" * (-len(evil) % 512) + archive({"c.json": image.document, "l.tar": image.layer})
    with pytest.raises(NotTrusted, match="one name twice"):
        read_content(iter([whole]))


@pytest.mark.thorough
def test_a_packed_bomb_takes_no_memory() -> None:
    packer, block = zlib.compressobj(1, wbits=31), bytes(1 << 20)
    bomb = b"".join([packer.compress(block) for _ in range(96)]) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotTrusted):
        read_content(iter([archive({"c.json": Held("x").document, "l.tar": bomb})]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 * 1024


GOOD = "[GNUPG:] NEWSIG\n[GNUPG:] KEY_CONSIDERED {f} 0\n[GNUPG:] GOODSIG AB x\n[GNUPG:] VALIDSIG {f} 2026-01-01 1 0 4 0 22 10 00 {f}\n[GNUPG:] PLAINTEXT 62 1 \n"
F = "A" * 40


def test_gpgs_status_lines() -> None:
    check_status(GOOD.replace("{f}", F), F)
    for old, new in (
        ("GOODSIG", "EXPKEYSIG"), ("GOODSIG", "REVKEYSIG"), ("GOODSIG", "EXPSIG"), ("GOODSIG", "BADSIG"), ("GOODSIG", "ERRSIG"), (" 10 00", " 2 00"),
        ("[GNUPG:] PLAINTEXT 62 1 \n", ""), ("[GNUPG:] NEWSIG\n", "[GNUPG:] NEWSIG\n[GNUPG:] NEWSIG\n"), ("[GNUPG:] GOODSIG AB x\n", ""),
        ("[GNUPG:] PLAINTEXT", "[GNUPG:] PLAINTEXT 1\n[GNUPG:] PLAINTEXT"), ("VALIDSIG {f}", "VALIDSIG"), ("00 {f}", "00 " + "B" * 40),
        ("[GNUPG:] NEWSIG", "[GNUPG:] BEGIN_DECRYPTION\n[GNUPG:] NEWSIG"), ("[GNUPG:] VALIDSIG", "gpg: [GNUPG:] VALIDSIG"),
    ):  # fmt: skip
        with pytest.raises(NotTrusted):
            check_status(GOOD.replace(old, new).replace("{f}", F), F)
    with pytest.raises(NotTrusted):
        check_status("", F)


def test_bundles() -> None:
    signer = keys.generate("a", uses=("image",))
    assert isinstance(signer.private, ec.EllipticCurvePrivateKey)
    key, digest = TrustKey("a", signer.public.id, public=signer.public), "sha256:" + "1" * 64
    good = bundle(signer.private, digest)
    assert read_bundle(json.dumps(good).encode(), "x", digest, (key,)).key == key
    payload = base64.b64decode(good["dsseEnvelope"]["payload"])
    for change in (
        {"mediaType": "application/vnd.dev.sigstore.bundle.v0.2+json"}, {"messageSignature": {}}, {"verificationMaterial": []}, {"dsseEnvelope": {}},
        {"dsseEnvelope": good["dsseEnvelope"] | {"payload": base64.b64encode(payload.replace(b"{}", b"[]")).decode()}},
        {"dsseEnvelope": good["dsseEnvelope"] | {"signatures": [{"sig": ""}]}}, {"dsseEnvelope": good["dsseEnvelope"] | {"signatures": None}},
    ):  # fmt: skip
        with pytest.raises(NotTrusted):
            read_bundle(json.dumps(good | change).encode(), "x", digest, (key,))
    with pytest.raises(NotTrusted, match="it is over"):
        read_bundle(json.dumps(good).encode(), "x", "sha256:" + "2" * 64, (key,))


def test_a_signature_over_nothing_is_none(shop: Shop) -> None:
    policy = load_policy(shop.folder / "trust.yaml")
    assert policy is not None
    assert not judge(Found("cosign", "x", key=policy.keys["alice"]), policy.rules[0], None, ()).accepted
