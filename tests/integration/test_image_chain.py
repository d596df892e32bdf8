"""The chain from a signature to a process, on a real engine: a registry in the engine's own network, cosign's signatures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from irkit.engine.docker import DockerEngine
from irkit.errors import NotTrusted
from tests.fakes import signers
from tests.fakes.registry import Registry, serving
from tests.fakes.signers import Cosign
from tests.integration.conftest import Lab


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    return Cosign(signers.tool("cosign"), tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A root filesystem that runs: the static busybox of the test images."""
    made = subprocess.run(
        ["docker", "create", "irkit-dev/busybox:1"], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        return subprocess.run(["docker", "export", made], capture_output=True, check=True).stdout
    finally:
        subprocess.run(["docker", "rm", made], capture_output=True, check=True)


class Shop:
    """A repository with a signed image, a policy for it, and an engine that pulls from there."""

    def __init__(self, lab: Lab, registry: Registry, cosign: Cosign, tree: bytes) -> None:
        self.lab, self.registry, self.cosign, self.tree = lab, registry, cosign, tree
        self.repo = f"team/{lab.token}"
        self.name = f"{registry.address}/{self.repo}"
        self.home = lab.home
        self.home.mkdir(parents=True, exist_ok=True)
        self.policy()

    def policy(self, **rule: Any) -> None:
        self.cosign.key("alice")
        document = {
            "apiVersion": "irkit/v1", "kind": "TrustPolicy", "keys": {"alice": {"public_key": str(self.cosign.folder / "alice.pub")}},
            "repositories": [{"match": f"{self.registry.address}/**", "keys": ["alice"], **rule}],
        }  # fmt: skip
        (self.home / "trust.yaml").write_text(json.dumps(document))

    def image(self, tag: str, labels: dict[str, str] | None = None, **about: Any) -> str:
        """An image that no other test has: engines know images by their content."""
        own = {"of": self.lab.token, **(labels or {})}
        return self.registry.image(self.repo, tag, tree=self.tree, labels=own, **about)

    def signed(self, tag: str, **about: Any) -> str:
        digest = self.image(tag, **about)
        self.cosign.sign(f"{self.name}@{digest}")
        return digest

    def pull(self, reference: str) -> None:
        self.lab.docker("pull", "-q", reference)

    def verify(self, *argv: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.irkit("image", "verify", *argv, "--json", code=code).json
        links = {one["name"]: one["result"] for one in found["links"]}
        assert found["ok"] == (code == 0) == ("broken" not in links.values())
        return found | {"by_name": links}


@pytest.fixture
def shop(lab: Lab, registry: Registry, cosign: Cosign, tree: bytes) -> Iterator[Shop]:
    made = Shop(lab, registry, cosign, tree)
    yield made
    for line in lab.docker("images", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines():
        if made.repo in line:
            lab.docker("rmi", line.split()[0], check=False)


def architecture(lab: Lab) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[lab.docker("info", "--format", "{{.Architecture}}")]


def test_every_link_from_the_signature_to_the_process(shop: Shop, engine: DockerEngine) -> None:
    here = f"linux/{architecture(shop.lab)}"
    children = {
        here: shop.image("", platform=here),
        "linux/riscv64": shop.image("", platform="linux/riscv64", labels={"x": "y"}),
    }
    index = shop.registry.index(shop.repo, children, "1")
    shop.cosign.sign(f"{shop.name}@{index}")
    shop.pull(f"{shop.name}:1")
    found = shop.verify(f"{shop.name}:1")
    names = ["policy", "reference", "platform", "config", "signatures", "requirements", "local", "tag", "unmoved"]
    assert found["by_name"] == dict.fromkeys(names, "held")
    assert (found["resolved"], found["manifest"]) == (index, children[here])
    assert found["image_id"] in (found["config"], index, children[here])
    # A container made by what irkit says is checked to its last link.
    shop.lab.run("clean", image=found["image_id"], command=("sleep", "60"))
    told = shop.verify(f"container:{shop.lab.token}-clean", "--reference", f"{shop.name}:1")
    assert told["by_name"]["container"] == "held" and told["image_id"] == found["image_id"]
    other = shop.lab.run("other", command=("sleep", "60"))
    wrong = shop.verify(f"container:{other}", "--reference", f"{shop.name}:1", code=3)
    assert wrong["by_name"]["container"] == "broken" and "made from another image" in wrong["reason"]


def test_a_container_by_its_own_image_name(shop: Shop) -> None:
    shop.signed("1")
    shop.pull(f"{shop.name}:1")
    name = shop.lab.run("named", image=f"{shop.name}:1", command=("sleep", "60"))
    assert shop.verify(name)["by_name"]["container"] == "held"


def test_an_image_that_the_engine_pushed(shop: Shop) -> None:
    """By Docker's own manifest types, and with the words that a person reads."""
    shop.lab.docker("tag", "irkit-dev/busybox:1", f"{shop.name}:pushed")
    shop.lab.docker("push", "-q", f"{shop.name}:pushed")
    refused = shop.lab.irkit("image", "verify", f"{shop.name}:pushed", code=3)
    assert "NOT TRUSTED" in refused.out and "there is no signature over" in refused.out
    shop.cosign.sign(f"{shop.name}:pushed")
    good = shop.lab.irkit("image", "verify", f"{shop.name}:pushed")
    assert (
        "NOT" not in good.out and "TRUSTED" in good.out and "create from sha256:" in good.out and "asking" in good.err
    )


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_a_signature_pushed_by_irkit(shop: Shop, kind: str) -> None:
    """cosign verifies it, beside one by cosign itself that stays."""
    digest = shop.signed("1")
    shop.lab.irkit("key", "generate", "--name", "rel", "--type", kind, "--use", "image")
    refused = shop.lab.irkit("image", "sign", f"{shop.name}:1", "--key", "rel", "--push", code=None)
    assert refused.code != 0, "the engine does not have it"
    shop.pull(f"{shop.name}:1")
    told = shop.lab.irkit("image", "sign", f"{shop.name}:1", "--key", "rel", "--push", "-a", "env=prod", "--json").json
    assert told["pushed"] == digest
    pub = shop.cosign.folder / f"rel-{shop.lab.token}.pub"
    pub.write_bytes((shop.home / "keys" / "rel.pub").read_bytes())
    assert shop.cosign.verifies(f"{shop.name}:1", pub.stem, "-a", "env=prod") and shop.cosign.verifies(
        f"{shop.name}:1", "alice"
    )
    assert not shop.cosign.verifies(f"{shop.name}:1", pub.stem, "-a", "env=test")
    document = json.loads((shop.home / "trust.yaml").read_text())
    document["keys"]["rel"] = {"key_ring": "rel"}
    document["repositories"][0] |= {"keys": ["alice", "rel"], "threshold": 2, "accept": ["cosign"]}
    (shop.home / "trust.yaml").write_text(json.dumps(document))
    assert {one["name"] for one in shop.verify(f"{shop.name}:1")["keys"]} == {"alice", "rel"}
    shop.image("1", labels={"other": "image"})
    refused = shop.lab.irkit("image", "sign", f"{shop.name}:1", "--key", "rel", "--push", code=3)
    assert "is another image" in refused.err


def test_a_poisoned_local_tag(shop: Shop) -> None:
    shop.signed("1")
    shop.pull(f"{shop.name}:1")
    shop.lab.docker("tag", "irkit-dev/busybox:1", f"{shop.name}:1")
    found = shop.verify(f"{shop.name}:1", code=3)
    assert found["links"][-1]["name"] == "tag", found["links"]
    assert "leads to another image" in found["reason"]


def test_an_image_that_the_engine_does_not_have(shop: Shop) -> None:
    shop.signed("1")
    found = shop.verify(f"{shop.name}:1", code=3)
    assert found["by_name"]["signatures"] == "held" and "does not have this image" in found["reason"]


def test_a_tag_that_moved_at_the_registry(shop: Shop) -> None:
    """The engine has what was signed; the registry's tag now leads to something else, unsigned: refused."""
    shop.signed("1")
    shop.pull(f"{shop.name}:1")
    shop.image("1", labels={"evil": "yes"})
    found = shop.verify(f"{shop.name}:1", code=3)
    assert "does not have this image" in found["reason"], found["reason"]
    assert [one["accepted"] for one in found["tried"]] == [False]


def test_a_tag_that_moved_to_another_signed_image(shop: Shop) -> None:
    """Signed too, but not what the engine has: refused until it is pulled."""
    shop.signed("1")
    shop.pull(f"{shop.name}:1")
    shop.signed("1", labels={"build": "2"})
    assert "does not have this image" in shop.verify(f"{shop.name}:1", code=3)["reason"]
    shop.pull(f"{shop.name}:1")
    shop.verify(f"{shop.name}:1")


def test_a_denied_digest(shop: Shop) -> None:
    digest = shop.signed("1")
    shop.pull(f"{shop.name}:1")
    config = shop.verify(f"{shop.name}:1")["config"]
    for one in (digest, config):
        shop.lab.irkit("image", "deny", one, "--why", "cryptominer")
        assert "cryptominer" in shop.verify(f"{shop.name}:1", code=3)["reason"]
        shop.lab.irkit("image", "deny", "--remove", one)
    shop.verify(f"{shop.name}:1")


def test_a_statement_over_manifest_configuration_and_layers(shop: Shop) -> None:
    digest = shop.image("1")
    shop.pull(f"{shop.name}:1")
    shop.lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    shop.policy(keys=["alice", "rel"], accept=["statement"])
    document = json.loads((shop.home / "trust.yaml").read_text())
    document["keys"]["rel"] = {"key_ring": "rel"}
    (shop.home / "trust.yaml").write_text(json.dumps(document))
    signed = shop.lab.irkit("image", "sign", f"{shop.name}:1", "--key", "rel", "--registry", "--json").json
    assert signed["manifests"] == [digest] and signed["config"] and signed["layers"]
    asked = len(shop.registry.asked)
    found = shop.verify(f"{shop.name}:1")
    assert [one["name"] for one in found["keys"]] == ["rel"] and found["by_name"]["reference"] == "unchecked"
    assert len(shop.registry.asked) == asked, "statements need no registry"
    # The registry is asked where its kinds are accepted too; then the statement must be over its manifest.
    document["repositories"][0]["accept"] = ["cosign", "statement"]
    (shop.home / "trust.yaml").write_text(json.dumps(document))
    assert shop.verify(f"{shop.name}:1")["by_name"]["reference"] == "held"


def contained(shop: Shop) -> str:
    """A compromised container, contained and with sealed evidence."""
    shop.lab.irkit("key", "generate")
    name = shop.lab.run("victim", "--network", shop.lab.network("net"), command=("/bin/busybox", "sleep", "600"))
    shop.lab.irkit("contain", name, code=None)
    return name


def state(shop: Shop, name: str) -> tuple[str, str, bool]:
    raw = json.loads(shop.lab.docker("inspect", name))[0]
    return raw["Id"], raw["Image"], raw["State"]["Paused"]


def test_rebuild_asks_the_registry(shop: Shop) -> None:
    name = contained(shop)
    before = state(shop, name)
    containers = shop.lab.docker("ps", "-aq", "--no-trunc")
    shop.image("1")
    shop.pull(f"{shop.name}:1")
    attempts: list[tuple[str, str]] = [(f"{shop.name}:1", "there is no signature"), (f"{shop.name}:9", "has no")]
    for image, why in attempts:
        refused = shop.lab.irkit("rebuild", name, "--image", image, code=3)
        assert why in refused.err, refused.err
    with shop.registry.lying(shop.repo, lambda path, reply: None):
        refused = shop.lab.irkit("rebuild", name, "--image", f"{shop.name}:1", code=3)
        assert "does not answer" in refused.err
    good = shop.signed("2", labels={"build": "2"})
    shop.pull(f"{shop.name}:2")
    shop.lab.docker("tag", "irkit-dev/busybox:1", f"{shop.name}:2")
    shop.lab.irkit("rebuild", name, "--image", f"{shop.name}:2", code=3)
    # Whatever was tried, the old container is as it was, and there is no other.
    assert state(shop, name) == before and shop.lab.docker("ps", "-aq", "--no-trunc") == containers
    shop.pull(f"{shop.name}:2")
    done = shop.lab.irkit("rebuild", name, "--image", f"{shop.name}:2", "--json").json
    made = state(shop, done["rebuilt"]["name"])
    assert made[1] in (done["image"]["image_id"], done["image"]["config"]) and done["image"]["resolved"] == good
    assert state(shop, done["rebuilt"]["old_name"])[0] == before[0]
    told = shop.verify(f"container:{name}", "--reference", f"{shop.name}:2")
    assert told["by_name"]["container"] == "held"


def test_a_tag_that_moves_between_check_and_create(shop: Shop, engine: DockerEngine) -> None:
    """The engine's tag is moved after the check: the container is made of what was checked, by its digest."""
    from irkit.recover.rebuild import made_from
    from irkit.trust.policy import load_policy
    from irkit.trust.verify import verify

    shop.signed("1")
    shop.pull(f"{shop.name}:1")
    verdict = verify(f"{shop.name}:1", load_policy(shop.home / "trust.yaml"), engine).require()
    shop.lab.docker("tag", "irkit-dev/busybox:1", f"{shop.name}:1")
    shop.image("1", labels={"evil": "yes"})
    body = {"Image": verdict.image_id, "Cmd": ["sleep", "60"], "Labels": {"dev.irkit.test": shop.lab.token}}
    made = engine.create(body, f"{shop.lab.token}-made")
    made_from(engine, made, verdict.image_id)
    # Made by the tag, it is of the wrong image, and that is seen.
    wrong = engine.create({**body, "Image": f"{shop.name}:1"}, f"{shop.lab.token}-wrong")
    with pytest.raises(NotTrusted, match="not from the verified image"):
        made_from(engine, wrong, verdict.image_id)


def test_no_policy_and_no_key(lab: Lab) -> None:
    refused = lab.irkit("image", "verify", "irkit-dev/busybox:1", code=3)
    assert "there is no trust policy, and no key is trusted for images" in refused.out
    assert "docs/trust.md" in refused.err
